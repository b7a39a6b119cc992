# cython: language_level=3, cdivision=True, c_api_binop_methods=True, auto_pickle=False, binding=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The Value of value.py, compiled: the same results to the bit, at little more than the price of plain floats.

A node is 96 bytes: operands, local derivatives and a plain number beside a Value lie in it. Rows of one and of two
arguments are computed by C that the build writes from ops.py, see native.py; every other row, and a case in which Python
raises or meets inf or nan, goes through the Op itself, so that its errors are the reference's. No walk over a graph calls Python or
allocates memory: whatever another thread or a destructor may do, it does before or after.

Where the reference takes its user on trust, this one checks: what is assigned to data, grad and label is converted or
refused as by the constructor, and op, operands and partials are read-only. So nodes, older than what is made of them,
cannot form a cycle, and the garbage collector need not know them. (An instance of a subclass that keeps as an
attribute a node made of itself is a cycle: it is never freed.)
"""

cimport cython
from cpython.array cimport array, clone
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsDouble, PyLong_CheckExact
from cpython.object cimport Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE, PyObject, PyTypeObject
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

import math
import operator
import sys

from micrograd_bp import ops
from micrograd_bp._engine.by_hand import ByHand, checked_arguments, partials_at_reading, step_back
from micrograd_bp._engine.methods import READINGS, give_help, give_others
from micrograd_bp._engine.operators import as_operand, general_net_input, give, reading_method, text
from micrograd_bp._engine.recordings import COMPARISONS, RECORDINGS as LIST_OF_RECORDINGS, noticed
from micrograd_bp.ops import TABLE, Op, number

cdef extern from "<math.h>":
    double fabs(double x) noexcept
    double fma(double x, double y, double z) noexcept

cdef extern from "<fenv.h>":
    enum: FE_ALL_EXCEPT
    int feclearexcept(int flags) noexcept

cdef extern from *:
    """
    #define take_over(pointer) (pointer)
    static inline size_t some_bits(double x)
    {
        uint64_t bits;
        memcpy(&bits, &x, sizeof(bits));
        return (size_t)((bits ^ bits >> 17 ^ bits >> 43) * 0x9E3779B97F4A7C15u >> 56);
    }
    static inline int same_bits(double x, double y) { return memcmp(&x, &y, sizeof(double)) == 0; }
    #ifndef POOL
    #ifdef Py_GIL_DISABLED /* a node's head is more than a count and a type there: Python's to make */
    #define POOL 0
    #else
    #define POOL 1
    #endif
    #endif
    #if defined(__GNUC__)
    #define prefetch(address) __builtin_prefetch(address, 1)
    #else
    #define prefetch(address)
    #endif
    """
    void prefetch(void *address) noexcept
    bint same_bits(double x, double y) noexcept
    size_t some_bits(double x) noexcept
    bint POOL  # 0: every node from Python's allocator, where a memory checker sees it
    object take_over(PyObject *pointer)  # the reference that the pointer owns becomes the caller's
    PyObject *new_object "_PyObject_New"(PyTypeObject *type) except NULL
    void free_object "PyObject_Free"(PyObject *object) noexcept
    void keep "Py_INCREF"(PyObject *object) noexcept
    void let_go "Py_DECREF"(PyObject *object) noexcept
    Py_ssize_t references "Py_REFCNT"(PyObject *object) noexcept
    void set_references "Py_SET_REFCNT"(PyObject *object, Py_ssize_t count) noexcept
    void set_type "Py_SET_TYPE"(PyObject *object, PyTypeObject *type) noexcept
    PyObject **items "PySequence_Fast_ITEMS"(object sequence) noexcept  # of a list or tuple
    PyTypeObject *type_of "Py_TYPE"(PyObject *object) noexcept
    unsigned long PyThread_get_thread_ident() noexcept
    int set_attribute "PyObject_GenericSetAttr"(object owner, object name, PyObject *value) except -1
    ctypedef struct TypeSlots "PyTypeObject":
        PyObject *(*tp_alloc)(TypeSlots *type, Py_ssize_t n) except NULL
        void (*tp_free)(void *memory) noexcept


# --- the rows computed here ---------------------------------------------------------------------------------------

include "rules.pxi"  # Code, unary_rule and binary_rule, written by native.py from the table

# A free-threaded Python switches its lock on for this module, and warns; it does not where it is told to leave it off.
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("the accelerated engine needs Python's lock: run without PYTHON_GIL=0 and -X gil=0")

cdef dict CODE_OF = {TABLE[name.lower()]: int(code) for name, code in Code.__members__.items()}
cdef PyObject *ROWS[ROW_COUNT]
for row, code in CODE_OF.items():
    ROWS[<int>code] = <PyObject *>row  # CODE_OF holds it

cdef double NAN = math.nan


# --- the node -----------------------------------------------------------------------------------------------------

cdef union Operand:
    PyObject *node
    double number
    Block *block

cdef union Slope:
    double number
    Block *block

# Operands of a node that has many. The items are owned: Values, and plain numbers as Python's floats, whose addresses
# are marked by their lowest bit. Beside each stands a double: its partial; or its data, where two blocks are multiplied
# term by term, since then it is the partial by its partner in the other block, and units of a layer share such blocks.
cdef struct Block:
    Py_ssize_t holders  # nodes that it belongs to
    Py_ssize_t size
    size_t uses  # by nodes that a walk under way has met
    void *list  # that RECENT has it for, or NULL
    size_t kinds  # whether there is a Value among the items, LEFT, one that has operands, INNER, or one that is TRACED

# What the two operands of a node are. The bits above count uses while a walk is under way, and are 0 between walks.
cdef enum:
    LEAF = 0
    LEFT = 1  # the left operand is a Value, else a number
    RIGHT = 2  # the right one
    PAIR = 4  # there are two
    MANY = 8  # in place of operands: a block of them, of any length, and their partials
    PRODUCTS = 16  # two blocks that are multiplied term by term, and with PAIR an operand, on the left, of partial 1
    SHAPE = 31
    INNER = 16  # in the kinds of a block
    TRACED = 32  # a recording is told what is read off it; so are the nodes made of it
    BY_HAND = 64  # it passes its grad on by a function of its own
    OWNER = 128  # it has attributes of a program's own, in ATTRIBUTES
    WANTED = 256  # its derivative is what a walk under way is for
    USE = 512


@cython.binding(True)  # its methods can be given the docstrings and annotations of value.py
cdef class Value:

    cdef size_t state
    cdef double adjoint, primal
    cdef PyObject *next  # of a list that passes through the nodes themselves, so that no walk can run out of memory
    cdef Operand terms[2]
    cdef Slope slopes[2]
    cdef PyObject *row  # NULL on a leaf
    cdef PyObject *name  # NULL: no label

    def __init__(self, data, _children=(), _op="", label=""):
        cdef double primal = as_double(data)
        operands = ()
        if type(_children) is str and not label and not _op:
            label = _children
        elif type(_children) is not tuple or _children or _op or type(label) is not str:
            operands, _op, label = checked_arguments(_children, _op, label)
        clear(self)
        self.primal = primal
        self.adjoint = 0.0
        if label:
            set_label(self, label)
        if operands:
            set_op(self, ByHand.of(_op), operands)
        if watched and is_own():
            note(<PyObject *>self)

    def __dealloc__(self):
        clear(self)

    @property
    def data(self):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("data", self)
        return self.primal

    @data.setter
    def data(self, data):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("an assignment to data", self)
        self.primal = as_double(data)

    @property
    def grad(self):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("grad", self)
        return self.adjoint

    @grad.setter
    def grad(self, grad):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("an assignment to grad", self)
        self.adjoint = as_double(grad)

    @property
    def _data(self):
        return self.primal

    @property
    def _grad(self):
        return self.adjoint

    @_grad.setter
    def _grad(self, grad):
        self.adjoint = as_double(grad)

    def _set_op(self, op, operands):
        set_op(self, op, tuple(operands))

    def _attributes(self):
        own = ATTRIBUTES.get(id(self), {}) if self.state & OWNER else {}
        return own if is_value(self) else getattr(self, "__dict__", own)

    def __setattr__(self, str name, x):
        """An attribute of a program's own costs memory for the nodes that have one, and nothing for the others."""
        try:
            set_attribute(self, name, <PyObject *>x)
        except AttributeError:
            if hasattr(type(self), name):  # there is one of that name, to be read only
                raise
            ATTRIBUTES.setdefault(id(self), {})[name] = x
            self.state |= OWNER

    def __getattr__(self, str name):
        if self.state & OWNER:
            found = ATTRIBUTES.get(id(self))
            if found is not None and name in found:
                return found[name]
        # No repr, which would look for signals: after an interrupt in its search for `__array_wrap__` NumPy crashes.
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)

    def __delattr__(self, str name):
        if self.state & OWNER and name in ATTRIBUTES[id(self)]:
            del ATTRIBUTES[id(self)][name]
        else:
            set_attribute(self, name, NULL)

    @property
    def label(self):
        return <object>self.name if self.name != NULL else ""

    @label.setter
    def label(self, label):
        set_label(self, text(label))

    @property
    def op(self):
        return <object>self.row if self.row != NULL else None

    @property
    def operands(self):
        if self.state & MANY:
            return tuple(items_of(self.terms[0].block))
        if not self.state & SHAPE:
            return ()
        left = <object>self.terms[0].node if self.state & LEFT else self.terms[0].number
        if self.state & PRODUCTS:
            factors = items_of(self.terms[1].block) + items_of(self.slopes[1].block)
            return (left, *factors) if self.state & PAIR else tuple(factors)
        if not self.state & PAIR:
            return (left,)
        return left, <object>self.terms[1].node if self.state & RIGHT else self.terms[1].number

    @property
    def partials(self):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("partials", self)
        return partials_at_reading(self) if self.state & BY_HAND else self._partials

    @property
    def _partials(self):
        if self.state & MANY:
            return tuple(doubles_of(self.terms[0].block))
        if not self.state & SHAPE:
            return ()
        if self.state & PRODUCTS:
            slopes = doubles_of(self.slopes[1].block) + doubles_of(self.terms[1].block)
            return (self.slopes[0].number, *slopes) if self.state & PAIR else tuple(slopes)
        if not self.state & PAIR:
            return (self.slopes[0].number,)
        return self.slopes[0].number, self.slopes[1].number

    def detach(self):
        return Value(self.data, (), "", self.label)

    def item(self):
        return self.data

    @staticmethod
    def _record(op, tuple args):
        return record_any(op, args)

    def backward(self, seed=1.0):
        cdef double first = as_double(seed, "backward")
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("backward()", self)
        if not walk_back(<PyObject *>self, first):  # a node has a _backward of its own
            for node in topological_order(self):
                if node.op is not None:
                    node._grad = 0.0
            self.adjoint += first
            step_back(topological_order(self))

    def __add__(x, y): return binary(ADD, x, y)
    def __sub__(x, y): return binary(SUB, x, y)
    def __mul__(x, y): return binary(MUL, x, y)
    def __truediv__(x, y): return binary(TRUEDIV, x, y)
    def __floordiv__(x, y): return binary_op(FLOORDIV, x, y)
    def __mod__(x, y): return binary_op(MOD, x, y)
    def __divmod__(x, y): return x // y, x % y
    def __pow__(x, y, modulus): return binary_op(POW, x, y) if modulus is None else NotImplemented
    def __neg__(self): return unary(NEG, self)
    def __pos__(self): return unary(POS, self)
    def __abs__(self): return unary(ABS, self)

    def neg(self): return unary(NEG, self)
    def pos(self): return unary(POS, self)
    def abs(self): return unary(ABS, self)
    def sign(self): return unary(SIGN, self)
    def step(self): return unary(STEP, self)
    def relu(self): return unary(RELU, self)
    def square(self): return unary(SQUARE, self)
    def tanh(self): return unary(TANH, self)
    def sigmoid(self): return unary(SIGMOID, self)
    def silu(self): return unary(SILU, self)
    def softplus(self): return unary(SOFTPLUS, self)
    def log_sigmoid(self): return unary(LOG_SIGMOID, self)
    def exp(self): return unary(EXP, self)
    def log(self): return unary(LOG, self)
    def sqrt(self): return unary(SQRT, self)
    def sin(self): return unary(SIN, self)
    def cos(self): return unary(COS, self)

    def __richcmp__(self, other, int how):
        cdef double x = (<Value>self).primal, y
        if (deaf or not RECORDINGS) and (is_value(other) or PyFloat_CheckExact(other)):
            y = (<Value>other).primal if is_value(other) else PyFloat_AS_DOUBLE(other)
            if how == Py_LT: return x < y
            if how == Py_LE: return x <= y
            if how == Py_EQ: return x == y
            if how == Py_NE: return x != y
            return x > y if how == Py_GT else x >= y
        return READ[how](self, other)

    def __bool__(self):
        if RECORDINGS and not deaf:
            return READ_BOOL(self)
        return self.primal != 0.0

    def __hash__(self):
        if RECORDINGS and not deaf and (watched or self.state & TRACED) and not is_internal():
            noticed("hash()", self)
        return <Py_hash_t>(<size_t><PyObject *>self >> 4)  # an address, shifted: never -1

    def __repr__(self):
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"


