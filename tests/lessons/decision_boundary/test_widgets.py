"""The widgets of lesson 04: a changed control calls the draw function with the new walk, and errors
come out.
"""

import pytest
import torch

from kdtutor.lessons.decision_boundary import figures as plots
from kdtutor.lessons.decision_boundary.widgets import image_view, step_size_view, walk_view
from kdtutor.models import mlp

START = torch.tensor([2.0, 1.5])


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_walk", "draw_image_walk"):
        monkeypatch.setattr(plots, name, lambda *args, **more: seen.append(args) or "a figure")
    return seen


@pytest.fixture
def linear():
    net = mlp((), classes=2, inputs=2)
    net.fc.weight.data, net.fc.bias.data = (
        torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
        torch.tensor([-2.0, 0.0]),
    )
    return net


@pytest.fixture
def three():
    torch.manual_seed(3)
    return mlp((8,), classes=3, inputs=2)


def walks():
    images, logits = torch.rand(5, 4, 4), torch.randn(5, 3)
    return {"a 3": (images, logits, 0, 1), "a 7": (1 - images, logits.flip(0), 2, 0)}


def test_the_step_size_moves_the_walk(calls, linear):
    view = step_size_view(linear, START, 0, 1, "AB", step_size=0.1, steps=4)
    logits, places, z, base, target, names = calls[-1]
    assert (
        logits.shape[-1] == 2 and places.shape == (5, 2) and (base, target, names) == (0, 1, "AB")
    )
    assert places[1].tolist() == pytest.approx([1.4, 0.7], abs=1e-3)
    view.controls["step_size"].value = 0.3
    assert calls[-1][1][1].tolist() == pytest.approx([0.2, -0.9], abs=1e-3)
    assert torch.allclose(calls[-1][2], linear(calls[-1][1]))


def test_the_walk_follows_steps_target_and_step_size(calls, three):
    base = int(three(START[None]).argmax())
    view = walk_view(three, START, "ABC", steps=2)
    assert [c for _, c in view.controls["target"].options] == [c for c in range(3) if c != base], (
        "no boundary of a class with itself"
    )
    assert calls[-1][1].shape == (3, 2) and calls[-1][3] == base
    view.controls["steps"].value = 7
    assert calls[-1][1].shape == (8, 2)
    other = view.controls["target"].options[1][1]
    view.controls["target"].value = other
    view.controls["step_size"].value = 0.03
    assert calls[-1][4] == other
    assert torch.allclose(calls[-1][1], plots.path(three, START[None], base, other, 7, 0.03)[:, 0])
    view.controls["steps"].value = 99
    assert calls[-1][1].shape == (11, 2), "clamped to the slider's end"


def test_the_image_follows_the_choice_and_the_step(calls):
    both = walks()
    view = image_view(both, "abc", step=9)
    assert calls[-1][0] is both["a 3"][0] and calls[-1][-1] == 4, "the last step there is"
    view.controls["walk"].value = "a 7"
    assert calls[-1][0] is both["a 7"][0] and calls[-1][2:4] == (2, 0)
    view.controls["step"].value = 1
    assert calls[-1][-1] == 1 and calls[-1][0] is both["a 7"][0]


def test_controls_are_worded_and_fire_on_release_and_the_real_figures_are_drawn(linear, three):
    for view, name in [
        (step_size_view(linear, START, 0, 1, "AB"), "step_size"),
        (walk_view(three, START, "ABC"), "steps"),
        (image_view(walks(), "abc"), "step"),
    ]:
        control = view.controls[name]
        assert (
            control.description in ("Step size", "Number of steps")
            and control.continuous_update is False
        )
        for value in (control.min, control.max):
            control.value = value  # the real draw function: an exception would surface here
        assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch, linear):
    view = step_size_view(linear, START, 0, 1, "AB")

    def broken(*args, **more):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_walk", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["step_size"].value = 0.3
