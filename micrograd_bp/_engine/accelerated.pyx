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
from cpython.long cimport PyLong_AsDouble, PyLong_CheckExact
from cpython.object cimport Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE, PyObject, PyTypeObject
from libc.stdlib cimport free, malloc, realloc

import math
import operator

from micrograd_bp import ops
from micrograd_bp._engine.operators import (
    COMPARISONS, READINGS, ByHand, _give, _operand, _reading, copied, give_others, micrograd_arguments, noticed,
)
from micrograd_bp.ops import TABLE, Op, number

cdef extern from "<fenv.h>":
    enum: FE_ALL_EXCEPT
    int feclearexcept(int flags) noexcept

cdef extern from *:
    """
    #define take_over(pointer) (pointer)
    #ifndef POOL
    #define POOL 131072
    #endif
    """
    size_t POOL
    object take_over(PyObject *pointer)  # the reference that the pointer owns becomes the caller's
    PyObject *new_object "_PyObject_New"(PyTypeObject *type) except NULL
    void free_object "PyObject_Free"(PyObject *object) noexcept
    void keep "Py_INCREF"(PyObject *object) noexcept
    void let_go "Py_DECREF"(PyObject *object) noexcept
    Py_ssize_t references "Py_REFCNT"(PyObject *object) noexcept
    void set_references "Py_SET_REFCNT"(PyObject *object, Py_ssize_t count) noexcept
    PyObject *item_of "PyTuple_GET_ITEM"(PyObject *tuple, Py_ssize_t i) noexcept
    Py_ssize_t size_of "PyTuple_GET_SIZE"(PyObject *tuple) noexcept
    void set_item "PyTuple_SET_ITEM"(PyObject *tuple, Py_ssize_t i, PyObject *item) noexcept
    PyTypeObject *type_of "Py_TYPE"(PyObject *object) noexcept
    unsigned long PyThread_get_thread_ident() noexcept
    int set_attribute "PyObject_GenericSetAttr"(object owner, object name, PyObject *value) except -1
    ctypedef struct TypeSlots "PyTypeObject":
        PyObject *(*tp_alloc)(TypeSlots *type, Py_ssize_t n) except NULL
        void (*tp_free)(void *memory) noexcept


# --- the rows computed here ---------------------------------------------------------------------------------------

include "rules.pxi"  # Code, unary_rule and binary_rule, written by native.py from the table

cdef dict CODE_OF = {TABLE[name.lower()]: int(code) for name, code in Code.__members__.items()}
cdef PyObject *ROWS[ROW_COUNT]
for row, code in CODE_OF.items():
    ROWS[<int>code] = <PyObject *>row  # CODE_OF holds it

cdef double NAN = math.nan


# --- the node -----------------------------------------------------------------------------------------------------

cdef union Operand:
    PyObject *node
    double number

# What the two operands of a node are. The bits above count uses while a walk is under way, and are 0 between walks.
cdef enum:
    LEAF = 0
    LEFT = 1  # the left operand is a Value, else a number
    RIGHT = 2  # the right one
    PAIR = 4  # there are two
    MANY = 8  # in place of operands: a tuple of them, of any length, and a tuple of partials
    SHAPE = 15
    TRACED = 16  # a recording is told what is read off it; so are the nodes made of it
    BY_HAND = 32  # it passes its grad on by a function of its own
    OWNER = 64  # it has attributes of a program's own, in ATTRIBUTES
    USE = 128


