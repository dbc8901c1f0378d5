"""Intervals and claims: how far a gain can be told from luck."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def gain_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The t interval of a mean of paired differences: mean ± t_(n-1) * std / sqrt(n). NaN for fewer
    than two.
    """
    if len(differences) < 2:
        return float("nan"), float("nan")
    low, high = paired_intervals(differences, confidence)
    return float(low), float(high)


def paired_intervals(gains, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The t intervals (..., ), (..., ) of the means of paired gains (..., n), n >= 2, for many
    experiments at once.
    """
    gains = np.asarray(gains, float)
    n, mean = gains.shape[-1], gains.mean(-1)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * gains.std(-1, ddof=1) / n**0.5
    return mean - half, mean + half


def unpaired_interval(method, baseline, confidence: float = 0.95) -> tuple[float, float]:
    """Welch's interval of the difference of two means, as if no run of the one had anything to do
    with a run of the other.
    """
    found = stats.ttest_ind(method, baseline, equal_var=False).confidence_interval(confidence)
    return float(found.low), float(found.high)


def holm(p, alpha: float = 0.05) -> np.ndarray:
    """Which of m claims survive Holm's correction: True or False for each p-value (..., m), in the
    order given.
    """
    p = np.asarray(p, float)
    order, m = p.argsort(-1), p.shape[-1]
    passed = np.minimum.accumulate(
        np.take_along_axis(p, order, -1) <= alpha / (m - np.arange(m)), axis=-1
    )
    kept = np.empty_like(passed)
    np.put_along_axis(kept, order, passed, -1)
    return kept
