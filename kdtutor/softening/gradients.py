"""Gradient anatomy: what a loss pulls at each of the student's logits, example by example, in
closed form.

All gradients are those of one example's own loss, (B, C): row b is d(loss of example b) /
d(student_logits of example b). The gradient of a batch's mean loss is these rows divided by B. A
positive entry pushes its logit down, a negative one pulls it up."""

import torch.nn.functional as F
from torch import Tensor

from ..errors import check_same_shape, check_temperature
from .loss import soften


def label_gradient(student_logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with the label: q - onehot(y), where q = softmax(z_s).   student_logits: (B,
    C), y: (B,). Returns (B, C).
    """
    return soften(student_logits) - F.one_hot(y, student_logits.shape[-1])


def distillation_gradient(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, scaled: bool = True
) -> Tensor:
    """``distillation_kl``, one example at a time: T^2 * (q^T - p^T) / T, q^T the student's and p^T
    the teacher's soft answer.

    scaled: with the factor T^2; without it the loss is plain soft cross-entropy at T, and its
    gradient (q^T - p^T) / T. student_logits, teacher_logits: (B, C). Returns (B, C). At T = 1 this
    is q - p (Born-Again Networks, Eq. 6)."""
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    gap = soften(student_logits, temperature) - soften(teacher_logits, temperature)
    return gap * temperature if scaled else gap / temperature


def matching_gradient(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What ``distillation_gradient`` tends to when T grows: the difference of the centred logits
    over C (Hinton et al., Eq. 4).

    It is the gradient of (1/2C) ||z_s - z_t||^2 with both rows centred to mean 0. (B, C), (B, C) ->
    (B, C)."""
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    gap = student_logits - teacher_logits
    return (gap - gap.mean(-1, keepdim=True)) / gap.shape[-1]


def split_gradient(gradient: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(label part, wrong-answer part), both (B, C) and adding up to the gradient (Born-Again
    Networks, Eq. 7, entry by entry).

    The label part keeps the entry of the true class y (B,) and is 0 elsewhere; the wrong-answer
    part keeps all the other entries."""
    label = gradient * F.one_hot(y, gradient.shape[-1])
    return label, gradient - label


def wrong_share(gradient: Tensor, y: Tensor) -> Tensor:
    """The part of the squared gradient norm that lies in the wrong answers, over all examples
    together: a scalar in [0, 1].

    Entries of a gradient add up to 0, so the label's entry is minus the sum of the others: the
    share lies between 1/C (all wrong answers are pulled equally) and 1 (the label's entry is 0); it
    passes 1/2 only where wrong answers oppose each other."""
    _, wrong = split_gradient(gradient, y)
    return wrong.square().sum() / gradient.square().sum()


def noise_to_signal(gradients: Tensor) -> Tensor:
    """How much the examples disagree: the variance of their gradients over the squared norm of the
    mean gradient, a scalar.

    gradients: (N, P), one row per example. 0 when all agree. A mini-batch of this many examples has
    noise as large as its signal. It does not change when all gradients are multiplied by a
    constant, so losses of different scale compare fairly."""
    mean = gradients.mean(0)
    return (gradients - mean).square().sum(-1).mean() / mean.square().sum()
