"""Temperature, the distillation loss and ensembles of teachers: the first lesson's code.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015). Notation: z logits, T
temperature, C classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_same_shape, check_temperature, unknown

MEANS = ("arithmetic", "geometric")


def _log_soften(logits: Tensor, temperature: float) -> Tensor:
    # float32 at least (bf16 and fp16 lose the small probabilities that carry the knowledge). The
    # floor keeps 0 * log 0 = 0
    # when a probability underflows so far that its logarithm would be -inf.
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return F.log_softmax(logits / temperature, dim=-1).clamp_min(-1e30)


def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax with temperature (Hinton et al. 2015, Eq. 1): q_i = exp(z_i/T) / sum_j exp(z_j/T).

    logits: (..., C). Returns probabilities of the same shape, rows sum to 1. T = 1 is the ordinary
    softmax; T -> inf tends to the uniform distribution, T -> 0 to one-hot. Raises ``ValueError``
    unless T is finite and > 0.

    >>> [round(q, 4) for q in soften(torch.tensor([1.0, 2.0, 3.0]), 1.0).tolist()]
    [0.09, 0.2447, 0.6652]
    """
    check_temperature(temperature)
    logits = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    return F.softmax(logits / temperature, dim=-1)


def distillation_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0
) -> Tensor:
    """The distillation loss T^2 * (1/B) * sum_b KL(p_t^T || p_s^T), a scalar >= 0 that is 0 when
    student equals teacher.

    student_logits, teacher_logits: (B, C). The gradient reaches the student only. T^2 keeps the
    gradient's size when T changes (Hinton et al. 2015, section 2: soft-target gradients shrink as
    1/T^2). Soft cross-entropy instead of KL would differ by the teacher's entropy, a constant, and
    give the same gradient. The sum runs over classes, the mean over the batch alone: torch's
    ``reduction="mean"`` would divide by C as well, the most common mistake with this loss.

    Raises ``ValueError`` for shapes that differ (both are named) and unless T is finite and > 0.

    >>> z = torch.tensor([[1.0, 2.0, 3.0]])
    >>> distillation_kl(z, z, temperature=4.0).item()
    0.0
    """
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    log_p = _log_soften(teacher_logits.detach(), temperature)
    log_q = _log_soften(student_logits, temperature)
    examples = log_p.numel() // log_p.shape[-1]
    return temperature**2 / examples * F.kl_div(log_q, log_p, reduction="sum", log_target=True)


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
