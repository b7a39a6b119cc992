"""Backpropagation is reverse accumulation on the graph: the textbooks' recursion, by hand, against `.grad`."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from micrograd_bp import Value, gradients, losses, nn
from micrograd_bp.value import topological_order


def close(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + math.exp(-z))


def softmax(z: Any) -> Any:
    powers = [math.exp(zk) for zk in z]
    return [power / sum(powers) for power in powers]


def prime(name: str | None) -> Callable[..., Any]:
    """The derivative of an activation, from its pre-activation."""
    return {
        "sigmoid": lambda z: sigmoid(z) * (1 - sigmoid(z)),
        "tanh": lambda z: 1 - math.tanh(z) ** 2,
        "relu": lambda z: 1.0 if z > 0 else 0.0,
        None: lambda z: 1.0,
    }[name]


PHI = {"sigmoid": sigmoid, "tanh": math.tanh, "relu": lambda z: max(z, 0.0), None: lambda z: z}

# An output layer with its cost of one example, and the errors delta^L at its units.
OUTPUTS: dict[str, Any] = {
    "sum of squares, sigmoid": (
        "sigmoid",
        losses.sum_of_squares,
        lambda z, t: [(sigmoid(zk) - tk) * sigmoid(zk) * (1 - sigmoid(zk)) for zk, tk in zip(z, t, strict=True)],
    ),
    "sum of squares, tanh": (
        "tanh",
        losses.sum_of_squares,
        lambda z, t: [(math.tanh(zk) - tk) * (1 - math.tanh(zk) ** 2) for zk, tk in zip(z, t, strict=True)],
    ),
    "sum of squares, linear": (
        None,
        losses.sum_of_squares,
        lambda z, t: [zk - tk for zk, tk in zip(z, t, strict=True)],
    ),
    "cross-entropy, sigmoid": (
        None,
        lambda z, t: losses.binary_cross_entropy(z, t, reduction="sum"),
        lambda z, t: [sigmoid(zk) - tk for zk, tk in zip(z, t, strict=True)],
    ),
    "cross-entropy, sigmoid, written out": (
        "sigmoid",
        lambda y, t: -sum(tk * yk.log() + (1 - tk) * (1 - yk).log() for yk, tk in zip(y, t, strict=True)),
        lambda z, t: [sigmoid(zk) - tk for zk, tk in zip(z, t, strict=True)],
    ),
    "cross-entropy, softmax": (
        None,
        losses.cross_entropy,
        lambda z, t: [pk - tk for pk, tk in zip(softmax(z), t, strict=True)],
    ),
}


CASES = [  # units by layer, inputs first; examples; lambda
    ([2, 3], 1, 0.0),
    ([3, 2], 4, 0.3),
    ([2, 4, 3], 1, 0.0),
    ([3, 4, 2], 5, 0.1),
    ([2, 5, 4, 3], 3, 0.7),
    ([3, 4, 3, 3, 4, 2], 2, 0.05),
]


def recursion(
    model: Any, rows: list[list[float]], targets: list[list[float]], output_delta: Callable[..., Any], decay: float
) -> tuple[Any, ...]:
    """The classical algorithm on plain lists: the deltas of every example, and the D of every weight and bias."""
    weights = [[[w.data for w in neuron.w] for neuron in layer.neurons] for layer in model.layers]
    biases = [[neuron.b.data for neuron in layer.neurons] for layer in model.layers]
    phis = [layer.activation for layer in model.layers]
    weight_sums = [[[0.0 for _ in row] for row in layer] for layer in weights]  # Delta, from zero
    bias_sums = [[0.0 for _ in layer] for layer in biases]
    deltas_of = []
    for x, t in zip(rows, targets, strict=True):
        a, z = [x], []
        for layer, offsets, phi in zip(weights, biases, phis, strict=True):
            z.append(
                [sum(w * o for w, o in zip(row, a[-1], strict=True)) + b for row, b in zip(layer, offsets, strict=True)]
            )
            a.append([PHI[phi](net) for net in z[-1]])
        deltas = [output_delta(z[-1], t)]
        for level in reversed(range(len(weights) - 1)):
            back = [
                sum(weights[level + 1][k][j] * delta for k, delta in enumerate(deltas[0])) for j in range(len(z[level]))
            ]  # the transposed weights times the deltas of the layer above
            deltas.insert(0, [b * prime(phis[level])(net) for b, net in zip(back, z[level], strict=True)])
        for level, delta in enumerate(deltas):
            for j, d in enumerate(delta):
                bias_sums[level][j] += d
                for i, o in enumerate(a[level]):
                    weight_sums[level][j][i] += d * o
        deltas_of.append(deltas)
    m = len(rows)
    d_weights = [
        [[(total + decay * w) / m for total, w in zip(*pair, strict=True)] for pair in zip(*layers, strict=True)]
        for layers in zip(weight_sums, weights, strict=True)
    ]
    return deltas_of, d_weights, [[total / m for total in layer] for layer in bias_sums]


def pre_activations(model: Any, x: list[float]) -> tuple[Any, ...]:
    """The nodes net_j of every layer, and the outputs."""
    nets, out = [], x
    for layer in model.layers:
        out = layer.forward(out)
        nets.append(out if layer.activation is None else [node.operands[0] for node in out])
    return nets, out


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize(("sizes", "m", "decay"), CASES, ids=str)
def test_the_classical_recursion_is_what_backward_leaves_in_grad(
    sizes: list[int], m: int, decay: float, hidden: str, output: str
) -> None:
    """Deltas at every unit of every example, and D = (Delta + lambda W)/m at every weight, Delta/m at every bias."""
    output_activation, cost, output_delta = OUTPUTS[output]
    rng = random.Random(f"{sizes} {m} {hidden} {output}")
    model = nn.MLP(sizes[0], sizes[1:], activation=hidden, output_activation=output_activation, rng=rng)
    for neuron in (neuron for layer in model.layers for neuron in layer.neurons):
        neuron.b.data = rng.uniform(-1, 1)
    rows = [[rng.uniform(-2, 2) for _ in range(sizes[0])] for _ in range(m)]
    hot = "softmax" in output
    targets = [
        losses.one_hot(rng.randrange(sizes[-1]), sizes[-1]) if hot else [rng.random() for _ in range(sizes[-1])]
        for _ in rows
    ]
    deltas_of, d_weights, d_biases = recursion(model, rows, targets, output_delta, decay)

    nets_of, costs = [], []
    for x, t in zip(rows, targets, strict=True):
        nets, out = pre_activations(model, x)
        nets_of.append(nets)
        costs.append(cost(out, t))
    weights = [w for layer in model.layers for neuron in layer.neurons for w in neuron.w]
    (sum(costs) / m + losses.l2_penalty(weights, decay / m)).backward()

    for nets, deltas in zip(nets_of, deltas_of, strict=True):
        for units, expected in zip(nets, deltas, strict=True):  # the cost is a mean: each example has its mth part
            assert [unit.grad * m for unit in units] == close(expected)
    for layer, by_weight, by_bias in zip(model.layers, d_weights, d_biases, strict=True):
        assert [neuron.b.grad for neuron in layer.neurons] == close(by_bias)
        for neuron, expected in zip(layer.neurons, by_weight, strict=True):
            assert [w.grad for w in neuron.w] == close(expected)


def test_examples_one_by_one_add_up_to_the_gradient_of_their_mean() -> None:
    """The first condition: the cost is an average of the examples' costs, so its gradient is that of theirs."""
    rng = random.Random(0)
    model = nn.MLP(2, [3, 2], activation="tanh", rng=rng)
    rows = [[rng.uniform(-1, 1), rng.uniform(-1, 1)] for _ in range(5)]
    loss: Any = sum(losses.cross_entropy(model(x), 1) for x in rows)
    (loss / 5).backward()
    together = [p.grad for p in model.parameters()]
    model.zero_grad()
    for x in rows:
        losses.cross_entropy(model(x), 1).backward(1 / 5)
    assert [p.grad for p in model.parameters()] == close(together)


