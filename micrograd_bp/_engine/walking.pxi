# Walks over a graph: the order of its nodes, `backward`, and derivatives that touch no grad, in reverse and forwards.

cdef inline Py_ssize_t arity(PyObject *node) noexcept:
    cdef size_t state = (<Value>node).state
    if state & MANY:
        return (<Value>node).terms[0].block.size
    if state & PRODUCTS:
        return 2 * (<Value>node).terms[1].block.size + (1 if state & PAIR else 0)
    return 2 if state & PAIR else 1 if state & SHAPE else 0


cdef inline PyObject *operand(PyObject *node, Py_ssize_t i) noexcept:
    """Operand i of a node if it is a Value, or else NULL."""
    cdef size_t state = (<Value>node).state
    cdef Block *block = (<Value>node).terms[0].block
    if state & (MANY | PRODUCTS):
        if state & PRODUCTS:
            if state & PAIR:
                if i == 0:
                    return (<Value>node).terms[0].node if state & LEFT else NULL
                i -= 1
            block = (<Value>node).terms[1].block
            if i >= block.size:
                i -= block.size
                block = (<Value>node).slopes[1].block
        return items_in(block)[i] if is_node(items_in(block)[i]) else NULL
    return (<Value>node).terms[i].node if state & (LEFT << i) else NULL


cdef inline void found_use(PyObject *child, Queue *found) noexcept:
    """Count a use of a node; by its first use it comes on the list of those found."""
    if (<Value>child).state & SHAPE:  # a leaf is never waited for
        if (<Value>child).state < USE:
            append(found, child)
        (<Value>child).state += USE


cdef inline void found_uses(Block *block, Queue *found) noexcept:
    """Count a use of every item. Nodes that share a block count as one use, which is done with the last of them."""
    cdef Py_ssize_t i
    block.uses += 1
    if block.uses == 1 and has_inner(block):
        for i in range(block.size):
            if is_node(items_in(block)[i]):
                found_use(items_in(block)[i], found)


cdef inline void used(PyObject *child, PyObject **ready) noexcept:
    """A use of a node is done; after the last one it is ready."""
    if (<Value>child).state & SHAPE:
        (<Value>child).state -= USE
        if (<Value>child).state < USE:
            push(ready, child)


cdef inline void all_used(Block *block, PyObject **ready) noexcept:
    """A use of every item is done, if this was the last node with the block."""
    cdef Py_ssize_t i
    block.uses -= 1
    if block.uses == 0 and has_inner(block):
        for i in range(block.size):
            if is_node(items_in(block)[i]):
                used(items_in(block)[i], ready)


cdef inline void find_ready(PyObject *node, size_t state, PyObject **ready) noexcept:
    """The uses of a node's operands by it are done."""
    if state & LEFT:
        used((<Value>node).terms[0].node, ready)
    if state & RIGHT:
        used((<Value>node).terms[1].node, ready)
    if state & MANY:
        all_used((<Value>node).terms[0].block, ready)
    if state & PRODUCTS:
        all_used((<Value>node).terms[1].block, ready)
        all_used((<Value>node).slopes[1].block, ready)


cdef inline void pass_on(PyObject *child, double adjoint, double slope, bint private) noexcept:
    """The chain rule; 0 times anything is 0, so 0 * inf never becomes nan."""
    if slope != 0.0 and (not private or (<Value>child).state & (SHAPE | WANTED)):
        (<Value>child).adjoint += adjoint * slope


cdef inline void pass_all_on(Block *block, double adjoint, double *slopes, bint private) noexcept:
    """`pass_on` to every item of a block."""
    cdef PyObject **items = items_in(block)
    cdef Py_ssize_t i
    if block.kinds & LEFT:
        for i in range(block.size):
            if is_node(items[i]):
                pass_on(items[i], adjoint, slopes[i], private)


cdef inline void fetch(PyObject *node) noexcept:
    """Have the cache fetch what lies ten nodes back: a walk will most likely come there soon."""
    prefetch(<char *>node - 1024)
    prefetch(<char *>node - 960)