cdef class Value:
    """A number in a computation graph: arithmetic on it records a new Value.

    `data` is a real number (TypeError otherwise), `label` a name for pictures and messages. A Value behaves as the
    float `data` does: the same results and branches, the same types of exception. `hash` alone goes by identity, so
    that a set or dict of nodes holds nodes. (`_children` and `_op` are there for programs that make nodes as
    micrograd does.)
    """

    cdef double primal, adjoint
    cdef Operand terms[2]
    cdef double slopes[2]
    cdef size_t state
    cdef PyObject *next  # of a list that passes through the nodes themselves, so that no walk can run out of memory
    cdef PyObject *row  # NULL on a leaf
    cdef PyObject *name  # NULL: no label

    def __init__(self, data, _children=(), _op="", label=""):
        cdef double primal = as_double(data)
        operands = ()
        if type(_children) is str and not label and not _op:
            label = _children
        elif type(_children) is not tuple or _children or _op or type(label) is not str:
            operands, _op, label = micrograd_arguments(_children, _op, label)
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
        raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}", name=name, obj=self)

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
        if not isinstance(label, str):
            raise TypeError(f"a Value's label is a str, not {label!r} ({type(label).__name__})")
        set_label(self, label)

    @property
    def op(self):
        return <object>self.row if self.row != NULL else None

    @property
    def operands(self):
        if self.state & MANY:
            return <object>self.terms[0].node
        if not self.state & SHAPE:
            return ()
        left = <object>self.terms[0].node if self.state & LEFT else self.terms[0].number
        if not self.state & PAIR:
            return (left,)
        return left, <object>self.terms[1].node if self.state & RIGHT else self.terms[1].number

    @property
    def partials(self):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("partials", self)
        return self._partials

    @property
    def _partials(self):
        if self.state & MANY:
            return <object>self.terms[1].node
        if not self.state & SHAPE:
            return ()
        if not self.state & PAIR:
            return (self.slopes[0],)
        return self.slopes[0], self.slopes[1]

    @property
    def _prev(self):
        return {operand if isinstance(operand, Value) else Value(operand) for operand in self.operands}

    @property
    def _op(self):
        return (<object>self.row).symbol if self.row != NULL else ""

    def detach(self):
        """A leaf with the same number, from which nothing goes back; where a function is compiled, `stop_gradient`."""
        return Value(self.data, (), "", self.label)

    def item(self):
        """The number itself, as `data` is: PyTorch's and NumPy's name."""
        return self.data

    @staticmethod
    def _record(op, tuple args):
        return record_any(op, args)

    def backward(self, seed=1.0):
        """Add seed times d self / d leaf to the grad of every leaf; on other nodes grad is set, not added to."""
        cdef double first = as_double(seed, "backward")
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("backward()", self)
        if not walk_back(<PyObject *>self, first):  # a node has a _backward of its own
            for node in topological_order(self):
                if node.op is not None:
                    node._grad = 0.0
            self.adjoint += first
            for node in reversed(topological_order(self)):
                node._backward()

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
        if not RECORDINGS and (is_value(other) or PyFloat_CheckExact(other)):
            y = (<Value>other).primal if is_value(other) else PyFloat_AS_DOUBLE(other)
            if how == Py_LT: return x < y
            if how == Py_LE: return x <= y
            if how == Py_EQ: return x == y
            if how == Py_NE: return x != y
            return x > y if how == Py_GT else x >= y
        return READ[how](self, other)

    def __bool__(self):
        if RECORDINGS:
            return READ_BOOL(self)
        return self.primal != 0.0

    def __hash__(self):
        if RECORDINGS and (watched or self.state & TRACED):
            noticed("hash()", self)
        return <Py_hash_t>(<size_t><PyObject *>self >> 4)  # an address, shifted: never -1

    def __float__(self):
        raise TypeError(
            "float() of a Value would drop its gradient; take .data, or functions of micrograd_bp.math; an array that is "
            "to hold Values has dtype object"
        )

    def __format__(self, spec):
        return format(self.data, spec) if spec else repr(self)

    def __repr__(self):
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"

    def __reduce__(self):
        attributes = {"grad": self.grad, **self._attributes()}
        return type(self), (self.data, (), "", self.label), (None, attributes)  # what comes out is a leaf

    def __copy__(self):
        return copied(self, Value)

    def __deepcopy__(self, memo):
        return copied(self, Value, memo)


