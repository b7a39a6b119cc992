# New nodes: the value of an op and its partials, of one operand, of two and of many.


cdef inline PyObject *new_unary(PyObject *operation, double out, Value x, double dx) except NULL:
    cdef PyObject *node = new_node(operation, out, LEFT | (x.state & TRACED))
    keep(<PyObject *>x)
    (<Value>node).terms[0].node = <PyObject *>x
    (<Value>node).slopes[0].number = dx
    if x.state & TRACED or watched and is_own():
        note(node)
    return node


cdef inline PyObject *new_binary(
    PyObject *operation, double out, size_t shape, object left, double x, double dx, object right, double y, double dy
) except NULL:
    cdef PyObject *node = new_node(operation, out, shape | PAIR)
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
        return take_over(new_unary(OPS[code], out, self, dx))
    feclearexcept(FE_ALL_EXCEPT)  # NumPy's functions on object arrays warn of what they find here
    return record(<object>OPS[code], (self,))


cdef inline object binary(int code, object left, object right):
    """The node for an op with an operator; inline, so that the C compiler makes one function an operator."""
    cdef double x = 0.0, y = 0.0, out = 0.0, dx = 0.0, dy = 0.0
    cdef int left_kind = take(code, left, &x), right_kind = take(code, right, &y)
    if left_kind == FOREIGN or right_kind == FOREIGN:
        return NotImplemented
    if not binary_rule(code, x, y, &out, &dx, &dy):
        feclearexcept(FE_ALL_EXCEPT)
        return record(<object>OPS[code], (left if left_kind == NODE else x, right if right_kind == NODE else y))
    cdef size_t shape = (LEFT if left_kind == NODE else 0) | (RIGHT if right_kind == NODE else 0)
    return take_over(new_binary(OPS[code], out, shape, left, x, dx, right, y, dy))


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
    converted = as_operand(<object>OPS[code], operand)
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
    """The products of two vectors and the rounding error of each, whose sum is exact; None: one may overflow."""
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
    """The node for one of the ops that multiply one half of their operands by the other, term by term."""
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
    """The value of `net_input`: from left to right, as the graph of sums and products would have it."""
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


cdef object new_products(PyObject *operation, double out, PyObject *left, Block *p, Block *q):
    """The node for left + p_1 q_1 + ... + p_n q_n; left may be NULL. It takes the caller's part in the blocks."""
    cdef PyObject *node
    cdef size_t shape = PRODUCTS | (p.kinds | q.kinds) & TRACED
    if left != NULL:
        shape |= PAIR
        if not PyFloat_CheckExact(<object>left):
            shape |= LEFT | (<Value>left).state & TRACED
    try:
        node = new_node(operation, out, shape)
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
