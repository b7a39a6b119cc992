"""The forward and the backward pass of a graph as Python source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from micrograd_bp._engine.labels import check_value, check_values, fresh
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler.python import PythonWriter, Source
from micrograd_bp.ops import chain, mul
from micrograd_bp.see.trace import partials_of, product
from micrograd_bp.value import Value


def backward_source(output: Value, inputs: Sequence[Value], name: str = "f") -> Source:
    """The forward and the backward pass as a straight-line Python function: it returns the output and its gradient.

    The function takes a float for every input and gives `output, [d output / d input, ...]`: the numbers that recording
    and backward() give. v_bar is the adjoint of v; each of its terms has a line, in backward()'s order, and the rules
    are those of the table, run on names. After a rule that may give inf at a finite point, products are written as
    `chain`, in which 0 times anything is 0. (Elsewhere they are plain products, so that a forward value which overflows
    to inf may turn an adjoint of 0 into nan.) The text runs as it is, unless it calls ops of your own; `.function()`
    always runs.

    Args:
        output: What the function computes.
        inputs: The nodes that become its parameters, in their order; other leaves are constants.
        name: What the function is called.

    Returns:
        The source as text; `.function()` is the function.

    Raises:
        TypeError: One of these is no Value.
        ValueError: An input is given twice, or the name is none.

    Example:
        >>> a, b, c = Value(2.0, "a"), Value(-3.0, "b"), Value(10.0, "c")
        >>> source = backward_source((a * b + c).tanh(), [a, b, c])
        >>> print(source)
        from micrograd_bp.ops import tanh
        <BLANKLINE>
        <BLANKLINE>
        def f(a, b, c):
            # forward
            v1 = a * b
            v2 = v1 + c
            v3 = tanh(v2)
            # backward
            v3_bar = 1.0
            v2_bar = v3_bar * (1.0 - v3 * v3)
            v1_bar = v2_bar
            c_bar = v2_bar
            a_bar = v1_bar * b
            b_bar = v1_bar * a
            return v3, [a_bar, b_bar, c_bar]
        >>> source.function()(2.0, -3.0, 6.0)
        (0.0, [-3.0, 2.0, 1.0])
    """
    check_value(output, "backward_source")
    check_values(inputs, "backward_source", "inputs")
    writer = PythonWriter([output], inputs, name)
    relevant = set(inputs)  # and all nodes that depend on them
    for node in writer.order:
        if not relevant.isdisjoint(node._prev):
            relevant.add(node)
    bars: dict[Value, Expr] = {}  # the adjoints that have a value so far
    wild: set[Value] = set()  # the nodes whose adjoints may be infinite at a finite point

    def bar(node: Value) -> Expr:
        return writer.text(fresh(f"{writer.variables[node].text}_bar", writer.taken))

    def backward() -> Iterator[str]:
        if output in relevant:
            bars[output] = bar(output)
            yield f"{bars[output].text} = 1.0"
        for node in reversed(writer.order):
            if node not in bars or node.op is None:
                continue
            operands = [writer.operand(x) for x in node.operands]
            partials = partials_of(node, writer.variables[node], operands, everywhere=True)
            if partials is None:  # a user's rule that runs on numbers only: called as it is
                called = writer.call(node.op, "partials", [writer.variables[node], *operands])
                partials = [writer.text(f"{called}[{place}]") for place in range(len(operands))]
            for operand, partial in zip(node.operands, partials):
                if isinstance(operand, Value) and operand in relevant and partial != 0.0:
                    text = writer.text.of(partial).text
                    infinite = node in wild or any(word in text for word in ("inf", "nan", "ieee_", "partials("))
                    if infinite:
                        wild.add(operand)
                    term = product(bars[node], partial, chain if infinite else mul).text
                    equals = "+=" if operand in bars else "="
                    if operand not in bars:
                        bars[operand] = bar(operand)
                    yield f"{bars[operand].text} {equals} {term}"

    body = ["# forward", *writer.forward(), "# backward", *backward()]
    gradient = ", ".join(bars[x].text if x in bars else "0.0" for x in inputs)
    return writer.source(body, (f"{writer.text.of(writer.operand(output)).text}, [", gradient, "]"), header=True)
