"""Widgets of lesson 14, over random draws that are made once: controls on top of ``figures``."""

import numpy as np
from scipy import stats

from ...display.panel import panel, slider
from . import figures as plots

MOST = 20  # seeds
SHOWN = 40  # intervals in the picture


def simulated(
    draws, gain: float, spread: float, correlation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies (baseline, method), each (...), of runs whose luck is partly the seed's and so
    shared: a model, not training.

    draws: standard normal numbers (..., 3): the seed's luck and each run's own.   gain: true
    difference of the means.   spread: standard deviation over seeds of each.   correlation: between
    the two runs of a seed, 0 to 1."""
    shared, own = correlation**0.5 * draws[..., 0], (1 - correlation) ** 0.5
    return spread * (shared + own * draws[..., 1]), gain + spread * (shared + own * draws[..., 2])


def called_clear(baseline, method, confidence: float = 0.95) -> tuple[float, float]:
    """The shares of experiments (E, n) whose paired, and whose unpaired, interval of the gain
    leaves out 0.
    """
    low, high = plots.paired_intervals(method - baseline, confidence)
    p = stats.ttest_ind(method, baseline, axis=-1, equal_var=False).pvalue
    return float(np.mean((low > 0) | (high < 0))), float(np.mean(p < 1 - confidence))


def draw_experiments(draws, seeds: int, gain: float, spread: float, correlation: float):
    """``draw_coverage`` of the experiments that ``draws`` (E, MOST, 3) stand for, with so many
    seeds each.
    """
    baseline, method = simulated(draws, gain, spread, correlation)
    low, high = plots.paired_intervals((method - baseline)[:, :seeds])
    counts = list(range(2, MOST + 1))
    paired, unpaired = zip(*(called_clear(baseline[:, :n], method[:, :n]) for n in counts))
    title = f"{100 * np.mean((low <= gain) & (gain <= high)):.1f} % of {len(low):,} cover the truth"
    return plots.draw_coverage(
        low[:SHOWN],
        high[:SHOWN],
        gain,
        {"paired": paired, "unpaired": unpaired},
        counts,
        seeds,
        title,
    )


def interval_view(
    seeds: int = 5,
    gain: float = 1.0,
    spread: float = 1.0,
    correlation: float = 0.5,
    experiments: int = 1000,
):
    """Simulated experiments with a known true gain, over ``draw_coverage``. Controls: seeds, gain,
    spread, correlation.
    """
    draws = np.random.default_rng(14).standard_normal((experiments, MOST, 3))
    return panel(
        lambda seeds, gain, spread, correlation: draw_experiments(
            draws, seeds, gain, spread, correlation
        ),
        height=430,
        seeds=slider("Number of seeds", seeds, 2, MOST, 1),
        gain=slider("True gain, points", gain, -2.0, 3.0, 0.25),
        spread=slider("Spread over seeds, points", spread, 0.25, 3.0, 0.25),
        correlation=slider("Correlation of the two runs of a seed", correlation, 0.0, 0.95, 0.05),
    )


def false_alarms(draws, methods: int, seeds: int, alpha: float = 0.05) -> dict[str, np.ndarray]:
    """How many of ``methods`` methods without any effect are called clear in each experiment, with
    and without Holm's correction.

    draws: standard normal numbers (E, methods + 1 or more, seeds or more); the first is the
    baseline that all share."""
    gains = draws[:, 1 : methods + 1, :seeds] - draws[:, :1, :seeds]
    p = stats.ttest_1samp(gains, 0, axis=-1).pvalue
    return {
        "each for itself": (p < alpha).sum(-1),
        "corrected (Holm)": plots.holm(p, alpha).sum(-1),
    }


def alarm_view(methods: int = 20, seeds: int = 5, experiments: int = 1000):
    """Methods that change nothing, and how many are called clear, over ``draw_alarms``. Controls:
    methods, seeds.
    """
    draws = np.random.default_rng(15).standard_normal((experiments, 41, MOST))
    return panel(
        lambda methods, seeds: plots.draw_alarms(
            false_alarms(draws, methods, seeds), methods, seeds
        ),
        height=370,
        methods=slider("Number of methods", methods, 1, 40, 1),
        seeds=slider("Number of seeds", seeds, 3, MOST, 1),
    )


__all__ = [
    "alarm_view",
    "called_clear",
    "draw_experiments",
    "false_alarms",
    "interval_view",
    "simulated",
]
