"""Widgets of lesson 01, over logits that were computed once: sliders on top of ``figures``."""

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import figures as plots


def loss_view(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, classes, examples: dict
):
    """The loss weights at work on one example: sliders for the weight of the soft term and for T.

    student_logits, teacher_logits: (N, C).   labels: (N,).   examples: {words: position}. Controls:
    kd_weight, temperature, example."""

    def draw(kd_weight, temperature, example):
        return plots.draw_loss_terms(
            student_logits[example],
            teacher_logits[example],
            int(labels[example]),
            classes,
            temperature,
            kd_weight,
        )

    return panel(
        draw,
        height=370,
        kd_weight=slider("Weight of the soft term", 0.5, 0.0, 1.0, 0.05),
        temperature=slider("Temperature T", 4.0, 1.0, 20.0, 0.05, log=True),
        example=choice("Image", examples),
    )


def answers_view(
    images: Tensor, logits: dict, labels: Tensor, classes, examples: dict, temperature: float = 4.0
):
    """What several networks say about one image. images: (N, 1, H, W).   logits: {name: (N, C)}.
    Controls: temperature, example.
    """

    def draw(temperature, example):
        return plots.draw_three_views(
            images[example],
            {n: z[example] for n, z in logits.items()},
            int(labels[example]),
            classes,
            temperature,
        )

    return panel(
        draw,
        height=340,
        temperature=slider("Temperature T", temperature, 0.5, 20.0, 0.05, log=True),
        example=choice("Image", examples),
    )


def bias_view(logits: Tensor, labels: Tensor, omitted: int, name: str, biases, start: float = 0.0):
    """A slider over the bias of a class that was never seen. logits: (S, N, C), labels: (N,).
    Control: bias.
    """
    errors, of_omitted = plots.bias_counts(logits, labels, omitted, biases)
    return panel(
        lambda bias: plots.draw_bias(biases, errors, of_omitted, bias, name),
        height=360,
        bias=slider(
            "Bias of the omitted class", start, float(min(biases)), float(max(biases)), 0.25
        ),
    )
