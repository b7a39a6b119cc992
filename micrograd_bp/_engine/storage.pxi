# How a node and its operands lie in memory: blocks of many operands, places for nodes, and their freeing.

# --- blocks of operands -------------------------------------------------------------------------------------------

cdef bint leaves_stay = True  # False once a node that blocks may have counted as a leaf was given operands


cdef inline PyObject **items_in(Block *block) noexcept:
    return <PyObject **>(block + 1)


cdef inline double *doubles_in(Block *block) noexcept:
    return <double *>(items_in(block) + block.size)


cdef inline bint is_node(PyObject *item) noexcept:
    return not <size_t>item & 1


cdef inline PyObject *unmarked(PyObject *item) noexcept:
    return <PyObject *>(<size_t>item & ~<size_t>1)


cdef Block *new_block(Py_ssize_t size) except NULL:
    """A block whose items are still to be set."""
    cdef Block *block = <Block *>PyMem_Malloc(sizeof(Block) + size * (sizeof(PyObject *) + sizeof(double)))
    if block == NULL:
        raise MemoryError
    block.holders, block.size, block.uses, block.kinds, block.list = 1, size, 0, 0, NULL
    return block


cdef inline void set_item(Block *block, Py_ssize_t i, object x, double number) noexcept:
    """x is a Value or a float."""
    keep(<PyObject *>x)
    doubles_in(block)[i] = number
    if PyFloat_CheckExact(x):
        items_in(block)[i] = <PyObject *>(<size_t><PyObject *>x | 1)
    else:
        items_in(block)[i] = <PyObject *>x
        block.kinds |= LEFT | (INNER if (<Value>x).state & SHAPE else 0) | (<Value>x).state & TRACED


cdef Block *factors(PyObject **xs, Py_ssize_t size) except NULL:
    """A block of Values and floats, with the data of each."""
    cdef Block *block = new_block(size)
    cdef Py_ssize_t i
    for i in range(size):
        set_item(block, i, <object>xs[i], data_of(xs[i]))
    return block


# Blocks of the factors in lists, by the address of the list: the next unit with these inputs, or the next sample through
# these weights, shares them. A block that is found is compared with the list, item by item and bit by bit.
cdef enum:
    LISTS = 1024
cdef Block *RECENT[LISTS]


cdef inline Block **recent(void *sequence) noexcept:
    return &RECENT[(<size_t>sequence >> 5) % LISTS]


cdef Block *shared(object sequence) except? NULL:
    """The block of a list's or tuple's factors, held by the caller; NULL: they are not all Values and floats."""
    cdef PyObject **xs = items(sequence)
    cdef PyObject *x
    cdef Py_ssize_t i, size = len(<list>sequence) if type(sequence) is list else len(<tuple>sequence)
    cdef Block **place = recent(<void *>sequence)
    cdef Block *block = place[0]
    if block != NULL and block.list == <void *>sequence and block.size == size and is_same(block, xs):
        block.holders += 1
        return block
    for i in range(size):
        x = xs[i]
        if not is_value(<object>x) and not PyFloat_CheckExact(<object>x):
            return NULL
    block = factors(xs, size)
    if place[0] != NULL:
        place[0].list = NULL
    place[0] = block
    block.list = <void *>sequence
    return block


cdef inline bint is_same(Block *block, PyObject **xs) noexcept:
    """Whether these are the block's items still, with the same data to the bit."""
    cdef PyObject **known = items_in(block)
    cdef Py_ssize_t i
    for i in range(block.size):
        if known[i] == xs[i]:
            if not same_bits((<Value>xs[i]).primal, doubles_in(block)[i]):
                return False
        elif known[i] != <PyObject *>(<size_t>xs[i] | 1):
            return False
    return True


cdef inline double data_of(PyObject *x) noexcept:
    """Of a Value or a float."""
    return PyFloat_AS_DOUBLE(<object>x) if PyFloat_CheckExact(<object>x) else (<Value>x).primal


cdef inline bint has_inner(Block *block) noexcept:
    """Whether an item has operands of its own, or may have."""
    return block.kinds & INNER or block.kinds & LEFT and not leaves_stay


cdef list items_of(Block *block):
    return [<object>unmarked(items_in(block)[i]) for i in range(block.size)]


cdef list doubles_of(Block *block):
    return [doubles_in(block)[i] for i in range(block.size)]


# --- memory -------------------------------------------------------------------------------------------------------

cdef inline void push(PyObject **stack, PyObject *node) noexcept:
    (<Value>node).next = stack[0]
    stack[0] = node


cdef inline PyObject *pop(PyObject **stack) noexcept:
    cdef PyObject *node = stack[0]
    stack[0] = (<Value>node).next
    return node


