# What the recording of `jit` is told of nodes and built-in functions, and the recorded nodes written as arrays.

cdef unsigned long watched = 0  # the thread that a recording listens to
cdef list recorded = []  # the nodes of the recording
cdef bint whole = True  # whether all operands of the recorded nodes are recorded, judged as they are made
cdef bint deaf = False  # whether the recording is told of no further reads
cdef Py_ssize_t limit = 0  # the number of nodes after which it keeps leaves, and a node of each op, alone; 0: none
cdef bint full = False  # whether there were more
cdef size_t stamp = 0  # the mark of nodes that it does not keep: no place, and no address
cdef PyObject *ops_seen[64]  # of these, by a few bits of their addresses


def watch(unsigned long thread):
    """Tell the recording under way what this thread does to Values; 0: no longer."""
    global watched, recorded, limit, deaf, whole, full, stamp
    cdef int k
    watched = thread
    if thread:
        stamp = ~<size_t>0 if stamp < (~<size_t>0 >> 1) + 1 else stamp - 1
        for k in range(64):
            ops_seen[k] = NULL
        recorded, limit = RECORDINGS[0].nodes, getattr(RECORDINGS[0], "limit", None) or 0
        whole = True
    deaf = full = False


def deafen():
    """Tell the recording under way of no further reads: nothing is to be made of it."""
    global deaf
    deaf = True


cdef inline bint is_own() noexcept:
    """Whether this is the thread that a recording listens to."""
    return PyThread_get_thread_ident() == watched


cdef int note(PyObject *node) except -1:
    """Tell the recording of a new node."""
    (<Value>node).state |= TRACED
    global deaf, whole, full
    cdef Py_ssize_t i, size
    cdef size_t at, state = (<Value>node).state
    cdef PyObject *child
    cdef PyObject *operation = (<Value>node).operation
    if RECORDINGS:  # paused, it is told nothing
        if full and operation != NULL and ops_seen[<size_t>operation >> 4 & 63] == operation and not state & (MANY | PRODUCTS):
            (<Value>node).next = <PyObject *>stamp
            if (not state & LEFT or <size_t>(<Value>(<Value>node).terms[0].node).next == stamp) and (
                not state & RIGHT or <size_t>(<Value>(<Value>node).terms[1].node).next == stamp
            ):
                return 0
        size = len(recorded)
        if limit and size > limit:
            deaf = full = True
            if operation != NULL and ops_seen[<size_t>operation >> 4 & 63] == operation:
                (<Value>node).next = <PyObject *>stamp
            else:
                ops_seen[<size_t>operation >> 4 & 63] = operation
                recorded.append(<object>node)
                (<Value>node).next = <PyObject *><size_t>size
        else:
            recorded.append(<object>node)
            (<Value>node).next = <PyObject *><size_t>size
        if whole:
            size = len(recorded)
            for i in range(arity(node)):
                child = operand(node, i)
                if child != NULL:
                    at = <size_t>(<Value>child).next
                    whole = whole and (at == stamp or (at < <size_t>size and items(recorded)[at] == child))
    return 0


cdef extern from "Python.h":
    ctypedef struct Frame "PyFrameObject":
        pass
    ctypedef int (*Py_tracefunc)(PyObject *, Frame *, int, PyObject *) except -1
    void PyEval_SetProfile(Py_tracefunc function, PyObject *object)
    int PyTrace_C_CALL
    bint PyCFunction_Check(PyObject *object) noexcept
    PyObject *PyCFunction_GetSelf(PyObject *object) noexcept
    bint is_module "PyModule_CheckExact"(PyObject *object) noexcept


heard = frozenset()  # functions of modules that are of interest


cdef int called(PyObject *told, Frame *frame, int what, PyObject *function) except -1:
    """At every call of a built-in function: a method may be of interest, or one of those few, until nothing is."""
    cdef PyObject *owner
    if deaf:
        PyEval_SetProfile(NULL, NULL)
        return 0
    if what == PyTrace_C_CALL:
        if PyCFunction_Check(function):
            owner = PyCFunction_GetSelf(function)
            if owner == NULL or (is_module(owner) and <object>function not in heard):
                return 0
            if owner != NULL and type_of(owner) in (<PyTypeObject *>str, <PyTypeObject *>list, <PyTypeObject *>dict):
                return 0
        (<object>told)(<object>function)
    return 0