cdef list RECORDINGS = LIST_OF_RECORDINGS
cdef dict ATTRIBUTES = {}  # of programs' own, by the id of the node
cdef tuple READ = tuple([reading_method(read, Value) for read in COMPARISONS])  # COMPARISONS are in the order of Py_LT, ...
cdef object READ_BOOL = reading_method(bool, Value)


cdef extern from "Python.h":
    PyObject *running_globals "PyEval_GetGlobals"() noexcept


cdef bint is_internal() except -1:
    """Whether this package's own code is running: its dicts of nodes hash a million of them while a Hessian is recorded."""
    cdef PyObject *variables = running_globals()
    name = (<dict>variables).get("__name__") if variables != NULL else None
    return type(name) is str and (<str>name).startswith("micrograd_bp.")


cdef inline bint is_value(object x) noexcept:
    """Whether x is a Value, not of a subclass: the test that settles it for nearly all operands."""
    return type_of(<PyObject *>x) == <PyTypeObject *>Value


cdef inline double as_double(object x, taker="Value") except? -1.0:
    return PyFloat_AS_DOUBLE(x) if PyFloat_CheckExact(x) else number(x, taker)


cdef int set_op(Value self, object op, tuple operands) except -1:
    """Make the node the result of another operation, whose partials are unknown."""
    global leaves_stay
    cdef double primal = self.primal, adjoint = self.adjoint
    cdef size_t kept = self.state & (TRACED | OWNER)
    cdef PyObject *name = self.name
    cdef Block *block = new_block(len(operands))
    cdef Py_ssize_t i
    for i in range(block.size):
        set_item(block, i, operands[i], NAN)
    if name != NULL:
        keep(name)
    attributes = ATTRIBUTES.get(id(self))
    clear(self)
    if attributes is not None:
        ATTRIBUTES[id(self)] = attributes
    self.primal, self.adjoint = primal, adjoint
    self.name = name
    keep(<PyObject *>op)
    self.row = <PyObject *>op
    self.terms[0].block = block
    self.state = MANY | kept | (BY_HAND if isinstance(op, ByHand) else 0)
    leaves_stay = False  # it may have been one
    return 0