cdef size_t count_uses(PyObject *output) noexcept:
    """Count how often every node with operands is one, as far as the output depends on them, and set its grad to 0.

    The result has BY_HAND if one of them passes its grad on by a function of its own.
    """
    cdef size_t state, states = 0
    cdef Queue found = Queue(NULL, NULL)
    cdef PyObject *node
    append(&found, output)
    while found.first != NULL:
        node = take_first(&found)
        fetch(node)
        state = (<Value>node).state
        states |= state
        if state & SHAPE:
            (<Value>node).adjoint = 0.0
        find_uses(node, state, &found)
    return states & BY_HAND


cdef inline void find_uses(PyObject *node, size_t state, Queue *found) noexcept:
    """Count the uses of a node's operands."""
    if state & LEFT:
        found_use((<Value>node).terms[0].node, found)
    if state & RIGHT:
        found_use((<Value>node).terms[1].node, found)
    if state & MANY:
        found_uses((<Value>node).terms[0].block, found)
    if state & PRODUCTS:
        found_uses((<Value>node).terms[1].block, found)
        found_uses((<Value>node).slopes[1].block, found)


cdef bint walk_back(PyObject *output, double seed) noexcept:
    """`sweep` over a graph whose uses are not counted yet; the grads of all nodes but leaves start from 0.

    False: a node passes its grad on by a function of its own, and no grad is set but for those that are cleared.
    """
    cdef bint by_hand = count_uses(output) != 0
    if not by_hand:
        (<Value>output).adjoint += seed
    sweep(output, by_hand, False)
    return not by_hand


cdef inline void sweep(PyObject *output, bint counts_only, bint private) noexcept:
    """The chain rule in the reference's order: a node is ready when its uses are done, and the last one ready is next.

    counts_only: the counts of uses go back to 0, and that is all. private: no grad is left behind but those wanted.
    """
    cdef PyObject *ready = NULL
    cdef PyObject *node
    cdef Block *p
    cdef Block *q
    cdef size_t state
    cdef double adjoint
    push(&ready, output)
    while ready != NULL:
        node = pop(&ready)
        fetch(node)
        adjoint = 0.0 if counts_only else (<Value>node).adjoint
        state = (<Value>node).state
        if private and not state & WANTED and not counts_only:
            (<Value>node).adjoint = 0.0
        if state & LEFT:  # each operand is come to once, for its grad and for its count
            if adjoint != 0.0:
                pass_on((<Value>node).terms[0].node, adjoint, (<Value>node).slopes[0].number, private)
            used((<Value>node).terms[0].node, &ready)
        if state & RIGHT:
            if adjoint != 0.0:
                pass_on((<Value>node).terms[1].node, adjoint, (<Value>node).slopes[1].number, private)
            used((<Value>node).terms[1].node, &ready)
        if state & MANY:
            p = (<Value>node).terms[0].block
            if adjoint != 0.0:
                pass_all_on(p, adjoint, doubles_in(p), private)
            all_used(p, &ready)
        if state & PRODUCTS:
            p = (<Value>node).terms[1].block
            q = (<Value>node).slopes[1].block
            if adjoint != 0.0:
                pass_all_on(p, adjoint, doubles_in(q), private)
                pass_all_on(q, adjoint, doubles_in(p), private)
            all_used(p, &ready)
            all_used(q, &ready)


cdef void count_all(PyObject *output) noexcept:
    """`count_uses` for walks that come to all operands: leaves too, and those in a block once for each node."""
    cdef PyObject *found = NULL
    cdef PyObject *node
    cdef PyObject *child
    cdef Py_ssize_t i
    push(&found, output)
    while found != NULL:
        node = pop(&found)
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                if (<Value>child).state < USE:
                    push(&found, child)
                (<Value>child).state += USE


