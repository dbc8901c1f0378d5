"""The figures of lesson 00 show what they are given: bars are soften(), tables are the numbers, the
map has every name.
"""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from kdtutor.lessons.start_here import diagrams
from kdtutor.lessons.start_here import figures as plots
from kdtutor.softening import soften

NAMES = tuple("abcd")
Z = torch.tensor([[1.0, 2.0, 3.0, 0.5], [0.0, -2.0, 4.0, 1.0], [3.0, 1.0, 0.0, 0.0]])
IMAGE = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)


def texts(ax):
    return [t.get_text() for t in ax.texts]


def bars(ax, side="height"):
    return [getattr(p, f"get_{side}")() for p in ax.patches]


@pytest.mark.parametrize("T", [0.5, 1.0, 10.0])
def test_answer_bars_are_soften_and_the_label_is_hatched(T):
    picture, answer = plots.draw_answer(IMAGE, Z[0], 1, NAMES, T).axes
    assert np.allclose(bars(answer), soften(Z[0], T))
    assert [p.get_hatch() for p in answer.patches] == [None, "//", None, None]
    assert (
        np.array_equal(picture.images[0].get_array(), IMAGE[0])
        and picture.get_title(loc="left") == "label: b"
    )
    p = soften(Z[0], T)
    assert any(f"{-(p * p.log2()).sum():.2f} of 2.00 bits" in t for t in texts(answer))
    assert answer.get_ylim() == (0, 1.12)  # fixed, so that a slider does not rescale the axis


def test_softmax_panels_are_soften():
    fig = plots.draw_softmax([1, 2, 3], (1, 5, 7, 10))
    for ax, T in zip(fig.axes, (1, 5, 7, 10)):
        assert np.allclose(bars(ax), soften(torch.tensor([1.0, 2.0, 3.0]), T))
        assert ax.get_title(loc="left") == f"T = {T}"
    assert texts(fig.axes[0]) == ["0.090", "0.245", "0.665"]


def test_class_answers_are_the_mean_soft_answers():
    y = torch.tensor([2, 2, 0])
    table = plots.class_answers(Z, y, 2.0)
    assert table.shape == (4, 4)
    assert torch.allclose(table[2], (soften(Z[0], 2.0) + soften(Z[1], 2.0)) / 2) and torch.allclose(
        table[0], soften(Z[2], 2.0)
    )
    assert table[[1, 3]].isnan().all()


def test_similarity_prints_every_number_and_frames_the_largest_wrong_class():
    table = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05001], [0.3, 0.04, 0.66]])
    ax = plots.draw_similarity(table, "abc", 4.0).axes[0]
    assert texts(ax) == ["70", "20", "10", "5.0", "90", "5.0", "30", "4.0", "66"]
    assert [(round(p.get_x() + 0.46), round(p.get_y() + 0.46)) for p in ax.patches] == [
        (1, 0),
        (2, 1),
        (0, 2),
    ]
    assert (
        np.ma.getmaskarray(np.ma.masked_invalid(ax.images[0].get_array())).diagonal().all()
    )  # the right class has no colour


def test_similarity_survives_a_class_without_images():
    table = plots.class_answers(Z, torch.tensor([2, 2, 0]), 2.0)
    assert len(plots.draw_similarity(table, NAMES).axes[0].patches) == 2


def test_entropy_curves_are_the_means_and_the_largest_is_marked():
    T = np.geomspace(0.2, 50, 7)
    entropy = np.outer(np.linspace(0.5, 1.0, 20), np.linspace(0, 3.3, 7))
    information = np.array([[0, 1, 2, 3, 2, 1, 0], [0, 1, 2, 5, 2, 1, 0]], dtype=float)
    left, right = plots.draw_entropy(T, entropy, information).axes
    assert np.allclose(left.lines[0].get_ydata(), entropy.mean(0)) and np.allclose(
        left.lines[0].get_xdata(), T
    )
    assert np.allclose(right.lines[0].get_ydata(), information.mean(0))
    assert right.lines[1].get_xdata() == [T[3]] and right.lines[1].get_ydata() == [4.0]
    assert any("3.32" in t for t in texts(left))
    plots.draw_entropy(T, entropy, information[:1])  # one teacher: no spread, no NaN


def test_the_map_places_every_name_and_marks_what_is_ready():
    field = {("response", "offline"): "Hinton 01, BSS 04", ("feature", "self"): "Own 11"}
    ax = diagrams.draw_field(field, {"Hinton", "Other"}).axes[0]
    shown = texts(ax)
    for word in ("Hinton", "BSS", "Own", "01", "04", "11", *diagrams.KINDS, *diagrams.SCHEMES):
        assert word in shown
    assert shown.count("(no lesson)") == 7
    bold = [
        t.get_text()
        for t in ax.texts
        if t.get_weight() == "bold" and t.get_text() not in (*diagrams.KINDS, *diagrams.SCHEMES)
    ]
    assert bold == ["Hinton", "ready"]


def test_the_diagram_names_both_losses():
    shown = " ".join(texts(diagrams.draw_distillation().axes[0]))
    for word in ("TEACHER", "STUDENT", "SOFT LOSS", "LABEL LOSS", "T²"):
        assert word in shown


def test_the_overview_shows_label_teacher_and_student():
    axes = plots.draw_overview(IMAGE, 1, Z[0], Z[1], NAMES, 3.0, (190_410, 1_210)).axes
    drawn = [ax for ax in axes if len(ax.patches) == 4]
    assert np.allclose(
        [bars(ax, "width") for ax in drawn], [[0, 1, 0, 0], soften(Z[0], 3.0), soften(Z[1], 3.0)]
    )
    assert all([p.get_hatch() for p in ax.patches] == [None, "//", None, None] for ax in drawn)
    shown = " ".join(t for ax in axes for t in texts(ax))
    assert "190,410 weights" in shown and "1,210 weights" in shown and "T = 3" in shown


def test_the_committed_overview_is_there_and_small(repo):
    picture = repo / "notebooks" / "images" / "overview.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 150_000


def test_figures_are_returned_closed_and_change_no_global_setting():
    import matplotlib.pyplot as plt

    before, size = plt.get_fignums(), plt.rcParams["font.size"]
    assert isinstance(plots.draw_answer(IMAGE, Z[0], 1, NAMES), Figure)
    assert plt.get_fignums() == before and plt.rcParams["font.size"] == size