cdef int set_label(Value self, object label) except -1:
    cdef PyObject *old = self.name
    keep(<PyObject *>label)
    self.name = <PyObject *>label
    if old != NULL:
        let_go(old)
    return 0


# --- blocks of operands -------------------------------------------------------------------------------------------

cdef bint leaves_stay = True  # no node has been given operands later than blocks may have taken it for a leaf


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


# Blocks of the factors in lists, by the address of the list: the next unit with these inputs, or the next row through
# these weights, shares them. A block that is found is compared with the list, item by item and bit by bit.
cdef enum:
    LISTS = 1024
cdef Block *RECENT[LISTS]


cdef inline Block **recent(void *sequence) noexcept:
    return &RECENT[(<size_t>sequence >> 5) % LISTS]


cdef Block *shared(object sequence) except? NULL:
    """The block of a list's or tuple's factors, the caller's part in it counted; NULL: they are not Values and floats."""
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


cdef inline PyObject *new_node(PyObject *row, double out, size_t shape) except NULL:
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
    if row != NULL:
        keep(row)
    (<Value>node).row = row
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


# --- recording ----------------------------------------------------------------------------------------------------

cdef unsigned long watched = 0  # the thread that a recording listens to
cdef list recorded = []  # its nodes
cdef bint whole = True  # all operands of these are among them, as far as no walk has gone over them
cdef bint deaf = False  # it is told of no reads any more
cdef Py_ssize_t limit = 0  # with more nodes than that, if it is not 0


