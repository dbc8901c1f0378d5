"""What the figures of lesson 04 show of the numbers that they are given, and the numbers
themselves.
"""

import numpy as np
import pytest
import torch
from pictures import drawn

from kdtutor import Teacher
from kdtutor.lessons.decision_boundary import figures as plots
from kdtutor.methods.response.boundary_support import boundary_samples
from kdtutor.models import mlp


@pytest.fixture
def linear():
    """z_A - z_B = 3 x1 + 4 x2 - 2, the lesson's example."""
    net = mlp((), classes=2, inputs=2)
    net.fc.weight.data, net.fc.bias.data = (
        torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
        torch.tensor([-2.0, 0.0]),
    )
    return net


START = torch.tensor([[2.0, 1.5]])


def three(n=41):
    """Logits of three classes over the square: sectors around the centre."""
    corners = torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])
    return plots.grid(n=n) @ corners.T


# --- The numbers


def test_a_plane_answers_for_the_point_at_row_and_column(linear):
    logits, points = plots.plane(linear, reach=2, n=5), plots.grid(2, 5)
    assert logits.shape == (5, 5, 2) and points[1, 4].tolist() == [2, -1], (
        "the row is the second coordinate"
    )
    assert (
        torch.allclose(logits[1, 4], linear(torch.tensor([[2.0, -1.0]]))[0])
        and not logits.requires_grad
    )
    assert torch.allclose(plots.plane(Teacher(linear), 2, 5), logits)


@pytest.mark.parametrize(
    "step_size, gaps", [(0.1, [10, 5, 2.5, 1.25]), (0.2, [10, 0, 0, 0]), (0.3, [10, -5, -5, -5])]
)
def test_the_path_is_the_lessons_example(linear, step_size, gaps):
    places = plots.path(linear, START, 0, 1, 3, step_size)
    z = linear(places[:, 0]).detach()
    assert np.allclose(z[:, 0] - z[:, 1], gaps, atol=2e-3)


def test_the_path_passes_where_boundary_samples_arrives():
    net = mlp((8,), classes=3, inputs=2)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    base = net(x).argmax(1)
    places = plots.path(net, x, base, (base + 1) % 3, 6, 0.3, bounds=(-2, 2), overshoot=0.1)
    for k in (1, 3, 6):
        assert torch.allclose(
            places[k],
            boundary_samples(net, x, base, (base + 1) % 3, k, 0.3, 0.1, (-2, 2)),
            atol=1e-6,
        )
    assert torch.equal(places[0], x)


# --- The figures


def edge(ax, i=0):
    return np.concatenate([p.vertices for p in ax.collections[i].get_paths()])


def test_the_boundary_is_where_the_logits_are_equal(linear):
    (ax,) = drawn(plots.draw_regions({"teacher": plots.plane(linear)}, "AB")).axes
    line = edge(ax)
    assert len(line) > 10 and np.allclose(line @ [3, 4] - 2, 0, atol=1e-3)
    assert (ax.images[0].get_array() == plots.plane(linear).argmax(-1).numpy()).all()
    spots = {t.get_text(): torch.tensor([t.get_position()], dtype=torch.float) for t in ax.texts}
    assert {name: int(linear(spot).argmax()) for name, spot in spots.items()} == {"A": 0, "B": 1}, (
        "names stand in their regions"
    )


def test_each_edge_of_three_regions_is_drawn_once():
    (ax,) = drawn(plots.draw_regions({"": three()}, "ABC")).axes
    lines = [edge(ax, i) for i in range(2)]
    z = (
        torch.tensor(np.concatenate(lines), dtype=torch.float)
        @ torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]]).T
    )
    top = z.topk(2).values
    assert float((top[:, 0] - top[:, 1]).max()) < 0.2, (
        "every point of the line has two equal largest logits"
    )
    assert len(set(map(tuple, lines[0].round(4))) & set(map(tuple, lines[1].round(4)))) < 5


def test_disagreement_is_hatched_and_points_have_their_own_markers():
    z, x, y = three(), torch.randn(9, 2), torch.arange(9) % 3
    moved = z + torch.tensor([0.8, 0.0, 0.0])
    first, second = drawn(
        plots.draw_regions({"same": z, "other": moved}, "ABC", x, y, teacher=z)
    ).axes
    hatched = lambda ax: [c for c in ax.collections if getattr(c, "hatches", None) and c.hatches[0]]
    area = lambda ax: sum(len(p.vertices) for c in hatched(ax) for p in c.get_paths())
    assert area(first) == 0 and area(second) > 0
    assert (
        len({line.get_marker() for line in first.lines}) == 3
        and len({line.get_color() for line in first.lines}) == 3
    )
    assert np.allclose(first.lines[1].get_xydata(), x[1::3])


