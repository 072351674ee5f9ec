"""The one interval of a share that labels and analyses both report."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm


class Interval(NamedTuple):
    """An estimate and its 95% interval; all NaN where nothing was counted."""

    value: float
    low: float
    high: float


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), halves (ties) allowed; NaN where n is 0."""
    if n <= 0:
        return NOTHING
    z = float(norm.ppf(0.5 + confidence / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at 0 and n the bound is exactly the share; the formula only comes within rounding of it
    return Interval(float(share), float(min(centre - half, share)), float(max(centre + half, share)))
