"""The numbers behind the figures of lesson 02, and what the figures show of them."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from pictures import drawn

from kdtutor.lessons.why_soft_targets_work import figures as plots
from kdtutor.softening import gradients

cases = st.tuples(st.integers(1, 6), st.integers(2, 8), st.integers(0, 10**6))


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def bars(ax):
    return np.array([p.get_height() for p in ax.patches])


def test_the_anatomy_shows_each_entry_once_with_the_label_apart():
    s, t = logits(5), logits(5, seed=1)
    fig = drawn(plots.draw_gradient_anatomy(s, t, 2, 3.0, torch.zeros(8, 8), list("abcde")))
    _, left, right = fig.axes
    y = torch.tensor([2])
    for ax, g in [
        (left, gradients.label_gradient(s[None], y)[0]),
        (right, gradients.distillation_gradient(s[None], t[None], 3.0)[0]),
    ]:
        heights = bars(ax)  # the label's bar first, then one per class, 0 at the label
        assert heights[0] == pytest.approx(g[2].item()) and heights[1 + 2] == 0
        assert np.allclose(np.delete(heights[1:], 2), np.delete(g.numpy(), 2))
        assert ax.patches[0].get_hatch() and not ax.patches[1].get_hatch()
        assert [text.get_text() for text in ax.get_xticklabels()] == list("abcde")
        assert f"{g[2].abs():.2f}" in ax.get_legend().get_texts()[0].get_text()
    assert left.get_ylim() == right.get_ylim()
    assert len(plots.draw_gradient_anatomy(s, t, 2, 3.0).axes) == 2, "no image, no panel for it"


def test_an_anatomy_without_any_gradient_can_be_drawn():
    certain = torch.tensor([200.0, 0.0, 0.0])
    drawn(plots.draw_gradient_anatomy(certain, certain, 0, 1.0, torch.zeros(8, 8)))


def test_the_limit_shows_gradient_against_limit_and_the_error_now():
    s, t = logits(2, 70, 4), logits(2, 70, 4, seed=1)
    left, right = drawn(plots.draw_limit(s, t, 5.0)).axes
    diagonal, dots = left.lines
    assert np.allclose(dots.get_xdata(), gradients.matching_gradient(s, t)[0, :60].flatten())
    assert np.allclose(
        dots.get_ydata(), gradients.distillation_gradient(s[0, :60], t[0, :60], 5.0).flatten()
    )
    limit = gradients.matching_gradient(s, t)
    error = lambda T: np.mean(
        [
            ((gradients.distillation_gradient(a, b, T) - m).norm() / m.norm())
            for a, b, m in zip(s, t, limit)
        ]
    )
    curve, guide, star = right.lines
    assert np.allclose(curve.get_ydata(), [error(T) for T in plots.GRID])
    assert star.get_xdata()[0] == 5.0 and star.get_ydata()[0] == pytest.approx(error(5.0))
    assert guide.get_ydata()[0] == pytest.approx(2 * guide.get_ydata()[1])
    other = plots.draw_limit(s, t, 64.0)
    assert other.axes[0].get_xlim() == left.get_xlim(), "the frame stands still when T moves"


def test_noise_and_scale_draw_the_mean_of_the_seeds_with_distinct_lines():
    noise = {"label": [[1, 2, 3], [3, 4, 5]], "soft": [[1, 1, 1], [1, 1, 1]]}
    fig = drawn(plots.draw_noise((0, 1, 5), noise, noise))
    for ax in fig.axes:
        assert (
            ax.lines[0].get_ydata().tolist() == [2, 3, 4]
            and ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
        )
        assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "5"]
    (ax,) = drawn(plots.draw_scale((1, 2, 4), [[1, 1, 1]], [[1, 0.25, 0.0625]])).axes
    assert [line.get_label() for line in ax.lines] == ["with T²", "without T²"] and ax.lines[
        1
    ].get_ydata()[2] == 0.0625


def test_the_share_has_its_floor_and_the_label_apart():
    (ax,) = drawn(
        plots.draw_wrong_share((1, 2), {"early": [[0.2, 0.3, 0.4], [0.4, 0.5, 0.6]]}, classes=5)
    ).axes
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["early"].get_ydata().tolist() == pytest.approx([0.4, 0.5])
    assert set(lines["floor 1/C = 0.2"].get_ydata()) == {0.2}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["label", "T=1", "T=2"]
    assert ax.containers[0].lines[0].get_ydata()[0] == pytest.approx(0.3)


def test_the_weights_histogram_counts_all_images():
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    fig = drawn(plots.draw_weights(weights, torch.rand(3, 8, 8), ["a", "b", "c"]))
    assert bars(fig.axes[0]).sum() == 4 and [ax.get_title("center") for ax in fig.axes[1:]] == [
        "a",
        "b",
        "c",
    ]
    edges = [p.get_x() for p in fig.axes[0].patches]
    assert edges[0] == pytest.approx(0.4)  # 4 · 0.1: relative to an equal share


def test_the_shuffle_hides_the_diagonal_and_shares_one_scale():
    before, after = torch.rand(3, 3), torch.rand(3, 3)
    first, second = [
        ax.images[0] for ax in drawn(plots.draw_shuffle(before, after, "abc")).axes[:2]
    ]
    assert np.isnan(np.ma.filled(first.get_array(), np.nan).diagonal()).all()
    assert first.get_array()[0, 1] == pytest.approx(before[0, 1].item()) and second.get_array()[
        2, 0
    ] == pytest.approx(after[2, 0].item())
    assert first.get_clim() == second.get_clim()


def test_the_comparison_draws_every_run_and_the_mean():
    left, right = drawn(
        plots.draw_comparison({"KD\nT=1": [1, -2, 4], "DKPP": [0, 0, 3]}, {"BAN": [-1.3, -1.0]})
    ).axes
    assert sorted(left.lines[0].get_ydata()) == [-2, 1, 4] and set(left.lines[1].get_ydata()) == {
        1.0
    }
    assert sorted(right.lines[0].get_ydata()) == [-1.3, -1.0] and [
        t.get_text() for t in right.get_xticklabels()
    ] == ["BAN"]


def test_figures_are_closed_and_readable():
    import matplotlib.pyplot as plt

    fig = plots.draw_weights(torch.full((4,), 0.25), torch.rand(2, 8, 8), ["a", "b"])
    assert not plt.get_fignums()
    sizes = [
        text.get_fontsize()
        for ax in fig.axes
        for text in [ax.title, ax.xaxis.label, *ax.get_xticklabels()]
    ]
    assert min(sizes) >= 9
