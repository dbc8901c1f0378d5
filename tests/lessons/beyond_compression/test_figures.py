"""What the figures of lesson 09 show of the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from pictures import drawn

from kdtutor.lessons.beyond_compression import figures as plots
from kdtutor.softening import distillation_kl, soften

CLASSES = list("abcd")
GIVEN, CLEAN = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0, 1, 1, 3, 2, 0])


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    assert not plt.get_fignums()


def test_noisy_images_mark_exactly_the_wrong_labels():
    axes = drawn(
        plots.draw_noisy_images(torch.rand(6, 8, 8), GIVEN, CLEAN, CLASSES, columns=4)
    ).axes
    assert [ax.get_visible() for ax in axes] == [True] * 6 + [False] * 2
    for ax, given, clean in zip(axes, GIVEN.tolist(), CLEAN.tolist()):
        wrong = given != clean
        assert ("✗" in ax.get_title()) == wrong == ax.spines[
            "left"
        ].get_visible() and f"“{CLASSES[given]}”" in ax.get_title()
        assert ax.get_xlabel().strip() == (f"is a {CLASSES[clean]}" if wrong else "")


def test_transitions_are_shares_of_the_true_class():
    matrix = plots.transitions(GIVEN, CLEAN, 4)
    assert matrix.tolist() == [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    found, expected = drawn(plots.draw_transitions(GIVEN, CLEAN, 0.4, CLASSES)).axes
    assert np.array_equal(found.images[0].get_array(), matrix)
    assert np.allclose(np.diag(expected.images[0].get_array()), 0.7) and np.allclose(
        expected.images[0].get_array().sum(1), 1
    )
    assert [t.get_text() for t in expected.texts[:4]] == ["70", "10", "10", "10"]
    assert not np.isnan(plots.transitions(GIVEN[:1], CLEAN[:1], 4)).any(), "a class without images"


def test_memory_draws_means_bands_and_chosen_epochs():
    curves = {
        "small": [[0.1, 0.5, 0.3], [0.3, 0.7, 0.5]],
        "careful": [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]],
    }
    fig = drawn(
        plots.draw_memory(
            (1, 2, 3),
            {"Test": curves, "Lies": curves},
            {"Lies": 0.6},
            {"small": [2, 1], "careful": [3, 3]},
        )
    )
    left, right = fig.axes
    assert left.lines[0].get_ydata() == pytest.approx([20, 60, 40])
    assert left.lines[1].get_xdata().tolist() == [2, 1] and left.lines[
        1
    ].get_ydata() == pytest.approx([50, 30])
    assert (
        right.lines[-1].get_ydata()[0] == pytest.approx(60)
        and len(left.lines) == 4
        and len(right.lines) == 3
    )
    assert left.lines[0].get_linestyle() != left.lines[2].get_linestyle() and len(fig.legends) == 1


@pytest.mark.parametrize(
    "temperature, weight", [(1.0, 0.9), (4.0, 0.9), (10.0, 0.05), (4.0, 1.0), (2.0, 0.0)]
)
def test_the_answer_asked_for_is_the_minimum_of_the_loss(temperature, weight):
    logits, given = 3 * torch.randn(40, 6), torch.randint(6, (40,))
    answer = plots.wanted(given, logits, temperature, weight)
    assert torch.allclose(answer.sum(1), torch.ones(40)) and (answer >= 0).all()
    w = max(weight, 1e-3)
    z = answer.double().clamp_min(1e-30).log().requires_grad_()
    loss = (1 - w) * F.cross_entropy(z, given) + w * distillation_kl(
        z, logits.double(), temperature
    )
    (gradient,) = torch.autograd.grad(loss, z)
    assert 40 * gradient.abs().max() < 1e-4
    if temperature == 1:
        assert torch.allclose(answer, (1 - w) * F.one_hot(given, 6) + w * soften(logits), atol=1e-5)


def test_the_minimum_survives_extreme_logits():
    logits = torch.tensor([[300.0, 0, -300], [0, 1e4, 0]])
    answer = plots.wanted(torch.tensor([2, 1]), logits, 1.0, 0.9)
    assert torch.allclose(answer, torch.tensor([[0.9, 0, 0.1], [0, 1.0, 0]]), atol=1e-3)


def test_the_target_shows_one_image_and_counts_all():
    logits, given, clean = (
        torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0]]),
        torch.tensor([1, 2]),
        torch.tensor([0, 1]),
    )
    _, bars, share = drawn(
        plots.draw_target(torch.rand(2, 8, 8), given, clean, logits, 1, 1.0, 0.5, CLASSES)
    ).axes
    assert [p.get_height() for p in bars.patches] == pytest.approx(
        plots.wanted(given, logits, 1.0, 0.5)[1].tolist(), abs=1e-5
    )
    assert bars.lines[0].get_ydata() == pytest.approx(soften(logits[1]).numpy())
    assert [t.get_text() for t in bars.get_xticklabels()] == ["a\n", "b\n★", "c\n✗", "d\n"]
    truth, lie, now = share.lines
    assert (
        truth.get_ydata()[[0, -1]].tolist() == [0, 100]
        and lie.get_ydata()[[0, -1]].tolist() == [100, 0]
        and now.get_xdata()[0] == 0.5
    )


def table():
    rows = [
        (r, m, s, 90 - 40 * r + k, 0.5)
        for r in (0.0, 0.4)
        for k, (m, s) in enumerate([("labels", "same"), ("Hinton", "same")])
    ]
    return pd.DataFrame(
        [*rows, (0.4, "Hinton", "clean", 88, np.nan)],
        columns=["rate", "method", "teacher_sees", "mean", "std"],
    )


def test_rates_draw_each_method_once_in_the_same_look():
    bare = table().drop(columns="teacher_sees").iloc[:4]
    fig = drawn(
        plots.draw_rates(
            {
                "Here": table(),
                "Published": bare.assign(
                    method=bare["method"].replace({"Hinton": "RKD-DA, light"})
                ),
            }
        )
    )
    left, right = fig.axes
    assert [t.get_text() for t in fig.legends[0].get_texts()] == [
        "labels",
        "Hinton",
        "Hinton, clean teacher",
        "RKD-DA, light",
    ]
    labels, hinton, clean = (c.lines[0] for c in left.containers)
    assert hinton.get_ydata().tolist() == [91, 75] and clean.get_ydata().tolist() == [91, 88], (
        "without noise there is one teacher"
    )
    assert clean.get_markerfacecolor() == "white" and clean.get_marker() == hinton.get_marker()
    assert right.containers[0].lines[0].get_color() == labels.get_color()
    looks = list(plots.LOOK.values())
    assert (
        len({color for color, *_ in looks}) == len({marker for _, marker, _ in looks}) == len(looks)
    )


def test_counts_write_the_numbers_of_the_first_line():
    (ax,) = drawn(
        plots.draw_counts({"γ = 0.2": [100, 20, 9, 5], "γ = 2": [100, 60, 20, 5]}, CLASSES)
    ).axes
    assert [t.get_text() for t in ax.texts] == ["100", "20", "9", "5"] and ax.lines[
        1
    ].get_ydata().tolist() == [100, 60, 20, 5]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "γ = 0.2: 134 images",
        "γ = 2: 185 images",
    ] and ax.get_yscale() == "log"


def test_recall_draws_means_with_their_seeds():
    recalls = {
        "labels": [[1, 0.5, 0.2, 0], [1, 0.7, 0.4, 0]],
        "Hinton, clean teacher": [[1.0, 1.0, 0.9, 0.3]] * 3,
    }
    (ax,) = drawn(plots.draw_recall([100, 20, 9, 5], recalls, CLASSES)).axes
    assert ax.containers[0].lines[0].get_ydata() == pytest.approx([100, 60, 30, 0])
    assert ax.containers[1].lines[0].get_markerfacecolor() == "white"
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "a\n(100)",
        "b\n(20)",
        "c\n(9)",
        "d\n(5)",
    ]
