"""The widgets of lesson 07: a changed control calls the draw function with the new value, and
errors come out.
"""

import pytest
import torch

from kdtutor.lessons.relations import contrast
from kdtutor.lessons.relations import figures as relations
from kdtutor.lessons.relations.widgets import (
    chance_view,
    constellation_view,
    lineup_view,
    relations_view,
)

STARS = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 2.0], [-1.0, 1.0]])
FEATURES, Y = (
    {"teacher": torch.rand(6, 9), "student": torch.rand(6, 4)},
    torch.tensor([0, 0, 1, 1, 2, 2]),
)


def lineup(i):
    return (
        torch.rand(8, 8),
        torch.rand(3, 8, 8),
        ["itself", "same class", "stranger"],
        torch.zeros(3),
        torch.full((3,), i / 10),
        list("abc"),
    )


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for module, name in (
        (relations, "draw_constellations"),
        (relations, "draw_relations"),
        (contrast, "draw_chance"),
        (contrast, "draw_lineup"),
    ):
        monkeypatch.setattr(
            module, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


def test_the_constellation_follows_its_four_controls(calls):
    view = constellation_view(STARS, turn=0.0, scale=1.0)
    name, (points, students) = calls[-1]
    assert (
        name == "draw_constellations"
        and torch.equal(points, STARS)
        and torch.allclose(students["student"], STARS)
    )
    for control, value, expected in [
        ("turn", 90.0, STARS.flip(1) * torch.tensor([-1.0, 1.0])),
        ("turn", 0.0, STARS),
        ("scale", 1.5, 1.5 * STARS),
        ("shift", 1.0, 1.5 * STARS + torch.tensor([1.0, 0.0])),
    ]:
        view.controls[control].value = value
        assert torch.allclose(calls[-1][1][1]["student"], expected, atol=1e-6), control
    view.controls["push"].value = 2.0
    assert torch.allclose(calls[-1][1][1]["student"][-1], torch.tensor([-1.5 + 1, 1.5 * 3]))
    assert "D" in view.controls["push"].description


def test_the_relations_follow_kind_and_corner(calls):
    view = relations_view(FEATURES, Y)
    assert calls[-1][1][2:] == ("similarity", 0)
    view.controls["kind"].value = "angle"
    view.controls["vertex"].value = 99
    assert calls[-1][1][2:] == ("angle", 5), "clamped to the last row"
    assert calls[-1][1][0] is FEATURES and torch.equal(calls[-1][1][1], Y)


def test_chance_and_lineup_follow_their_sliders(calls):
    view = chance_view(1000)
    assert calls[-1] == ("draw_chance", (1000,))
    view.controls["negatives"].value = 16.2
    assert calls[-1] == ("draw_chance", (16,))
    view = lineup_view(lineup, 5, start=2)
    assert calls[-1][0] == "draw_lineup" and calls[-1][1][4][0] == pytest.approx(0.2)
    view.controls["image"].value = 4
    assert calls[-1][1][4][0] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "make, control, value",
    [
        (lambda: constellation_view(STARS), "turn", -180.0),
        (lambda: relations_view(FEATURES, Y), "kind", "distance"),
        (lambda: chance_view(), "negatives", 1.0),
        (lambda: lineup_view(lineup, 3), "image", 2),
    ],
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(make, control, value):
    view = make()
    for widget in view.controls.values():
        assert len(widget.description) > 5 and getattr(widget, "continuous_update", False) is False
    view.controls[control].value = value  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = chance_view()

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(contrast, "draw_chance", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["negatives"].value = 3.0
