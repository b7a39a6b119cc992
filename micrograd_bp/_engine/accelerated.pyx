# cython: language_level=3, cdivision=True, c_api_binop_methods=True, auto_pickle=False, binding=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The Value of value.py, compiled: the same results to the bit, at little more than the price of plain floats.

A node is 96 bytes: operands, local derivatives and a plain number beside a Value lie in it. Ops of one and of two
arguments are computed by C that the build writes from ops.py, see native.py; every other op, and a case in which Python
raises or meets inf or nan, goes through the Op itself, so that its errors are the reference's. No walk over a graph
calls Python or allocates memory: whatever another thread or a destructor may do, it does before or after.

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


# --- the ops computed here ----------------------------------------------------------------------------------------

include "rules.pxi"  # Code, unary_rule and binary_rule, written by native.py from the table

# A free-threaded Python switches its lock on for this module, and warns; it does not where it is told to leave it off.
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("the accelerated engine needs Python's lock: run without PYTHON_GIL=0 and -X gil=0")

cdef dict CODE_OF = {TABLE[name.lower()]: int(code) for name, code in Code.__members__.items()}
cdef PyObject *OPS[OP_COUNT]
for op, code in CODE_OF.items():
    OPS[<int>code] = <PyObject *>op  # CODE_OF holds it

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
    void *list  # of which it is the block in RECENT, or NULL
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
    cdef PyObject *operation  # NULL on a leaf
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
        """The number itself."""
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
        """d output / d self: summed over the calls of `backward()` on a leaf."""
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
        """A name for pictures and messages."""
        return <object>self.name if self.name != NULL else ""

    @label.setter
    def label(self, label):
        set_label(self, text(label))

    @property
    def op(self):
        """The operation that made it; None on a leaf."""
        return <object>self.operation if self.operation != NULL else None

    @property
    def operands(self):
        """Values and plain floats, in order, duplicates kept."""
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
        """d self / d operand for each operand, taken when recorded: a later change of data cannot corrupt it."""
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
cdef tuple READ = tuple([reading_method(read, Value) for read in COMPARISONS])  # in the order of Py_LT, ...
cdef object READ_BOOL = reading_method(bool, Value)


cdef extern from "Python.h":
    PyObject *running_globals "PyEval_GetGlobals"() noexcept


cdef bint is_internal() except -1:
    """Whether this package's own code is running: its dicts hash a million nodes while a Hessian is recorded."""
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
    self.operation = <PyObject *>op
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


# --- the parts ----------------------------------------------------------------------------------------------------

include "storage.pxi"  # blocks of operands; memory
include "listening.pxi"  # what jit is told of; a recording as arrays
include "recording.pxi"  # new nodes
include "walking.pxi"  # backward, and the other walks


# --- ops called as functions --------------------------------------------------------------------------------------

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
    "Value": Value, "topological_order": topological_order, "slopes": slopes, "variables": variables,
    "read_data": read_data, "add_to_grads": add_to_grads, "pushed": pushed, "slope_rows": slope_rows,
    "all_leaves": all_leaves, "watch": watch, "deafen": deafen, "closed": closed, "flat": flat, "marked": marked, "listening": listening,
}