cdef list RECORDINGS = ops.RECORDINGS
cdef dict ATTRIBUTES = {}  # of programs' own, by the id of the node
cdef tuple READ = tuple([_reading(read, Value) for read in COMPARISONS])  # COMPARISONS are in the order of Py_LT, ...
cdef object READ_BOOL = _reading(bool, Value)


cdef inline bint is_value(object x) noexcept:
    """Whether x is a Value, not of a subclass: the test that settles it for nearly all operands."""
    return type_of(<PyObject *>x) == <PyTypeObject *>Value


cdef inline double as_double(object x, taker="Value") except? -1.0:
    return PyFloat_AS_DOUBLE(x) if PyFloat_CheckExact(x) else number(x, taker)


cdef int set_op(Value self, object op, tuple operands) except -1:
    """Make the node the result of another operation, whose partials are unknown."""
    cdef double primal = self.primal, adjoint = self.adjoint
    cdef size_t kept = self.state & (TRACED | OWNER)
    cdef PyObject *name = self.name
    partials = (NAN,) * len(operands)
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
    keep(<PyObject *>operands)
    self.terms[0].node = <PyObject *>operands
    keep(<PyObject *>partials)
    self.terms[1].node = <PyObject *>partials
    self.state = MANY | kept | (BY_HAND if isinstance(op, ByHand) else 0)
    return 0


cdef int set_label(Value self, object label) except -1:
    cdef PyObject *old = self.name
    keep(<PyObject *>label)
    self.name = <PyObject *>label
    if old != NULL:
        let_go(old)
    return 0


# --- memory -------------------------------------------------------------------------------------------------------

cdef inline void push(PyObject **stack, PyObject *node) noexcept:
    (<Value>node).next = stack[0]
    stack[0] = node


cdef inline PyObject *pop(PyObject **stack) noexcept:
    cdef PyObject *node = stack[0]
    stack[0] = (<Value>node).next
    return node


# Freed nodes, kept for the next graph, up to POOL of them (12 MB): to give the memory back to the system and have it
# mapped again made a step of 65,000 nodes 1.4x slower. They lie in a stack for each 64 KB of addresses, and one stack
# is used up before the next: from a single stack a program's thirtieth step got its memory so shuffled that walking
# back took twice as long.
cdef enum:
    STACKS = 256
cdef PyObject *pool[STACKS]
cdef size_t pooled = 0, current = 0


cdef inline PyObject *new_node(PyObject *row, double out, size_t shape) except NULL:
    """A node without a label; its operands and partials are still to be filled in."""
    global pooled, current
    cdef PyObject *node
    if pooled:
        while pool[current] == NULL:
            current = (current + 1) % STACKS
        node = pop(&pool[current])
        pooled -= 1
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
    """Free an empty node, with the last reference to it and its own to its type."""
    global pooled, current
    if pooled < POOL:
        current = (<size_t>node >> 16) % STACKS
        push(&pool[current], node)
        pooled += 1
    else:
        free_object(node)
        let_go(<PyObject *>Value)


cdef PyObject *allocate(TypeSlots *type, Py_ssize_t n) except NULL:
    return new_node(NULL, 0.0, LEAF)


cdef void deallocate(void *memory) noexcept:  # the caller has taken the last reference, and is about to take the type's
    set_references(<PyObject *>memory, 1)
    keep(<PyObject *>Value)
    free_node(<PyObject *>memory)


(<TypeSlots *>Value).tp_alloc = allocate  # not for subclasses: theirs are Python's own
(<TypeSlots *>Value).tp_free = deallocate


# --- recording ----------------------------------------------------------------------------------------------------

cdef unsigned long watched = 0  # the thread that a recording listens to


def watch(unsigned long thread):
    """Tell the recording under way what this thread does to Values; 0: no longer."""
    global watched
    watched = thread


cdef inline bint is_own() noexcept:
    """Whether this is the thread that a recording listens to."""
    return PyThread_get_thread_ident() == watched


