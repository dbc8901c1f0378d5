"""Gradient anatomy: what a loss pulls at each of the student's logits, example by example, in
closed form.

All gradients are those of one example's own loss, (B, C): row b is d(loss of example b) /
d(student_logits of example b). The gradient of a batch's mean loss is these rows divided by B. A
positive entry pushes its logit down, a negative one pulls it up."""

import torch.nn.functional as F
from torch import Tensor

from ..errors import check_same_shape, check_temperature, explained
from .loss import soften


@explained
def label_gradient(student_logits: Tensor, y: Tensor) -> Tensor:
    """The gradient of cross-entropy with the label: q - onehot(y), where q = softmax(z_s).

    Args:
        student_logits: (B, C).
        y: (B,) int64, the labels.

    Returns:
        (B, C), row b for example b.

    Example:
        >>> import torch
        >>> label_gradient(torch.zeros(1, 4), torch.tensor([2])).tolist()
        [[0.25, 0.25, -0.75, 0.25]]
    """
    return soften(student_logits) - F.one_hot(y, student_logits.shape[-1])


@explained
def distillation_gradient(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, scaled: bool = True
) -> Tensor:
    """The gradient of ``distillation_kl``, one example at a time: T^2 * (q^T - p^T) / T.

    q^T is the student's soft answer and p^T the teacher's.

    Args:
        student_logits, teacher_logits: (B, C), or (S, B, C) of S networks; the classes are last.
        temperature: T, finite and > 0.
        scaled: With the factor T^2; without it the loss is plain soft cross-entropy at T, and its
            gradient (q^T - p^T) / T.

    Returns:
        (B, C).

    Raises:
        ValueError: For shapes that differ or have more axes, and unless T is finite and > 0.

    Source:
        Furlanello et al. 2018, Born-Again Networks, Eq. 6: q - p at T = 1.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[100.0, 0.0]])
        >>> distillation_gradient(student, teacher).tolist()
        [[-0.5, 0.5]]
    """
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    _check_rows(student_logits)
    gap = soften(student_logits, temperature) - soften(teacher_logits, temperature)
    return gap * temperature if scaled else gap / temperature


@explained
def matching_gradient(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What ``distillation_gradient`` tends to when T grows: centred logits' difference over C.

    It is the gradient of (1/2C) ||z_s - z_t||^2 with both rows centred to mean 0.

    Args:
        student_logits, teacher_logits: (B, C), or (S, B, C) of S networks; the classes are last.

    Returns:
        The same shape.

    Raises:
        ValueError: For shapes that differ, or have more axes.

    Source:
        Hinton et al. 2015, Eq. 4.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 3.0]]), torch.tensor([[10.0, 8.0]])
        >>> matching_gradient(student, teacher).tolist()
        [[-1.0, 1.0]]
        >>> hot = distillation_gradient(student, teacher, temperature=1000.0)
        >>> torch.allclose(hot, matching_gradient(student, teacher), rtol=0.01)
        True
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    _check_rows(student_logits)
    gap = student_logits - teacher_logits
    return (gap - gap.mean(-1, keepdim=True)) / gap.shape[-1]


def _check_rows(logits: Tensor) -> None:
    """Raises ``ValueError`` for answers at places, whose classes lie on another axis."""
    if logits.ndim > 3:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)}: expected (B, C), one answer per example, or "
            "(S, B, C) of S networks; of answers (B, C, H, W) each place is one, "
            "z.movedim(1, -1).flatten(0, -2)."
        )


@explained
def split_gradient(gradient: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient in two parts that add up to it: the label's entry, and the wrong answers'.

    Args:
        gradient: (B, C).
        y: (B,) int64, the labels.

    Returns:
        (label part, wrong-answer part), both (B, C). The label part keeps the entry of the true
        class and is 0 elsewhere; the wrong-answer part keeps all the other entries.

    Source:
        Furlanello et al. 2018, Born-Again Networks, Eq. 7, entry by entry.

    Example:
        >>> import torch
        >>> label, wrong = split_gradient(torch.tensor([[-3.0, 1.0, 2.0]]), torch.tensor([0]))
        >>> label.abs().tolist(), wrong.tolist()
        ([[3.0, 0.0, 0.0]], [[0.0, 1.0, 2.0]])
    """
    label = gradient * F.one_hot(y, gradient.shape[-1])
    return label, gradient - label


@explained
def wrong_share(gradient: Tensor, y: Tensor) -> Tensor:
    """The part of the squared gradient norm that lies in the wrong answers, over all examples.

    Entries of a gradient add up to 0, so the label's entry is minus the sum of the others: the
    share lies between 1/C (all wrong answers are pulled equally) and 1 (the label's entry is 0); it
    passes 1/2 only where wrong answers oppose each other.

    Args:
        gradient: (B, C).
        y: (B,) int64, the labels.

    Returns:
        A scalar in [0, 1].

    Example:
        >>> import torch
        >>> y = torch.tensor([2])
        >>> wrong_share(label_gradient(torch.zeros(1, 4), y), y).item()  # 1/C
        0.25
    """
    _, wrong = split_gradient(gradient, y)
    return wrong.square().sum() / gradient.square().sum()


@explained
def noise_to_signal(gradients: Tensor) -> Tensor:
    """How much the examples disagree: E ||g - mean g||^2 / ||mean g||^2.

    The variance of the examples' gradients over the squared norm of their mean. A mini-batch of
    this many examples has noise as large as its signal. It does not change when all gradients are
    multiplied by a constant, so losses of different scale compare fairly.

    Args:
        gradients: (N, P), one row per example.

    Returns:
        A scalar >= 0; 0 when all agree.

    Example:
        >>> import torch
        >>> noise_to_signal(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).item()
        0.25
    """
    mean = gradients.mean(0)
    return (gradients - mean).square().sum(-1).mean() / mean.square().sum()