def listening(told, functions=frozenset()):
    """Call told(function) whenever this thread calls a built-in function: a method, or one of these; None: stop."""
    global heard
    heard = functions
    if told is None:
        PyEval_SetProfile(NULL, NULL)
    else:
        PyEval_SetProfile(called, <PyObject *>told)


cdef class Flat:
    """Nodes, in the order of their creation, while `flat` writes them as arrays; flattening.py has it in Python."""

    cdef list nodes, foreign, numbers
    cdef dict known, others
    cdef Py_ssize_t size, edge
    cdef PyObject **all  # the nodes
    cdef int *place
    cdef int *child
    cdef double[256] recent  # constants, by a few of their bits
    cdef int[256] recent_place

    cdef int add(self, PyObject *node, Py_ssize_t i) except -1:
        """Write operand i of a node."""
        cdef PyObject *one = operand(node, i)
        return self.add_number(number_at(node, i)) if one == NULL else self.add_node(one)

    cdef int add_node(self, PyObject *node) except -1:
        cdef size_t at = <size_t>(<Value>node).next
        if at < <size_t>self.size and self.all[at] == node:
            self.child[self.edge] = self.place[at]
        else:
            key = <size_t>node
            if key not in self.others:
                self.others[key] = len(self.foreign)
                self.foreign.append(<object>node)
            self.child[self.edge] = -2 - 2 * <int>self.others[key]
        self.edge += 1
        return 0

    cdef int add_number(self, double x) except -1:
        cdef size_t at = some_bits(x)
        if self.recent_place[at] < 0 or not same_bits(self.recent[at], x):
            key = x if x != 0.0 and x == x else repr(x)
            if key not in self.known:
                self.known[key] = len(self.numbers)
                self.numbers.append(x)
            self.recent[at], self.recent_place[at] = x, <int>self.known[key]
        self.child[self.edge] = -1 - 2 * self.recent_place[at]
        self.edge += 1
        return 0


cdef double number_at(PyObject *node, Py_ssize_t i) noexcept:
    """Operand i of a node, which is a plain number."""
    cdef size_t state = (<Value>node).state
    cdef Block *block = (<Value>node).terms[0].block
    if state & PRODUCTS:
        if state & PAIR:
            if i == 0:
                return (<Value>node).terms[0].number
            i -= 1
        block = (<Value>node).terms[1].block
        if i >= block.size:
            i -= block.size
            block = (<Value>node).slopes[1].block
    elif not state & MANY:
        return (<Value>node).terms[i].number
    return PyFloat_AS_DOUBLE(<object>unmarked(items_in(block)[i]))


def flat(list nodes not None, roots=()):
    """Nodes in the order of their creation as arrays; see flattening.py."""
    cdef Flat made = Flat.__new__(Flat)
    cdef Py_ssize_t i, k, n, half, at = 0, count = 0, edges = 0, size = len(nodes)
    cdef PyObject *node
    cdef PyObject *operation
    cdef int factor, term
    cdef array places = clone(INTS, size, False)
    made.nodes, made.size, made.edge = nodes, size, 0
    made.foreign, made.numbers, made.known, made.others = [], [], {}, {}
    made.place, made.all = places.data.as_ints, items(nodes)
    for i in range(256):
        made.recent_place[i] = -1
    for i in range(size):
        if not is_value(nodes[i]):
            raise TypeError("flat takes Values")
        node = made.all[i]
        (<Value>node).next = <PyObject *><size_t>i
        n = arity(node)
        if (<Value>node).operation == <PyObject *>NET_INPUT and n > 1:
            count += n - 1
            edges += 2 * (n - 1)
        else:
            count += 1
            edges += n
        if count > MOST or edges > MOST:
            raise MemoryError("the recording has more operations than a program can have")
        made.place[i] = <int>(count - 1)
    cdef array codes = clone(INTS, count, False), counts = clone(INTS, count, False), child = clone(INTS, edges, False)
    cdef int *code = codes.data.as_ints
    cdef int *arities = counts.data.as_ints
    cdef PyObject *recent[64]
    cdef int recent_code[64]
    cdef dict numbered = {}
    for k in range(64):
        recent[k] = NULL
    cdef list leaves = []
    made.child = child.data.as_ints
    for i in range(size):
        node = made.all[i]
        operation = (<Value>node).operation
        n = arity(node)
        if operation == <PyObject *>NET_INPUT and n > 1:
            factor, term = <int>numbered.setdefault(FACTORS, len(numbered)), <int>numbered.setdefault(SUMS, len(numbered))
            half = n // 2
            for k in range(half):
                code[at], arities[at] = factor, 2
                made.add(node, n % 2 + k)
                made.add(node, n % 2 + half + k)
                at += 1
                if k or n % 2:
                    code[at], arities[at] = term, 2
                    if k:
                        made.child[made.edge] = <int>(at - 2)
                        made.edge += 1
                    else:
                        made.add(node, 0)
                    made.child[made.edge] = <int>(at - 1)
                    made.edge += 1
                    at += 1
            continue
        if operation == NULL:
            code[at] = -1
            leaves.append(<object>node)
        else:
            k = <Py_ssize_t>(<size_t>operation >> 4 & 63)
            if operation != recent[k]:
                recent[k], recent_code[k] = operation, <int>numbered.setdefault(<object>operation, len(numbered))
            code[at] = recent_code[k]
        arities[at] = <int>n
        for k in range(n):
            made.add(node, k)
        at += 1
    cdef array ends = clone(INTS, len(roots), False)
    made.child = ends.data.as_ints
    made.edge = 0
    for root in roots:
        if is_value(root):
            made.add_node(<PyObject *>root)
        else:
            made.add_number(as_double(root))
    return list(numbered), codes, counts, child, made.numbers, leaves, made.foreign, ends


