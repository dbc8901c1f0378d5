"""The widgets of lesson 01 pass their values on and redraw; errors surface."""

import pytest
import torch

from kdtutor.lessons.distilling_mnist import figures as plots
from kdtutor.lessons.distilling_mnist import widgets

CLASSES, EXAMPLES = tuple("abc"), {"first": 0, "second": 3}


@pytest.fixture
def calls(monkeypatch):
    seen = []
    for name in ("draw_loss_terms", "draw_three_views", "draw_bias"):
        monkeypatch.setattr(plots, name, lambda *args, name=name: seen.append((name, args)))
    return seen


def test_loss_view(calls):
    s, t, y = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    view = widgets.loss_view(s, t, y, CLASSES, EXAMPLES)
    view.controls["kd_weight"].value = 0.9
    view.controls["temperature"].value = 10.0
    view.controls["example"].value = 3
    name, (student, teacher, label, classes, temperature, weight) = calls[-1]
    assert len(calls) == 4 and torch.equal(student, s[3]) and torch.equal(teacher, t[3])
    assert (label, classes, weight) == (1, CLASSES, 0.9) and temperature == pytest.approx(10.0)
    view.controls["kd_weight"].value = 7
    assert calls[-1][1][-1] == 1.0  # clamped


def test_answers_view(calls):
    images, y = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 1, 0])
    logits = {"teacher": torch.randn(5, 3), "student": torch.randn(5, 3)}
    view = widgets.answers_view(images, logits, y, CLASSES, EXAMPLES)
    view.controls["example"].value = 3
    _, (image, shown, label, _, _) = calls[-1]
    assert (
        torch.equal(image, images[3])
        and torch.equal(shown["student"], logits["student"][3])
        and label == 1
    )


def test_bias_view(calls):
    logits, y, biases = torch.randn(2, 20, 3), torch.randint(0, 3, (20,)), [0.0, 1.0, 2.0]
    view = widgets.bias_view(logits, y, 1, "b", biases, start=1.0)
    view.controls["bias"].value = 2.0
    _, (given, errors, omitted, bias, name) = calls[-1]
    assert (
        given == biases and errors.shape == omitted.shape == (2, 3) and (bias, name) == (2.0, "b")
    )


def test_errors_surface(monkeypatch):
    def broken(*args):
        raise RuntimeError("boom")

    view = widgets.loss_view(
        torch.randn(5, 3), torch.randn(5, 3), torch.zeros(5, dtype=torch.long), CLASSES, EXAMPLES
    )
    monkeypatch.setattr(plots, "draw_loss_terms", broken)
    with pytest.raises(RuntimeError, match="boom"):
        view.controls["temperature"].value = 2.0
