"""The widgets of lesson 00: a moved control draws that value, and a failing draw is seen."""

import pytest
import torch

from kdtutor.lessons.start_here import widgets as softening

NAMES = tuple("abcd")
LOGITS = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
IMAGES = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)


@pytest.fixture
def drawn(monkeypatch):
    """The calls of the draw functions, which draw nothing here."""
    calls = []
    for name in ("draw_answer", "draw_similarity"):
        monkeypatch.setattr(softening, name, lambda *args: calls.append(args))
    return calls


CHOSEN = {"the third": 2, "the last": 5}


def view(chosen=CHOSEN):
    return softening.teacher_view(IMAGES, LOGITS[0], LABELS, NAMES, chosen)


def test_teacher_view_starts_with_the_first_choice_and_follows_both_controls(drawn):
    box = view()
    image, logits, label, classes, temperature = drawn[-1]
    assert (
        torch.equal(logits, LOGITS[0, 2])
        and label == 2
        and classes == NAMES
        and temperature == pytest.approx(1.0)
    )
    box.controls["temperature"].value = 5.0
    assert drawn[-1][4] == pytest.approx(5.0)
    box.controls["image"].value = 5
    assert torch.equal(drawn[-1][1], LOGITS[0, 5]) and drawn[-1][2] == 1
    assert len(drawn) == 3


def test_the_temperature_slider_is_worded_bounded_and_fires_on_release(drawn):
    slider = view().controls["temperature"]
    assert slider.description == "Temperature T" and slider.continuous_update is False
    slider.value = 1000.0
    assert slider.value == pytest.approx(20.0)
    slider.value = 0.001
    assert slider.value == pytest.approx(0.5)


def test_the_image_choice_lists_the_names_in_order(drawn):
    box = view()
    assert box.controls["image"].description == "Image" and list(box.controls["image"].options) == [
        "the third",
        "the last",
    ]


def test_similarity_view_shows_the_mean_of_all_or_one_teacher(drawn):
    box = softening.similarity_view(LOGITS, LABELS, NAMES)
    tables = [softening.class_answers(z, LABELS, 4.0) for z in LOGITS]
    assert torch.allclose(drawn[-1][0], torch.stack(tables).mean(0)) and drawn[-1][
        2
    ] == pytest.approx(4.0)
    box.controls["teacher"].value = 2
    assert torch.allclose(drawn[-1][0], tables[1])
    box.controls["temperature"].value = 10.0
    assert torch.allclose(drawn[-1][0], softening.class_answers(LOGITS[1], LABELS, 10.0))


def test_only_one_slider_is_called_temperature_t(drawn):
    assert (
        softening.similarity_view(LOGITS, LABELS, NAMES).controls["temperature"].description
        == "Softness T of the table"
    )


def test_a_failing_draw_is_seen(drawn, monkeypatch):
    box = view()

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(softening, "draw_answer", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        box.controls["temperature"].value = 3.0
