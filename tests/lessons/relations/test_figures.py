"""The figures of lesson 07 show the numbers that they are given."""

import math

import numpy as np
import pytest
import torch
from pictures import drawn

from kdtutor.lessons.relations import contrast
from kdtutor.lessons.relations import figures as relations
from kdtutor.methods.relation.rkd import angle_loss, distance_loss, pair_distances, triplet_angles
from kdtutor.methods.relation.similarity import similarity_loss, similarity_matrix

TRIANGLE = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
STARS = torch.tensor([[-1.2, -1.0], [1.6, -0.7], [0.2, 1.4], [-1.5, 0.9], [1.3, 0.8]])


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_moves_that_keep_the_shape_cost_nothing_but_the_place():
    moved = relations.moved(STARS, turn=70, scale=1.3, shift=0.4)
    losses = relations.constellation_losses(moved, STARS)
    assert losses["distances (RKD-D)"] < 1e-9 and losses["angles (RKD-A)"] < 1e-9
    assert losses["places"] == pytest.approx(
        float((moved - STARS).square().sum() / STARS.square().sum())
    )
    assert losses["dot products (SP)"] > 1e-3, "a shift moves the origin"
    assert (
        relations.constellation_losses(relations.moved(STARS, turn=70, scale=1.3), STARS)[
            "dot products (SP)"
        ]
        < 1e-9
    )
    pushed = relations.moved(STARS, push=1.0)
    assert torch.equal(pushed[:-1], STARS[:-1]) and torch.allclose(
        pushed[-1], STARS[-1] + torch.tensor([0.0, 1.0])
    )
    losses = relations.constellation_losses(pushed, STARS)
    expected = [
        distance_loss(pushed, STARS),
        angle_loss(pushed, STARS),
        similarity_loss(pushed, STARS),
    ]
    assert list(losses.values())[1:] == pytest.approx([float(v) for v in expected])


def test_the_triangle_names_lengths_and_angles():
    left, right = drawn(relations.draw_triangle(TRIANGLE)).axes
    assert {"3 → 0.75", "4 → 1.00", "5 → 1.25"} <= set(words(left)) and "(4)" in left.get_title(
        "left"
    )
    assert {"90°, cos 0.00", "53°, cos 0.60", "37°, cos 0.80"} <= set(words(right))
    arcs = sorted(arc.theta2 - arc.theta1 for arc in right.patches)
    assert arcs == pytest.approx(
        [math.degrees(math.atan2(3, 4)), math.degrees(math.atan2(4, 3)), 90]
    )


def test_any_triangle_can_be_drawn():
    for turn in range(0, 360, 30):
        _, right = relations.draw_triangle(relations.moved(TRIANGLE, turn)).axes
        assert sum(arc.theta2 - arc.theta1 for arc in right.patches) == pytest.approx(180, abs=1e-3)


def test_the_constellations_show_points_pairs_and_losses():
    students = {"whole": relations.moved(STARS, 40, 1.5), "one": relations.moved(STARS, push=1.5)}
    teacher, whole, one, bars = drawn(relations.draw_constellations(STARS, students)).axes
    dots = [line for line in one.lines if line.get_markersize() == 15]
    assert np.allclose(np.transpose(dots[0].get_data()), students["one"])
    pairs = lambda ax, dash: sum(
        line.get_linestyle() == dash and len(line.get_xdata()) == 2 for line in ax.lines
    )
    assert pairs(whole, "-") == 10, "a moved whole changes no pair"
    change = (pair_distances(students["one"]) - pair_distances(STARS))[*torch.triu_indices(5, 5, 1)]
    assert pairs(one, "--") == int((change >= 0.02).sum()) and pairs(one, ":") == int(
        (change <= -0.02).sum()
    )
    widths = [bar.get_width() for bar in bars.patches]
    losses = [
        v
        for points in students.values()
        for v in relations.constellation_losses(points, STARS).values()
    ]
    assert widths == pytest.approx([min(v, relations.BARS_END) for v in losses], abs=1e-6)
    assert words(bars)[0].endswith("→") and f"{losses[4]:.3f}" in words(bars)[4]
    assert teacher.get_xlim() == whole.get_xlim() == one.get_xlim()


