"""The widgets of lesson 09: a changed control calls the draw function with the new value, and
errors come out.
"""

import pytest
import torch

from kdtutor.datasets import load, with_label_noise
from kdtutor.datasets.corruption import imbalanced_counts
from kdtutor.lessons.beyond_compression import figures as plots
from kdtutor.lessons.beyond_compression.widgets import counts_view, target_view, transition_view

GIVEN, CLEAN, LOGITS, IMAGES = (
    torch.tensor([1, 2, 0]),
    torch.tensor([0, 1, 2]),
    torch.randn(3, 3),
    torch.rand(3, 8, 8),
)
EXAMPLES = [("sure", 2), ("in doubt", 0)]


@pytest.fixture(scope="module")
def data():
    return load("digits").subset(100)


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_transitions", "draw_target", "draw_counts"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


def test_the_matrix_follows_rate_and_seed(calls, data):
    view = transition_view(data)
    view.controls["rate"].value = 0.8
    view.controls["seed"].value = 3
    assert [(args[2], name) for name, args in calls] == [
        (0.4, "draw_transitions"),
        (0.8, "draw_transitions"),
        (0.8, "draw_transitions"),
    ]
    given, clean, *_ = calls[-1][1]
    assert torch.equal(given, with_label_noise(data, 0.8, 3).train.y) and torch.equal(
        clean, data.train.y
    )
    view.controls["rate"].value = 0.0
    assert torch.equal(calls[-1][1][0], data.train.y)


def test_the_target_follows_image_temperature_and_weight(calls):
    view = target_view(IMAGES, GIVEN, CLEAN, LOGITS, EXAMPLES, list("abc"))
    assert calls[-1][1][4:7] == (2, 4.0, 0.9)
    for control, value in (("example", 0), ("temperature", 1.0), ("weight", 0.5)):
        view.controls[control].value = value
    assert calls[-1][1][4:7] == (0, 1.0, 0.5) and torch.equal(calls[-1][1][3], LOGITS)
    assert [words for words, _ in view.controls["example"].options] == ["sure", "in doubt"]


def test_the_counts_follow_gamma_and_keep_their_neighbours(calls):
    view = counts_view(list("abcdefghij"), 100, 5)
    view.controls["gamma"].value = 1.5
    shown, _ = calls[-1][1]
    assert list(shown) == ["γ = 1.5", "γ = 0.2", "γ = 2"] and shown["γ = 1.5"] == imbalanced_counts(
        10, 1.5, 100, 5
    )
    view.controls["gamma"].value = 0.2
    assert list(calls[-1][1][0]) == ["γ = 0.2", "γ = 2"]


@pytest.mark.parametrize(
    "make, control, words, value",
    [
        (lambda data: transition_view(data), "rate", "Rate", 1.0),
        (
            lambda data: target_view(IMAGES, GIVEN, CLEAN, LOGITS, EXAMPLES, list("abc")),
            "weight",
            "Weight of the teacher",
            0.0,
        ),
        (lambda data: counts_view(list("abcdefghij"), 100, 5), "gamma", "Exponent", 0.05),
    ],
)
def test_controls_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(
    data, make, control, words, value
):
    view = make(data)
    slider = view.controls[control]
    assert slider.description.startswith(words) and slider.continuous_update is False
    slider.value = value  # the real draw function: an exception would surface here
    assert slider.value == value and view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = target_view(IMAGES, GIVEN, CLEAN, LOGITS, EXAMPLES, list("abc"))

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_target", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["weight"].value = 0.3
