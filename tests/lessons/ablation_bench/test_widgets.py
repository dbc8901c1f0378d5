"""The widgets of lesson 14: a changed control calls the draw function with the new value, and the
simulations are what they say.
"""

import numpy as np
import pytest
from scipy import stats

from kdtutor.lessons.ablation_bench import figures as plots
from kdtutor.lessons.ablation_bench import widgets
from kdtutor.lessons.ablation_bench.widgets import (
    alarm_view,
    called_clear,
    draw_experiments,
    false_alarms,
    interval_view,
    simulated,
)


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_coverage", "draw_alarms"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


def test_simulated_runs_have_the_gain_the_spread_and_the_correlation():
    draws = np.random.default_rng(0).standard_normal((20_000, 3))
    for rho in (0.0, 0.6):
        baseline, method = simulated(draws, 1.5, 2.0, rho)
        assert (method - baseline).mean() == pytest.approx(
            1.5, abs=0.06
        ) and baseline.std() == pytest.approx(2, abs=0.05)
        assert method.std() == pytest.approx(2, abs=0.05) and np.corrcoef(baseline, method)[
            0, 1
        ] == pytest.approx(rho, abs=0.03)


def test_what_is_called_clear_is_what_the_tests_of_each_experiment_say():
    baseline, method = simulated(
        np.random.default_rng(1).standard_normal((60, 4, 3)), 1.0, 1.0, 0.5
    )
    paired = [stats.ttest_rel(m, b).pvalue < 0.05 for b, m in zip(baseline, method)]
    unpaired = [
        stats.ttest_ind(m, b, equal_var=False).pvalue < 0.05 for b, m in zip(baseline, method)
    ]
    assert (
        called_clear(baseline, method) == (np.mean(paired), np.mean(unpaired))
        and 0 < np.mean(paired) < 1
    )


def test_the_intervals_follow_every_control(calls):
    view = interval_view(seeds=3, experiments=100)
    low, high, truth, shares, counts, seeds, title = calls[-1][1]
    assert (
        len(low) == widgets.SHOWN
        and (truth, seeds) == (1.0, 3)
        and len(shares["paired"]) == len(counts) == widgets.MOST - 1
    )
    assert title.endswith("% of 100 cover the truth")
    view.controls["seeds"].value = 12
    assert (
        calls[-1][1][5] == 12
        and np.median(calls[-1][1][1] - calls[-1][1][0]) < np.median(high - low) / 2
    )
    view.controls["gain"].value = 0.0
    assert calls[-1][1][2] == 0.0 and max(calls[-1][1][3]["paired"]) < 0.2, "false alarms only"
    narrow = np.median(calls[-1][1][1] - calls[-1][1][0])
    view.controls["spread"].value = 2.0
    assert np.median(calls[-1][1][1] - calls[-1][1][0]) == pytest.approx(2 * narrow)
    view.controls["correlation"].value = 0.95
    assert np.median(calls[-1][1][1] - calls[-1][1][0]) < narrow


def test_false_alarms_without_and_with_a_correction():
    found = false_alarms(np.random.default_rng(2).standard_normal((400, 11, 5)), 10, 5)
    each, corrected = found.values()
    assert each.shape == (400,) and each.mean() / 10 == pytest.approx(0.05, abs=0.015)
    assert (each > 0).mean() > 0.25 and (corrected > 0).mean() < 0.09 and (corrected <= each).all()


def test_the_alarms_follow_methods_and_seeds(calls):
    view = alarm_view(methods=4, experiments=50)
    assert calls[-1][0] == "draw_alarms" and calls[-1][1][1:] == (4, 5)
    view.controls["methods"].value = 40
    assert calls[-1][1][1] == 40 and len(next(iter(calls[-1][1][0].values()))) == 50
    view.controls["seeds"].value = 3
    assert calls[-1][1][1:] == (40, 3)


@pytest.mark.parametrize(
    "make, control, words, value",
    [
        (lambda: interval_view(experiments=50), "seeds", "Number of seeds", 2),
        (lambda: interval_view(experiments=50), "correlation", "Correlation of the two runs", 0.0),
        (lambda: alarm_view(experiments=50), "methods", "Number of methods", 1),
    ],
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(
    make, control, words, value
):
    view = make()
    slider = view.controls[control]
    assert slider.description.startswith(words) and slider.continuous_update is False
    slider.value = value  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = alarm_view(experiments=20)

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_alarms", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["seeds"].value = 7


def test_the_static_figure_is_the_widget_s():
    fig = draw_experiments(np.random.default_rng(3).standard_normal((50, 20, 3)), 4, 1.0, 1.0, 0.5)
    assert "of 50 cover the truth" in fig.axes[0].get_title("left")
