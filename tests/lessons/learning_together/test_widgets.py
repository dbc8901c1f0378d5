"""The widgets of lesson 08: a changed control calls the draw function with the new value, and
errors come out.
"""

import pytest
import torch

from kdtutor.lessons.learning_together import figures as plots
from kdtutor.lessons.learning_together.widgets import gate_view, peer_answer, pull_view
from kdtutor.softening import soften

FIRST = torch.tensor([0.2, 0.7, 0.1])
Z, GATE, Y, IMAGES = (
    torch.randn(3, 6, 4),
    soften(torch.randn(6, 3)),
    torch.tensor([0, 1, 2, 3, 0, 1]),
    torch.rand(6, 8, 8),
)
EXAMPLES = [("doubtful: a 2", 2), ("sure: a 1", 5)]


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_pull", "draw_gate"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


def test_a_peer_is_as_sure_as_asked_and_shares_out_the_rest():
    p = peer_answer(0.4, FIRST, 0)
    assert torch.allclose(p, torch.tensor([0.4, 0.6 * 7 / 8, 0.6 / 8])) and FIRST[
        0
    ] == pytest.approx(0.2), "the input stays"


def test_the_pull_follows_the_sureness(calls):
    view = pull_view(FIRST, 0, list("abc"))
    name, (first, second, label, classes) = calls[-1]
    assert (
        name == "draw_pull"
        and torch.equal(first, FIRST)
        and second[0] == pytest.approx(0.8)
        and (label, classes) == (0, list("abc"))
    )
    view.controls["sure"].value = 0.3
    assert len(calls) == 2 and torch.allclose(calls[-1][1][1], peer_answer(0.3, FIRST, 0))
    view.controls["sure"].value = 1.0
    assert calls[-1][1][1][0] == pytest.approx(0.95), "clamped: an answer of 0 has no logarithm"


def test_the_gate_follows_image_and_trust(calls):
    view = gate_view(Z, GATE, Y, IMAGES, EXAMPLES, list("abcd"))
    logits, gate, label, trust, image, classes = calls[-1][1]
    assert (
        torch.equal(logits, Z[:, 2])
        and torch.equal(gate, GATE[2])
        and label == 2
        and trust == 1.0
        and torch.equal(image, IMAGES[2])
    )
    view.controls["example"].value = 5
    assert calls[-1][1][2] == 1 and torch.equal(calls[-1][1][0], Z[:, 5])
    view.controls["trust"].value = 8.0
    assert calls[-1][1][3] == 8.0 and torch.equal(calls[-1][1][0], Z[:, 5])
    assert [words for words, _ in view.controls["example"].options] == [
        "doubtful: a 2",
        "sure: a 1",
    ]


@pytest.mark.parametrize(
    "make, control, words, value",
    [
        (lambda: pull_view(FIRST, 0, list("abc")), "sure", "How sure B is", 0.5),
        (lambda: gate_view(Z, GATE, Y, IMAGES, EXAMPLES), "trust", "Trust in the gate", 0.0),
    ],
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(
    make, control, words, value
):
    view = make()
    slider = view.controls[control]
    assert slider.description.startswith(words) and slider.continuous_update is False
    slider.value = value  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = gate_view(Z, GATE, Y, IMAGES, EXAMPLES)

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_gate", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["trust"].value = 3.0