cdef int note(PyObject *node) except -1:
    """Tell the recording of a new node."""
    (<Value>node).state |= TRACED
    for recording in RECORDINGS:
        (<list>recording.nodes).append(<object>node)
    return 0


cdef inline PyObject *new_unary(PyObject *row, double out, Value x, double dx) except NULL:
    cdef PyObject *node = new_node(row, out, LEFT | (x.state & TRACED))
    keep(<PyObject *>x)
    (<Value>node).terms[0].node = <PyObject *>x
    (<Value>node).slopes[0] = dx
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
    (<Value>node).slopes[0] = dx
    (<Value>node).slopes[1] = dy
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
    converted = _operand(<object>ROWS[code], operand)
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
    return record(op, args)


cdef object record(op, tuple args):
    """The node for op(*args) by the Op's own functions."""
    cdef PyObject *node
    cdef size_t shape
    operands = tuple([arg if isinstance(arg, Value) else number(arg, op.name) for arg in args])
    data = [(<Value>arg).primal if isinstance(arg, Value) else arg for arg in operands]
    try:
        out = op.forward(*data)
        try:
            partials = op.rule_of_floats(out, *data)
        except (ArithmeticError, ValueError):
            partials = op.partials(out, *data)
    except Exception as error:
        raise op.failure(error, operands) from error
    if type(partials) is not tuple or len(partials) != len(operands):
        raise TypeError(f"{op.name}: its rule gives {partials!r}; it must give a tuple, one partial per argument")
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
    node = new_node(<PyObject *>op, result, MANY)
    keep(<PyObject *>operands)
    keep(<PyObject *>partials)
    (<Value>node).terms[0].node = <PyObject *>operands
    (<Value>node).terms[1].node = <PyObject *>partials
    for arg in operands:
        if isinstance(arg, Value):
            (<Value>node).state |= (<Value>arg).state & TRACED
    made = take_over(node)
    if (<Value>node).state & TRACED or watched and is_own():
        note(node)
    return made


# --- walking ------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t arity(PyObject *node) noexcept:
    cdef size_t state = (<Value>node).state
    if state & MANY:
        return size_of((<Value>node).terms[0].node)
    return 2 if state & PAIR else 1 if state & SHAPE else 0


cdef inline PyObject *operand(PyObject *node, Py_ssize_t i) noexcept:
    """Operand i of a node if it is a Value, or else NULL."""
    cdef PyObject *item
    if (<Value>node).state & MANY:
        item = item_of((<Value>node).terms[0].node, i)
        return NULL if PyFloat_CheckExact(<object>item) else item
    return (<Value>node).terms[i].node if (<Value>node).state & (LEFT << i) else NULL


cdef inline double partial(PyObject *node, Py_ssize_t i) noexcept:
    if (<Value>node).state & MANY:
        return PyFloat_AS_DOUBLE(<object>item_of((<Value>node).terms[1].node, i))
    return (<Value>node).slopes[i]


cdef size_t count_uses(PyObject *output, bint clear) noexcept:
    """Count how often every node that the output depends on is an operand; clear: set all grads but leaves' to 0.

    The result has BY_HAND if one of them passes its grad on by a function of its own.
    """
    cdef size_t states = 0
    cdef PyObject *found = NULL
    cdef PyObject *node
    cdef PyObject *child
    cdef Py_ssize_t i
    push(&found, output)
    while found != NULL:
        node = pop(&found)
        states |= (<Value>node).state
        if clear and (<Value>node).state & SHAPE:
            (<Value>node).adjoint = 0.0
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                if (<Value>child).state < USE and (<Value>child).state & SHAPE:
                    push(&found, child)
                (<Value>child).state += USE
    return states & BY_HAND


cdef bint walk_back(PyObject *output, double seed) noexcept:
    """`sweep` over a graph whose uses are not counted yet; the grads of all nodes but leaves start from 0.

    False: a node passes its grad on by a function of its own, and no grad is set but for those that are cleared.
    """
    cdef bint by_hand = count_uses(output, True) != 0
    if not by_hand:
        (<Value>output).adjoint += seed
    sweep(output, by_hand)
    return not by_hand


