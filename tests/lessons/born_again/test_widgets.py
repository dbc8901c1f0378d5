"""The widgets of lesson 03: a changed control calls the draw function with the new value, and
errors come out.
"""

import numpy as np
import pytest
import torch

from kdtutor.lessons.born_again import figures as plots
from kdtutor.lessons.born_again.widgets import ensemble_view, generation_view

PROBS = torch.softmax(
    torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)), -1
)  # generations, images, classes
IMAGES, TRUE, GIVEN = (
    torch.rand(6, 8, 8),
    torch.tensor([0, 1, 2, 3, 4, 0]),
    torch.tensor([0, 1, 2, 1, 4, 3]),
)
EXAMPLES = [("a mistake", 3), ("a hard one", 5)]
CURVES = {"right": (np.ones((3, 3)), np.ones((3, 4))), "noisy": (np.ones((3, 3)), np.ones((3, 4)))}


@pytest.fixture
def calls(monkeypatch):
    """What the draw functions were called with, in order."""
    seen = []
    for name in ("draw_answer", "draw_ensembles"):
        monkeypatch.setattr(
            plots, name, lambda *args, name=name: seen.append((name, args)) or "a figure"
        )
    return seen


def test_the_answer_follows_image_and_generation(calls):
    view = generation_view(PROBS, IMAGES, TRUE, GIVEN, EXAMPLES, list("abcde"))
    name, (probs, generation, image, true, given, classes) = calls[-1]
    assert (
        name == "draw_answer"
        and torch.equal(probs, PROBS[:, 3])
        and generation == 0
        and torch.equal(image, IMAGES[3])
    )
    assert (true, given, classes) == (3, 1, list("abcde"))
    view.controls["generation"].value = 3
    assert calls[-1][1][1] == 3 and torch.equal(calls[-1][1][0], PROBS[:, 3])
    view.controls["example"].value = 5
    assert (
        calls[-1][1][3:5] == (0, 3)
        and calls[-1][1][1] == 3
        and torch.equal(calls[-1][1][0], PROBS[:, 5])
    )
    view.controls["generation"].value = 9
    assert view.controls["generation"].value == 3, "clamped to the last generation"
    assert [words for words, _ in view.controls["example"].options] == ["a mistake", "a hard one"]


def test_without_given_labels_none_is_drawn(calls):
    generation_view(PROBS, IMAGES, TRUE, None, EXAMPLES)
    assert calls[-1][1][4] is None


def test_the_ensembles_follow_the_number_of_members(calls):
    view = ensemble_view(CURVES, members=2)
    assert calls[-1] == ("draw_ensembles", (CURVES, 2))
    view.controls["members"].value = 3
    assert calls[-1][1][1] == 3
    assert view.controls["members"].max == 3, "as many as both kinds have"


@pytest.mark.parametrize(
    "make, name, words",
    [
        (
            lambda: generation_view(PROBS, IMAGES, TRUE, GIVEN, EXAMPLES),
            "generation",
            "Generation (0: the teacher)",
        ),
        (lambda: ensemble_view(CURVES), "members", "Members of each ensemble"),
    ],
)
def test_sliders_are_worded_and_fire_on_release_and_the_real_figure_is_drawn(make, name, words):
    view = make()
    slider = view.controls[name]
    assert slider.description == words and slider.continuous_update is False
    slider.value = 2  # the real draw function: an exception would surface here
    assert view.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    view = ensemble_view(CURVES)

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_ensembles", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        view.controls["members"].value = 2
