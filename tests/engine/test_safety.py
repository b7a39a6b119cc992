"""Nothing that a program does to Values crashes, leaks or leaves a graph half-walked."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import os
import pickle
import random
import statistics
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, nn, ops
from micrograd_bp._engine.engine import slope_rows
from micrograd_bp.value import topological_order

SEEDS = int(os.environ.get("MICROGRAD_BP_FUZZ_SEEDS", "6"))  # benchmarks/safety.py asks for more


class AbyssError(Exception):
    """Raised where nobody expects it."""


class Mortal(Value):
    """A leaf that meddles with graphs while it dies, and may come back to life."""

    world: World | None = None

    def __del__(self) -> None:
        if self.world:
            self.world.meddle(self)


class Tag(str):
    """A label that meddles with graphs while it dies."""

    world: World | None = None

    def __del__(self) -> None:
        if self.world:
            self.world.meddle(None)


class World:
    """Graphs that share nodes, and everything that can be done to them at random."""

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        return self  # a copy would hold this world's nodes, which copies leave as they are, in a cycle of its own

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nodes: list[Value] = [Value(0.5, "x"), Value(-0.25, "y")]
        self.depth = 0
        self.seen: list[Any] = []
        self.wild = ops.Op("wild", "wild", self.forward, self.partials)
        self.table = [op for op in ops.TABLE.values() if op.name != "polygamma"] + [self.wild] * 12

    def any(self) -> Value:
        return self.rng.choice(self.nodes)

    def meddle(self, dying: Value | None) -> None:
        """What runs inside a destructor or a user's rule: anything at all, but not endlessly deep."""
        if self.depth < 3:
            self.depth += 1
            try:
                if dying is not None and self.rng.random() < 0.2:
                    self.nodes.append(dying)  # back from the dead
                self.act()
            finally:
                self.depth -= 1

    def forward(self, *args: float) -> float:
        self.meddle(None)
        fate = self.rng.random()
        if fate < 0.1:
            raise self.rng.choice([AbyssError, ZeroDivisionError, KeyboardInterrupt, MemoryError, RecursionError])()
        return "junk" if fate < 0.15 else 0.5 * sum(args)  # type: ignore[return-value]

    def partials(self, out: float, *args: float) -> tuple[float, ...]:
        self.meddle(None)
        return (0.5,) * (len(args) + (self.rng.random() < 0.1))

    def build(self) -> None:
        for _ in range(self.rng.randrange(12)):
            op = self.rng.choice(self.table)
            count = self.rng.randrange(1, 6) if op.arity is None else op.arity
            args = [self.any() if self.rng.random() < 0.8 else self.rng.uniform(-2.0, 2.0) for _ in range(count)]
            with contextlib.suppress(ArithmeticError, ValueError):
                node = op(*args)
                if isinstance(node, Value):
                    self.nodes.append(node)

    def tower(self) -> None:
        """A deep graph of nodes of every shape, dropped at once where nothing else holds it."""
        x = self.any()
        for i in range(self.rng.choice([10, 3000])):
            x = (x.tanh(), x + 1.0, 0.5 * x, x * x, ops.fma(x, 0.5, x), ops.fsum(x, 1.0, x, x))[i * 7 % 6]
        if self.rng.random() < 0.3:
            self.nodes.append(x)

    def layer(self) -> None:
        """Units that share their inputs, and here and there their weights, some of them changed in between."""
        x = [self.any() if self.rng.random() < 0.8 else self.rng.uniform(-2.0, 2.0) for _ in range(3)]
        w = [self.any() for _ in x]
        for _ in range(self.rng.randrange(1, 5)):
            bias = self.rng.choice([None, 0.5, self.any()])
            self.nodes.append(nn.net_input(self.rng.choice([w, x, tuple(w)]), self.rng.choice([x, [*x], w]), bias))
            if self.rng.random() < 0.3:
                self.any().data = self.rng.uniform(-2.0, 2.0)
            if self.rng.random() < 0.2:
                w[self.rng.randrange(3)] = self.any()

    def drop(self) -> None:
        self.rng.shuffle(self.nodes)
        del self.nodes[2 + self.rng.randrange(len(self.nodes) - 1) :]

    def mutate(self) -> None:
        node = self.any()
        name, value = self.rng.choice(
            [("data", 1.5), ("data", "junk"), ("grad", 0), ("label", Tag("t")), ("label", ""), ("nothing", 1)]
        )
        if isinstance(value, Tag):
            value.world = self
        if (name, value) != ("data", "junk") or mg.engine_name() == "accelerated":  # a slot takes what it is given
            setattr(node, name, value)

    def begin_anew(self) -> None:
        self.any().__init__(0.125, "anew")  # type: ignore[misc]

    def mortal(self) -> None:
        leaf = Mortal(0.75, "mortal")
        leaf.world = self
        self.nodes.append(leaf * self.any())

    def duplicate(self) -> None:
        some = [self.any(), self.any()]
        self.nodes += self.rng.choice([copy.deepcopy, copy.copy, lambda v: pickle.loads(pickle.dumps(v))])(some)

    def walk(self) -> None:
        self.walk_from(self.any())

    def walk_from(self, node: Value) -> None:
        node.backward(self.rng.choice([1.0, 0.0, -2.0]))
        order = topological_order(node)
        places = {v: place for place, v in enumerate(order)}
        assert len(places) == len(order)
        assert order[-1] is node
        for v in order:
            assert all(places[x] < places[v] for x in v.operands if isinstance(x, Value))
        self.seen.append((len(order), node.data))

    def differentiate(self) -> None:
        self.nodes += mg.gradients(self.any(), [self.any(), self.any()])
        leaves = [node for node in self.nodes if node.op is None and type(node) is Value]
        rows = slope_rows([self.any() for _ in range(3)], leaves, self.rng.random() < 0.5)
        assert rows is None or [len(row) for row in rows] == [len(leaves)] * 3

    def act(self) -> None:
        try:
            acts = [
                self.tower,
                self.layer,
                self.layer,
                self.drop,
                self.mutate,
                self.begin_anew,
                self.mortal,
                self.duplicate,
                self.differentiate,
            ]
            self.rng.choice([*acts, self.walk, self.walk, self.build, self.build, self.build, self.build])()
        except (
            AbyssError,
            ArithmeticError,
            ValueError,
            TypeError,
            AttributeError,
            MemoryError,
            RecursionError,
        ) as error:
            self.seen.append(type(error).__name__)
        except KeyboardInterrupt:
            self.seen.append("interrupted")
        if len(self.nodes) > 200:
            self.drop()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_anything_goes(seed: int) -> None:
    world = World(seed)
    for _ in range(300):
        world.act()
    assert sum(isinstance(walked, tuple) for walked in world.seen) > 20
    assert len({error for error in world.seen if isinstance(error, str)}) > 2
    world.depth = 9  # the end: nothing meddles any more
    for node in world.nodes:
        world.walk_from(node)
    del node, world.nodes[:]
    gc.collect()
    left = [thing for thing in gc.get_objects() if type(thing) is Mortal and thing.world is world]
    assert not left  # what nothing reaches, nothing keeps