@cython.binding(True)
def topological_order(Value output not None):
    cdef list order = []
    cdef PyObject *ready = NULL
    cdef PyObject *node
    cdef PyObject *child
    cdef Py_ssize_t i
    cdef bint complete = True
    count_all(<PyObject *>output)
    push(&ready, <PyObject *>output)
    while ready != NULL:
        node = pop(&ready)
        if complete:
            try:
                order.append(<object>node)
            except MemoryError:
                complete = False  # the counts have to go back to 0 all the same
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                (<Value>child).state -= USE
                if (<Value>child).state < USE:
                    push(&ready, child)
    if not complete:
        raise MemoryError
    order.reverse()
    return order


cdef struct Saved:
    PyObject *node
    double adjoint


@cython.binding(True)
def slopes(Value output not None, inputs):
    cdef list wanted = checked(inputs)
    cdef Py_ssize_t i, size = len(wanted)
    cdef array found = clone(DOUBLES, size, False), kept = clone(DOUBLES, size, False)
    cdef PyObject **nodes = items(wanted)
    cdef Value node
    for i in range(size):
        node = <Value>nodes[i]
        kept.data.as_doubles[i] = node.adjoint
        node.adjoint = 0.0
        node.state |= WANTED
    cdef Saved *saved = NULL
    cdef Py_ssize_t count = 0
    cdef bint complete = True
    cdef bint by_hand = put_aside(<PyObject *>output, &saved, &count, &complete)
    if output.state & (SHAPE | WANTED) and not by_hand:
        output.adjoint = 1.0
    sweep(<PyObject *>output, by_hand or not complete, True)
    for i in range(size):
        found.data.as_doubles[i] = (<Value>nodes[i]).adjoint
    for i in range(size - 1, -1, -1):  # one that stands twice: its first entry counts
        (<Value>nodes[i]).adjoint = kept.data.as_doubles[i]
        (<Value>nodes[i]).state &= ~<size_t>WANTED
    for i in range(count):
        (<Value>saved[i].node).adjoint = saved[i].adjoint
    free(saved)
    if not complete:
        output.adjoint = 0.0
        raise MemoryError
    return slopes_by_hand(output, wanted) if by_hand else found.tolist()


@cython.binding(True)
def pushed(outputs, inputs, tangents):
    cdef list ends = checked(outputs), starts = checked(inputs)
    cdef array directions = array("d", tangents), found = clone(DOUBLES, len(ends), False)
    cdef array kept = clone(DOUBLES, len(starts), False)
    cdef Py_ssize_t i
    cdef Value node
    cdef PyObject *root = joined(ends)
    held = take_over(root)
    for i in range(len(starts)):
        node = <Value>starts[i]
        kept.data.as_doubles[i] = node.adjoint
        node.adjoint = 0.0
        node.state |= WANTED
    cdef Saved *saved = NULL
    cdef Py_ssize_t count = 0
    cdef bint complete = True
    put_aside(root, &saved, &count, &complete)
    for i in range(min(len(starts), len(directions))):
        (<Value>starts[i]).adjoint = directions.data.as_doubles[i]
    cdef PyObject *order = ordered(root)
    cdef PyObject *each = order
    while each != NULL:
        if not (<Value>each).state & WANTED:
            (<Value>each).adjoint = taken_in(each)
        each = (<Value>each).next
    for i in range(len(ends)):
        node = <Value>ends[i]
        found.data.as_doubles[i] = node.adjoint if node.state & (SHAPE | WANTED) else 0.0
    while order != NULL:
        (<Value>order).adjoint = 0.0
        order = (<Value>order).next
    for i in range(len(starts) - 1, -1, -1):
        (<Value>starts[i]).adjoint = kept.data.as_doubles[i]
        (<Value>starts[i]).state &= ~<size_t>WANTED
    for i in range(count):
        (<Value>saved[i].node).adjoint = saved[i].adjoint
    free(saved)
    if not complete:
        raise MemoryError
    return found.tolist()


