"""A GPT in plain Values: one layer that learns to invent names, letter by letter.

    python -m benchmarks.gpt            # trains, then prints names that it makes up

Every number is a Value and every derivative comes from one call of `backward`: nothing in this file knows calculus.
Token and position embeddings, four heads of causal attention, RMS norm before each part, an MLP with ReLU, residual
connections, softmax with cross-entropy, Adam. `train` takes the class of Values, so that engines can be compared.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

NAMES = (
    "ada adam agnes albert alice amara amir ana andrea anna anton arthur astrid aurora beatrice ben boris bruno "
    "camille carl carmen cecilia chen chloe clara claude clement daniel daria david deborah diana diego dmitri "
    "edgar edith elena eli elias elisa emil emma eric esther eva felix fiona flora frank frida gabriel george gina "
    "giulia grace greta gustav hana hannah harold hector helen henry hugo ida igor ines ingrid irene iris isaac "
    "isabel ivan jacob jade jana jasper joan jonas jorge joseph judith julia julius karim karl katya keiko kenji "
    "lara laura lea lena leo leon lila linda liv louis lucas lucia lydia magnus maria marina mario martha martin "
    "mateo maya mei mia milan mina miriam nadia naomi nathan nina noah nora olga oliver omar oscar otto pablo paul "
    "paula pedro petra philip pia priya rafael ravi rebecca renata rita robert robin rosa ruth sakura samuel sara "
    "selma simon sofia sonia stefan stella sven tanya tara teresa theo thomas tilda tim tomas ursula valentin vera "
    "victor vincent viola walter wanda werner xenia yara yuki yusuf zoe"
)
ALPHABET = ".abcdefghijklmnopqrstuvwxyz"  # the dot begins and ends a name
WIDTH, HEADS, BLOCK = 16, 4, 16
SIZE = WIDTH // HEADS  # of a head

Vector = list[Any]
Matrix = list[Vector]


def parameters(value: type[Any], rng: random.Random) -> dict[str, Matrix]:
    """The network's matrices, small and random, one row an output."""
    shapes = {
        "token": (len(ALPHABET), WIDTH),
        "position": (BLOCK, WIDTH),
        "query": (WIDTH, WIDTH),
        "key": (WIDTH, WIDTH),
        "value": (WIDTH, WIDTH),
        "mix": (WIDTH, WIDTH),
        "up": (4 * WIDTH, WIDTH),
        "down": (WIDTH, 4 * WIDTH),
        "logits": (len(ALPHABET), WIDTH),
    }
    return {
        name: [[value(rng.gauss(0.0, 0.08)) for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns) in shapes.items()
    }


DOTS: dict[type, Callable[[Vector, Vector], Any]] = {}  # by the class of Values, where it has one of its own


def dot(x: Vector, y: Vector) -> Any:
    """The sum of the products: one node where the engine is this library's, as a unit's net input is."""
    own = DOTS.get(type(x[0]))
    return own(x, y) if own else sum([xi * yi for xi, yi in zip(x, y)])


def linear(matrix: Matrix, x: Vector) -> Vector:
    return [dot(row, x) for row in matrix]


def softmax(logits: Vector) -> Vector:
    highest = max([logit.data for logit in logits])
    weights = [(logit - highest).exp() for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def rms_norm(x: Vector) -> Vector:
    scale = (dot(x, x) * (1.0 / len(x)) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def add(x: Vector, y: Vector) -> Vector:
    return [xi + yi for xi, yi in zip(x, y)]


def attend(weights: dict[str, Matrix], x: Vector, keys: Matrix, values: Matrix) -> Vector:
    """What a position takes from itself and from those before it, whose keys and values have been kept."""
    query = linear(weights["query"], x)
    keys.append(linear(weights["key"], x))
    values.append(linear(weights["value"], x))
    mixed: Vector = []
    for start in range(0, WIDTH, SIZE):
        head = slice(start, start + SIZE)
        asked = query[head]
        attention = softmax([dot(asked, key[head]) * SIZE**-0.5 for key in keys])
        mixed += [dot(attention, [value[i] for value in values]) for i in range(start, start + SIZE)]
    return linear(weights["mix"], mixed)


def predict(weights: dict[str, Matrix], tokens: list[int]) -> Iterator[Vector]:
    """For every token the logits of the next one."""
    keys: Matrix = []
    values: Matrix = []
    for position, token in enumerate(tokens):
        x = add(weights["token"][token], weights["position"][position])
        x = add(x, attend(weights, rms_norm(x), keys, values))
        hidden = [h.relu() for h in linear(weights["up"], rms_norm(x))]
        x = add(x, linear(weights["down"], hidden))
        yield linear(weights["logits"], x)


def encode(name: str) -> list[int]:
    return [ALPHABET.index(letter) for letter in f".{name}."[: BLOCK + 1]]


def cross_entropy(weights: dict[str, Matrix], name: str) -> Any:
    """How surprised the network is by a name: the mean over its letters of -log(probability)."""
    tokens = encode(name)
    surprise = [-softmax(logits)[target].log() for logits, target in zip(predict(weights, tokens), tokens[1:])]
    return sum(surprise) * (1.0 / len(surprise))


class Adam:
    """Adam, written for any class with `data` and `grad`."""

    def __init__(self, parameters: Vector, beta1: float = 0.85, beta2: float = 0.99) -> None:
        self.parameters = parameters
        self.beta1, self.beta2 = beta1, beta2
        self.moments = [(0.0, 0.0)] * len(parameters)
        self.steps = 0

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient, and forget the gradient."""
        self.steps += 1
        b1, b2 = self.beta1, self.beta2
        rate /= 1.0 - b1**self.steps
        unbias = 1.0 / (1.0 - b2**self.steps)
        moments = []
        for p, (mean, square) in zip(self.parameters, self.moments):
            grad = p.grad
            mean = b1 * mean + (1.0 - b1) * grad
            square = b2 * square + (1.0 - b2) * grad * grad
            p.data -= rate * mean / (math.sqrt(square * unbias) + 1e-8)
            p.grad = 0.0
            moments.append((mean, square))
        self.moments = moments


class Trainer:
    """A network, its optimiser and the names in an order of its own: `step` trains on one name, and gives its loss."""

    def __init__(self, value: type[Any], rng: random.Random, steps: int = 1000, rate: float = 0.01) -> None:
        self.weights = parameters(value, rng)
        self.optimizer = Adam([p for matrix in self.weights.values() for row in matrix for p in row])
        self.names = NAMES.split()
        rng.shuffle(self.names)
        self.steps, self.rate = steps, rate

    def step(self, name: str = "") -> float:
        done = self.optimizer.steps
        loss = cross_entropy(self.weights, name or self.names[done % len(self.names)])
        loss.backward()
        self.optimizer.step(self.rate * (1.0 - done / self.steps))
        return float(loss.data)


def invent(weights: dict[str, Matrix], rng: random.Random, temperature: float = 0.6) -> str:
    """A name drawn letter by letter from the network's predictions."""
    letters: list[str] = []
    tokens = [0]
    while len(tokens) <= BLOCK:
        *_, logits = predict(weights, tokens)
        weigh = [p.data for p in softmax([logit * (1.0 / temperature) for logit in logits])]
        (token,) = rng.choices(range(len(ALPHABET)), weigh)
        if not token:
            break
        tokens.append(token)
        letters.append(ALPHABET[token])
    return "".join(letters)


def main() -> None:
    from micrograd_bp import Value, engine_name
    from micrograd_bp.nn import net_input

    parser = argparse.ArgumentParser(description="Train a GPT in plain Values on first names, and let it invent some.")
    parser.add_argument("--steps", type=int, default=1000, help="names to train on (default: 1000)")
    parser.add_argument("--small", action="store_true", help="three names")
    options = parser.parse_args()
    steps = 3 if options.small else options.steps
    DOTS[Value] = net_input
    rng = random.Random(42)
    trainer = Trainer(Value, rng, steps)
    print(f"{len(trainer.optimizer.parameters)} parameters, {engine_name()} engine")
    start, recent = time.perf_counter(), []
    for step in range(1, steps + 1):
        recent.append(trainer.step())
        if step % 100 == 0 or step == steps:
            print(f"step {step:5d}: loss {sum(recent) / len(recent):.3f}, {time.perf_counter() - start:.1f} s")
            recent.clear()
    print(" ".join(invent(trainer.weights, rng) for _ in range(20)))


if __name__ == "__main__":
    main()