SHAPES: dict[str, Callable[[Any, Value], Any]] = {
    "left": lambda x, y: x * 0.5 + y,
    "right": lambda x, y: y - 0.5 * x,
    "both": lambda x, y: (x + x) * 0.5,
    "row": lambda x, y: ops.asinh(x),
    "block": lambda x, y: ops.fsum(y, x, 1.0),
    "products": lambda x, y: ops.net_input(x, y, 0.5, 1.0, y),
    "inputs": lambda x, y: ops.net_input(y, 0.5, y, x, 1.0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_depth_is_no_limit(shape: str) -> None:
    x, y = Value(0.5), Value(0.25)
    chain = x
    for _ in range(100_000):
        chain = SHAPES[shape](chain, y)
    chain.backward()
    assert len(topological_order(chain)) > 100_000
    assert chain.grad == 1.0
    for forward in (False, True):
        rows = slope_rows([chain, y], [x, y], forward=forward)
        assert rows is not None
        assert rows[1] == [0.0, 1.0]
    del chain
    chain = x
    for _ in range(100_000):
        chain = SHAPES[shape](chain, y)
    chain.__init__(1.0)  # type: ignore[misc]
    assert chain.operands == ()


def test_destructors_may_nest_without_limit() -> None:
    class Keeper(Value):
        kept: Any = None

    class Name(str):
        kept: Any = None

    for cls in (lambda: Keeper(1.0), lambda: Name("name")):
        kept = None
        for _ in range(50_000):
            keeper = cls()
            keeper.kept = kept
            kept = keeper * 2.0 if isinstance(keeper, Keeper) else Value(1.0, keeper)
        del kept, keeper


def test_memory_is_flat() -> None:
    def graphs(count: int) -> int:
        """The blocks of memory in use after so many graphs have been made, used in every way, and dropped."""
        x, y = Value(0.5, "x"), Value(0.25, "y")
        for i in range(count):
            z = ops.fsum(x * y, 2.0, x) + ops.clip(x / y, -1.0, 1.0) ** 2 - ops.asinh(x).tanh()
            z.label = f"z{i}"
            z.backward()
            topological_order(z)
            mg.gradients(z, [x])
            slope_rows([z, z * x, x], [x, y], forward=i % 2 == 0)
            _ = (z.operands, z.partials, z._prev, repr(z), z < y, copy.copy(z), pickle.loads(pickle.dumps(x)))
            failures = ((z.__truediv__, 0.0), (z.__add__, "a"), (ops.log, -1.0 - x), (Value, "a"), (z.atan, 1))
            fails: Any
            for fails, argument in failures:
                with contextlib.suppress(ZeroDivisionError, TypeError, ValueError):
                    fails(argument)
            z.__init__(i)  # type: ignore[misc]
        gc.collect()
        return sys.getallocatedblocks()

    used = [graphs(200) for _ in range(7)]
    grown = statistics.median(after - before for before, after in itertools.pairwise(used))
    assert grown < 50  # to lose one block a graph would be 200; a single window may see the interpreter's own caches


def test_a_node_is_small() -> None:
    """An accelerated node holds its operands and local derivatives itself, and the collector does not track it."""
    x = Value(0.5)
    node = x * 0.25
    if mg.engine_name() == "accelerated":
        assert sys.getsizeof(node) <= 112
        assert not gc.is_tracked(node)
    else:
        assert sys.getsizeof(node) + sys.getsizeof(node.operands) + sys.getsizeof(node.partials) <= 240


def test_threads_do_not_meet() -> None:
    shared = Value(0.5)
    results: list[float] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        x, sums = Value(0.5), []
        for _ in range(150):
            total: Any = sum((x * rng.random()).tanh() + shared * 0.5 for _ in range(20))
            total.backward()
            sums.append(len(topological_order(total)))
            total.label = str(seed)
        results.append(x.grad + len(set(sums)))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(results) == 4
    assert len(set(results)) == 2
    if mg.engine_name() == "accelerated":  # a walk is not interrupted
        assert shared.grad == 4 * 150 * 20 * 0.5
