"""Widgets of lesson 04: walks to a decision boundary, over networks that are trained already."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...display.panel import choice, panel, slider
from ...distiller import as_teacher
from . import figures as plots

STEP_SIZES = (("0.3, the authors'", 0.3), ("0.1", 0.1), ("0.03", 0.03))


def step_size_view(
    net,
    start: Tensor,
    base: int,
    target: int,
    names: Sequence[str],
    step_size: float = 0.1,
    steps: int = 10,
    low: float = 0.02,
    high: float = 0.4,
):
    """A slider for the step size over ``draw_walk``. net: two numbers -> logits.   start: (2,).
    Control: step_size.
    """
    teacher = as_teacher(net)
    logits = plots.plane(teacher)

    def draw(step_size):
        places = plots.path(teacher, start[None], base, target, steps, step_size)[:, 0]
        return plots.draw_walk(
            logits, places, teacher(places), base, target, names, title=f"Step size {step_size:.2g}"
        )

    return panel(draw, height=450, step_size=slider("Step size", step_size, low, high, 0.02))


def walk_view(
    net,
    start: Tensor,
    names: Sequence[str],
    steps: int = 3,
    target: int | None = None,
    step_sizes: Sequence[tuple[str, float]] = STEP_SIZES,
    step_size: float | None = None,
):
    """Number of steps, target class and step size over ``draw_walk``; the base class is the
    network's own answer.

    net: two numbers -> logits.   start: (2,).   step_sizes: (words, value) pairs. Controls: steps,
    target, step_size."""
    teacher = as_teacher(net)
    logits, base = plots.plane(teacher), int(teacher(start[None]).argmax())

    def draw(steps, target, step_size):
        places = plots.path(teacher, start[None], base, target, steps, step_size)[:, 0]
        return plots.draw_walk(logits, places, teacher(places), base, target, names)

    others = [(name, c) for c, name in enumerate(names) if c != base]
    return panel(
        draw,
        height=450,
        steps=slider("Number of steps", steps, 0, 10, 1),
        target=choice("Target class", others, target),
        step_size=choice("Step size", list(step_sizes), step_size),
    )


def image_view(
    walks: Mapping[str, tuple[Tensor, Tensor, int, int]], names: Sequence[str], step: int = 4
):
    """Choose a walk and how far it has come, over ``draw_image_walk``.

    walks: words -> (images (1 + K, H, W), logits (1 + K, C), base, target), all with the same K.
    Controls: walk, step."""
    last = len(next(iter(walks.values()))[0]) - 1
    draw = lambda walk, step: plots.draw_image_walk(*walks[walk], names, step)
    return panel(
        draw,
        height=310,
        walk=choice("Image", list(walks)),
        step=slider("Number of steps", min(step, last), 0, last, 1),
    )
