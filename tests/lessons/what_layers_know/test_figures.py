"""What the figures of lesson 05 show of the numbers they are given."""

import numpy as np
import pytest
import torch
from pictures import drawn

from kdtutor.lessons.what_layers_know import figures as plots
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss


def pictures(fig):
    """The images that are shown, without those of colour bars."""
    return [ax.images[0] for ax in fig.axes if ax.images]


# --- Feature maps


def test_maps_show_the_chosen_channels_of_every_row():
    image, teacher, student = torch.rand(8, 8), torch.rand(10, 4, 4), 5 * torch.rand(12, 2, 2)
    fig = drawn(plots.draw_maps(image, {"teacher": teacher, "student": student}, first=3, count=4))
    shown = pictures(fig)
    assert len(shown) == 1 + 2 * 4 and np.allclose(shown[0].get_array(), image)
    for row, maps in zip((shown[1:5], shown[5:]), (teacher, student)):
        for c, picture in enumerate(row):
            assert np.allclose(picture.get_array(), maps[3 + c])
            assert picture.get_clim() == pytest.approx((0, maps[3:7].max().item()))
    titles = [ax.get_title("center") for ax in fig.axes]
    assert [title for title in titles if title] == [
        "image",
        "channel 3",
        "channel 4",
        "channel 5",
        "channel 6",
    ]
    assert [ax.get_ylabel() for ax in fig.axes if ax.get_ylabel()] == ["teacher", "student"]


def test_maps_stop_at_the_last_channel_and_can_share_a_scale():
    rows = {"few": torch.rand(5, 2, 2), "many": 3 + torch.rand(9, 2, 2)}
    shown = pictures(plots.draw_maps(torch.rand(4, 4), rows, first=8, count=3, shared=True))
    assert np.allclose(shown[3].get_array(), rows["few"][4]), (
        "first moves down to the last three channels"
    )
    assert len({picture.get_clim() for picture in shown[1:]}) == 1 and shown[1].get_clim()[1] > 3
    assert (
        len(pictures(plots.draw_maps(torch.rand(4, 4), {"two": torch.rand(2, 2, 2)}, count=6))) == 3
    )


def test_maps_of_signed_or_silent_features_have_a_sensible_scale():
    signed = plots.draw_maps(torch.rand(4, 4), {"a": torch.tensor([[[-2.0, 1.0]]])})
    assert pictures(signed)[1].get_clim() == (-2, 1)
    low, high = pictures(drawn(plots.draw_maps(torch.rand(4, 4), {"dead": torch.zeros(2, 3, 3)})))[
        1
    ].get_clim()
    assert low == 0 < high


# --- FitNet


def test_the_hint_stage_draws_means_over_seeds_and_counts():
    losses = {"slow": [[8, 4, 2], [10, 6, 4]], "fast": [[9, 9, 9], [9, 9, 9]]}
    left, right = drawn(
        plots.draw_hint_stage(losses, {"slow": [0, 2], "fast": [30, 32]}, units=40)
    ).axes
    assert [line.get_label() for line in left.lines] == ["slow", "fast"] and left.lines[
        0
    ].get_ydata().tolist() == [9, 5, 3]
    assert (
        left.lines[0].get_xdata().tolist() == [1, 2, 3]
        and left.lines[0].get_linestyle() != left.lines[1].get_linestyle()
    )
    assert [bar.get_width() for bar in right.patches] == [1, 31]
    assert right.lines[1].get_xdata().tolist() == [30, 32] and "of 40" in right.get_xlabel()
    assert [t.get_text() for t in right.get_yticklabels()] == ["slow", "fast"]


# --- FSP


def test_flows_share_the_teacher_s_scale():
    teacher, student = torch.rand(3, 5), 2 + torch.rand(3, 5)
    fig = drawn(plots.draw_flows({"teacher": teacher, "student": student}, "layer1", "layer2"))
    first, second = pictures(fig)[:2]
    assert np.allclose(first.get_array(), teacher) and np.allclose(second.get_array(), student)
    assert first.get_clim() == second.get_clim() == pytest.approx((0, teacher.max().item()))
    assert first.colorbar is None and second.colorbar.extend == "max", (
        "what lies above the scale is marked"
    )
    assert (
        fig.axes[0].get_ylabel() == "channel of layer1"
        and fig.axes[1].get_xlabel() == "channel of layer2"
    )
    assert (
        plots.draw_flows({"teacher": teacher}, "a", "b").axes[0].images[0].colorbar.extend
        == "neither"
    )


