"""What the figures of lesson 06 show, and the share of a map inside a mask."""

import numpy as np
import pytest
import torch

from kdtutor.lessons.where_networks_look import figures as plots
from kdtutor.methods.feature.attention_transfer import attention_loss, attention_map

TINY = torch.tensor([[[2.0, 0], [1, 0]], [[2, 0], [0, 1]], [[2, 4], [3, 0]]])
IMAGES = torch.randint(
    0, 255, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
MASKS = torch.zeros(2, 8, 8, dtype=torch.uint8)
MASKS[0, :4, :4], MASKS[1, 1:5, 2:7] = 1, 1


def drawn(fig):
    """The figure with everything laid out; words must not leave the canvas."""
    fig.draw_without_rendering()
    for ax in fig.axes:
        for part in filter(
            None,
            [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, ax.get_legend()],
        ):
            if part.get_visible() and (not hasattr(part, "get_text") or part.get_text()):
                box = part.get_window_extent()
                assert (
                    box.x0 >= -1
                    and box.y0 >= -1
                    and box.x1 <= fig.bbox.x1 + 1
                    and box.y1 <= fig.bbox.y1 + 1
                ), part
    return fig


def test_the_share_of_the_lesson_s_map_and_of_an_even_one():
    six = torch.tensor([[[6.0, 2], [1, 1]]])
    first = torch.tensor([[[1, 0], [0, 0]]])
    assert plots.share_inside(six, first).item() == pytest.approx(0.6)
    assert plots.share_inside(
        9 * six, first.repeat_interleave(3, 1).repeat_interleave(3, 2)
    ).item() == pytest.approx(0.6)
    assert torch.allclose(
        plots.share_inside(torch.ones(2, 4, 4), MASKS), MASKS.float().mean((1, 2))
    )
    assert plots.share_inside(torch.zeros(1, 2, 2), first).isnan().all()


def test_the_share_counts_a_partly_covered_cell_in_part():
    maps = torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(1))
    pixels = maps.repeat_interleave(4, 1).repeat_interleave(2, 2)
    assert torch.allclose(
        plots.share_inside(maps, MASKS), (pixels * MASKS).sum((1, 2)) / pixels.sum((1, 2))
    )


def test_scenes_show_what_is_known_of_every_pixel():
    parts = torch.tensor([[[0, 1], [2, 4]]])
    fig = drawn(plots.draw_scenes(IMAGES[:1, :, :2, :2], parts, torch.tensor([[[1, 0], [0, 0]]])))
    assert fig.axes[1].images[0].get_array().tolist() == [[1, 2], [3, 3]]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == [
        "background",
        "loose parts",
        "body",
        "decisive parts",
    ]


@pytest.mark.parametrize("p", [0.5, 2, 3])
def test_channels_print_every_number_and_frame_the_winner(p):
    axes = drawn(plots.draw_channels(TINY, p)).axes
    want = [
        *TINY,
        *(attention_map(TINY[None], *how)[0] for how in (("sum", 1), ("sum", p), ("max", p))),
    ]
    for ax, grid in zip(axes, want, strict=True):
        assert [float(t.get_text()) for t in ax.texts] == pytest.approx(
            grid.flatten().tolist(), rel=0.01
        )
    for ax, grid in zip(axes[3:], want[3:]):
        (frame,) = ax.patches
        row, column = divmod(int(grid.argmax()), 2)
        assert (round(frame.get_x() + 0.46), round(frame.get_y() + 0.46)) == (column, row)


def test_maps_are_the_library_s_with_the_share_in_words():
    features = {"teacher": torch.randn(2, 5, 4, 4), "AT": torch.randn(2, 3, 2, 2)}
    axes = drawn(plots.draw_maps(IMAGES, features, MASKS, p=3, kind="max")).axes
    for k in range(2):
        for j, values in enumerate(features.values()):
            ax, look = axes[3 * k + 1 + j], attention_map(values, "max", 3)
            assert (
                np.allclose(ax.images[0].get_array(), look[k]) and ax.images[0].get_clim()[0] == 0
            )
            assert f"{plots.share_inside(look, MASKS)[k]:.0%} inside" in ax.get_title("center")
            assert ax.images[0].get_extent() == [-0.5, 7.5, 7.5, -0.5], (
                "in pixels of the image, as the outline"
            )
    assert axes[1].get_title("center").startswith("teacher") and np.array_equal(
        axes[0].images[0].get_array(), IMAGES[0].permute(1, 2, 0)
    )


def test_variants_draw_the_two_losses_of_one_pair_of_maps():
    s, t = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    d = attention_loss(s, t).item()
    (ax,) = drawn(plots.draw_variants([9], [d], paper_weight=4, code_weight=100)).axes
    paper, code, now = ax.lines
    assert paper.get_ydata()[-1] == pytest.approx(2 * paper.get_xdata()[-1])
    assert now.get_xdata()[0] == pytest.approx(d) and now.get_ydata()[0] == pytest.approx(
        100 * attention_loss(s, t, variant="code").item(), rel=1e-4
    )
    assert np.interp(d, code.get_xdata(), code.get_ydata()) == pytest.approx(
        now.get_ydata()[0], rel=0.01
    )


def test_shares_draw_every_seed_the_mean_and_the_even_map():
    shares = {"teacher": [[0.3, 0.4], [0.5, 0.4]], "AT": [[0.2, 0.2], [0.2, 0.4]]}
    (ax,) = drawn(plots.draw_shares(shares, 0.21, ["stage 1", "stage 2"])).axes
    lines = {line.get_label(): line for line in ax.lines}
    assert (
        lines["teacher"].get_ydata().tolist() == [0.3, 0.4, 0.5, 0.4]
        and lines["teacher"].get_marker() != lines["AT"].get_marker()
    )
    assert [s[0][1] for s in ax.collections[1].get_segments()] == pytest.approx([0.2, 0.3])
    assert set(lines["an even map: 21%"].get_ydata()) == {0.21}


def test_results_give_a_method_one_colour_and_draw_the_mean():
    left, right = drawn(
        plots.draw_results(
            {"AT": [-1, 2, -4], "KD": [0, 0, 3]}, {"KD": [-1.3, -0.7], "AT+KD": [-1, -1]}
        )
    ).axes
    assert sorted(left.lines[0].get_ydata()) == [-4, -1, 2] and set(left.lines[1].get_ydata()) == {
        -1.0
    }
    assert (
        left.lines[2].get_color() == right.lines[0].get_color()
        and left.lines[2].get_marker() == right.lines[0].get_marker()
    )
    assert [t.get_text() for t in right.get_xticklabels()] == ["KD", "AT+KD"]


def test_figures_are_closed_and_readable():
    import matplotlib.pyplot as plt

    fig = plots.draw_maps(IMAGES, {"teacher": torch.rand(2, 2, 4, 4)}, MASKS)
    assert not plt.get_fignums()
    assert min(text.get_fontsize() for ax in fig.axes for text in [ax.title, ax.xaxis.label]) >= 9
