"""One neuron, explained: its formula, every path to a weight, both traces, and the backward pass as Python.

Prints:
    tanh(w * x + b)
    forward trace     value  |  reverse trace                adjoint
    -------------------------+--------------------------------------
    w                  -0.5  |  w' = v1' * x                  1.5729
    x                     2  |  x' = v1' * w               -0.393224
    b                   1.5  |  b' = v2'                    0.786448
    v1 = w * x           -1  |  v1' = v2'                   0.786448
    v2 = v1 + b         0.5  |  v2' = v3' * (1 - v3 * v3)   0.786448
    v3 = tanh(v2)  0.462117  |  v3' = 1                            1
    1 path from v3 to w
      v3 <- v2 <- v1 <- w:  0.786448 * 1 * 2 = 1.5729
    sum of the products: 1.5729
    the gradient, from one sweep over 3 nodes: 1.5729
    from micrograd_bp.ops import tanh


    def f(x, w, b):
        # forward
        v1 = w * x
        v2 = v1 + b
        v3 = tanh(v2)
        # backward
        v3_bar = 1.0
        v2_bar = v3_bar * (1.0 - v3 * v3)
        v1_bar = v2_bar
        b_bar = v2_bar
        w_bar = v1_bar * x
        x_bar = v1_bar * w
        return v3, [x_bar, w_bar, b_bar]
    it runs, and gives the same: True
"""

import micrograd_bp as mg
from micrograd_bp import Value, math


def main() -> None:
    x, w, b = Value(2.0, "x"), Value(-0.5, "w"), Value(1.5, "b")
    out = math.tanh(w * x + b)
    out.backward()
    print(mg.formula(out))
    print(mg.trace_table(out))
    print(mg.paths(out, w))
    backward = mg.backward_source(out, [x, w, b])
    print(backward.rstrip())
    value, slopes = backward.function()(2.0, -0.5, 1.5)
    print("it runs, and gives the same:", (value, slopes) == (out.data, [x.grad, w.grad, b.grad]))


if __name__ == "__main__":
    main()