def watch(unsigned long thread):
    """Tell the recording under way what this thread does to Values; 0: no longer."""
    global watched, recorded, limit, deaf, whole
    watched = thread
    if thread:
        recorded, limit = RECORDINGS[0].nodes, getattr(RECORDINGS[0], "limit", None) or 0
        whole = True
    deaf = False


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
    global deaf, whole
    cdef Py_ssize_t i, size
    cdef size_t at
    cdef PyObject *child
    if RECORDINGS:  # paused, it is told nothing
        recorded.append(<object>node)
        size = len(recorded)
        (<Value>node).next = <PyObject *><size_t>(size - 1)
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                at = <size_t>(<Value>child).next
                whole = whole and at < <size_t>size and items(recorded)[at] == child
        if limit and size > limit:
            deaf = True
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
    """At every call of a built-in function: one that is a method may be of interest, or one of those few."""
    cdef PyObject *owner
    if what == PyTrace_C_CALL:
        if PyCFunction_Check(function):
            owner = PyCFunction_GetSelf(function)
            if owner == NULL or (is_module(owner) and <object>function not in heard):
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
    """Nodes, in the order of their creation, while they are written as arrays: `flat` in value.py has it in Python."""

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
    """Nodes in the order of their creation as arrays; see value.py."""
    cdef Flat made = Flat.__new__(Flat)
    cdef Py_ssize_t i, k, n, half, at = 0, count = 0, edges = 0, size = len(nodes)
    cdef PyObject *node
    cdef PyObject *row
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
        if (<Value>node).row == <PyObject *>NET_INPUT and n > 1:
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
    cdef dict rows = {}
    for k in range(64):
        recent[k] = NULL
    cdef list leaves = []
    made.child = child.data.as_ints
    for i in range(size):
        node = made.all[i]
        row = (<Value>node).row
        n = arity(node)
        if row == <PyObject *>NET_INPUT and n > 1:
            factor, term = <int>rows.setdefault(FACTORS, len(rows)), <int>rows.setdefault(SUMS, len(rows))
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
        if row == NULL:
            code[at] = -1
            leaves.append(<object>node)
        else:
            k = <Py_ssize_t>(<size_t>row >> 4 & 63)
            if row != recent[k]:
                recent[k], recent_code[k] = row, <int>rows.setdefault(<object>row, len(rows))
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
    return list(rows), codes, counts, child, made.numbers, leaves, made.foreign, ends


