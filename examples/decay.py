"""A decay fitted to counts, with error bars: steps of Newton's method, and the inverse of the Hessian at their end.

Prints:
    at the start: 102.4 +- 8.4 counts
    rate of decay: 0.513 +- 0.039
    slopes left: 0.0
"""

import micrograd_bp as mg
from micrograd_bp import math

TIMES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
COUNTS = [102, 62, 35, 25, 11, 9, 4, 3]


def surprise(p: list[float]) -> float:
    """Minus the log of the probability of the counts, if they are Poisson's around p[0] exp(-p[1] t)."""
    total = 0.0
    for t, n in zip(TIMES, COUNTS, strict=True):
        rate = p[0] * math.exp(-p[1] * t)
        total += rate - n * math.log(rate)
    return total


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """x of matrix x = right, two by two."""
    (a, b), (c, d) = matrix
    determinant = a * d - b * c
    return [(d * right[0] - b * right[1]) / determinant, (a * right[1] - c * right[0]) / determinant]


def main() -> None:
    p = [80.0, 0.4]
    for _ in range(10):
        step = solve(mg.hessian(surprise)(p), mg.grad(surprise)(p))
        p = [x - s for x, s in zip(p, step, strict=True)]
    curvature = mg.hessian(surprise)(p)
    errors = [solve(curvature, unit)[k] ** 0.5 for k, unit in enumerate(([1.0, 0.0], [0.0, 1.0]))]
    print(f"at the start: {p[0]:.1f} +- {errors[0]:.1f} counts")
    print(f"rate of decay: {p[1]:.3f} +- {errors[1]:.3f}")
    print(f"slopes left: {max(abs(round(s, 9)) for s in mg.grad(surprise)(p))}")


if __name__ == "__main__":
    main()