cdef void sweep(PyObject *output, bint by_hand) noexcept:
    """The chain rule in the reference's order: a node is ready when its uses are done, and the last one ready is next.

    by_hand: the counts of uses go back to 0, and that is all.
    """
    cdef PyObject *ready = NULL
    cdef PyObject *node
    cdef PyObject *child
    cdef Py_ssize_t i
    cdef double adjoint, slope
    push(&ready, output)
    while ready != NULL:
        node = pop(&ready)
        adjoint = (<Value>node).adjoint
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                slope = partial(node, i)
                if adjoint != 0.0 and slope != 0.0 and not by_hand:  # 0 times anything is 0, so 0 * inf never becomes nan
                    (<Value>child).adjoint += adjoint * slope
                (<Value>child).state -= USE
                if (<Value>child).state < USE and (<Value>child).state & SHAPE:
                    push(&ready, child)


def topological_order(Value output not None):
    """Every node that the output depends on, each after its operands, the output last; found without recursion."""
    cdef list order = []
    cdef PyObject *ready = NULL
    cdef PyObject *node
    cdef PyObject *child
    cdef Py_ssize_t i
    cdef bint complete = True
    count_uses(<PyObject *>output, False)
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


def slopes(Value output not None, inputs):
    """The derivatives of the output with respect to the inputs, as floats: `backward`, but no grad is touched."""
    cdef list wanted = checked(inputs)
    cdef Py_ssize_t i, count = 0
    cdef bint by_hand = False
    cdef array found = array("d", bytes(8 * len(wanted)))
    cdef Saved *saved = put_aside(<PyObject *>output, wanted, &count, &by_hand)
    if saved == NULL:
        raise MemoryError
    if not by_hand:
        output.adjoint = 1.0
    sweep(<PyObject *>output, by_hand)
    for i in range(len(wanted)):
        found.data.as_doubles[i] = (<Value>wanted[i]).adjoint
    restore(saved, count)
    return slopes_by_hand(output, wanted) if by_hand else found.tolist()


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


cdef Saved *put_aside(PyObject *output, list inputs, Py_ssize_t *count, bint *by_hand) noexcept:
    """Put the grads of the inputs, and of all that the output depends on, aside, set them to 0, and count uses.

    NULL: there is not enough memory; all is as it was.
    """
    cdef PyObject *found = NULL
    cdef PyObject *node
    cdef PyObject *child
    cdef Py_ssize_t i, room = 2 * len(inputs) + 8192
    cdef Saved *saved = <Saved *>malloc(room * sizeof(Saved))
    cdef Saved *larger
    cdef bint complete = saved != NULL
    push(&found, output)
    if complete:
        put(saved, count, output)
    while found != NULL:
        node = pop(&found)
        if (<Value>node).state & BY_HAND:
            by_hand[0] = True
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                if (<Value>child).state < USE:
                    if (<Value>child).state & SHAPE:
                        push(&found, child)
                    if complete and count[0] + len(inputs) >= room:
                        room *= 2
                        larger = <Saved *>realloc(saved, room * sizeof(Saved))
                        complete = larger != NULL
                        saved = larger if complete else saved
                    if complete:
                        put(saved, count, child)
                (<Value>child).state += USE
    if complete:
        for i in range(len(inputs)):
            node = <PyObject *>inputs[i]
            if (<Value>node).state < USE and node != output:  # nothing is made of it
                put(saved, count, node)
        return saved
    push(&found, output)
    while found != NULL:  # the counts go back to 0
        node = pop(&found)
        for i in range(arity(node)):
            child = operand(node, i)
            if child != NULL:
                (<Value>child).state -= USE
                if (<Value>child).state < USE:
                    push(&found, child)
    restore(saved, count[0])
    return NULL