# --- AB


@pytest.mark.parametrize("margin, value", [(1.0, -0.5), (0.5, 3.0), (2.0, 0.0)])
def test_the_hinge_is_the_library_s_loss(margin, value):
    for ax, teacher in zip(drawn(plots.draw_hinge(margin, value, response=2.0)).axes, (2.0, -2.0)):
        distance, hinge, line, star = ax.lines
        loss = lambda s: activation_boundary_loss(
            torch.tensor([[s]], dtype=torch.float64), torch.tensor([[teacher]]), margin
        ).item()
        assert np.allclose(hinge.get_ydata()[::40], [loss(s) for s in hinge.get_xdata()[::40]])
        assert np.allclose(distance.get_ydata(), (distance.get_xdata() - teacher) ** 2)
        assert line.get_xdata()[0] == np.sign(teacher) * margin
        assert star.get_xdata()[0] == value and star.get_ydata()[0] == pytest.approx(loss(value))
        assert f"loss {loss(value):.2f}" in star.get_label()


def test_the_agreement_draws_every_seed_and_the_mean():
    shares = {
        "before": {"layer1": [0.4, 0.6], "layer2": [0.5, 0.5]},
        "after": {"layer1": [0.8, 0.9], "layer2": [0.7, 0.7]},
    }
    (ax,) = drawn(plots.draw_agreement(shares)).axes
    dots = [
        line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "None"
    ]
    assert [sorted(d.get_ydata()) for d in dots] == [[0.4, 0.6], [0.5, 0.5], [0.8, 0.9], [0.7, 0.7]]
    means = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "-"]
    assert means == pytest.approx([0.5, 0.5, 0.85, 0.7])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["before", "after", "a coin: 50%"]
    assert dots[0].get_marker() != dots[2].get_marker() and [
        t.get_text() for t in ax.get_xticklabels()
    ] == ["layer1", "layer2"]


# --- Jacobians and the comparison


def test_jacobians_have_length_one_and_their_cosine_above():
    teacher, student = torch.randn(3, 4, 4), torch.randn(3, 4, 4)
    student[0], student[1] = 7 * teacher[0], -teacher[1]
    fig = drawn(plots.draw_jacobians(torch.rand(3, 4, 4), {"teacher": teacher, "student": student}))
    shown = pictures(fig)
    assert len(shown) == 9 and np.allclose(shown[3].get_array(), teacher[0] / teacher[0].norm())
    assert all(np.linalg.norm(picture.get_array()) == pytest.approx(1) for picture in shown[3:])
    titles = [ax.get_title("center") for ax in fig.axes[6:9]]
    assert titles[:2] == ["cos = 1.00", "cos = −1.00"]
    low, high = shown[3].get_clim()
    assert low == -high and len({picture.get_clim() for picture in shown[3:]}) == 1
    assert [ax.get_ylabel() for ax in fig.axes[:9:3]] == ["image", "teacher", "student"]


def test_a_jacobian_of_zeros_can_be_drawn():
    shown = pictures(
        drawn(
            plots.draw_jacobians(
                torch.rand(1, 4, 4), {"teacher": torch.rand(1, 4, 4), "dead": torch.zeros(1, 4, 4)}
            )
        )
    )
    assert np.isfinite(shown[2].get_array()).all()


def test_the_comparison_takes_frames_and_mappings():
    import pandas as pd

    ours, published = pd.DataFrame({"labels": [1, -2, 4], "FSP": [0, 0, 3]}), {"AB": [-9.0, -6.0]}
    left, right = drawn(plots.draw_comparison(ours, published)).axes
    assert sorted(left.lines[0].get_ydata()) == [-2, 1, 4] and set(left.lines[1].get_ydata()) == {
        1.0
    }
    assert sorted(right.lines[0].get_ydata()) == [-9, -6] and [
        t.get_text() for t in right.get_xticklabels()
    ] == ["AB"]
    assert [t.get_text() for t in left.get_xticklabels()] == ["labels", "FSP"]


def test_figures_are_closed_and_readable():
    import matplotlib.pyplot as plt

    figures = [
        plots.draw_maps(torch.rand(4, 4), {"a": torch.rand(3, 2, 2)}),
        plots.draw_hinge(),
        plots.draw_flows({"t": torch.rand(2, 2)}, "a", "b"),
    ]
    assert not plt.get_fignums()
    sizes = [
        text.get_fontsize()
        for fig in figures
        for ax in fig.axes
        for text in [ax.title, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    ]
    assert min(sizes) >= 9
