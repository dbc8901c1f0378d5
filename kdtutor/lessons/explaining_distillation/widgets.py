"""Widgets of lesson 10, over entropy maps that were computed once: controls on top of
``figures``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...concepts.metrics import baseline_entropy
from ...display.panel import choice, panel, slider
from . import figures as plots


def concepts_view(
    images,
    masks: Tensor,
    cells: Tensor,
    maps: Mapping[str, Mapping[str, Tensor]],
    epochs: Sequence[int],
    examples: Sequence[tuple[str, int]],
    threshold: float = 0.2,
):
    """Choose a layer, an image, an epoch and the threshold b, over ``draw_concepts``: all networks
    side by side.

    images: (N, 3, H, W) uint8, masks: (N, H, W), cells: (N, g, g) bool, the foreground.   maps:
    layer -> network -> entropies, (M, N, g, g) at the ``epochs``, or (1, N, g, g) of a network that
    is finished.   examples: (words, position) pairs for the dropdown. Controls: layer, example,
    epoch (position in ``epochs``), threshold."""

    def draw(layer, example, epoch, threshold):
        now = {name: course[min(epoch, len(course) - 1)] for name, course in maps[layer].items()}
        levels = {
            name: float(baseline_entropy(entropy.double(), cells)) for name, entropy in now.items()
        }
        shown = {name: entropy[example] for name, entropy in now.items()}
        return plots.draw_concepts(
            images[example], masks[example], cells[example], shown, levels, threshold
        )

    return panel(
        draw,
        height=610,
        layer=choice("Layer", list(maps)),
        example=choice("Image", list(examples), examples[0][1]),
        epoch=choice("Epoch", [(str(e), k) for k, e in enumerate(epochs)], len(epochs) - 1),
        threshold=slider("Threshold b, nats", threshold, 0.05, 1.0, 0.05),
    )
