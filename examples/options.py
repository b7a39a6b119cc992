"""A hundred thousand options priced, with the slope by each of their parameters, in one compiled call.

Prints:
    100000 prices, 5 slopes each, along 3 paths
    as without compiling: True
    on the last day the slope by the spot is 0 or 1: True
    a longer time is never worth less: True
"""

import numpy as np

import micrograd_bp as mg
from micrograd_bp import math


def price(spot: float, strike: float, time: float, rate: float, volatility: float) -> float:
    """Black and Scholes's price of a call; on its last day it is what it is worth."""
    if time == 0.0:
        return max(spot - strike, 0.0)
    width = volatility * math.sqrt(time)
    d1 = (math.log(spot / strike) + (rate + volatility**2 / 2) * time) / width
    return spot * normal(d1) - strike * math.exp(-rate * time) * normal(d1 - width)


def normal(x: float) -> float:
    """The probability of a standard normal number below x."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def main() -> None:
    rng = np.random.default_rng(0)
    low, high = [80.0, 90.0, 0.2, 0.0, 0.1], [120.0, 110.0, 2.0, 0.05, 0.5]
    options = rng.uniform(low, high, (100_000, 5))
    options[::10, 2] = 0.0  # every tenth on its last day

    both = mg.jit(mg.vmap(mg.value_and_grad(price, argnums=(0, 1, 2, 3, 4))))
    prices, slopes = both(*options.T)
    print(f"{len(prices)} prices, {len(slopes)} slopes each, along {both.stats['paths']} paths")

    one = options[7].tolist()
    again = mg.value_and_grad(price, argnums=(0, 1, 2, 3, 4))(*one)
    print("as without compiling:", bool(np.allclose([prices[7], *(s[7] for s in slopes)], [again[0], *again[1]])))
    last = options[:, 2] == 0.0
    print("on the last day the slope by the spot is 0 or 1:", set(slopes[0][last].tolist()) == {0.0, 1.0})
    print("a longer time is never worth less:", bool((slopes[2][~last] > 0.0).all()))


if __name__ == "__main__":
    main()
