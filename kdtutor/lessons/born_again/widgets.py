"""Widgets of lesson 03, over answers that were computed once: sliders on top of ``figures``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import figures as plots


def generation_view(
    probs: Tensor,
    images: Tensor,
    true: Tensor,
    given: Tensor | None,
    examples: Sequence[tuple[str, int]],
    classes: Sequence[str] | None = None,
    generation: int = 0,
):
    """Choose an image and move through the generations over ``draw_answer``.

    probs: (G, N, C) answers, the teacher's first.   images: (N, H, W).   true: (N,) classes.
    given: (N,) labels of the training, or None.   examples: (words, position) pairs for the
    dropdown. Controls: example, generation (0: the teacher)."""

    def draw(example, generation):
        label = None if given is None else int(given[example])
        return plots.draw_answer(
            probs[:, example], generation, images[example], int(true[example]), label, classes
        )

    return panel(
        draw,
        height=390,
        example=choice("Image", list(examples), examples[0][1]),
        generation=slider("Generation (0: the teacher)", generation, 0, len(probs) - 1, 1),
    )


def ensemble_view(curves: Mapping[str, tuple], members: int = 1):
    """A slider over the number of members of ``draw_ensembles``, whose ``curves`` it takes.
    Control: members.
    """
    most = min(len(values[0]) for pair in curves.values() for values in pair)
    draw = lambda members: plots.draw_ensembles(curves, members)
    return panel(draw, height=420, members=slider("Members of each ensemble", members, 1, most, 1))