cdef inline void put(Saved *saved, Py_ssize_t *count, PyObject *node) noexcept:
    saved[count[0]].node = node
    saved[count[0]].adjoint = (<Value>node).adjoint
    (<Value>node).adjoint = 0.0
    count[0] += 1


cdef void restore(Saved *saved, Py_ssize_t count) noexcept:
    """Give the grads back, the last first: an input stands twice, and its first entry counts."""
    cdef Py_ssize_t i
    if saved != NULL:
        for i in range(count - 1, -1, -1):
            (<Value>saved[i].node).adjoint = saved[i].adjoint
        free(saved)


cdef list checked(values):
    """The Values as a list; TypeError: one is none."""
    cdef list nodes = list(values)
    for node in nodes:
        if not isinstance(node, Value):
            raise TypeError(f"expected a Value, not {node!r} ({type(node).__name__})")
    return nodes


def variables(numbers):
    """A new leaf for each of the numbers."""
    cdef list nodes = []
    for x in numbers:
        nodes.append(take_over(new_node(NULL, as_double(x), LEAF)))
    return nodes


def gather(values):
    """The data of the Values, as an array of doubles: what a compiled program reads."""
    cdef list nodes = values if type(values) is list else list(values)
    cdef Py_ssize_t i, size = len(nodes)
    cdef array numbers = clone(DOUBLES, size, False)
    for i in range(size):
        node = nodes[i]
        if not is_value(node) and not isinstance(node, Value):
            raise TypeError(f"expected a Value, not {node!r} ({type(node).__name__})")
        numbers.data.as_doubles[i] = (<Value>node).primal
    return numbers


cdef array DOUBLES = array("d")


def scatter(values, slopes):
    """Add to the grad of each Value its slope: what a compiled program leaves behind."""
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
        empty(node, &dying)
        free_node(node)


cdef void forget(PyObject *node) noexcept:
    """Give up the attributes that a program gave to a node."""
    ATTRIBUTES.pop(<size_t>node, None)


cdef inline void empty(PyObject *node, PyObject **dying) noexcept:
    """Make a leaf of a node, without a label; those of its operands that only it held are dying."""
    cdef size_t state = (<Value>node).state
    cdef Operand left = (<Value>node).terms[0], right = (<Value>node).terms[1]
    cdef PyObject *row = (<Value>node).row
    cdef PyObject *name = (<Value>node).name
    if state & OWNER:
        forget(node)
    (<Value>node).state = LEAF  # before any reference is given up: that may call a destructor, and it may see the node
    (<Value>node).row = NULL
    (<Value>node).name = NULL
    if state & MANY:
        drop_items(left.node, dying)
        let_go(left.node)
        let_go(right.node)
    if state & LEFT:
        drop(left.node, dying)
    if state & RIGHT:
        drop(right.node, dying)
    if row != NULL:
        let_go(row)
    if name != NULL:
        let_go(name)


cdef void drop_items(PyObject *operands, PyObject **dying) noexcept:
    """Give up the Values in a tuple of operands, unless somebody else holds the tuple."""
    cdef PyObject *item
    cdef Py_ssize_t i
    if references(operands) == 1:
        for i in range(size_of(operands)):
            item = item_of(operands, i)
            if not PyFloat_CheckExact(<object>item):
                keep(<PyObject *>None)
                set_item(operands, i, <PyObject *>None)
                drop(item, dying)


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
        _give(Value, name, _method(op))
for read in READINGS:
    if not hasattr(Value, f"__{read.__name__}__"):
        _give(Value, f"__{read.__name__}__", _reading(read, Value))
give_others(Value)

Op.__call__ = call
Value.__name__ = "Value"  # without the module, in messages
Value.__module__ = "micrograd_bp.value"  # pickles, and whoever reads the name, do not depend on the engine
exports = {
    "Value": Value, "topological_order": topological_order, "slopes": slopes, "variables": variables, "gather": gather,
    "scatter": scatter, "watch": watch, "ENGINE": "accelerated",
}
