"""From a table to predictions: text and gaps in it, a model that knows its names, and the same model from its file.

Prints:
    8 inputs: age, income, town=Bonn, town=Ulm, owns=no, owns=yes, pet=cat, pet=dog
    accuracy 1.00, confusion matrix [[21, 0], [0, 24]]
    part      module       in  out  parameters
    parts[0]  Standardize   8    8           0
    parts[1]  Linear        8    6          54
    parts[2]  Tanh                           0
    parts[3]  Linear        6    2          14
              Sequential                    68
    loaded: buys yes
"""

import csv
import pathlib
import random
import tempfile

from micrograd_bp import datasets, losses, nn, optim, training

rng = random.Random(0)


def customer() -> list[int | str]:
    """Someone who buys if they are young and earn well, or own a house; one in ten tells no age."""
    age, income, owns = rng.randint(18, 80), rng.randint(10, 90), rng.choice(["yes", "no"])
    buys = "yes" if income - age > 0 or (owns == "yes" and income > 50) else "no"
    told = "" if rng.random() < 0.1 else age
    return [told, income, rng.choice(["Ulm", "Bonn"]), owns, rng.choice(["cat", "dog"]), buys]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "customers.csv")
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows(
                [["age", "income", "town", "owns", "pet", "buys"], *(customer() for _ in range(150))]
            )
        data = datasets.read_csv(path, target="buys", missing="mean", categories=True)
        print(f"{len(data.features)} inputs: {', '.join(data.features)}")
        train, test = data.split(0.3, rng)
        scaling = nn.Standardize(*datasets.statistics(train.X))
        model = nn.Sequential(scaling, nn.Linear(len(data.features), 6, rng=rng), nn.Tanh(), nn.Linear(6, 2, rng=rng))
        model.names = nn.Names(data.features, data.classes, "buys")
        optimizer = optim.Adam(model.parameters(), lr=0.03)
        training.fit(model, losses.cross_entropy, train.X, train.y, optimizer, epochs=60, rng=rng)
        found = [model.freeze()(x) for x in test.X]
        matrix = training.confusion_matrix(found, test.y)
        print(f"accuracy {training.accuracy(found, test.y):.2f}, confusion matrix {matrix}")
        print(model.summary())
        model.save(pathlib.Path(folder, "model.json"))
        again = nn.load(pathlib.Path(folder, "model.json")).freeze()
        logits = again(test.X[0])
        print(f"loaded: {again.names.target} {again.names.classes[logits.index(max(logits))]}")


main()