@pytest.mark.parametrize("kind", relations.KINDS)
def test_the_matrices_are_the_library_s_on_one_scale(kind):
    features, y = (
        {"teacher": torch.rand(6, 9), "student": torch.rand(6, 2, 2)},
        torch.tensor([0, 0, 1, 1, 1, 5]),
    )
    first, second = drawn(relations.draw_relations(features, y, kind, 3)).axes[:2]
    expected = {
        "similarity": similarity_matrix,
        "distance": pair_distances,
        "angle": lambda x: triplet_angles(x.flatten(1))[3],
    }[kind]
    for ax, x in zip((first, second), features.values()):
        assert np.allclose(ax.images[0].get_array(), expected(x), atol=1e-6)
        assert [t.get_text() for t in ax.get_xticklabels()] == [
            "0",
            "1",
            "5",
        ] and ax.get_xticks().tolist() == [0.5, 3, 5]
    assert first.images[0].get_clim() == second.images[0].get_clim()


def test_chance_is_the_number_of_the_docstring():
    assert sum(contrast.chance(16384)) == pytest.approx(10.70, abs=0.005) and sum(
        contrast.chance(1)
    ) == pytest.approx(2 * math.log(2))
    left, right = drawn(contrast.draw_chance(16384)).axes
    star = left.lines[-1]
    assert star.get_ydata()[0] == pytest.approx(10.704, abs=1e-3) and star.get_xdata()[0] == 16384
    curve, chance, even = right.lines
    assert chance.get_ydata()[0] == pytest.approx(1 / 16385) and even.get_ydata()[0] == 0.5
    drawn(contrast.draw_chance(1))


def test_the_histograms_hold_all_scores():
    scores = {
        "before": (torch.zeros(5), torch.zeros(3, 4)),
        "after": (torch.full((5,), 0.9), torch.full((7,), -0.4)),
    }
    before, after = drawn(contrast.draw_scores(scores)).axes
    area = lambda ax: sum(p.get_height() * p.get_width() for p in ax.patches)
    assert area(before) == pytest.approx(2) and area(after) == pytest.approx(2)
    assert [t.get_text() for t in after.get_legend().get_texts()] == [
        "stranger: mean -0.40",
        "itself: mean 0.90",
    ]


def test_the_lineup_shows_each_candidate_over_its_bars():
    before, after = [0.1, 0.0, -0.1], [0.9, 0.5, -0.3]
    fig = drawn(
        contrast.draw_lineup(
            torch.rand(8, 8),
            torch.rand(3, 8, 8),
            ["itself", "same class", "stranger"],
            before,
            after,
            ["a 1", "a 1", "a 7"],
        )
    )
    ax = fig.axes[0]
    heights = [p.get_height() for p in ax.patches]
    assert heights == pytest.approx(after + before)
    small = ax.child_axes
    assert [a.get_title("center") for a in small] == ["the student\nsees", "a 1", "a 1", "a 7"]
    middle = lambda a: sum(ax.transData.inverted().transform(a.get_window_extent())[:, 0]) / 2
    assert [middle(a) for a in small[1:]] == pytest.approx([0, 1, 2], abs=0.02)
    assert len({p.get_hatch() for p in ax.patches[:3]}) == 3, "never colour alone"


def test_the_gains_draw_every_run_and_the_mean():
    import pandas as pd

    ours = pd.DataFrame({"SP": [1.0, 2.0, 3.0], "CRD, relaxed": [-1.0, 0.0, 1.0]})
    left, right = drawn(contrast.draw_gains(ours, {"SP": [0.5, -0.5]})).axes
    assert left.lines[0].get_ydata().tolist() == [1, 2, 3] and set(left.lines[1].get_ydata()) == {
        2.0
    }
    assert [t.get_text() for t in left.get_xticklabels()] == ["SP", "CRD\nrelaxed"]
    assert right.lines[0].get_color() == left.lines[0].get_color() and sorted(
        right.lines[0].get_ydata()
    ) == [-0.5, 0.5]


def test_figures_are_closed_and_readable():
    import matplotlib.pyplot as plt

    fig = relations.draw_constellations(STARS, {"student": STARS})
    assert not plt.get_fignums()
    sizes = [
        text.get_fontsize()
        for ax in fig.axes
        for text in [ax.title, ax.xaxis.label, *ax.texts, *ax.get_xticklabels()]
    ]
    assert min(sizes) >= 9
