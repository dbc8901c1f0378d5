"""The widgets of lesson 05: a changed control calls the draw function with the new value, and
errors come out.
"""

import pytest
import torch

from kdtutor.lessons.what_layers_know import figures as plots
from kdtutor.lessons.what_layers_know.widgets import hinge_view, maps_view

IMAGES = torch.rand(3, 8, 8)
NETWORKS = {
    name: {"layer1": torch.rand(3, 8, 4, 4), "layer2": torch.rand(3, 16, 2, 2)}
    for name in ("teacher", "student")
}
EXAMPLES = [("a 4 (image 2)", 2), ("a 7 (image 0)", 0)]


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_maps", "draw_hinge"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


def test_the_maps_follow_image_layer_and_channel(calls):
    view = maps_view(IMAGES, NETWORKS, EXAMPLES)
    name, (image, rows, channel, count) = calls[-1]
    assert name == "draw_maps" and torch.equal(image, IMAGES[2]) and (channel, count) == (0, 6)
    assert list(rows) == ["teacher", "student"] and torch.equal(
        rows["student"], NETWORKS["student"]["layer1"][2]
    )
    view.controls["layer"].value = "layer2"
    assert torch.equal(calls[-1][1][1]["teacher"], NETWORKS["teacher"]["layer2"][2])
    view.controls["example"].value = 0
    assert torch.equal(calls[-1][1][0], IMAGES[0]) and torch.equal(
        calls[-1][1][1]["teacher"], NETWORKS["teacher"]["layer2"][0]
    )
    view.controls["channel"].value = 7
    assert calls[-1][1][2] == 7 and len(calls) == 4
    assert view.controls["channel"].max == 16 - 6, (
        "the widest layer decides how far the slider goes"
    )
    assert [words for words, _ in view.controls["example"].options] == [
        words for words, _ in EXAMPLES
    ]


def test_the_hinge_follows_margin_and_value(calls):
    view = hinge_view(margin=1.5, value=-1.0)
    assert calls[-1] == ("draw_hinge", (1.5, -1.0))
    view.controls["margin"].value = 0.5
    view.controls["value"].value = 2.0
    assert calls[-1][1] == (0.5, 2.0) and len(calls) == 3
    view.controls["margin"].value = -3.0
    assert calls[-1][1][0] == pytest.approx(0.1), "clamped: a margin stays above 0"


@pytest.mark.parametrize(
    "make, name, words, value",
    [
        (lambda: maps_view(IMAGES, NETWORKS, EXAMPLES), "channel", "First channel", 10),
        (hinge_view, "margin", "Margin", 2.0),
        (hinge_view, "value", "Student's value", -4.0),
    ],
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(
    make, name, words, value
):
    view = make()
    slider = view.controls[name]
    assert slider.description == words and slider.continuous_update is False
    slider.value = value  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = hinge_view()

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_hinge", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["margin"].value = 0.3
