"""The widget of lesson 10: a changed control calls the draw function with the new value, and errors
come out.
"""

import pytest
import torch

from kdtutor.concepts.metrics import baseline_entropy
from kdtutor.lessons.explaining_distillation import figures as plots
from kdtutor.lessons.explaining_distillation.widgets import concepts_view

IMAGES, MASKS = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8), torch.zeros(3, 16, 16)
MASKS[:, 4:12, 4:12] = 1
CELLS = MASKS[:, ::2, ::2].bool()
MAPS = {
    layer: {"teacher": torch.randn(1, 3, 8, 8) - 2.8, "baseline": torch.randn(4, 3, 8, 8) - 2.8}
    for layer in ("low", "high")
}
EXAMPLES = [("a robot", 1), ("another", 2)]


def view():
    return concepts_view(IMAGES, MASKS, CELLS, MAPS, [0, 1, 5, 9], EXAMPLES)


@pytest.fixture
def calls(monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "draw_concepts", lambda *args: seen.append(args) or "a figure")
    return seen


def test_the_view_begins_at_the_end_of_training(calls):
    controls = view().controls
    _, _, cells, maps, levels, threshold = calls[-1]
    assert (
        threshold == 0.2 and torch.equal(cells, CELLS[1]) and list(maps) == ["teacher", "baseline"]
    )
    assert torch.equal(maps["baseline"], MAPS["low"]["baseline"][3, 1]) and torch.equal(
        maps["teacher"], MAPS["low"]["teacher"][0, 1]
    )
    assert levels["baseline"] == pytest.approx(
        float(baseline_entropy(MAPS["low"]["baseline"][3].double(), CELLS))
    )
    assert [words for words, _ in controls["epoch"].options] == ["0", "1", "5", "9"]


def test_the_view_follows_layer_image_epoch_and_threshold(calls):
    controls = view().controls
    for name, value in (("layer", "high"), ("example", 2), ("epoch", 1), ("threshold", 0.6)):
        before = len(calls)
        controls[name].value = value
        assert len(calls) == before + 1
    image, mask, cells, maps, levels, threshold = calls[-1]
    assert (
        torch.equal(image, IMAGES[2])
        and torch.equal(mask, MASKS[2])
        and torch.equal(cells, CELLS[2])
        and threshold == 0.6
    )
    assert torch.equal(maps["baseline"], MAPS["high"]["baseline"][1, 2])
    assert torch.equal(maps["teacher"], MAPS["high"]["teacher"][0, 2]), "a finished network stays"
    assert levels["baseline"] == pytest.approx(
        float(baseline_entropy(MAPS["high"]["baseline"][1].double(), CELLS))
    )


def test_controls_are_worded_and_the_real_figure_is_drawn():
    made = view()
    slider = made.controls["threshold"]
    assert slider.description.startswith("Threshold b") and slider.continuous_update is False
    slider.value = 1.0  # the real draw function: an exception would surface here
    assert slider.value == 1.0 and made.output.layout.height.endswith("px")


def test_an_exception_in_the_figure_surfaces(monkeypatch):
    made = view()

    def broken(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, "draw_concepts", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        made.controls["epoch"].value = 0
