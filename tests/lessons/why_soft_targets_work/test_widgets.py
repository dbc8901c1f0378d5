"""The widgets of lesson 02: a changed control calls the draw function with the new value, and
errors come out.
"""

import pytest
import torch

from kdtutor.lessons.why_soft_targets_work import figures as plots
from kdtutor.lessons.why_soft_targets_work.widgets import anatomy_view, limit_view


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_limit", "draw_gradient_anatomy"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


S, T, Y = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
IMAGES = torch.rand(6, 8, 8)
EXAMPLES = [("doubtful: a 2", 2), ("sure: a 1", 5)]


def test_the_limit_follows_the_temperature(calls):
    view = limit_view(S[None], T[None], temperature=8.0)
    name, (student, teacher, temperature) = calls[-1]
    assert (
        name == "draw_limit"
        and torch.equal(student, S[None])
        and torch.equal(teacher, T[None])
        and temperature == pytest.approx(8.0)
    )
    view.controls["temperature"].value = 32.0
    assert len(calls) == 2 and calls[-1][1][2] == pytest.approx(32.0)
    view.controls["temperature"].value = 1000.0
    assert calls[-1][1][2] == pytest.approx(128.0), "clamped to the slider's end"


def test_the_anatomy_follows_image_and_temperature(calls):
    view = anatomy_view(S, T, Y, IMAGES, EXAMPLES, list("abcd"))
    student, teacher, label, temperature, image, classes = calls[-1][1]
    assert (
        torch.equal(student, S[2])
        and torch.equal(teacher, T[2])
        and label == 2
        and torch.equal(image, IMAGES[2])
    )
    assert temperature == pytest.approx(4.0) and classes == list("abcd")
    view.controls["example"].value = 5
    assert calls[-1][1][2] == 1 and torch.equal(calls[-1][1][0], S[5])
    view.controls["temperature"].value = 16.0
    assert calls[-1][1][3] == pytest.approx(16.0) and torch.equal(calls[-1][1][0], S[5])
    assert [words for words, _ in view.controls["example"].options] == [
        "doubtful: a 2",
        "sure: a 1",
    ]


@pytest.mark.parametrize(
    "make", [lambda: limit_view(S[None], T[None]), lambda: anatomy_view(S, T, Y, IMAGES, EXAMPLES)]
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(make):
    view = make()
    slider = view.controls["temperature"]
    assert slider.description == "Temperature T" and slider.continuous_update is False
    slider.value = 2.0  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = limit_view(S[None], T[None])

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_limit", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["temperature"].value = 3.0
