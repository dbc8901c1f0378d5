"""The widgets of lesson 06: a changed control calls the draw function with the new value, and
errors come out.
"""

import pytest
import torch

from kdtutor.lessons.where_networks_look import figures as plots
from kdtutor.lessons.where_networks_look.widgets import maps_view, powers_view

TINY = torch.tensor([[[2.0, 0], [1, 0]], [[2, 0], [0, 1]], [[2, 4], [3, 0]]])
IMAGES, MASKS = torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8)
MASKS[:, 2:6, 2:6] = 1
FEATURES = {name: [torch.rand(3, 2, 4, 4), torch.rand(3, 5, 2, 2)] for name in ("teacher", "AT")}
EXAMPLES = [("a robot", 1), ("another", 2)]


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_channels", "draw_maps"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name, **kwargs: seen.append((name, args)) or "a figure"
        )
    return seen


def test_the_channels_follow_the_power(calls):
    view = powers_view(TINY)
    name, (features, p) = calls[-1]
    assert name == "draw_channels" and torch.equal(features, TINY) and p == 2
    view.controls["p"].value = 3.5
    assert len(calls) == 2 and calls[-1][1][1] == 3.5
    view.controls["p"].value = 99
    assert calls[-1][1][1] == 4, "clamped to the slider's end"


def test_the_maps_follow_image_stage_kind_and_power(calls):
    view = maps_view(IMAGES, FEATURES, MASKS, EXAMPLES)
    name, (image, features, mask, p, kind) = calls[-1]
    assert (
        name == "draw_maps"
        and image.shape == (1, 3, 8, 8)
        and torch.equal(mask, MASKS[1:2])
        and (p, kind) == (2, "sum")
    )
    assert torch.equal(features["AT"], FEATURES["AT"][0][1:2])
    view.controls["example"].value = 2
    assert torch.equal(calls[-1][1][1]["teacher"], FEATURES["teacher"][0][2:3])
    view.controls["stage"].value = 2
    assert torch.equal(calls[-1][1][1]["teacher"], FEATURES["teacher"][1][2:3])
    view.controls["kind"].value = "max"
    view.controls["p"].value = 3.0
    assert calls[-1][1][3:] == (3.0, "max") and view.controls["stage"].max == 2


@pytest.mark.parametrize(
    "make", [lambda: powers_view(TINY), lambda: maps_view(IMAGES, FEATURES, MASKS, EXAMPLES)]
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(make):
    view = make()
    assert (
        view.controls["p"].description == "Power p"
        and view.controls["p"].continuous_update is False
    )
    view.controls["p"].value = 0.5  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px") and all(
        c.description for c in view.controls.values()
    )


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = powers_view(TINY)

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_channels", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["p"].value = 3.0