cdef PyObject *joined(list ends) except NULL:
    """A node of which these are the operands, so that all of them are met in one walk."""
    cdef PyObject *root
    cdef Py_ssize_t i
    cdef Block *block = new_block(len(ends))
    for i in range(len(ends)):
        set_item(block, i, ends[i], 0.0)
    try:
        root = new_node(<PyObject *>NET_INPUT, 0.0, MANY)
    except MemoryError:
        release(block, NULL)
        raise
    (<Value>root).terms[0].block = block
    return root


cdef extern from "block_sweeps.h":
    enum: LANES
    ctypedef struct FlatGraph:
        unsigned int places
        int complete
    unsigned int take_vacant(FlatGraph *graph) noexcept
    void flat_edge(FlatGraph *graph, unsigned int target, double slope) noexcept
    void flat_node(FlatGraph *graph, unsigned int place) noexcept
    void free_flat(FlatGraph *graph) noexcept
    void sweep_lanes(
        const FlatGraph *graph, double *numbers, char *begun, bint forward, const long long *starts, size_t start_count,
        const long long *stops, size_t stop_count, double *found, size_t by_lane, size_t by_stop,
    ) noexcept


@cython.binding(True)
def slope_rows(outputs, inputs, bint forward=False):
    cdef list ends = checked(outputs), starts = checked(inputs)
    cdef list each = list(dict.fromkeys(ends)), at
    cdef Py_ssize_t i, m = len(ends), n = len(starts)
    cdef array ends_at = clone(PLACES, m, False), starts_at = clone(PLACES, n, False)
    cdef array found = clone(DOUBLES, m * n, False)
    cdef array numbers, begun
    cdef FlatGraph flat
    if not all_leaves(starts):
        return None
    memset(&flat, 0, sizeof(FlatGraph))
    root = take_over(joined(each))
    try:
        if not flatten(<PyObject *>root, each, starts, ends, ends_at, starts_at, &flat):
            return None
        numbers = clone(DOUBLES, LANES * flat.places, False)
        begun = clone(CHARS, flat.places, False)
        at, count, stop_count = ([starts_at, ends_at], n, m) if forward else ([ends_at, starts_at], m, n)
        for i in range(0, count, LANES):
            sweep_lanes(
                &flat, numbers.data.as_doubles, begun.data.as_chars, forward,
                (<array>at[0]).data.as_longlongs + i, min(LANES, count - i), (<array>at[1]).data.as_longlongs, stop_count,
                found.data.as_doubles + (i if forward else i * n), 1 if forward else n, n if forward else 1,
            )
            PyErr_CheckSignals()
    finally:
        free_flat(&flat)
    cdef list rows = []
    for i in range(m):
        rows.append(found[i * n : (i + 1) * n].tolist())
    return rows


cdef bint flatten(
    PyObject *root, list each, list starts, list ends, array ends_at, array starts_at, FlatGraph *flat
) except -1:
    """Write down the graph between the inputs and the root's operands, in the order of a sweep back.

    False: a node has a _backward of its own. Meanwhile the adjoint of a node is its place in the graph, plus 1, or 0.
    """
    cdef array kept = clone(DOUBLES, len(starts), False)
    cdef Py_ssize_t i
    cdef Value node
    cdef PyObject **leaves = items(starts)
    cdef PyObject *ready = NULL
    cdef PyObject *child
    cdef Saved *saved = NULL
    cdef Py_ssize_t count = 0
    cdef bint complete = True, by_hand
    flat.complete = 1
    for i in range(len(starts)):
        node = <Value>leaves[i]
        kept.data.as_doubles[i] = node.adjoint
        node.adjoint = 0.0
        node.state |= WANTED
    by_hand = put_aside(root, &saved, &count, &complete)
    if by_hand or not complete:
        sweep(root, True, True)
    else:
        for i in range(len(starts)):
            place_of(<PyObject *>leaves[i], flat)
        for i in range(len(each)):
            node = <Value>items(each)[i]
            if node.state & (SHAPE | WANTED):
                place_of(<PyObject *>node, flat)
        for i in range(len(starts)):
            starts_at.data.as_longlongs[i] = place_of(<PyObject *>leaves[i], flat)
        for i in range(len(ends)):
            node = <Value>items(ends)[i]
            ends_at.data.as_longlongs[i] = place_of(<PyObject *>node, flat) if node.state & (SHAPE | WANTED) else -1
        find_ready(root, (<Value>root).state, &ready)
        while ready != NULL:
            child = pop(&ready)
            fetch(child)
            write_down(child, flat)
            find_ready(child, (<Value>child).state, &ready)
    for i in range(len(starts) - 1, -1, -1):
        (<Value>leaves[i]).adjoint = kept.data.as_doubles[i]
        (<Value>leaves[i]).state &= ~<size_t>WANTED
    for i in range(count):
        (<Value>saved[i].node).adjoint = saved[i].adjoint
    free(saved)
    if not complete or not flat.complete:
        raise MemoryError
    return not by_hand