def closed(list nodes not None, list values not None):
    """Whether all operands are among the nodes, the ops, and which of some Values are; see flattening.py."""
    cdef Py_ssize_t i, k, size = len(nodes)
    cdef PyObject **all = items(nodes)
    cdef PyObject *node
    cdef PyObject *child
    cdef size_t at
    cdef bint complete = nodes is recorded and whole
    if complete:
        found = [is_at(value, all, size) for value in values]
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
    cdef PyObject *row
    cdef Py_ssize_t i, k
    cdef set found = set()
    for k in range(64):
        recent[k] = NULL
    for i in range(len(nodes)):
        row = (<Value>items(nodes)[i]).row
        k = <Py_ssize_t>(<size_t>row >> 4 & 63)
        if row != NULL and row != recent[k]:
            recent[k] = row
            found.add(<object>row)
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


cdef inline PyObject *new_unary(PyObject *row, double out, Value x, double dx) except NULL:
    cdef PyObject *node = new_node(row, out, LEFT | (x.state & TRACED))
    keep(<PyObject *>x)
    (<Value>node).terms[0].node = <PyObject *>x
    (<Value>node).slopes[0].number = dx
    if x.state & TRACED or watched and is_own():
        note(node)
    return node


cdef inline PyObject *new_binary(
    PyObject *row, double out, size_t shape, object left, double x, double dx, object right, double y, double dy
) except NULL:
    cdef PyObject *node = new_node(row, out, shape | PAIR)
    if shape & LEFT:
        keep(<PyObject *>left)
        (<Value>node).terms[0].node = <PyObject *>left
        (<Value>node).state |= (<Value>left).state & TRACED
    else:
        (<Value>node).terms[0].number = x
    if shape & RIGHT:
        keep(<PyObject *>right)
        (<Value>node).terms[1].node = <PyObject *>right
        (<Value>node).state |= (<Value>right).state & TRACED
    else:
        (<Value>node).terms[1].number = y
    (<Value>node).slopes[0].number = dx
    (<Value>node).slopes[1].number = dy
    if (<Value>node).state & TRACED or watched and is_own():
        note(node)
    return node


cdef inline object unary(int code, Value self):
    cdef double out = 0.0, dx = 0.0
    if unary_rule(code, self.primal, &out, &dx):
        return take_over(new_unary(ROWS[code], out, self, dx))
    feclearexcept(FE_ALL_EXCEPT)  # NumPy's functions on object arrays warn of what they find here
    return record(<object>ROWS[code], (self,))


cdef inline object binary(int code, object left, object right):
    """The node for a row with an operator; inline, so that the C compiler makes one function an operator."""
    cdef double x = 0.0, y = 0.0, out = 0.0, dx = 0.0, dy = 0.0
    cdef int left_kind = take(code, left, &x), right_kind = take(code, right, &y)
    if left_kind == FOREIGN or right_kind == FOREIGN:
        return NotImplemented
    if not binary_rule(code, x, y, &out, &dx, &dy):
        feclearexcept(FE_ALL_EXCEPT)
        return record(<object>ROWS[code], (left if left_kind == NODE else x, right if right_kind == NODE else y))
    cdef size_t shape = (LEFT if left_kind == NODE else 0) | (RIGHT if right_kind == NODE else 0)
    return take_over(new_binary(ROWS[code], out, shape, left, x, dx, right, y, dy))


cdef object binary_op(int code, object left, object right):
    return binary(code, left, right)


cdef enum:
    NUMBER, NODE, FOREIGN


cdef inline int take(int code, object operand, double *x) except -1:
    """The operand's value, and what the operand is."""
    if is_value(operand):
        x[0] = (<Value>operand).primal
        return NODE
    if PyFloat_CheckExact(operand):
        x[0] = PyFloat_AS_DOUBLE(operand)
        return NUMBER
    return take_other(code, operand, x)


cdef int take_other(int code, object operand, double *x) except -1:
    if isinstance(operand, Value):
        x[0] = (<Value>operand).primal
        return NODE
    if PyLong_CheckExact(operand):
        x[0] = PyLong_AsDouble(operand)
        return NUMBER
    converted = as_operand(<object>ROWS[code], operand)
    if converted is NotImplemented:
        return FOREIGN
    x[0] = converted
    return NUMBER


