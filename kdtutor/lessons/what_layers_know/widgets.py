"""Widgets of lesson 05, over features that were read once: sliders on top of ``figures``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import figures as plots


def maps_view(
    images: Tensor,
    networks: Mapping[str, Mapping[str, Tensor]],
    examples: Sequence[tuple[str, int]],
    count: int = 6,
):
    """Choose image, layer and channels over ``draw_maps``.

    images: (N, H, W).   networks: words -> {layer: (N, C, h, w)}, the same layers for each.
    examples: (words, position) pairs for the dropdown. The slider's end is the last channel of the
    widest layer; layers with fewer stop earlier. Controls: example, layer, channel."""
    layers = list(next(iter(networks.values())))
    last = max(features.shape[1] for of in networks.values() for features in of.values()) - count

    def draw(example, layer, channel):
        return plots.draw_maps(
            images[example],
            {name: of[layer][example] for name, of in networks.items()},
            channel,
            count,
        )

    return panel(
        draw,
        height=400,
        example=choice("Image", list(examples), examples[0][1]),
        layer=choice("Layer", layers, layers[0]),
        channel=slider("First channel", 0, 0, max(1, last), 1),
    )


def hinge_view(margin: float = 1.0, value: float = 0.5):
    """Sliders for AB's margin and for the value of the student's neuron over ``draw_hinge``.
    Controls: margin, value.
    """
    draw = lambda margin, value: plots.draw_hinge(margin, value)
    return panel(
        draw,
        height=390,
        margin=slider("Margin", margin, 0.1, 3.0, 0.1),
        value=slider("Student's value", value, -4.0, 4.0, 0.1),
    )
