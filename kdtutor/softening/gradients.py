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
    """Cross-entropy with the label: q - onehot(y), where q = softmax(z_s).

    Args:
        student_logits: (B, C).
        y: class indices (B,).

    Returns:
        (B, C).

    Example:
        >>> import torch
        >>> label_gradient(torch.zeros(1, 2), torch.tensor([0]))
        tensor([[-0.5000,  0.5000]])
    """
    return soften(student_logits) - F.one_hot(y, student_logits.shape[-1])


def distillation_gradient(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, scaled: bool = True
) -> Tensor:
    """``distillation_kl``, one example at a time: T^2 * (q^T - p^T) / T, q^T the student's and p^T
    the teacher's soft answer.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C).
        temperature: T, finite and > 0. At T = 1 this is q - p.
        scaled: with the factor T^2; without it the loss is plain soft cross-entropy at T, and its
            gradient (q^T - p^T) / T.

    Returns:
        (B, C).

    Raises:
        ValueError: for shapes that differ, and unless T is finite and > 0.

    Source:
        Furlanello et al., Born-Again Networks (2018), Eq. 6, for T = 1.

    Example:
        >>> import torch
        >>> distillation_gradient(torch.zeros(1, 2), torch.tensor([[0.0, 100.0]]), temperature=1.0)
        tensor([[ 0.5000, -0.5000]])
    """
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    gap = soften(student_logits, temperature) - soften(teacher_logits, temperature)
    return gap * temperature if scaled else gap / temperature


def matching_gradient(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What ``distillation_gradient`` tends to when T grows: the difference of the centred logits
    over C.

    It is the gradient of (1/2C) ||z_s - z_t||^2 with both rows centred to mean 0.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C).

    Returns:
        (B, C).

    Raises:
        ValueError: for shapes that differ.

    Source:
        Hinton et al. 2015, Eq. 4.

    Example:
        >>> import torch
        >>> matching_gradient(torch.tensor([[4.0, 0.0]]), torch.tensor([[7.0, 7.0]]))
        tensor([[ 1., -1.]])
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    gap = student_logits - teacher_logits
    return (gap - gap.mean(-1, keepdim=True)) / gap.shape[-1]


def split_gradient(gradient: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient's label part and its wrong-answer part, which add up to it, entry by entry.

    Args:
        gradient: (B, C).
        y: the true classes (B,).

    Returns:
        (label part, wrong-answer part), both (B, C): the first keeps the entry of the true class
        and is 0 elsewhere, the second keeps all the others.

    Source:
        Furlanello et al., Born-Again Networks (2018), Eq. 7.

    Example:
        >>> import torch
        >>> split_gradient(torch.tensor([[1.0, -1.0]]), torch.tensor([1]))
        (tensor([[ 0., -1.]]), tensor([[1., 0.]]))
    """
    label = gradient * F.one_hot(y, gradient.shape[-1])
    return label, gradient - label


def wrong_share(gradient: Tensor, y: Tensor) -> Tensor:
    """The part of the squared gradient norm that lies in the wrong answers, over all examples
    together.

    Entries of a gradient add up to 0, so the label's entry is minus the sum of the others: the
    share lies between 1/C (all wrong answers are pulled equally) and 1 (the label's entry is 0); it
    passes 1/2 only where wrong answers oppose each other.

    Args:
        gradient: (B, C).
        y: the true classes (B,).

    Returns:
        A scalar in [0, 1].

    Example:
        >>> import torch
        >>> wrong_share(torch.tensor([[1.0, -1.0]]), torch.tensor([1]))
        tensor(0.5000)
    """
    _, wrong = split_gradient(gradient, y)
    return wrong.square().sum() / gradient.square().sum()


def noise_to_signal(gradients: Tensor) -> Tensor:
    """How much the examples disagree: the variance of their gradients over the squared norm of the
    mean gradient.

    A mini-batch of this many examples has noise as large as its signal. It does not change when all
    gradients are multiplied by a constant, so losses of different scale compare fairly.

    Args:
        gradients: (N, P), one row per example.

    Returns:
        A scalar, 0 when all agree.

    Example:
        >>> import torch
        >>> noise_to_signal(torch.tensor([[1.0], [3.0]]))
        tensor(0.2500)
    """
    mean = gradients.mean(0)
    return (gradients - mean).square().sum(-1).mean() / mean.square().sum()
