"""What the figures of lesson 14 show of the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.markers import CARETLEFT
from pictures import drawn
from scipy import stats

from kdtutor.ablation.figure import draw_gains
from kdtutor.ablation.results import gain_interval
from kdtutor.lessons.ablation_bench import figures as plots

BASE, METHOD = [90.0, 91.0, 89.5], [91.0, 92.5, 90.0]
OURS = pd.DataFrame(
    {"gain": [1.0, -0.5], "low": [0.2, -2.0], "high": [1.8, 1.0]}, index=["KD", "SP"]
)


def words(ax):
    return [t.get_text() for t in ax.texts]


def test_intervals_of_many_experiments_are_those_of_each():
    gains = np.random.default_rng(0).standard_normal((4, 3, 5))
    low, high = plots.paired_intervals(gains)
    assert low.shape == (4, 3) and (low[2, 1], high[2, 1]) == pytest.approx(
        gain_interval(gains[2, 1])
    )
    welch = stats.ttest_ind(METHOD, BASE, equal_var=False).confidence_interval()
    assert plots.unpaired_interval(METHOD, BASE) == pytest.approx((welch.low, welch.high))


def test_holm_stops_at_the_first_claim_that_fails():
    p = np.array(
        [[0.030, 0.004, 0.300, 0.015], [0.04, 0.03, 0.02, 0.01], [0.001, 0.001, 0.06, 0.024]]
    )
    assert plots.holm(p).tolist() == [
        [False, True, False, True],
        [False, False, False, True],
        [True, True, False, True],
    ]
    assert plots.holm([0.05]).tolist() == [True] and plots.holm([]).shape == (0,)


def test_ranks_are_those_of_every_seed_and_of_the_mean():
    table = pd.DataFrame(
        {0: [60.0, 70.0, 50.0, 40.0], 1: [60.0, 30.0, 50.0, 40.0]}, index=list("abcd")
    )
    (ax,) = drawn(plots.draw_ranks(table, moved=3)).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [
        [2, 1, 1],
        [1, 4, 2.0],
        [3, 2, 3],
        [4, 3, 4],
    ]
    assert [line.get_color() != plots.QUIET for line in ax.lines] == [False, True, False, False]
    assert "a  60.0 %" in words(ax) and [t.get_text() for t in ax.get_xticklabels()] == [
        "seed 0 alone",
        "seed 1 alone",
        "mean of 2",
    ]


def test_flips_are_bars_in_percent():
    (ax,) = drawn(
        plots.draw_flips(["small", "large"], {"any": [0.4, 0.1], "same": [0.3, 0.0]}, [5, 7])
    ).axes
    assert [p.get_height() for p in ax.patches] == pytest.approx([40, 10, 30, 0])
    assert ax.get_xticklabels()[1].get_text() == "large\n(7 pairs)"
    assert ax.patches[0].get_hatch() and not ax.patches[2].get_hatch()


def test_pairs_show_every_seed_and_both_intervals():
    left, right = drawn(plots.draw_pairs(BASE, METHOD, ("labels", "KD"))).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[90, 91], [91, 92.5], [89.5, 90]]
    assert sorted(line.get_xdata()[0] for line in right.lines[:3]) == pytest.approx([0.5, 1.0, 1.5])
    intervals = gain_interval([1, 1.5, 0.5]), plots.unpaired_interval(METHOD, BASE)
    assert words(right) == [
        "{:+.2f} to {:+.2f}".format(*ends).replace("-", "−") for ends in intervals
    ]
    assert len({line.get_marker() for line in left.lines}) == 3


def test_coverage_marks_the_intervals_that_miss():
    low, high = [0.5, 1.2, -1.0], [1.5, 2.0, 0.8]
    left, right = drawn(
        plots.draw_coverage(
            low, high, 1.0, {"paired": [0.1, 0.4], "unpaired": [0.0, 0.2]}, [2, 3], 3, "words"
        )
    ).axes
    covers, misses = left.collections
    assert [s[:, 0].tolist() for s in covers.get_segments()] == [[0.5, 1.5]] and len(
        misses.get_segments()
    ) == 2
    assert right.lines[0].get_ydata().tolist() == [10, 40] and left.get_title("left") == "words"
    assert any(list(line.get_xdata()) == [3, 3] for line in right.lines)


def test_alarms_are_shares_of_experiments():
    (ax,) = drawn(plots.draw_alarms({"each": [0, 0, 1, 9], "Holm": [0, 0, 0, 1]}, 9, 5)).axes
    top = len(ax.get_xticks())
    assert [p.get_height() for p in ax.patches[:2]] == [50, 25] and ax.patches[
        top - 1
    ].get_height() == 25
    assert [p.get_height() for p in ax.patches[top : top + 2]] == [75, 25]
    assert "at least one in 50 %" in ax.get_legend().get_texts()[0].get_text()


def test_published_gains_stand_in_their_cells_beside_ours():
    table = pd.DataFrame({"ResNet-8": [1.234, -4.0], "WRN-10-2": [-0.04, 0.3]}, index=["KD", "ONE"])
    one, two, right, _ = drawn(plots.draw_published({"III": table, "IV": -table}, OURS)).axes
    assert words(one) == ["+1.2", "0.0", "−4.0", "+0.3"] and words(two)[0] == "−1.2"
    assert [t.get_text() for t in one.get_yticklabels()] == ["KD", "ONE"] and one.images[
        0
    ].get_array().shape == (2, 2)
    assert [len(c.lines[0].get_xdata()) for c in right.containers] == [1, 0], (
        "ONE has no measured gain, SP no published one"
    )
    assert [t.get_text() for t in right.get_yticklabels()] == ["KD", "ONE"] and right.get_xlim()[
        0
    ] > -1


def test_measured_gains_are_filled_where_clear_and_cut_off_at_an_arrow():
    ours = pd.DataFrame(
        {"gain": [1.0, -0.5, -8.0], "low": [0.2, -2.0, -18.0], "high": [1.8, 1.0, 2.0]},
        index=["KD", "SP", "RKD"],
    )
    table = pd.DataFrame(np.ones((3, 8)), index=ours.index)
    right = drawn(plots.draw_published({"III": table, "IV": table}, ours)).axes[2]
    clear, hollow = (c.lines[0] for c in right.containers)
    assert (clear.get_xdata().tolist(), hollow.get_xdata().tolist()) == ([1.0], [-0.5, -8.0])
    assert (
        clear.get_markerfacecolor() != hollow.get_markerfacecolor() == "white"
        and clear.get_color() == hollow.get_color()
    )
    (arrow,) = [line for line in right.lines if line.get_marker() == CARETLEFT]
    assert arrow.get_xydata().tolist() == [[-10, 2]] and right.get_xlim()[0] == -10


def test_gains_have_a_panel_per_setting_and_say_how_many_seeds():
    index = pd.MultiIndex.from_product(
        [["resnet8", "resnet14"], ["CrossEntropy", "KD", "SP"]], names=["net", "method"]
    )
    table = pd.DataFrame(
        {
            "gain": [np.nan, 1, 2.0] * 2,
            "low": [np.nan, 0.5, -1] * 2,
            "high": [np.nan, 1.5, 5] * 2,
            "clear": [False, True, False] * 2,
            "seeds": [5, 5, 4] * 2,
        },
        index=index,
    )
    fig = drawn(draw_gains(table))
    assert [ax.get_title("left") for ax in fig.axes] == [
        "resnet8",
        "resnet14",
    ] and "4 to 5 seeds" in fig.legends[0].get_title().get_text()
    clear, not_clear = fig.axes[0].containers
    assert clear.lines[0].get_xdata().tolist() == [1] and not_clear.lines[
        0
    ].get_xdata().tolist() == [2]
    assert clear.lines[0].get_marker() != not_clear.lines[0].get_marker()
    assert (
        "5 seeds" in drawn(draw_gains(table[table["seeds"] == 5])).legends[0].get_title().get_text()
        and not plt.get_fignums()
    )
