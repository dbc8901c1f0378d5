"""What the figures of lesson 08 show of the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from kdtutor.lessons.learning_together import figures as plots
from kdtutor.methods.online.one import gated_logits
from kdtutor.softening import soften

FIRST, SECOND = torch.tensor([0.2, 0.7, 0.1]), torch.tensor([0.8, 0.15, 0.05])


def drawn(fig):
    """The figure with everything laid out, as a notebook would show it; words must not leave the
    canvas.
    """
    fig.draw_without_rendering()
    box = fig.bbox
    for ax in fig.axes:
        for part in filter(
            None,
            [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, ax.get_legend()],
        ):
            if part.get_visible() and (
                not hasattr(part, "get_text")
                or (part.get_text() and (ax.axison or part in ax.texts))
            ):
                extent = part.get_window_extent()
                assert (
                    extent.x0 >= -1
                    and extent.y0 >= -1
                    and extent.x1 <= box.x1 + 1
                    and extent.y1 <= box.y1 + 1
                ), part
    assert not plt.get_fignums()
    return fig


def heights(ax):
    return np.array([p.get_height() for p in ax.patches])


def test_the_pulls_are_the_gradients_of_autograd():
    first, second = soften(torch.randn(7).double()), soften(torch.randn(7).double())
    za, zb = first.log().requires_grad_(), second.log().requires_grad_()
    p, q = zb.log_softmax(0), za.log_softmax(0)
    (p.exp() * (p - q)).sum().backward()
    for formula, z in zip(plots.mutual_pulls(first, second), (za, zb)):
        assert torch.allclose(formula, z.grad) and abs(formula.sum()) < 1e-9
    assert all(g.abs().max() < 1e-9 for g in plots.mutual_pulls(first, first))


def test_the_pull_shows_answers_and_steps_down_the_gradients():
    answers, own, peer = drawn(plots.draw_pull(FIRST, SECOND, 0, ["3", "8", "9"])).axes
    assert heights(answers) == pytest.approx([0.2, 0.7, 0.1, 0.8, 0.15, 0.05])
    for ax, g in zip((own, peer), plots.mutual_pulls(FIRST, SECOND)):
        assert heights(ax) == pytest.approx(-g.numpy())
    assert peer.patches[0].get_hatch() and not own.patches[0].get_hatch()
    assert [t.get_text() for t in own.get_xticklabels()] == ["3 ★", "8", "9"]


def test_curves_are_means_over_seeds_with_distinct_lines():
    curves = {"apart": [[1, 2, 3], [3, 4, 5]], "together": [[1, 1, 1], [1, 1, 1]]}
    for fig in (
        plots.draw_cohorts((1, 2, 3), curves),
        plots.draw_flatness((0, 0.1, 0.2), curves),
        plots.draw_best_of((1, 2, 3), curves, 40),
    ):
        (ax,) = drawn(fig).axes
        assert (
            ax.lines[0].get_ydata().tolist() == [2, 3, 4]
            and ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
        )
        assert [t.get_text() for t in ax.get_legend().get_texts()] == list(curves)
    fig = drawn(plots.draw_lives((1, 2, 3), {"errors": curves, "entropy": curves}))
    assert [ax.get_title("left") for ax in fig.axes] == ["errors", "entropy"] and len(
        fig.legends
    ) == 1


def test_the_diagram_names_every_part_with_its_parameters():
    for branches in (2, 3, 4):
        (ax,) = drawn(plots.draw_one(12345, 678, 90, branches)).axes
        words = " ".join(t.get_text() for t in ax.texts)
        assert (
            "12,345" in words
            and words.count("678") == branches
            and "90 parameters" in words
            and f"branch {branches}" in words
        )


@pytest.mark.parametrize("trust", [0.0, 1.0, 8.0])
def test_the_gate_mixes_the_branches_with_the_trusted_weights(trust):
    z, gate = torch.randn(3, 4), torch.tensor([0.5, 0.3, 0.2])
    _, left, right = drawn(plots.draw_gate(z, gate, 1, trust, torch.rand(8, 8), list("abcd"))).axes
    weights = gate**trust / (gate**trust).sum()
    assert heights(left) == pytest.approx(weights.numpy(), abs=1e-6) and left.lines[
        0
    ].get_ydata() == pytest.approx(gate.numpy())
    assert heights(right) == pytest.approx(
        soften(gated_logits(z[:, None], weights[None]))[0].numpy(), abs=1e-6
    )
    for line, p in zip(right.lines, soften(z)):
        assert line.get_ydata() == pytest.approx(p.numpy())
    assert len({line.get_marker() for line in right.lines}) == 3
    assert len(plots.draw_gate(z, torch.tensor([1.0, 0.0, 0.0]), 1).axes) == 2, (
        "no image, no panel; a weight of 0 can be drawn"
    )


def test_the_gains_draw_every_run_and_every_student():
    ours = {"Hinton": [1, -2, 4], "DML": [0, 0, 3], "3 apart": [5, 6, 7]}
    left, right = drawn(
        plots.draw_gains(
            ours,
            {"DML": {"a": (1.0, 0.1), "b": (-2.0, 1.9)}, "ONE": {"a": (2.0, 0.2), "b": (0.5, 0.1)}},
            single=2,
        )
    ).axes
    assert sorted(left.lines[0].get_ydata()) == [-2, 1, 4] and set(left.lines[1].get_ydata()) == {
        1.0
    }
    assert left.lines[6].get_xdata()[0] == 1.5, "the line between one network and several"
    assert right.containers[0].lines[0].get_ydata().tolist() == [1.0, -2.0]
    assert [t.get_text() for t in right.get_xticklabels()] == ["a", "b"]
