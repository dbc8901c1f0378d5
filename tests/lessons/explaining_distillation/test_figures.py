"""What the figures of lesson 10 show of the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from pictures import drawn

from kdtutor.concepts.report import METRICS
from kdtutor.display.style import GREEN, RED
from kdtutor.lessons.explaining_distillation import figures as plots

IMAGE, MASK = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), torch.zeros(8, 8)
MASK[2:6, 2:6] = 1
CELLS = MASK[::2, ::2].bool()  # 4 x 4 cells, rows and columns 1 and 2 on the object


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    assert not plt.get_fignums()


def frames(ax):
    """{(row, column): on the object?} of the framed cells."""
    boxes = [p for p in ax.patches if isinstance(p, Rectangle)]
    return {
        (round(p.get_y() + 0.5), round(p.get_x() + 0.5)): p.get_edgecolor() == to_rgba(GREEN)
        for p in boxes
    }


def test_noise_frames_the_cells_and_draws_their_changes():
    picture, ax = drawn(
        plots.draw_noise(
            IMAGE,
            {"Part": (1, 2), "Loose": (0, 0)},
            4,
            [0.1, 1],
            {"Part": [1, 100], "Loose": [0.1, 8]},
        )
    ).axes
    assert set(frames(picture)) == {(1, 2), (0, 0)} and [t.get_text() for t in picture.texts] == [
        "P",
        "L",
    ]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 100], [0.1, 8]]
    assert (
        ax.get_xscale() == ax.get_yscale() == "log"
        and ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    )


def test_the_star_lies_at_the_minimum_of_the_trade():
    strong, never = drawn(plots.draw_trade({"g = 16": 16, "g = 0": 0}, reward=2.0)).axes
    sigma, total = strong.lines[2].get_data()
    (star, low) = (float(v[0]) for v in strong.lines[3].get_data())
    assert star == pytest.approx(np.sqrt(2.0 / 32)) and low == pytest.approx(total.min(), abs=1e-3)
    assert (
        abs(sigma[total.argmin()] - star) < 0.01
        and len(never.lines) == 3
        and "no minimum" in never.texts[0].get_text()
    )


def test_maps_share_one_scale():
    maps = {"optimised": torch.randn(2, 4, 4), "first order": 3 * torch.randn(2, 4, 4)}
    fig = drawn(plots.draw_maps(IMAGE.expand(2, -1, -1, -1), MASK.expand(2, -1, -1), maps))
    axes = np.array(fig.axes[:6]).reshape(3, 2)
    everything = torch.stack(list(maps.values()))
    for row, values in zip(axes[1:], maps.values()):
        for ax, entropy in zip(row, values):
            assert np.allclose(ax.images[0].get_array(), entropy)
            assert ax.images[0].get_clim() == pytest.approx(
                (np.quantile(everything, 0.005), float(everything.max()))
            )
    assert axes[1, 0].get_ylabel() == "optimised"


def test_concepts_frame_exactly_the_cells_below_the_level():
    entropy = torch.zeros(4, 4)
    entropy[1, 1], entropy[2, 2], entropy[0, 3], entropy[3, 0] = -1.0, -0.21, -0.5, -0.2
    fig = drawn(
        plots.draw_concepts(
            IMAGE,
            MASK,
            CELLS,
            {"teacher": entropy, "student": torch.ones(4, 4)},
            {"teacher": 0.0, "student": 0.0},
            0.2,
        )
    )
    _, top, _, key, bottom, nothing = fig.axes[:6]
    assert (
        np.allclose(top.images[0].get_array(), entropy) and top.get_title(loc="center") == "teacher"
    )
    assert frames(bottom) == {(1, 1): True, (2, 2): True, (0, 3): False}, (
        "strictly more than the threshold"
    )
    assert bottom.lines[0].get_xdata().tolist() == [3] and bottom.lines[0].get_color() == RED
    assert bottom.get_title(loc="center") == "on it 2, beside it 1, λ = 0.67"
    assert (
        not frames(nothing)
        and "0 (none)" in nothing.get_title(loc="center")
        and len(key.get_legend().get_texts()) == 3
    )
    shown = np.asarray(bottom.images[0].get_array())
    assert (
        np.allclose(shown[2, 2], IMAGE[:, 2, 2] / 255, atol=0.01) and (shown[4, 0] >= 0.77).all()
    ), "other cells fade"


def test_the_film_uses_the_level_of_each_epoch():
    course = torch.zeros(3, 4, 4)
    course[:, 1, 1] = -1
    fig = drawn(
        plots.draw_film(
            IMAGE,
            CELLS,
            {"baseline": course, "distilled": course},
            {"baseline": [0, -0.9, 0], "distilled": [0, 0, 0.5]},
            [0, 2, 9],
        )
    )
    assert [len(frames(ax)) for ax in fig.axes] == [1, 0, 1, 1, 1, 16]
    assert (
        fig.axes[1].get_title(loc="center") == "epoch 2\n0 on, 0 beside"
        and fig.axes[5].get_title(loc="center") == "4 on, 12 beside"
    )


def test_progress_draws_both_counts_and_every_stop():
    course = {"epoch": [0, 1, 2], "distance": [0.0, 0.5, 0.6], "n_fg": [1, 4, 3], "n_bg": [2, 2, 1]}
    stops = {"epoch": torch.tensor([1, 1, 2]), "distance": torch.tensor([0.5, 0.5, 0.6])}
    left, right = drawn(
        plots.draw_progress(
            {"baseline": course, "distilled": course}, {"baseline": stops, "distilled": stops}
        )
    ).axes
    for ax, x in ((left, "epoch"), (right, "distance")):
        (on, beside, mean), bubbles = ax.lines[:3], ax.collections[0]
        assert [list(v) for v in (on.get_xdata(), on.get_ydata(), beside.get_ydata())] == [
            course[x],
            course["n_fg"],
            course["n_bg"],
        ]
        assert (
            np.allclose(bubbles.get_offsets()[:, 0], stops[x].unique())
            and (bubbles.get_offsets()[:, 1] < 0).all()
        )
        assert bubbles.get_sizes()[0] == 2 * bubbles.get_sizes()[1], "two images against one"
        assert mean.get_xdata()[0] == pytest.approx(float(stops[x].double().mean()))
        assert beside.get_linestyle() == "--" and on.get_marker() != ax.lines[3].get_marker()


def test_agreement_writes_hits_of_trials():
    hits = pd.DataFrame({m: [3, 0] for m in METRICS}, index=["VGG", "ResNet"])
    trials = pd.DataFrame({m: [3, 2] for m in METRICS}, index=["VGG", "ResNet"]).assign(rho=[3, 0])
    left, right = drawn(
        plots.draw_agreement({"paper": (hits, trials), "ours": (hits, trials)})
    ).axes
    words = [t.get_text() for t in left.texts]
    assert words == ["3/3"] * 6 + ["0/2"] * 5 + ["–"] and np.allclose(
        left.images[0].get_array()[0], 1
    )
    assert [t.get_text()[-1] for t in left.get_xticklabels()] == [
        "↑" if s > 0 else "↓" for s in METRICS.values()
    ]
    assert right.get_title(loc="left") == "ours" and [
        t.get_text() for t in right.get_yticklabels()
    ] == ["VGG", "ResNet"]


def test_parts_draw_every_run_its_mean_and_chance():
    rows = [
        ("map", 0.4, 0.5, 0.6),
        ("map", 0.6, 0.7, 0.8),
        ("gradient", 0.2, 0.2, 0.2),
        ("chance", 0.1, 0.05, 0.1),
    ]
    fig = drawn(
        plots.draw_parts(
            pd.DataFrame(rows, columns=["method", "precision", "recall", "average_precision"])
        )
    )
    precision, recall, _ = fig.axes
    dots, mean, *_ = precision.lines
    assert dots.get_xdata().tolist() == [0.4, 0.6] and mean.get_xdata() == pytest.approx([0.5, 0.5])
    assert precision.lines[-1].get_xdata()[0] == 0.1 and recall.lines[-1].get_xdata()[0] == 0.05
    assert [t.get_text() for t in precision.get_yticklabels()] == ["map", "gradient"]