cdef object record_any(op, tuple args):
    """The node for op(*args), whatever the operation and its arity."""
    found = CODE_OF.get(op)
    cdef int code
    if found is not None:
        code = found
        if len(args) == 1 and code < ADD and isinstance(args[0], Value):
            return unary(code, <Value>args[0])
        if len(args) == 2 and code >= ADD:
            left, right = args
            return binary_op(code, left if isinstance(left, Value) else number(left, op.name),
                             right if isinstance(right, Value) else number(right, op.name))
    if op is NET_INPUT or op is SUMPROD and len(args) % 2 == 0:
        return record_products(op, tuple([arg if isinstance(arg, Value) else number(arg, op.name) for arg in args]))
    if op is FSUM or op is HYPOT:
        node = record_terms(op, args)
        if node is not None:
            return node
    return record(op, args)


cdef object SUMS = TABLE["add"], FACTORS = TABLE["mul"]
cdef object NET_INPUT = TABLE["net_input"], SUMPROD = TABLE["sumprod"], FSUM = TABLE["fsum"], HYPOT = TABLE["hypot"]
cdef object fsum = math.fsum, hypot = math.hypot, sumprod = getattr(math, "sumprod", None)  # new in Python 3.12


cdef object record_terms(object op, tuple args):
    """The node for fsum or hypot of two or more operands; None where the Op itself has to do it."""
    cdef PyObject **xs = items(args)
    cdef Py_ssize_t i, n = len(args)
    cdef double x, y, out, largest = 0.0
    cdef bint is_length = op is HYPOT
    cdef list data = []
    if n < 2 or not are_plain(args, True):
        return None
    for i in range(n):
        x = data_of(xs[i])
        if is_length and not fabs(x) < 3e150:  # beyond, or for nan, the rule is not just a quotient: see ieee.scaled
            return None
        largest = max(largest, fabs(x))
        data.append(x)
    if is_length and not largest > 4e-151:
        return None
    try:
        out = hypot(*data) if is_length else fsum(data)
    except (OverflowError, ValueError):
        return None
    if n == 2:
        x, y = data_of(xs[0]), data_of(xs[1])
        return take_over(new_binary(
            <PyObject *>op, out, (LEFT if is_value(args[0]) else 0) | (RIGHT if is_value(args[1]) else 0),
            args[0], x, x / out if is_length else 1.0, args[1], y, y / out if is_length else 1.0,
        ))
    cdef Block *block = new_block(n)
    for i in range(n):
        set_item(block, i, <object>xs[i], data_of(xs[i]) / out if is_length else 1.0)
    return new_many(op, out, block)


cdef object new_many(object op, double out, Block *block):
    """The node whose operands and partials are in the block, which it takes."""
    cdef PyObject *node
    try:
        node = new_node(<PyObject *>op, out, MANY | block.kinds & TRACED)
    except MemoryError:
        release(block, NULL)
        raise
    (<Value>node).terms[0].block = block
    return noted(node)


cdef object exact_terms(PyObject **xs, Py_ssize_t n):
    """The products of two vectors and what rounding took off each, whose sum is exact; None: they may be no floats."""
    cdef list terms = []
    cdef Py_ssize_t i
    cdef double x, y, product
    for i in range(n):
        x, y = data_of(xs[i]), data_of(xs[n + i])
        product = x * y
        if product == 0.0:
            if x != 0.0 and y != 0.0:
                return None
        elif 1e-270 < fabs(product) < 1e290:
            terms.append(product)
            terms.append(fma(x, y, -product))
        else:
            return None
    return terms


cdef object record_products(object op, tuple args):
    """The node for one of the rows that multiply one half of their operands by the other, term by term."""
    cdef PyObject **xs = items(args)
    cdef Py_ssize_t n = len(args) // 2, i
    cdef double out = 0.0
    if op is SUMPROD:
        terms = exact_terms(xs, n) if sumprod is None else None
        data = [] if terms is not None else [data_of(xs[i]) for i in range(2 * n)]
        try:
            out = fsum(terms) if terms is not None else sumprod(data[:n], data[n:]) if sumprod else op.forward(*data)
        except Exception as error:
            raise op.failure(error, args) from error
    cdef PyObject *left = xs[0] if len(args) % 2 else NULL
    if left != NULL:
        xs += 1
    cdef Block *p = factors(xs, n)
    cdef Block *q
    try:
        q = factors(xs + n, n)
    except MemoryError:
        release(p, NULL)
        raise
    if op is NET_INPUT:
        out = weighted_sum(left, p, q)
    return new_products(<PyObject *>op, out, left, p, q)


