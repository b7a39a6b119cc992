"""Optimisers, schedules and clipping, against PyTorch's figures (made by fixtures/make_optimisers.py)."""

import inspect
import itertools
import json
import math
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from micrograd_bp import Value, optim

FIGURES = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "optimisers.json").read_text())
OPTIMISERS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop]
CHOICES: dict[Any, dict[str, Any]] = {
    optim.SGD: {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    optim.Adam: {"betas": (0.8, 0.9), "weight_decay": 0.1},
    optim.AdamW: {"eps": 0.1},
    optim.RMSprop: {"centered": True, "momentum": 0.5},
}


def close(found: list[float], expected: list[float]) -> bool:
    return found == pytest.approx(expected, rel=1e-13, abs=1e-15)


def follow(optimizer: optim.Optimizer, gradients: list[list[float]]) -> list[float]:
    for gradient in gradients:
        for parameter, grad in zip(optimizer.parameters, gradient, strict=True):
            parameter.grad = grad
        optimizer.step()
    return [parameter.data for parameter in optimizer.parameters]


@pytest.mark.parametrize(("name", "arguments", "points"), FIGURES["runs"], ids=str)
def test_every_update_is_pytorchs(name: str, arguments: dict[str, Any], points: list[list[float]]) -> None:
    parameters = [Value(data) for data in FIGURES["start"]]
    optimizer = getattr(optim, name)(parameters, **arguments)
    for gradient, point in zip(FIGURES["gradients"], points, strict=True):
        assert close(follow(optimizer, [gradient]), point)


@pytest.mark.parametrize(("name", "arguments", "rates"), FIGURES["schedules"], ids=str)
def test_every_schedule_is_pytorchs(name: str, arguments: dict[str, float], rates: list[float]) -> None:
    schedule = getattr(optim, name)(**arguments)
    assert close([schedule(step) for step in range(len(rates))], rates)


@pytest.mark.parametrize(("arguments", "figures"), FIGURES["clip_grad_norm"], ids=str)
def test_clipping_by_norm_is_pytorchs(arguments: dict[str, Any], figures: dict[str, Any]) -> None:
    parameters = with_gradient(FIGURES["gradients"][0])
    norm = optim.clip_grad_norm(parameters, arguments["max_norm"], float(arguments["norm_type"]))
    assert close([norm, *[p.grad for p in parameters]], [figures["norm"], *figures["gradient"]])


@pytest.mark.parametrize(("arguments", "figures"), FIGURES["clip_grad_value"], ids=str)
def test_clipping_by_value_is_pytorchs(arguments: dict[str, float], figures: dict[str, Any]) -> None:
    parameters = with_gradient(FIGURES["gradients"][0])
    optim.clip_grad_value(parameters, **arguments)
    assert close([p.grad for p in parameters], figures["gradient"])


def with_gradient(gradient: list[float]) -> list[Value]:
    parameters = [Value(0.0) for _ in gradient]
    for parameter, grad in zip(parameters, gradient, strict=True):
        parameter.grad = grad
    return parameters


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_state_continues_to_the_last_bit(kind: type[Any]) -> None:
    whole = kind([Value(data) for data in FIGURES["start"]], lr=0.1, **CHOICES[kind])
    first = kind([Value(data) for data in FIGURES["start"]], lr=0.1, **CHOICES[kind])
    end = follow(whole, FIGURES["gradients"])
    middle = follow(first, FIGURES["gradients"][:5])
    state = json.loads(json.dumps(first.state_dict()))
    second = kind([Value(data) for data in middle])
    second.load_state_dict(state)
    assert follow(second, FIGURES["gradients"][5:]) == end
    assert second.state_dict() == whole.state_dict()
    assert follow(pickle.loads(pickle.dumps(first)), FIGURES["gradients"][5:]) == end


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_schedule_drives_the_rate_and_stays_out_of_the_state(kind: type[Any]) -> None:
    schedule = optim.cosine_decay(0.2, steps=8, warmup=2)
    scheduled = kind([Value(data) for data in FIGURES["start"]], lr=schedule)
    by_hand = kind([Value(data) for data in FIGURES["start"]], lr=0.0)
    for step, gradient in enumerate(FIGURES["gradients"]):
        by_hand.lr = schedule(step)
        assert scheduled.rate == by_hand.rate
        assert follow(scheduled, [gradient]) == follow(by_hand, [gradient])
    again = kind([Value(0.0) for _ in FIGURES["start"]], lr=schedule)
    again.load_state_dict(json.loads(json.dumps(scheduled.state_dict())))
    assert again.rate == schedule(len(FIGURES["gradients"]))
    assert pickle.loads(pickle.dumps(again)).rate == again.rate
    with pytest.raises(ValueError, match="schedule"):
        again.load_state_dict(by_hand.state_dict())


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_wrong_state_changes_nothing(kind: type[Any]) -> None:
    optimizer = kind([Value(1.0), Value(2.0)], lr=0.1, **CHOICES[kind])
    follow(optimizer, [[0.5, -0.5]])
    good = json.loads(json.dumps(optimizer.state_dict()))
    memory = next(iter(good["memory"]))
    wrong = [
        {},
        good | {"type": "Sgd"},
        good | {"type": ["SGD"]},
        good | {"extra": 1},
        good | {"steps": -1},
        good | {"steps": 1.5},
        good | {"lr": "0.1"},
        good | {"lr": -1.0},
        good | {"lr": math.nan},
        good | {"weight_decay": -1.0},
        good | {"memory": {}},
        good | {"memory": [1.0]},
        good | {"memory": good["memory"] | {memory: [1.0]}},
        good | {"memory": good["memory"] | {memory: ["1.0", 1.0]}},
    ]
    for state in wrong:
        with pytest.raises((ValueError, TypeError), match=kind.__name__ + r"|lr|weight_decay"):
            optimizer.load_state_dict(state)
        assert optimizer.state_dict() == good
    optimizer.load_state_dict(good)


@pytest.mark.parametrize("name", ["lr", "momentum", "dampening", "weight_decay", "eps", "alpha", "betas", "centered"])
def test_every_number_is_checked(name: str) -> None:
    wrong = {"betas": (1.0, 0.9), "dampening": math.nan, "centered": 1}.get(name, -0.5)
    takers = [kind for kind in OPTIMISERS if name in inspect.signature(kind).parameters]
    assert takers
    for kind in takers:
        with pytest.raises(ValueError, match="beta1" if name == "betas" else name):
            kind([Value(1.0)], **{name: wrong})


def test_parameters_are_values_and_each_is_there_once() -> None:
    x = Value(1.0)
    number: Any = 1.0
    with pytest.raises(TypeError, match=r"model\.parameters"):
        optim.SGD([number])
    with pytest.raises(ValueError, match="frozen"):
        optim.Adam([])
    with pytest.raises(ValueError, match="twice"):
        optim.Adam([x, x])
    with pytest.raises(ValueError, match=r"updates leaves, but Value\(data=2\.0, grad=0\.0\) is the result of mul"):
        optim.SGD([x, x * 2.0])
    with pytest.raises(ValueError, match="Nesterov"):
        optim.SGD([x], nesterov=True)


def test_momentum_is_a_ball_that_rolls_on() -> None:
    x = Value(1.0)
    optimizer = optim.SGD([x], lr=1.0, momentum=0.5)
    steps = []
    for grad in (1.0, 0.0, 0.0, 0.0):
        before = x.data
        follow(optimizer, [[grad]])
        steps.append(before - x.data)
    assert steps == [1.0, 0.5, 0.25, 0.125]


def test_the_first_step_of_adam_has_the_length_of_the_rate_whatever_the_gradient() -> None:
    for grad in (1e-3, 1.0, 1e6):
        x = Value(0.0)
        follow(optim.Adam([x], lr=0.1), [[grad]])
        assert x.data == pytest.approx(-0.1, rel=1e-4)


@pytest.mark.parametrize("shape", [optim.linear_decay, optim.cosine_decay])
def test_warm_up_rises_evenly_and_decay_never_rises(shape: Callable[..., Any]) -> None:
    schedule = shape(1.0, steps=50, warmup=10, end=0.25)
    rates = [schedule(step) for step in range(60)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[50:] == [0.25] * 10


def test_schedules_check_their_numbers() -> None:
    with pytest.raises(ValueError, match="warmup"):
        optim.cosine_decay(0.1, steps=5, warmup=5)
    with pytest.raises(ValueError, match="every"):
        optim.step_decay(0.1, every=0)
    with pytest.raises(ValueError, match="lr"):
        optim.exponential_decay(-0.1, 0.5)
    with pytest.raises(ValueError, match="clip_value"):
        optim.clip_grad_value([], -1.0)
    with pytest.raises(ValueError, match="max_norm"):
        optim.clip_grad_norm([], -1.0)


def test_descent_on_a_parabola_converges_for_small_rates_and_diverges_for_large_ones() -> None:
    """E(w) = w^2 has w <- (1 - 2 eta) w: stable for eta < 1 only."""
    for eta in (0.1, 0.45, 0.99, 1.01):
        w = Value(1.0)
        optimizer = optim.SGD([w], lr=eta)
        for step in range(1, 20):
            optimizer.zero_grad()
            (w * w).backward()
            optimizer.step()
            assert w.data == pytest.approx((1 - 2 * eta) ** step, rel=1e-9)
