"""A network learns to tell three kinds of iris apart, is saved, read back and used without a graph.

Prints:
    67 parameters, 105 flowers to learn from
    more than nine in ten of 45 others are told apart: True
"""

import random
import tempfile
from pathlib import Path

from micrograd_bp import datasets, losses, nn, optim, training


def main() -> None:
    rng = random.Random(0)
    train, test = datasets.iris().split(0.3, rng=rng)
    model = nn.Sequential(
        nn.Standardize(*datasets.statistics(train.X)),
        nn.MLP(4, [8, 3], activation="tanh", init="xavier_uniform", rng=rng),
    )
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    training.fit(model, losses.cross_entropy, train.X, train.y, optimizer, epochs=30, batch_size=16, rng=rng)

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "flowers.json")
        plain = nn.load(Path(folder) / "flowers.json").freeze()  # floats in, floats out
    right = sum(scores.index(max(scores)) == y for scores, y in zip(map(plain, test.X), test.y, strict=True))
    print(f"{len(model.parameters())} parameters, {len(train.X)} flowers to learn from")
    print(f"more than nine in ten of {len(test.X)} others are told apart: {right / len(test.X) > 0.9}")


if __name__ == "__main__":
    main()