def closed(list nodes not None, list values not None):
    """Whether all operands are among the nodes, the ops, and which of some Values are; see flattening.py."""
    cdef Py_ssize_t i, k, size = len(nodes)
    cdef PyObject **all = items(nodes)
    cdef PyObject *node
    cdef PyObject *child
    cdef size_t at
    cdef bint complete = nodes is recorded and whole
    if complete:
        found = [is_at(value, all, size) or (is_value(value) and <size_t>(<Value>value).next == stamp) for value in values]
        if False not in found:
            return True, ops_in(nodes), found
    complete = True
    for i in range(size):
        if not is_value(nodes[i]):
            raise TypeError("closed takes Values")
        (<Value>all[i]).next = <PyObject *><size_t>i
    for i in range(size):
        node = all[i]
        for k in range(arity(node)):
            child = operand(node, k)
            if child != NULL:
                at = <size_t>(<Value>child).next
                complete = complete and at < <size_t>size and all[at] == child
    return complete, ops_in(nodes), [is_at(value, all, size) for value in values]


cdef set ops_in(list nodes):
    """The ops of nodes."""
    cdef PyObject *recent[64]
    cdef PyObject *operation
    cdef Py_ssize_t i, k
    cdef set found = set()
    for k in range(64):
        recent[k] = NULL
    for i in range(len(nodes)):
        operation = (<Value>items(nodes)[i]).operation
        k = <Py_ssize_t>(<size_t>operation >> 4 & 63)
        if operation != NULL and operation != recent[k]:
            recent[k] = operation
            found.add(<object>operation)
    return found


cdef bint is_at(object value, PyObject **all, Py_ssize_t size) noexcept:
    """Whether it is one of the nodes, and its `next` is its place among them."""
    cdef size_t at = <size_t>(<Value>value).next if is_value(value) else <size_t>size
    return at < <size_t>size and all[at] == <PyObject *>value


def marked(array code not None, array counts not None, array child not None, array needed not None, int free):
    """Mark what the needed nodes are made of, too; the length of the longest chain of them, not counting one op."""
    cdef int *ops_of = code.data.as_ints
    cdef int *arities = counts.data.as_ints
    cdef int *operands = child.data.as_ints
    cdef signed char *wanted = needed.data.as_schars
    cdef Py_ssize_t i, k, n = len(code), edge = len(child), longest = 0
    cdef array lengths = clone(INTS, n, True)
    cdef int *length = lengths.data.as_ints
    for i in range(n - 1, -1, -1):
        edge -= arities[i]
        if wanted[i]:
            for k in range(edge, edge + arities[i]):
                if operands[k] >= 0:
                    wanted[operands[k]] = 1
    edge = 0
    for i in range(n):
        if wanted[i]:
            for k in range(edge, edge + arities[i]):
                if operands[k] >= 0 and length[operands[k]] > length[i]:
                    length[i] = length[operands[k]]
            if ops_of[i] >= 0 and ops_of[i] != free:
                length[i] += 1
            longest = max(longest, length[i])
        edge += arities[i]
    return longest