@cython.binding(True)
def net_input(w, x, b=None):
    cdef Block *p = NULL
    cdef Block *q
    if (type(w) is list or type(w) is tuple) and (type(x) is list or type(x) is tuple) and len(w) == len(x):
        if b is None or is_value(b) or PyFloat_CheckExact(b):
            p = shared(w)
    if p == NULL:
        return general_net_input(w, x, b)
    try:
        q = shared(x)
    except MemoryError:
        release(p, NULL)
        raise
    if q == NULL or not (p.kinds | q.kinds) & LEFT and not is_value(b):
        release(p, NULL)
        if q != NULL:
            release(q, NULL)
        return general_net_input(w, x, b)
    cdef PyObject *left = NULL if b is None else <PyObject *>b
    return new_products(<PyObject *>NET_INPUT, weighted_sum(left, p, q), left, p, q)


@cython.binding(True)
def layer_outputs(kind, list neurons not None, x):
    """The outputs of all neurons for the inputs x; those of this type without a Python call for each."""
    cdef list outputs = []
    cdef Block *q = NULL
    cdef bint plain = type(x) is list or type(x) is tuple
    try:
        for neuron in neurons:
            out = None
            if plain and type(neuron) is kind:
                if q == NULL:
                    q = shared(x)
                    plain = q != NULL
                if q != NULL:
                    out = unit(neuron.__dict__, q)
            if out is None:
                if q != NULL:
                    release(q, NULL)  # the neuron may be code of a user's, and do anything
                    q = NULL
                out = neuron(x)
            outputs.append(out)
    finally:
        if q != NULL:
            release(q, NULL)
    return outputs


cdef object unit(dict attributes, Block *q):
    """The output of a neuron with these attributes for the inputs in q; None where it has to be asked itself."""
    w, b = attributes.get("w"), attributes.get("b")
    activation = attributes.get("activation") if attributes.get("nonlin") else None
    code = None if activation is None else CODE_BY_NAME.get(activation) if type(activation) is str else None
    if type(w) is not list or len(<list>w) != q.size or not is_value(b) or code is None and activation is not None:
        return None
    cdef Block *p = shared(w)
    if p == NULL:
        return None
    q.holders += 1
    node = new_products(<PyObject *>NET_INPUT, weighted_sum(<PyObject *>b, p, q), <PyObject *>b, p, q)
    return node if code is None else unary(code, <Value>node)


cdef dict CODE_BY_NAME = {op.name: code for op, code in CODE_OF.items() if code < ADD}


cdef inline double weighted_sum(PyObject *bias, Block *w, Block *x) noexcept:
    """The value of the row: from left to right, as the graph of sums and products would have it."""
    cdef double *left = doubles_in(w)
    cdef double *right = doubles_in(x)
    cdef double total
    cdef Py_ssize_t i, first = 0
    if bias != NULL:
        total = data_of(bias)
    elif w.size:
        total, first = left[0] * right[0], 1
    else:
        total = 0.0
    for i in range(first, w.size):
        total += left[i] * right[i]
    return total


cdef inline bint are_plain(tuple args, bint nodes) noexcept:
    """Whether all are floats, or (nodes) Values of no subclass."""
    cdef PyObject **xs = items(args)
    cdef Py_ssize_t i
    for i in range(len(args)):
        if not PyFloat_CheckExact(<object>xs[i]) and not (nodes and is_value(<object>xs[i])):
            return False
    return True


cdef object record(op, tuple args):
    """The node for op(*args) by the Op's own functions."""
    cdef PyObject *node
    cdef size_t shape
    cdef tuple operands = args
    if not are_plain(args, True):
        operands = tuple([arg if isinstance(arg, Value) else number(arg, op.name) for arg in args])
    data = [(<Value>arg).primal if isinstance(arg, Value) else arg for arg in operands]
    try:  # Op.linearize, written out, which takes two thirds of the time
        out = op.forward(*data)
        try:
            partials = op.rule_of_floats(out, *data)
        except (ArithmeticError, ValueError):
            partials = op.partials(out, *data)
    except Exception as error:
        raise op.failure(error, operands) from error
    if type(partials) is not tuple or len(partials) != len(operands):
        raise TypeError(f"{op.name}: its rule gives {partials!r}; it must give a tuple, one partial per argument")
    if not are_plain(partials, False):
        partials = tuple([partial if type(partial) is float else number(partial, op.name) for partial in partials])
    cdef double result = as_double(out, op.name)
    if len(operands) == 1 and isinstance(operands[0], Value):
        return take_over(new_unary(<PyObject *>op, result, <Value>operands[0], partials[0]))
    if len(operands) == 2:
        left, right = operands
        shape = (LEFT if isinstance(left, Value) else 0) | (RIGHT if isinstance(right, Value) else 0)
        return take_over(
            new_binary(<PyObject *>op, result, shape, left, data[0], partials[0], right, data[1], partials[1])
        )
    cdef Block *block = new_block(len(operands))
    cdef Py_ssize_t i
    for i in range(block.size):
        set_item(block, i, operands[i], partials[i])
    return new_many(op, result, block)


