"""Small tensor steps that several methods share."""

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import check_same_device


def precise(x: Tensor) -> Tensor:
    """float32 at least: losses are not computed in half precision. float64 stays."""
    return x if x.dtype.itemsize >= 4 else x.float()


def full_precision(formula: Callable) -> Callable:
    """The formula without autocast, which would compute its matrix products in half precision
    whatever ``precise`` made of the inputs.
    """

    @wraps(formula)
    def run(*args, **kwargs):
        device = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)).device.type
        with torch.autocast(device, enabled=False):
            return formula(*args, **kwargs)

    return run


def rescaled(x: Tensor) -> Tensor:
    """The tensor over its largest magnitude, for formulas that do not depend on scale: their
    squares cannot overflow.

    The divisor counts as a constant, which leaves such a formula's gradient exact. On a CPU, where
    looking at values costs nothing, a tensor of ordinary size is left as it is."""
    if x.device.type == "cpu" and 1e-6 < float(torch.linalg.vector_norm(x.detach())) < 1e6:
        return x
    return x / x.detach().abs().amax().clamp_min(1e-30)


def rows(x: Tensor, like: Tensor | None = None) -> Tensor:
    """(B, ...) -> (B, N) in the order of memory (of ``like``), so that channels last costs no copy:
    for formulas that only sum over N.
    """
    last = x.ndim == 4 and (x if like is None else like).is_contiguous(
        memory_format=torch.channels_last
    )
    return (x.permute(0, 2, 3, 1) if last else x).flatten(1)


def directions(x: Tensor) -> Tensor:
    """Rows (the last dimension) divided by their length. A row of zeros has no direction: it stays
    0, and its gradient is 0.

    ``F.normalize`` would give such a row, which every dead ReLU and every duplicate in a batch
    makes, a gradient of 1e12."""
    return _Directions.apply(x)


class _Directions(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        unit, inverse = unit_vectors(x)
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return unit_vectors_backward(gradient, *ctx.saved_tensors)


def unit_vectors(x: Tensor) -> tuple[Tensor, Tensor]:
    """``directions`` and the factor that makes them, 1 / length or 0: without a graph, for
    gradients made by hand.
    """
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = torch.where(length > 1e-30, 1 / length, 0.0)
    return x * inverse, inverse


def unit_vectors_backward(gradient: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """The gradient by x from the gradient by its direction: what lies along the direction changes
    nothing.
    """
    along = (gradient * unit).sum(-1, keepdim=True)
    return torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The sum of (student - teacher)^2 over two tensors of one shape: one pass forward, one back,
    and that to the student only.
    """
    return _SquaredDistance.apply(
        rows(precise(student)), rows(precise(teacher.detach()), like=student)
    )


class _SquaredDistance(torch.autograd.Function):
    @staticmethod
    @full_precision
    def forward(ctx, student, teacher):
        difference = student - teacher
        ctx.save_for_backward(difference)
        return difference.flatten().dot(difference.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (difference,) = ctx.saved_tensors
        return difference * (2 * gradient), None


def gram(x: Tensor) -> Tensor:
    """All inner products of the rows: (..., B, D) -> (..., B, B). Its gradient is one matrix
    product, where autograd would make two.
    """
    return _Gram.apply(x)


class _Gram(torch.autograd.Function):
    @staticmethod
    @full_precision
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x @ x.mT

    @staticmethod
    @full_precision
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (gradient + gradient.mT) @ x


def same_size(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps (B, C, H, W) at the smaller height and width: the larger is average-pooled
    (adaptive). Vectors pass unchanged.

    Raises ``ValueError`` with both shapes for different batch sizes or numbers of dimensions, and
    for different devices."""
    check_same_device(name_a, a, name_b, b)
    if a.ndim != b.ndim or len(a) != len(b):
        raise ValueError(
            f"{name_a} has shape {tuple(a.shape)} but {name_b} has shape {tuple(b.shape)}: both "
            "must hold the same batch, "
            "as maps (B, C, H, W) or as vectors (B, D)."
        )
    size = tuple(min(p, q) for p, q in zip(a.shape[2:], b.shape[2:]))
    if size:
        a, b = (t if tuple(t.shape[2:]) == size else F.adaptive_avg_pool2d(t, size) for t in (a, b))
    return a, b


def check_maps(**tensors: Tensor) -> None:
    """Raises ``ValueError`` with the shape unless every tensor is a map (B, C, H, W)."""
    for name, t in tensors.items():
        if t.ndim != 4:
            raise ValueError(
                f"{name} has shape {tuple(t.shape)}; expected maps (B, C, H, W). Choose a "
                "convolutional layer."
            )


def check_relations(student: Tensor, teacher: Tensor, least: int, what: str) -> None:
    """Raises ``ValueError`` unless both hold the same batch of at least ``least`` examples."""
    check_same_device("student", student, "teacher", teacher)
    if len(student) != len(teacher):
        raise ValueError(
            f"student has shape {tuple(student.shape)} but teacher has shape "
            f"{tuple(teacher.shape)}: both must hold the "
            "same batch."
        )
    if len(student) < least:
        raise ValueError(
            f"a batch of {len(student)} (shape {tuple(student.shape)}) has no {what}: relations "
            f"need at least {least} "
            "examples. Use a larger batch_size."
        )
