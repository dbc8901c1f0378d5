"""Temperature, the distillation loss and ensembles of teachers: the first lesson's code.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015). Notation: z logits, T
temperature, C classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_same_device, check_same_shape, check_temperature, explained, unknown
from .divergence import Divergence, log_softmax

MEANS = ("arithmetic", "geometric")


class _Unsaid(int):
    """An axis that the caller did not state: 1, but told apart from a 1 that was."""


def _precise(logits: Tensor) -> Tensor:
    # bf16 and fp16 lose the small probabilities that carry the knowledge.
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _log_soften(logits: Tensor, temperature: float, axis: int = -1) -> Tensor:
    return log_softmax(_precise(logits) / temperature, axis)


@explained
def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax with temperature: q_i = exp(z_i/T) / sum_j exp(z_j/T).

    T = 1 is the ordinary softmax; T -> inf tends to the uniform distribution, T -> 0 to one-hot.

    Args:
        logits: (..., C).
        temperature: T, finite and > 0.

    Returns:
        Probabilities of the same shape, rows sum to 1; float32, or float64 for float64 logits.

    Raises:
        ValueError: unless T is finite and > 0.

    Source:
        Hinton et al. 2015, Eq. 1.

    Example:
        >>> [round(q, 4) for q in soften(torch.tensor([1.0, 2.0, 3.0]), 1.0).tolist()]
        [0.09, 0.2447, 0.6652]
    """
    check_temperature(temperature)
    return F.softmax(_precise(logits) / temperature, dim=-1)


@explained
def distillation_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    axis: int = _Unsaid(1),
    mask: Tensor | None = None,
) -> Tensor:
    """The distillation loss T^2 * mean over all places of KL(p_t^T || p_s^T).

    A place is where one answer is given: an example of (B, C), a pixel of (B, C, H, W), a token of
    (B, L, V). The gradient reaches the student only. T^2 keeps the gradient's size when T changes
    (soft-target gradients shrink as 1/T^2). Soft cross-entropy instead of KL would differ by the
    teacher's entropy, a constant, and give the same gradient. The sum runs over classes, the mean
    over the places alone: torch's ``reduction="mean"`` would divide by C as well, the most common
    mistake with this loss.

    Args:
        student_logits: (B, C), or any shape with the classes along ``axis``.
        teacher_logits: the same shape.
        temperature: T, finite and > 0.
        axis: the classes' axis: 1, as in (B, C) and (B, C, H, W). Logits with three dimensions
            could be tokens (B, L, V), axis -1, or (B, C, L), axis 1: there it must be stated.
        mask: bool, the logits' shape without ``axis``; True counts. None: every place does.

    Returns:
        A scalar >= 0 that is 0 when student equals teacher, and where no place counts.

    Raises:
        ValueError: for shapes that differ (both are named), an axis that is not there or not
            stated, a mask of another shape or not of bools, and unless T is finite and > 0.

    Source:
        Hinton et al. 2015, section 2.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> distillation_kl(z, z, temperature=4.0).item()
        0.0
        >>> tokens = torch.zeros(2, 5, 7)
        >>> distillation_kl(tokens, tokens, axis=-1, mask=torch.ones(2, 5, dtype=torch.bool)).item()
        0.0
    """
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    axis = _class_axis(student_logits, axis)
    places = student_logits.numel() // student_logits.shape[axis]
    teacher_logits = teacher_logits.detach()
    if mask is not None:
        _check_mask(mask, student_logits, axis)
        # Both answers are made equal where nothing counts: there the loss and its gradient are 0,
        # even if the logits are not finite.
        keep = mask.unsqueeze(axis)
        student_logits, teacher_logits = (
            student_logits.where(keep, 0),
            teacher_logits.where(keep, 0),
        )
    student, teacher = (_precise(z) / temperature for z in (student_logits, teacher_logits))
    if student.dtype != teacher.dtype:
        student, teacher = student.double(), teacher.double()
    total, _ = Divergence.apply(teacher, student, axis)
    if mask is None:
        return temperature**2 / places * total
    return temperature**2 * total / mask.sum().clamp_min(1)


def _class_axis(logits: Tensor, axis: int) -> int:
    shape = tuple(logits.shape)
    if isinstance(axis, _Unsaid):
        if logits.ndim == 3:
            raise ValueError(
                f"logits of shape {shape} do not say which axis holds the classes: pass axis=-1 "
                "for tokens (batch, length, classes), axis=1 for (batch, classes, length)."
            )
        return min(int(axis), logits.ndim - 1)  # one example, (C,), is its classes
    if not -logits.ndim <= axis < logits.ndim:
        raise ValueError(f"axis={axis}: logits of shape {shape} have no such axis.")
    return axis


def _check_mask(mask: Tensor, logits: Tensor, axis: int) -> None:
    check_same_device("mask", mask, "student_logits", logits)
    places = list(logits.shape)
    del places[axis]
    if mask.dtype != torch.bool or list(mask.shape) != places:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool of shape "
            f"{tuple(places)}: the logits' shape {tuple(logits.shape)} without their class axis. "
            "True means that the place counts."
        )


@explained
def ensemble_targets(
    teacher_logits: Tensor, temperature: float = 1.0, mean: str = "arithmetic"
) -> Tensor:
    """The soft targets of M teachers.

    Args:
        teacher_logits: (M, B, C).
        temperature: T, finite and > 0.
        mean: "arithmetic", the mean of softmax(z_m/T): "some member believes it"; or "geometric",
            the softmax of the mean of z_m/T, the normalised product: "all members believe it".
            Averaging logits is the geometric mean.

    Returns:
        (B, C) probabilities.

    Raises:
        ValueError: for another shape, for an unknown mean, and unless T is finite and > 0.

    Source:
        Hinton et al. 2015, section 1, allow either.

    Example:
        >>> z = torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]])
        >>> [round(q, 3) for q in ensemble_targets(z)[0].tolist()]
        [0.31, 0.69]
        >>> [round(q, 3) for q in ensemble_targets(z, mean="geometric")[0].tolist()]
        [0.269, 0.731]
    """
    return soften(ensemble_logits(teacher_logits, temperature, mean), temperature)


@explained
def ensemble_logits(
    teacher_logits: Tensor, temperature: float = 1.0, mean: str = "arithmetic"
) -> Tensor:
    """Logits whose softmax at this temperature is ``ensemble_targets``: they stand in for a single
    teacher's logits.

    Args:
        teacher_logits: (M, B, C).
        temperature: T, finite and > 0.
        mean: "geometric", the mean of the logits, the same for every T; or "arithmetic", T * log of
            the mean of softmax(z_m/T).

    Returns:
        (B, C).

    Raises:
        ValueError: as ``ensemble_targets`` does.

    Example:
        >>> ensemble_logits(torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]]), mean="geometric").tolist()
        [[0.0, 1.0]]
    """
    check_temperature(temperature)
    if teacher_logits.ndim != 3 or not teacher_logits.shape[0]:
        raise ValueError(
            f"teacher_logits has shape {tuple(teacher_logits.shape)}; expected (teachers, batch, "
            "classes). "
            "Stack the teachers' logits: torch.stack([z1, z2])."
        )
    if mean not in MEANS:
        raise unknown("mean", mean, MEANS)
    if mean == "geometric":
        return teacher_logits.mean(0)
    return temperature * (
        torch.logsumexp(_log_soften(teacher_logits, temperature), 0) - math.log(len(teacher_logits))
    )
