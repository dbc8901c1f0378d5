"""What the figures of lesson 03 show of the numbers they are given."""

import numpy as np
import pytest
import torch
from pictures import drawn

from kdtutor.lessons.born_again import figures as plots


def ticks(ax):
    return [text.get_text() for text in ax.get_xticklabels()]


def means(ax):
    """Height of the bars at the means of a panel of dots, in order."""
    return [line.get_ydata()[0] for line in ax.lines if line.get_linewidth() == 2.5]


ERRORS = np.array([[5.0, 4.0, 3.0, 6.0], [7.0, 4.0, 5.0, 6.0]])
PUBLISHED = {"A": [18.0, 17.0, 16.5, 16.0], "B": [17.0, 16.0, 16.1, float("nan")]}


def test_chains_draw_every_seed_their_mean_and_the_published_networks():
    ours, theirs = drawn(plots.draw_chains({"right labels": ERRORS}, PUBLISHED)).axes
    assert [line.get_ydata().tolist() for line in ours.lines[:2]] == ERRORS.tolist()
    line, _, bars = ours.containers[0]
    assert line.get_ydata().tolist() == [6, 4, 4, 6]
    assert bars[0].get_segments()[0][:, 1].tolist() == pytest.approx([6 - 2**0.5, 6 + 2**0.5])
    assert [line.get_label() for line in theirs.lines] == ["A", "B"] and theirs.lines[
        0
    ].get_ydata().tolist() == PUBLISHED["A"]
    assert theirs.lines[0].get_linestyle() != theirs.lines[1].get_linestyle() and ticks(
        ours
    ) == list(plots.GENERATIONS)


def test_memory_draws_the_three_shares_of_each_generation():
    shares = np.array([[[70, 20, 10], [40, 50, 10]], [[60, 30, 10], [20, 60, 20]]], dtype=float)
    (ax,) = drawn(plots.draw_memory(shares, ["Teacher", "BAN-1"])).axes
    heights = np.array([p.get_height() for p in ax.patches]).reshape(3, 2)
    assert heights.T.tolist() == shares.mean(0).tolist()
    assert len({p.get_hatch() for p in ax.patches}) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(plots.SHARES)


def test_an_answer_shows_one_generation_and_the_way_of_true_class_and_given_label():
    probs = torch.softmax(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), 1)
    picture, bars, lines = drawn(
        plots.draw_answer(probs, 2, torch.zeros(8, 8), true=1, given=3, classes=list("abcde"))
    ).axes
    assert np.allclose([p.get_height() for p in bars.patches], probs[2])
    assert [bool(p.get_hatch()) for p in bars.patches] == [False, False, False, True, False]
    assert (
        "BAN-2" in bars.get_title("left")
        and "a b" in picture.get_title("center")
        and "labelled d" in picture.get_title("center")
    )
    curves = {
        line.get_label(): line.get_ydata() for line in lines.lines if len(line.get_xdata()) == 4
    }
    assert np.allclose(curves["true class: b"], probs[:, 1]) and np.allclose(
        curves["given label: d"], probs[:, 3]
    )
    rings = [line for line in lines.lines if line.get_markersize() == 15]
    assert [(r.get_xdata()[0], r.get_ydata()[0]) for r in rings] == [
        (2, pytest.approx(probs[2, 1].item())),
        (2, pytest.approx(probs[2, 3].item())),
    ]


@pytest.mark.parametrize("given", [None, 1])
def test_an_image_with_its_right_label_has_one_line(given):
    picture, bars, lines = drawn(
        plots.draw_answer(
            torch.full((2, 4), 0.25), 0, torch.zeros(8, 8), 1, given, names=["Teacher", "BAN-1"]
        )
    ).axes
    assert [text.get_text() for text in lines.get_legend().get_texts()] == ["true class: 1"]
    assert "labelled" not in picture.get_title("center") and not any(
        p.get_hatch() for p in bars.patches
    )


def test_changes_draw_every_run_the_mean_and_the_band_of_luck():
    panels = {
        "Here": {"BAN": [-1.0, -2.0], "CWTM": [0.5, 0.0]},
        "Published": {"BAN": [-1.0, float("nan")]},
    }
    here, published = drawn(plots.draw_changes(panels, {"Here": 0.3, "Published": 0.66})).axes
    assert (
        here.lines[1].get_ydata().tolist() == [-1, -2]
        and means(here) == [-1.5, 0.25]
        and means(published) == [-1.0]
    )
    assert here.patches[0].get_y() == pytest.approx(-0.3) and here.patches[
        0
    ].get_height() == pytest.approx(0.6)
    assert "0.66" in published.get_legend().get_texts()[0].get_text() and ticks(here) == [
        "BAN",
        "CWTM",
    ]


def test_ensembles_draw_both_curves_and_the_paired_difference_at_the_chosen_number():
    born, alone = (
        np.array([[5.0, 4.0, 3.0], [5.0, 5.0, 5.0]]),
        np.array([[6.0, 4.5, 4.0, 3.5], [6.0, 4.0, 4.0, 3.5]]),
    )
    curves = {"right": (born, alone), "noisy": (born + 1, alone)}
    right, noisy, last = drawn(plots.draw_ensembles(curves, 2)).axes
    assert right.containers[0][0].get_ydata().tolist() == [5, 4.5, 4] and right.containers[1][
        0
    ].get_ydata().tolist() == [6, 4.25, 4, 3.5]
    assert means(last) == [0.25, 1.25] and last.lines[0].get_ydata().tolist() == [-0.5, 1.0]
    stripe = right.patches[0]
    assert (
        stripe.get_x() < 2 < stripe.get_x() + stripe.get_width()
        and "2 members" in last.get_title("left")
    )
    other = plots.draw_ensembles(curves, 1).axes
    assert other[2].get_ylim() == last.get_ylim() and other[0].get_xlim() == right.get_xlim(), (
        "frames stand still"
    )
    assert means(other[2]) == [-1, 0] and other[2].get_title("left") == "1 member each"


def test_agreement_writes_its_numbers_on_one_scale_and_leaves_out_what_is_trivial():
    matrix, other = (
        np.array([[np.nan, 90.0], [90.0, np.nan]]),
        np.array([[80.0, 85.0], [85.0, 70.0]]),
    )
    first, second, _ = drawn(
        plots.draw_agreement({"within": matrix, "between": other}, ["Teacher", "BAN-1"])
    ).axes
    assert [t.get_text() for t in first.texts] == ["90.0", "90.0"] and [
        t.get_text() for t in second.texts
    ] == ["80.0", "85.0", "85.0", "70.0"]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (70, 90)


def test_figures_are_closed_and_readable():
    import matplotlib.pyplot as plt

    fig = plots.draw_chains({"right labels": ERRORS}, PUBLISHED)
    assert not plt.get_fignums()
    sizes = [
        t.get_fontsize()
        for ax in fig.axes
        for t in [ax.title, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_legend().get_texts()]
    ]
    assert min(sizes) >= 9