# A list in the order of finding. A graph is explored breadth first: so the walk stays at one height of it, and goes down
# through memory once. Depth first it comes back for what it left behind, by when the cache has lost it.
cdef struct Queue:
    PyObject *first
    PyObject *last


cdef inline void append(Queue *queue, PyObject *node) noexcept:
    (<Value>node).next = NULL
    if queue.first == NULL:
        queue.first = node
    else:
        (<Value>queue.last).next = node
    queue.last = node


cdef inline PyObject *take_first(Queue *queue) noexcept:
    cdef PyObject *node = queue.first
    queue.first = (<Value>node).next
    return node


cdef extern from "node_memory.h":
    size_t NODE_SIZE
    void *take_place() noexcept
    void give_place(void *node) noexcept


cdef inline PyObject *new_node(PyObject *operation, double out, size_t shape) except NULL:
    """A node without a label; its operands and partials are still to be filled in."""
    cdef PyObject *node
    if POOL:  # with no reference to the type, which outlives all nodes
        node = <PyObject *>take_place()
        if node == NULL:
            raise MemoryError
        set_references(node, 1)
        set_type(node, <PyTypeObject *>Value)
    else:
        node = new_object(<PyTypeObject *>Value)
    if operation != NULL:
        keep(operation)
    (<Value>node).operation = operation
    (<Value>node).primal = out
    (<Value>node).adjoint = 0.0
    (<Value>node).state = shape
    (<Value>node).name = NULL
    return node


cdef inline void free_node(PyObject *node) noexcept:
    """Free an empty node, with the last reference to it."""
    if POOL:
        give_place(node)
    else:
        free_object(node)
        let_go(<PyObject *>Value)


cdef PyObject *allocate(TypeSlots *type, Py_ssize_t n) except NULL:
    return new_node(NULL, 0.0, LEAF)


cdef void deallocate(void *memory) noexcept:  # the caller is about to take a reference to the type
    keep(<PyObject *>Value)
    free_node(<PyObject *>memory)


if Value.__basicsize__ != NODE_SIZE:
    raise ImportError("a node has another size than its memory is cut for")
(<TypeSlots *>Value).tp_alloc = allocate  # not for subclasses: theirs are Python's own
(<TypeSlots *>Value).tp_free = deallocate


# --- freeing ------------------------------------------------------------------------------------------------------

cdef inline void drop(PyObject *child, PyObject **dying) noexcept:
    """Give up a reference to a node; if it was the last, put the node on the list of those that are to be freed."""
    if type_of(child) == <PyTypeObject *>Value and references(child) == 1:
        push(dying, child)
    else:
        let_go(child)


cdef void clear(Value self) noexcept:
    """Make a leaf of a node, without a label, and free what only it held: by a list, since recursion overflows."""
    cdef PyObject *dying = NULL
    cdef PyObject *node = <PyObject *>self
    empty(node, &dying)
    while dying != NULL:
        node = pop(&dying)
        fetch(node)
        empty(node, &dying)
        free_node(node)


cdef void forget(PyObject *node) noexcept:
    """Give up the attributes that a program gave to a node."""
    ATTRIBUTES.pop(<size_t>node, None)


cdef inline void empty(PyObject *node, PyObject **dying) noexcept:
    """Make a leaf of a node, without a label; those of its operands that only it held are dying."""
    cdef size_t state = (<Value>node).state
    cdef Operand left = (<Value>node).terms[0], right = (<Value>node).terms[1]
    cdef Block *factors = (<Value>node).slopes[1].block
    cdef PyObject *operation = (<Value>node).operation
    cdef PyObject *name = (<Value>node).name
    if state & OWNER:
        forget(node)
    (<Value>node).state = LEAF  # before any reference is given up: that may call a destructor, and it may see the node
    (<Value>node).operation = NULL
    (<Value>node).name = NULL
    if state & MANY:
        release(left.block, dying)
    if state & PRODUCTS:
        release(right.block, dying)
        release(factors, dying)
    if state & LEFT:
        drop(left.node, dying)
    if state & RIGHT:
        drop(right.node, dying)
    if operation != NULL:
        let_go(operation)
    if name != NULL:
        let_go(name)


cdef void release(Block *block, PyObject **dying) noexcept:
    """Give up a node's part in a block; with the last part the block goes, and so may its items (dying: see drop)."""
    cdef PyObject **items = items_in(block)
    cdef Py_ssize_t i
    block.holders -= 1
    if block.holders == 0:
        if block.list != NULL:  # before references are given up, since a destructor may look for it
            recent(block.list)[0] = NULL
        for i in range(block.size):
            if dying != NULL and is_node(items[i]):
                drop(items[i], dying)
            else:
                let_go(unmarked(items[i]))
        PyMem_Free(block)
