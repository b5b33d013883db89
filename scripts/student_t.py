"""
Student's t: is a difference of means more than the spread? No packages.

    two-sided p = I_x(df / 2, 1 / 2) at x = df / (df + t^2)        I: the regularised incomplete beta function
"""
import math


def incomplete_beta(a, b, x):
    """I_x(a, b) for 0 <= x <= 1 by its continued fraction (Lentz's way), which converges fast for x < (a + 1) / (a + b + 2)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny, c, d = 1e-300, 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1 / (1 + numerator * d or tiny)
            c = 1 + numerator / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def p_value(t, df):
    """Two-sided probability of a |t| this large or larger when there is no difference."""
    return incomplete_beta(df / 2, 0.5, df / (df + t * t)) if math.isfinite(t) else 0.0


def critical(p, df):
    """The |t| with this two-sided p."""
    low, high = 0.0, 1.0
    while p_value(high, df) > p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, df) > p else (low, middle)
    return (low + high) / 2


def mean(x):
    return math.fsum(x) / len(x)


def variance(x):
    """Of the population that x is a sample of: divided by n - 1."""
    m = mean(x)
    return math.fsum((v - m) ** 2 for v in x) / (len(x) - 1)


def compare(x, base):
    """x, base: {seed: [losses]}. Paired when both have the same seeds, once each; Welch's test otherwise.
    Returns (difference of the means, half of its 95 % interval, p, name of the test); None where one value is not enough."""
    a, b = ([v for values in side.values() for v in values] for side in (x, base))
    difference = mean(a) - mean(b)
    if len(a) < 2 or len(b) < 2:
        return difference, None, None, "none: one run"
    if set(x) == set(base) and len(a) == len(b) == len(x):
        test, df = "paired", len(a) - 1
        error = math.sqrt(variance([x[seed][0] - base[seed][0] for seed in x]) / len(a))
    else:
        u, v = variance(a) / len(a), variance(b) / len(b)
        test, error = "Welch", math.sqrt(u + v)
        df = (u + v) ** 2 / (u * u / (len(a) - 1) + v * v / (len(b) - 1)) if u + v > 0 else len(a) + len(b) - 2
    if error == 0:
        return difference, 0.0, float(difference == 0), test
    return difference, critical(0.05, df) * error, p_value(difference / error, df), test


def holm(p):
    """p-values, some None, corrected for being several (Holm's step-down method), in the same order."""
    order = sorted((value, i) for i, value in enumerate(p) if value is not None)
    corrected, highest = list(p), 0.0
    for rank, (value, i) in enumerate(order):
        highest = corrected[i] = max(highest, min(1.0, value * (len(order) - rank)))
    return corrected