def test_the_walk_shows_its_places_and_the_gap_and_ends_when_it_has_crossed(linear):
    logits, walk = plots.plane(linear), lambda size: plots.path(linear, START, 0, 1, 10, size)[:, 0]
    for size, count, words in [(0.1, 11, "Not across"), (0.3, 2, "Crossed in step 1: gap -5.00")]:
        places = walk(size)
        left, right = drawn(
            plots.draw_walk(logits, places, linear(places).detach(), 0, 1, "AB")
        ).axes
        assert np.allclose(left.lines[0].get_xydata(), places[:count]) and words in right.get_title(
            "left"
        )
        z = linear(places[:count]).detach()
        assert np.allclose(right.lines[0].get_ydata(), z[:, 0] - z[:, 1])


def test_the_batch_shows_who_walks_and_where_to():
    x, y, chosen = torch.rand(6, 2), torch.arange(6) % 3, torch.tensor([1, 4])
    moved = x[chosen] + 1
    (ax,) = drawn(plots.draw_samples(three(), x, y, chosen, moved, "ABC")).axes
    arrows = [t for t in ax.texts if hasattr(t, "arrow_patch") and t.arrow_patch is not None]
    assert [a.xy for a in arrows] == [pytest.approx(m.tolist()) for m in moved]
    assert [a.xyann for a in arrows] == [pytest.approx(s.tolist()) for s in x[chosen]]
    assert ax.get_legend().get_texts()[0].get_text() == "qualifies: 2 of 6"


def test_the_image_walk_shows_the_step_and_magnifies_what_was_added():
    images = torch.linspace(0.2, 0.6, 5)[:, None, None] * torch.ones(5, 3, 3)
    logits = torch.stack([torch.linspace(3, -3, 5), torch.zeros(5)], 1)
    start, now, added, lines = drawn(plots.draw_image_walk(images, logits, 0, 1, "35", 2)).axes
    assert np.allclose(start.images[0].get_array(), 0.2) and np.allclose(
        now.images[0].get_array(), 0.4
    )
    assert [ax.images[0].get_cmap().name for ax in (start, now, added)] == [
        "gray_r",
        "gray_r",
        "PuOr",
    ]
    assert np.allclose(added.images[0].get_array(), -0.5), (
        "half of the walk's largest change; orange is the map's lower end"
    )
    assert (
        "× 2.5" in added.get_title()
        and "length 0.60" in added.get_title()
        and "“3” (95%)" in start.get_title()
    )
    assert np.allclose(lines.lines[0].get_ydata(), logits.softmax(1)[:, 0]) and set(
        lines.lines[2].get_xdata()
    ) == {2}
    drawn(
        plots.draw_image_walk(images[:1].expand(5, 3, 3), logits, 0, 1, "35", 0)
    )  # nothing was added


def test_scores_and_comparison_draw_every_seed_and_keep_a_methods_look():
    scores = {"labels": [0.5, 0.7], "BSS": [0.8, 1.0]}
    left, right = drawn(plots.draw_scores({"agreement": scores, "MagSim": scores})).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["BSS", "labels"], (
        "the first method stands on top"
    )
    assert left.lines[0].get_xdata().tolist() == [0.8, 1.0] and left.lines[
        1
    ].get_xdata() == pytest.approx([0.9, 0.9])
    ours, published = drawn(
        plots.draw_comparison(
            {"BSS,\nno walk": [-1, -3], "BSS": [-4, -6]},
            {"Hinton": [-1.2, 0.1], "BSS": [-1.5, 0.2]},
            {"Hinton": [0.2, 0.1], "BSS": [0.4, 0.2]},
            ["ResNet-8", "WRN-40-2"],
        )
    ).axes
    assert ours.lines[2].get_ydata().tolist() == [-4, -6] and ours.lines[
        3
    ].get_ydata().tolist() == [-5, -5]
    assert (
        ours.lines[2].get_color()
        == left.lines[0].get_color()
        == published.containers[1].lines[0].get_color()
    )
    assert published.containers[1].lines[0].get_ydata().tolist() == [-1.5, 0.2]
    assert [t.get_text() for t in published.get_xticklabels()] == ["ResNet-8", "WRN-40-2"]


def test_figures_are_closed_and_readable(linear):
    import matplotlib.pyplot as plt

    places = plots.path(linear, START, 0, 1)[:, 0]
    fig = plots.draw_walk(plots.plane(linear), places, linear(places).detach(), 0, 1, "AB")
    assert not plt.get_fignums()
    assert (
        min(
            t.get_fontsize()
            for ax in fig.axes
            for t in [ax.title, ax.xaxis.label, *ax.texts, *ax.get_xticklabels()]
        )
        >= 9
    )