cdef inline unsigned int place_of(PyObject *node, FlatGraph *flat) noexcept:
    """The place of a node's numbers; taken when it is first asked for."""
    if (<Value>node).adjoint == 0.0:
        (<Value>node).adjoint = take_vacant(flat) + 1.0
    return <unsigned int>((<Value>node).adjoint - 1.0)


cdef inline void write_down(PyObject *node, FlatGraph *flat) noexcept:
    """A node's operands and partials, in the order in which a sweep passes its adjoint on."""
    cdef size_t state = (<Value>node).state
    cdef Block *p
    cdef Block *q
    if state & LEFT:
        write_edge((<Value>node).terms[0].node, (<Value>node).slopes[0].number, flat)
    if state & RIGHT:
        write_edge((<Value>node).terms[1].node, (<Value>node).slopes[1].number, flat)
    if state & MANY:
        p = (<Value>node).terms[0].block
        write_edges(p, doubles_in(p), flat)
    if state & PRODUCTS:
        p = (<Value>node).terms[1].block
        q = (<Value>node).slopes[1].block
        write_edges(p, doubles_in(q), flat)
        write_edges(q, doubles_in(p), flat)
    flat_node(flat, place_of(node, flat))
    (<Value>node).adjoint = 0.0


cdef inline void write_edge(PyObject *child, double slope, FlatGraph *flat) noexcept:
    if slope != 0.0 and (<Value>child).state & (SHAPE | WANTED):
        flat_edge(flat, place_of(child, flat), slope)


cdef inline void write_edges(Block *block, double *slopes, FlatGraph *flat) noexcept:
    cdef Py_ssize_t i
    if block.kinds & LEFT:
        for i in range(block.size):
            if is_node(items_in(block)[i]):
                write_edge(items_in(block)[i], slopes[i], flat)


cdef PyObject *ordered(PyObject *output) noexcept:
    """The nodes with operands, each after its operands, as a list that goes on with `next`; their uses are counted."""
    cdef PyObject *ready = NULL
    cdef PyObject *order = NULL
    cdef PyObject *node
    push(&ready, output)
    while ready != NULL:
        node = pop(&ready)
        fetch(node)
        find_ready(node, (<Value>node).state, &ready)
        push(&order, node)
    return order


cdef double taken_in(PyObject *node) noexcept:
    """A node's tangent, from those of its operands."""
    cdef size_t state = (<Value>node).state
    cdef double total = 0.0
    cdef Block *p
    cdef Block *q
    if state & LEFT:
        total += term((<Value>node).terms[0].node, (<Value>node).slopes[0].number)
    if state & RIGHT:
        total += term((<Value>node).terms[1].node, (<Value>node).slopes[1].number)
    if state & MANY:
        p = (<Value>node).terms[0].block
        total = with_terms(total, p, doubles_in(p))
    if state & PRODUCTS:
        p = (<Value>node).terms[1].block
        q = (<Value>node).slopes[1].block
        total = with_terms(with_terms(total, p, doubles_in(q)), q, doubles_in(p))
    return total