cdef inline object noted(PyObject *node):
    """The new node, of which a recording is told."""
    made = take_over(node)
    if (<Value>node).state & TRACED or watched and is_own():
        note(node)
    return made


cdef object new_products(PyObject *row, double out, PyObject *left, Block *p, Block *q):
    """The node for left + p_1 q_1 + ... + p_n q_n; left may be NULL. It takes the caller's part in the blocks."""
    cdef PyObject *node
    cdef size_t shape = PRODUCTS | (p.kinds | q.kinds) & TRACED
    if left != NULL:
        shape |= PAIR
        if not PyFloat_CheckExact(<object>left):
            shape |= LEFT | (<Value>left).state & TRACED
    try:
        node = new_node(row, out, shape)
    except MemoryError:
        release(p, NULL)
        release(q, NULL)
        raise
    (<Value>node).slopes[0].number = 1.0
    if shape & LEFT:
        keep(left)
        (<Value>node).terms[0].node = left
    elif shape & PAIR:
        (<Value>node).terms[0].number = PyFloat_AS_DOUBLE(<object>left)
    (<Value>node).terms[1].block = p
    (<Value>node).slopes[1].block = q
    return noted(node)


# --- walking ------------------------------------------------------------------------------------------------------

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
    """Count a use of a node, which is found by its first."""
    if (<Value>child).state & SHAPE:  # a leaf is never waited for
        if (<Value>child).state < USE:
            append(found, child)
        (<Value>child).state += USE


cdef inline void found_uses(Block *block, Queue *found) noexcept:
    """Count a use of all items. The uses by nodes that share a block end with the last of them: they count as one."""
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
    """A use of all items is done."""
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
    """`count_uses` for leaves as well, one by one: for those who pass every operand."""
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
    cdef PyObject *row = (<Value>node).row
    cdef PyObject *name = (<Value>node).name
    if state & OWNER:
        forget(node)
    (<Value>node).state = LEAF  # before any reference is given up: that may call a destructor, and it may see the node
    (<Value>node).row = NULL
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
    if row != NULL:
        let_go(row)
    if name != NULL:
        let_go(name)


cdef void release(Block *block, PyObject **dying) noexcept:
    """Give up a node's part in a block; with the last part the block goes, and so may its items (dying: see drop)."""
    cdef PyObject **items = items_in(block)
    cdef Py_ssize_t i
    block.holders -= 1
    if block.holders == 0:
        if block.list != NULL:  # nobody may find it any more: giving up a reference may call a destructor
            recent(block.list)[0] = NULL
        for i in range(block.size):
            if dying != NULL and is_node(items[i]):
                drop(items[i], dying)
            else:
                let_go(unmarked(items[i]))
        PyMem_Free(block)


# --- rows called as functions -------------------------------------------------------------------------------------

_call = Op.__call__


@cython.binding(True)  # so that it can be a method of Op
def call(self, *args):
    """Op.__call__ where all arguments are Values and floats."""
    if len(args) != self.arity:
        args = self._complete(args)
    cdef bint taker = False
    for arg in args:
        if is_value(arg):
            taker = True
        elif not PyFloat_CheckExact(arg):
            return _call(self, *args)
    return record_any(self, args) if taker else self.forward(*args)


# --- what the table gives beside ----------------------------------------------------------------------------------

@cython.binding(True)
def _method(op):
    return lambda self, *args: op(self, *args)


for name, op in TABLE.items():
    if not hasattr(Value, name):
        give(Value, name, _method(op))
        give_help(getattr(Value, name), op)
for read in READINGS:
    if not hasattr(Value, f"__{read.__name__}__"):
        give(Value, f"__{read.__name__}__", reading_method(read, Value))
give_others(Value)

Op.__call__ = call
Value.__name__ = "Value"  # without the module, in messages
Value.__module__ = "micrograd_bp.value"  # pickles, and whoever reads the name, do not depend on the engine
exports = {
    "Value": Value, "topological_order": topological_order, "slopes": slopes, "variables": variables, "read_data": read_data,
    "add_to_grads": add_to_grads, "pushed": pushed, "slope_rows": slope_rows, "all_leaves": all_leaves,
    "watch": watch, "deafen": deafen, "closed": closed, "flat": flat, "marked": marked, "listening": listening,
}
