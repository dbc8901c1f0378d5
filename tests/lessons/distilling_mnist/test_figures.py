"""The pictures of lesson 01 show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from kdtutor.lessons.distilling_mnist import figures as plots
from kdtutor.softening import distillation_kl, ensemble_targets, soften

CLASSES = tuple("abc")


def heights(ax):
    return np.array([p.get_height() for p in ax.patches])


def test_loss_terms_are_the_weighted_losses():
    s, t = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 0.0, 1.0])
    left, middle, right = plots.draw_loss_terms(s, t, 0, CLASSES, 4.0, 0.25).axes
    ce = 0.75 * -soften(s).log()[0].item()
    kd = 0.25 * distillation_kl(s[None], t[None], 4.0).item()
    np.testing.assert_allclose(heights(right), [ce, kd, ce + kd], rtol=1e-5)
    np.testing.assert_allclose(heights(left), [1, 0, 0, *soften(s)], atol=1e-6)
    np.testing.assert_allclose(heights(middle), [*soften(t, 4.0), *soften(s, 4.0)], atol=1e-6)


def test_three_views_are_softened_and_hatch_the_label():
    logits = {"teacher": torch.tensor([1.0, 5.0, 2.0]), "student": torch.tensor([0.0, 1.0, 2.0])}
    fig = plots.draw_three_views(torch.zeros(1, 4, 4), logits, 2, CLASSES, 3.0)
    for ax, (name, z) in zip(fig.axes[1:], logits.items()):
        assert ax.get_title(loc="left") == name
        np.testing.assert_allclose(heights(ax), soften(z, 3.0), atol=1e-6)
        assert [bool(p.get_hatch()) for p in ax.patches] == [False, False, True]


def test_means_are_the_ensembles():
    z = torch.tensor([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    *members, arithmetic, geometric = plots.draw_means(z, CLASSES, 2.0).axes
    for ax, row in zip(members, z):
        np.testing.assert_allclose(heights(ax), soften(row, 2.0), atol=1e-6)
    np.testing.assert_allclose(
        heights(arithmetic), ensemble_targets(z[:, None], 2.0, "arithmetic")[0], atol=1e-6
    )
    np.testing.assert_allclose(
        heights(geometric), ensemble_targets(z[:, None], 2.0, "geometric")[0], atol=1e-6
    )


def test_errors_show_means_seeds_and_published():
    ours, theirs = plots.draw_errors(
        {"teacher": [10, 14], "student": [20, 24]}, {"teacher": 67, "student": 146}, 500
    ).axes
    np.testing.assert_allclose(heights(ours), [12, 22])
    assert [list(line.get_ydata()) for line in ours.lines] == [[10, 14], [20, 24]]
    np.testing.assert_allclose(heights(theirs), [67, 146])
    assert theirs.get_ylim()[1] > 150 and "500" in ours.get_ylabel()


def test_bias_counts_equal_a_loop():
    torch.manual_seed(0)
    logits, labels, biases = torch.randn(2, 30, 3), torch.randint(0, 3, (30,)), [0.0, 1.0, 9.0]
    errors, omitted = plots.bias_counts(logits, labels, 1, biases)
    for s in range(2):
        for k, bias in enumerate(biases):
            answers = [
                max(range(3), key=lambda c: z[c] + (bias if c == 1 else 0))
                for z in logits[s].tolist()
            ]
            wrong = [a != y for a, y in zip(answers, labels.tolist())]
            assert errors[s, k] == sum(wrong) and omitted[s, k] == sum(
                w for w, y in zip(wrong, labels.tolist()) if y == 1
            )
    assert (omitted[:, 2] == 0).all()


def test_bias_line_marks_the_bias():
    errors, omitted = np.array([[10, 6, 8], [12, 8, 8]]), np.array([[5, 2, 0], [7, 2, 0]])
    ax = plots.draw_bias([0.0, 1.0, 2.0], errors, omitted, 1.0, "c").axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [11, 7, 8])
    assert any("+1: 7.0 errors, 2.0" in t.get_text() for t in ax.texts)


def test_temperatures_are_means():
    counts = {"small": np.array([[4, 6], [8, 10]]), "large": np.array([[1, 1], [3, 1]])}
    ax = plots.draw_temperatures([1, 20], counts, "errors").axes[0]
    lines = [line for line in ax.lines if line.get_label() in counts]
    np.testing.assert_allclose(lines[0].get_ydata(), [6, 8])
    np.testing.assert_allclose(lines[1].get_ydata(), [2, 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: plots.draw_jitter(
            torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
        ),
        lambda: plots.draw_history(
            {"a": {"epoch": [1, 2], "loss": [2.0, 1.0]}, "b": {"epoch": [1, 2], "loss": [3.0, 1.0]}}
        ),
    ],
)
def test_figures_are_closed_for_pyplot(make):
    before = plt.get_fignums()
    assert isinstance(make(), Figure) and plt.get_fignums() == before
