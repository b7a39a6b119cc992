"""Where a planet is: Kepler's equation solved by Newton's method, and how the answer moves with the orbit.

Prints:
    eccentric anomaly 1.085780, left over 0e+00
    dE/dM = 1.108533, as 1 / (1 - e cos E): 1.108533
    dE/de = 0.980683, as sin E / (1 - e cos E): 0.980683
"""

import micrograd_bp as mg
from micrograd_bp import math


def left_over(anomaly: float, mean: float, eccentricity: float) -> float:
    """Kepler's equation, E - e sin E = M, as something to bring to 0."""
    return anomaly - eccentricity * math.sin(anomaly) - mean


def eccentric_anomaly(mean: float, eccentricity: float) -> float:
    """E by Newton's method: as many steps as it takes. The loop itself is differentiated below."""
    anomaly = mean
    for _ in range(50):
        value, slope = mg.value_and_grad(left_over)(anomaly, mean, eccentricity)
        step = value / slope
        anomaly = anomaly - step
        if abs(step) < 1e-14:
            break
    return anomaly


def main() -> None:
    mean, eccentricity = 0.9, 0.21
    found = eccentric_anomaly(mean, eccentricity)
    print(f"eccentric anomaly {found:.6f}, left over {abs(round(left_over(found, mean, eccentricity), 12)):.0e}")

    by_mean, by_eccentricity = mg.grad(eccentric_anomaly, argnums=(0, 1))(mean, eccentricity)
    slope = 1 - eccentricity * math.cos(found)
    print(f"dE/dM = {by_mean:.6f}, as 1 / (1 - e cos E): {1 / slope:.6f}")
    print(f"dE/de = {by_eccentricity:.6f}, as sin E / (1 - e cos E): {math.sin(found) / slope:.6f}")


if __name__ == "__main__":
    main()