cdef inline double with_terms(double total, Block *block, double *slopes) noexcept:
    cdef Py_ssize_t i
    for i in range(block.size):
        if is_node(items_in(block)[i]):
            total += term(items_in(block)[i], slopes[i])
    return total


cdef inline double term(PyObject *operand, double slope) noexcept:
    """What an operand adds to a tangent; a leaf that is not wanted has none."""
    cdef double tangent = (<Value>operand).adjoint if (<Value>operand).state & (SHAPE | WANTED) else 0.0
    return tangent * slope if tangent != 0.0 and slope != 0.0 else 0.0


cdef list slopes_by_hand(Value output, list wanted):
    """`slopes` where a node has a _backward of its own, which may do anything: all nodes are held meanwhile."""
    cdef list nodes = wanted + topological_order(output)
    cdef list kept = [(<Value>node).adjoint for node in nodes]
    cdef Py_ssize_t i
    for node in nodes:
        (<Value>node).adjoint = 0.0
    try:
        output.backward()
        return [(<Value>node).adjoint for node in wanted]
    finally:
        for i in reversed(range(len(nodes))):  # an input stands twice: its first entry counts
            (<Value>nodes[i]).adjoint = kept[i]


cdef bint put_aside(PyObject *output, Saved **saved, Py_ssize_t *count, bint *complete) noexcept:
    """`count_uses`, and put those grads aside, and set them to 0, that are another number and are not wanted.

    complete is false where there is not enough memory for that; the result is whether a node has a _backward of its own.
    """
    cdef Queue found = Queue(NULL, NULL)
    cdef PyObject *node
    cdef size_t state, states = 0
    cdef Py_ssize_t room = 0
    cdef Saved *larger
    append(&found, output)
    while found.first != NULL:
        node = take_first(&found)
        fetch(node)
        state = (<Value>node).state
        states |= state
        if (<Value>node).adjoint != 0.0 and state & SHAPE and not state & WANTED:
            if count[0] == room:
                room = 2 * room + 64
                larger = <Saved *>realloc(saved[0], room * sizeof(Saved))
                if larger == NULL:
                    complete[0] = False
                    room = count[0]
                else:
                    saved[0] = larger
            if complete[0]:
                saved[0][count[0]].node = node
                saved[0][count[0]].adjoint = (<Value>node).adjoint
                count[0] += 1
                (<Value>node).adjoint = 0.0
        find_uses(node, state, &found)
    return states & BY_HAND != 0


cdef list checked(values):
    """The Values as a list; TypeError: one is none."""
    cdef list nodes = list(values)
    for node in nodes:
        if not isinstance(node, Value):
            raise TypeError(f"expected a Value, not {node!r} ({type(node).__name__})")
    return nodes


@cython.binding(True)
def variables(numbers):
    cdef list nodes = []
    for x in numbers:
        nodes.append(take_over(new_node(NULL, as_double(x), LEAF)))
    return nodes


@cython.binding(True)
def all_leaves(values):
    for x in values:
        if not is_value(x) or (<Value>x).state & SHAPE:
            return False
    return True


@cython.binding(True)
def read_data(values):
    cdef list nodes = values if type(values) is list else list(values)
    cdef Py_ssize_t i, size = len(nodes)
    cdef array numbers = clone(DOUBLES, size, False)
    for i in range(size):
        node = nodes[i]
        if not is_value(node) and not isinstance(node, Value):
            raise TypeError(f"expected a Value, not {node!r} ({type(node).__name__})")
        numbers.data.as_doubles[i] = (<Value>node).primal
    return numbers


cdef array DOUBLES = array("d"), PLACES = array("q"), INTS = array("i"), CHARS = array("b")
cdef enum:
    MOST = 2000000000


@cython.binding(True)
def add_to_grads(values, slopes):
    cdef list nodes = checked(values)
    cdef array numbers = array("d", slopes)
    cdef Py_ssize_t i
    for i in range(min(len(nodes), len(numbers))):
        (<Value>nodes[i]).adjoint += numbers.data.as_doubles[i]
