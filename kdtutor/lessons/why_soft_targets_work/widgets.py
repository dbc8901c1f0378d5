"""Widgets of lesson 02, over logits that were computed once: sliders on top of ``figures``."""

from collections.abc import Sequence

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import figures as plots


def limit_view(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0):
    """A temperature slider over ``draw_limit``. student_logits, teacher_logits: (S, N, C). Control:
    temperature.
    """
    draw = lambda temperature: plots.draw_limit(student_logits, teacher_logits, temperature)
    return panel(
        draw, height=400, temperature=slider("Temperature T", temperature, 1, 128, 0.1, log=True)
    )


def anatomy_view(
    student_logits: Tensor,
    teacher_logits: Tensor,
    y: Tensor,
    images: Tensor,
    examples: Sequence[tuple[str, int]],
    classes: Sequence[str] | None = None,
    temperature: float = 4.0,
):
    """Choose an example and a temperature over ``draw_gradient_anatomy``.

    student_logits, teacher_logits: (N, C).   y: (N,) labels.   images: (N, H, W).   examples:
    (words, position) pairs for the dropdown. Controls: example, temperature."""

    def draw(example, temperature):
        return plots.draw_gradient_anatomy(
            student_logits[example],
            teacher_logits[example],
            int(y[example]),
            temperature,
            images[example],
            classes,
        )

    return panel(
        draw,
        height=400,
        example=choice("Image", list(examples), examples[0][1]),
        temperature=slider("Temperature T", temperature, 1, 32, 0.05, log=True),
    )
