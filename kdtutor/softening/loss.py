"""Temperature, the distillation loss and ensembles of teachers: the first lesson's code.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015). Notation: z logits, T
temperature, C classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_same_shape, check_temperature, unknown

MEANS = ("arithmetic", "geometric")


def _log_soften(logits: Tensor, temperature: float, axis: int = -1) -> Tensor:
    # float32 at least (bf16 and fp16 lose the small probabilities that carry the knowledge). The
    # floor keeps 0 * log 0 = 0 when a probability underflows so far that its logarithm would be
    # -inf.
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return F.log_softmax(logits / temperature, dim=axis).clamp_min(-1e30)


def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax with temperature: q_i = exp(z_i/T) / sum_j exp(z_j/T).

    T = 1 is the ordinary softmax; T -> inf tends to the uniform distribution, T -> 0 to one-hot.

    Args:
        logits: (..., C).
        temperature: T, finite and > 0.

    Returns:
        Probabilities of the same shape, in float32 at least; rows sum to 1.

    Raises:
        ValueError: Unless T is finite and > 0.

    Source:
        Hinton et al. 2015, Eq. 1.

    Example:
        >>> [round(q, 4) for q in soften(torch.tensor([1.0, 2.0, 3.0]), 1.0).tolist()]
        [0.09, 0.2447, 0.6652]
    """
    check_temperature(temperature)
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return F.softmax(logits / temperature, dim=-1)


def distillation_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    axis: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The distillation loss: T^2 * the mean over all places of KL(p_t^T || p_s^T).

    A place is an example (B, C), a pixel of (B, C, H, W), a token of (B, L, V). T^2 keeps the
    gradient's size when T changes: soft-target gradients shrink as 1/T^2. Soft cross-entropy
    instead of KL would differ by the teacher's entropy, a constant, and give the same gradient. The
    sum runs over classes, the mean over places alone: torch's ``reduction="mean"`` would divide by
    C as well, the most common mistake with this loss.

    Args:
        student_logits, teacher_logits: Of one shape. The gradient reaches the student only.
        temperature: T, finite and > 0.
        axis: Where the classes are. 1 by default, for (B, C) and (B, C, H, W); three dimensions may
            be (B, C, L) or (B, L, V), so there it must be said.
        mask: Bool, the shape of the places (that of the logits without the axis): True counts. None
            counts all; a mask of False alone gives 0.

    Returns:
        A scalar >= 0, 0 when student equals teacher.

    Raises:
        ValueError: For shapes that differ (both are named), an axis that is not said or not there,
            a mask of another shape, and unless T is finite and > 0.

    Source:
        Hinton et al. 2015, section 2.

    Example:
        >>> z, t = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]])
        >>> distillation_kl(z, z, temperature=4.0).item()
        0.0
        >>> round(distillation_kl(z, t, 1.0).item(), 4)
        1.1504
    """
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    axis = _class_axis(student_logits, axis)
    log_p = _log_soften(teacher_logits.detach(), temperature, axis)
    log_q = _log_soften(student_logits, temperature, axis)
    if mask is None:
        places = log_p.numel() // log_p.shape[axis]
        return temperature**2 / places * F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    if mask.dtype != torch.bool or mask.shape != log_p.select(axis, 0).shape:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of shape "
            f"{tuple(log_p.select(axis, 0).shape)}: one entry per place, the logits' shape without "
            f"axis {axis}."
        )
    each = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(axis)
    return temperature**2 * torch.where(mask, each, 0.0).sum() / mask.sum().clamp_min(1)


def _class_axis(logits: Tensor, axis: int | None) -> int:
    """Where the classes are. Raises ``ValueError`` where it must be said, or is no axis."""
    if axis is None:
        if logits.ndim == 3:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} may hold their classes in the second "
                "dimension or, as language models do, in the last: pass axis=1 or axis=-1."
            )
        return 1 if logits.ndim > 1 else 0
    if not -logits.ndim <= axis < logits.ndim:
        raise ValueError(f"axis={axis}: logits of shape {tuple(logits.shape)} have no such axis.")
    return axis


def ensemble_targets(
    teacher_logits: Tensor, temperature: float = 1.0, mean: str = "arithmetic"
) -> Tensor:
    """The soft targets of M teachers: (M, B, C) logits -> (B, C) probabilities.

    arithmetic: the mean of softmax(z_m/T), "some member believes it".   geometric: the softmax of
    the mean of z_m/T, the normalised product, "all members believe it" (Hinton et al. 2015, section
    1 allow either). Averaging logits is the geometric mean. Raises ``ValueError`` for another
    shape, for an unknown mean, and unless T is finite and > 0."""
    return soften(ensemble_logits(teacher_logits, temperature, mean), temperature)


def ensemble_logits(
    teacher_logits: Tensor, temperature: float = 1.0, mean: str = "arithmetic"
) -> Tensor:
    """Logits (B, C) whose softmax at this temperature is ``ensemble_targets``: they stand in for a
    single teacher's logits.

    geometric: the mean of the logits, the same for every T.   arithmetic: T * log of the mean of
    softmax(z_m/T)."""
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