def test_the_error_of_a_linear_neuron_is_a_parabola_and_a_paraboloid() -> None:
    """y = w1 x1 + w2 x2, E = (t - y)^2: against y a parabola, against the weights a quadratic form that bends up."""
    w, x, t = [Value(0.3), Value(-0.7)], [1.5, -2.0], 0.4
    y = w[0] * x[0] + w[1] * x[1]
    net = y.pos()
    error = (t - net) ** 2
    (slope,) = gradients(error, [net])
    assert slope.data == close(-2 * (t - y.data))
    assert gradients(slope, [net])[0].data == close(2.0)
    by_weight = gradients(error, w)
    curvature = [[entry.data for entry in gradients(g, w)] for g in by_weight]
    assert curvature == [close([2 * xi * xj for xj in x]) for xi in x]
    for entry in (third for g in by_weight for second in gradients(g, w) for third in gradients(second, w)):
        assert entry.data == 0.0


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", None])
def test_the_gradient_of_a_weight_has_three_factors(name: str | None) -> None:
    """dE/dw_ij = dE/do_j * do_j/dnet_j * dnet_j/dw_ij = delta_j o_i."""
    rng = random.Random(3)
    neuron = nn.Neuron(3, activation=name, rng=rng)
    o, t = [rng.uniform(-1, 1) for _ in range(3)], 0.25
    out = neuron(o)
    (0.5 * (out - t) ** 2).backward()
    net: Any = out.operands[0] if name else out
    delta = (out.data - t) * prime(name)(net.data)
    assert net.grad == close(delta)
    assert [w.grad for w in neuron.w] == close([delta * oi for oi in o])
    assert neuron.b.grad == close(delta)  # a bias is a weight on a constant input 1


