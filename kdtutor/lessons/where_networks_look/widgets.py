"""Widgets of lesson 06, over features that were computed once: sliders on top of ``figures``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import figures as plots


def powers_view(features: Tensor, p: float = 2.0):
    """A slider for the power over ``draw_channels``. features: (C, h, w), small enough to print.
    Control: p.
    """
    return panel(
        lambda p: plots.draw_channels(features, p),
        height=230,
        p=slider("Power p", p, 0.25, 4.0, 0.25),
    )


def maps_view(
    images,
    features: Mapping[str, Sequence[Tensor]],
    masks,
    examples: Sequence[tuple[str, int]],
    p: float = 2.0,
    stage: int = 1,
):
    """Choose an image, a stage and a power over ``draw_maps``.

    images: (N, 3, H, W) uint8.   features: name of the network -> one tensor (N, C, h, w) per
    stage.   masks: (N, H, W). examples: (words, position) pairs for the dropdown.   Controls:
    example, stage (from 1), kind ("sum" or "max"), p."""

    def draw(example, stage, kind, p):
        rows = slice(example, example + 1)
        return plots.draw_maps(
            images[rows],
            {name: f[stage - 1][rows] for name, f in features.items()},
            masks[rows],
            p,
            kind,
            size=2.4,
        )

    stages = len(next(iter(features.values())))
    return panel(
        draw,
        height=340,
        example=choice("Image", list(examples), examples[0][1]),
        stage=slider("Stage (1 = fine, last = coarse)", stage, 1, stages, 1),
        kind=choice("Over channels", {"sum of powers": "sum", "largest power": "max"}, "sum"),
        p=slider("Power p", p, 0.25, 8.0, 0.25),
    )
