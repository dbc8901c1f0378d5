"""Widgets of lesson 08, over answers that were computed once: controls on top of ``figures``."""

from collections.abc import Sequence

from torch import Tensor

from ...display.panel import choice, panel, slider
from . import figures as plots


def peer_answer(sure: float, first: Tensor, label: int) -> Tensor:
    """An answer (C,) that gives the label the probability ``sure`` and shares out the rest as
    ``first`` (C,) does.
    """
    rest = first.clone()
    rest[label] = 0
    answer = (1 - sure) * rest / rest.sum()
    answer[label] = sure
    return answer


def pull_view(first: Tensor, label: int, classes: Sequence[str], sure: float = 0.8):
    """How sure network B is of the label, over ``draw_pull``; network A's answer ``first`` (C,)
    stays. Control: sure.
    """
    draw = lambda sure: plots.draw_pull(first, peer_answer(sure, first, label), label, classes)
    return panel(
        draw, height=370, sure=slider("How sure B is of the right class ★", sure, 0.05, 0.95, 0.05)
    )


def gate_view(
    branch_logits: Tensor,
    gate: Tensor,
    y: Tensor,
    images: Tensor,
    examples: Sequence[tuple[str, int]],
    classes: Sequence[str] | None = None,
    trust: float = 1.0,
):
    """Choose an image, and how far the gate is trusted, over ``draw_gate``.

    branch_logits: (M, N, C).   gate: (N, M).   y: (N,) labels.   images: (N, H, W).   examples:
    (words, position) pairs for the dropdown. Controls: example, trust."""

    def draw(example, trust):
        return plots.draw_gate(
            branch_logits[:, example],
            gate[example],
            int(y[example]),
            trust,
            images[example],
            classes,
        )

    return panel(
        draw,
        height=380,
        example=choice("Image", list(examples), examples[0][1]),
        trust=slider("Trust in the gate (0: plain mean)", trust, 0.0, 8.0, 0.5),
    )


__all__ = ["gate_view", "peer_answer", "pull_view"]