def test_relu_passes_nothing_at_zero() -> None:
    neuron = nn.Neuron(1, init=lambda *_: 1.0)
    for x, slope in ((1e-300, 1.0), (0.0, 0.0), (-1e-300, 0.0)):
        neuron.zero_grad()
        neuron([x]).backward()
        assert neuron.b.grad == slope


def test_the_two_layer_example() -> None:
    """D inputs, M tanh units, K linear outputs, x_0 = z_0 = 1, half squared error (Bishop, 2006, 5.62 to 5.67)."""
    rng = random.Random(5)
    inputs, hidden, outputs = 3, 4, 2
    first = [[Value(rng.uniform(-1, 1)) for _ in range(inputs + 1)] for _ in range(hidden)]
    second = [[Value(rng.uniform(-1, 1)) for _ in range(hidden + 1)] for _ in range(outputs)]
    x = [1.0] + [rng.uniform(-1, 1) for _ in range(inputs)]
    t = [rng.uniform(-1, 1) for _ in range(outputs)]
    a: list[Any] = [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in first]
    z: list[Any] = [1.0] + [aj.tanh() for aj in a]
    y: list[Any] = [sum(w * zj for w, zj in zip(row, z, strict=True)) for row in second]
    losses.sum_of_squares(y, t).backward()
    delta_k = [yk.data - tk for yk, tk in zip(y, t, strict=True)]
    delta_j = [
        (1 - z[j + 1].data ** 2) * sum(second[k][j + 1].data * delta_k[k] for k in range(outputs))
        for j in range(hidden)
    ]
    assert [yk.grad for yk in y] == close(delta_k)
    assert [aj.grad for aj in a] == close(delta_j)
    for j in range(hidden):
        assert [w.grad for w in first[j]] == close([delta_j[j] * xi for xi in x])
    for k in range(outputs):
        assert [w.grad for w in second[k]] == close([delta_k[k] * getattr(zj, "data", zj) for zj in z])


def test_the_delta_rule_is_the_case_of_one_layer() -> None:
    """Delta w_ji = eta (t_j - y_j) phi'(net_j) x_i."""
    rng = random.Random(6)
    for phi in ("sigmoid", "tanh", None):
        layer = nn.Layer(3, 2, activation=phi, rng=rng)
        x, t = [rng.uniform(-1, 1) for _ in range(3)], [0.2, 0.9]
        out = layer(x)
        losses.sum_of_squares(out, t).backward()
        for neuron, y, tj in zip(layer.neurons, out, t, strict=True):
            net = getattr(y.operands[0], "data") if phi else y.data  # noqa: B009
            assert [-w.grad for w in neuron.w] == close([(tj - y.data) * prime(phi)(net) * xi for xi in x])


