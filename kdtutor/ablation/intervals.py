"""Intervals and claims: how far a gain can be told from luck."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def gain_interval(
    differences: Sequence[float], confidence: float = 0.95, grain: float = 0.0
) -> tuple[float, float]:
    """The t interval of a mean of paired differences: mean ± t_(n-1) * std / sqrt(n).

    Args:
        differences: One for each seed.
        confidence: A share such as 0.95.
        grain: See ``paired_intervals``.

    Returns:
        (low, high); NaN for fewer than two differences.

    Example:
        >>> [round(end, 3) for end in gain_interval([1.0, 2.0, 3.0])]
        [-0.484, 4.484]
    """
    if len(differences) < 2:
        return float("nan"), float("nan")
    low, high = paired_intervals(differences, confidence, grain)
    return float(low), float(high)


def paired_intervals(
    gains, confidence: float = 0.95, grain: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The t intervals of the means of paired gains, for many experiments at once.

    A share of a small test set comes in steps, so that equal differences may be luck: as rounding
    does, each of the two shares adds step^2 / 12 to the variance. Of two equal methods at 90 to
    97 % of 100 test images, 95 % intervals over two seeds leave out 0 in 6 to 9 % of all cases
    without that, in 0.4 to 1.8 % with it; over five seeds in 4.8 to 5.0 and 4.3 to 4.7 %.

    Args:
        gains: (..., n), n >= 2.
        confidence: A share such as 0.95.
        grain: The step: one test example, in the unit of the gains.

    Returns:
        (low, high), each (...).
    """
    gains = np.asarray(gains, float)
    n, mean = gains.shape[-1], gains.mean(-1)
    spread = np.sqrt(gains.var(-1, ddof=1) + grain**2 / 6)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * spread / n**0.5
    return mean - half, mean + half


def unpaired_interval(method, baseline, confidence: float = 0.95) -> tuple[float, float]:
    """Welch's interval of the difference of two means, method minus baseline.

    As if no run of the one had anything to do with a run of the other.

    Args:
        method, baseline: A number for each run.
        confidence: A share such as 0.95.

    Returns:
        (low, high).
    """
    found = stats.ttest_ind(method, baseline, equal_var=False).confidence_interval(confidence)
    return float(found.low), float(found.high)


def holm(p, alpha: float = 0.05) -> np.ndarray:
    """Which of m claims survive Holm's correction.

    Args:
        p: p-values, (..., m).
        alpha: The error that is allowed in all m together.

    Returns:
        Bool, (..., m), in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [True, False, False]
    """
    p = np.asarray(p, float)
    order, m = p.argsort(-1), p.shape[-1]
    passed = np.minimum.accumulate(
        np.take_along_axis(p, order, -1) <= alpha / (m - np.arange(m)), axis=-1
    )
    kept = np.empty_like(passed)
    np.put_along_axis(kept, order, passed, -1)
    return kept
