"""Widgets of lesson 09, over labels and answers that were computed once: controls on top of
``figures``.
"""

from collections.abc import Sequence

from torch import Tensor

from ...datasets import Data, with_label_noise
from ...datasets.corruption import imbalanced_counts
from ...display.panel import choice, panel, slider
from . import figures as plots


def transition_view(data: Data, rate: float = 0.4, seed: int = 0):
    """The rate of label noise and its seed, over ``draw_transitions``. data: still clean. Controls:
    rate, seed.
    """

    def draw(rate, seed):
        noisy = with_label_noise(data, rate, seed)
        return plots.draw_transitions(noisy.train.y, data.train.y, rate, data.classes)

    return panel(
        draw,
        height=470,
        rate=slider("Rate: share of labels redrawn", rate, 0.0, 1.0, 0.05),
        seed=slider("Seed of the noise", seed, 0, 9, 1),
    )


def target_view(
    images: Tensor,
    given: Tensor,
    clean: Tensor,
    logits: Tensor,
    examples: Sequence[tuple[str, int]],
    classes: Sequence[str],
    temperature: float = 4.0,
    weight: float = 0.9,
):
    """Choose a wrongly labelled image, the temperature and the teacher's weight, over
    ``draw_target``.

    images: (N, H, W), given, clean: (N,), logits: (N, C), of wrongly labelled images only.
    examples: (words, position) pairs for the dropdown. Controls: example, temperature, weight."""

    def draw(example, temperature, weight):
        return plots.draw_target(
            images, given, clean, logits, example, temperature, weight, classes
        )

    return panel(
        draw,
        height=400,
        example=choice("Image", list(examples), examples[0][1]),
        temperature=slider("Temperature T", temperature, 1.0, 10.0, 0.5),
        weight=slider("Weight of the teacher", weight, 0.0, 1.0, 0.05),
    )


def counts_view(
    classes: Sequence[str],
    n_max: int,
    n_min: int,
    gamma: float = 0.6,
    beside: Sequence[float] = (0.2, 2.0),
):
    """The exponent gamma, over ``draw_counts``; the exponents ``beside`` stay for comparison.
    Control: gamma.
    """

    def draw(gamma):
        shown = dict.fromkeys([round(gamma, 2), *beside])
        return plots.draw_counts(
            {f"γ = {g:g}": imbalanced_counts(len(classes), g, n_max, n_min) for g in shown}, classes
        )

    return panel(draw, height=380, gamma=slider("Exponent γ", gamma, 0.05, 5.0, 0.05))


__all__ = ["counts_view", "target_view", "transition_view"]