def test_through_time_it_is_the_same_sweep() -> None:
    """delta_t = (dE/dh_t + U^T delta_(t+1)) * (1 - h_t^2); dE/dW, dE/dU and dE/db are sums over time."""
    rng = random.Random(7)
    cell = nn.RNNCell(2, 3, rng=rng)
    rows = [[rng.uniform(-1, 1), rng.uniform(-1, 1)] for _ in range(6)]
    targets = [[rng.uniform(-1, 1) for _ in range(3)] for _ in rows]
    states: list[Any] = []
    state: Any = [0.0, 0.0, 0.0]
    for x in rows:
        state = cell(x, state)
        states.append(state)
    losses.sum_of_squares(states, targets).backward()

    weights = [[w.data for w in neuron.w] for neuron in cell.layer.neurons]
    h = [[0.0, 0.0, 0.0]] + [[node.data for node in state] for state in states]
    d_weights, d_biases, later = [[0.0] * 5 for _ in range(3)], [0.0] * 3, [0.0] * 3
    for step in reversed(range(len(rows))):
        direct = [hj - tj for hj, tj in zip(h[step + 1], targets[step], strict=True)]
        through = [sum(weights[k][2 + j] * later[k] for k in range(3)) for j in range(3)]
        later = [(d + u) * (1 - hj**2) for d, u, hj in zip(direct, through, h[step + 1], strict=True)]
        assert [node.operands[0].grad for node in states[step]] == close(later)
        for j in range(3):
            d_biases[j] += later[j]
            for i, o in enumerate(rows[step] + h[step]):
                d_weights[j][i] += later[j] * o
    assert [neuron.b.grad for neuron in cell.layer.neurons] == close(d_biases)
    for neuron, expected in zip(cell.layer.neurons, d_weights, strict=True):
        assert [w.grad for w in neuron.w] == close(expected)


def test_gauss_newton_is_the_hessian_of_a_linear_model() -> None:
    """Of half a sum of squares, the Hessian is J^T J plus the residuals times the outputs' curvature."""
    rng = random.Random(8)
    rows = [[rng.uniform(-1, 1) for _ in range(2)] for _ in range(4)]
    for phi, linear in ((None, True), ("tanh", False)):
        neuron = nn.Neuron(2, activation=phi, rng=rng)
        w, t = neuron.parameters(), [rng.uniform(-1, 1) for _ in rows]
        y = [neuron(x) for x in rows]
        jacobian = [[entry.data for entry in gradients(yn, w)] for yn in y]
        gauss_newton = [[sum(row[i] * row[j] for row in jacobian) for j in range(3)] for i in range(3)]
        hessian = [[g.data for g in gradients(slope, w)] for slope in gradients(losses.sum_of_squares(y, t), w)]
        curvatures = [[[g.data for g in gradients(s, w)] for s in gradients(yn, w)] for yn in y]
        rest = [
            [sum((yn.data - tn) * c[i][j] for yn, tn, c in zip(y, t, curvatures, strict=True)) for j in range(3)]
            for i in range(3)
        ]
        assert all(entry == 0.0 for row in rest for entry in row) is linear
        for i in range(3):
            assert hessian[i] == close([gauss_newton[i][j] + rest[i][j] for j in range(3)])


def test_one_sweep_takes_every_edge_once_though_paths_multiply() -> None:
    """Edges, and with them the work of a sweep, grow with depth as the weights do; paths grow as width^depth."""
    for depth in (1, 2, 4, 8):
        model = nn.MLP(3, [3] * depth + [1], activation="tanh", rng=random.Random(depth))
        inputs = [Value(0.1), Value(0.2), Value(0.3)]
        out = model(inputs)
        order = topological_order(out)
        edges = sum(isinstance(operand, Value) for node in order for operand in node.operands)
        paths: dict[Any, int] = dict.fromkeys(order, 0)
        paths[out] = 1
        for node in reversed(order):
            for operand in node.operands:
                paths[operand] += paths[node]
        assert paths[inputs[0]] == 3**depth
        assert edges <= 5 * len(model.parameters())
