"""Small tensor steps that several methods share: precision, scale, order of memory, checks."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_same_device


def precise(x: Tensor) -> Tensor:
    """Float32 at least: losses are not computed in half precision. float64 stays.

    Args:
        x: any shape.

    Returns:
        ``x`` itself, or its float32 copy where an entry has fewer than four bytes.

    Example:
        >>> precise(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x if x.dtype.itemsize >= 4 else x.float()


def full_precision(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula without autocast.

    Autocast would compute its matrix products in half precision, whatever ``precise`` made of the
    inputs.

    Args:
        formula: a function with at least one tensor among its arguments.

    Returns:
        The same function, run with autocast off on its first tensor's device.

    Example:
        >>> product = full_precision(lambda a, b: a @ b)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     product(torch.ones(1, 1), torch.ones(1, 1)).dtype
        torch.float32
    """

    @wraps(formula)
    def run(*args, **kwargs):
        device = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)).device.type
        # Asking is cheaper than a context; a device without autocast does not answer.
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return formula(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return formula(*args, **kwargs)

    return run


def readable(x: Tensor) -> bool:
    """May Python look at the values and choose its way by them?

    On a CPU that costs nothing; a GPU would have to be waited for; inside ``torch.func``'s
    transforms one tensor stands for many, and the way must be the same for all.

    Args:
        x: any shape.

    Returns:
        True on a CPU outside ``vmap``, ``grad``, ``torch.compile`` and the like.

    Example:
        >>> readable(torch.ones(2)), readable(torch.ones(2, device="meta"))
        (True, False)
    """
    if torch.compiler.is_compiling():
        return False
    # torch has no public way to ask for a transform; its own printing of tensors asks like this.
    return x.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(x)


def rescaled(x: Tensor) -> Tensor:
    """The tensor over its largest magnitude, so that squares cannot overflow.

    For formulas that do not depend on scale. The divisor counts as a constant, which leaves such a
    formula's derivatives exact: f(x / c) = f(x) for every c. Where looking at values costs nothing
    a tensor of ordinary size is left as it is.

    Args:
        x: any shape.

    Returns:
        The same shape.

    Example:
        >>> rescaled(torch.tensor([1e30, -2e30])).tolist()
        [0.5, -1.0]
    """
    # 1e-6 and 1e6: fourth powers, the most that a formula takes (lengths of rows of a Gram matrix),
    # stay within float32's 1e-38 to 1e38.
    if readable(x) and 1e-6 < float(torch.linalg.vector_norm(x.detach())) < 1e6:
        return x
    return x / x.detach().abs().amax().clamp_min(1e-30)  # zeros stay zeros


def rows(x: Tensor, like: Tensor | None = None) -> Tensor:
    """(B, ...) -> (B, N) in the order of memory, so that channels last costs no copy.

    For formulas that only sum over N.

    Args:
        x: (B, ...).
        like: whose order of memory decides; by default that of ``x``.

    Returns:
        (B, N), N the number of entries of an example.

    Example:
        >>> rows(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 48])
    """
    other = x if like is None else like
    # Under vmap torch does not tell the order of memory; there the plain one serves.
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(other)
    last = x.ndim == 4 and not wrapped and other.is_contiguous(memory_format=torch.channels_last)
    return (x.permute(0, 2, 3, 1) if last else x).flatten(1)


def same_size(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and width: the larger is average-pooled (adaptive).

    Args:
        name_a: what ``a`` is called in an error.
        a: (B, C, H, W), or vectors (B, D), which pass unchanged.
        name_b: what ``b`` is called in an error.
        b: as ``a``, with channels and size of its own.

    Returns:
        ``a`` and ``b`` of one height and width.

    Raises:
        ValueError: for different batch sizes or numbers of dimensions, with both shapes, and for
            different devices.

    Example:
        >>> a, b = same_size("a", torch.zeros(2, 3, 8, 8), "b", torch.zeros(2, 5, 4, 4))
        >>> a.shape, b.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 5, 4, 4]))
    """
    check_same_device(name_a, a, name_b, b)
    if a.ndim != b.ndim or len(a) != len(b):
        raise ValueError(
            f"{name_a} has shape {tuple(a.shape)} but {name_b} has shape {tuple(b.shape)}: both "
            "must hold the same batch, as maps (B, C, H, W) or as vectors (B, D)."
        )
    size: Any = tuple(min(p, q) for p, q in zip(a.shape[2:], b.shape[2:]))  # (H, W), or ()
    if size:
        a, b = (t if tuple(t.shape[2:]) == size else F.adaptive_avg_pool2d(t, size) for t in (a, b))
    return a, b


def check_maps(**tensors: Tensor) -> None:
    """Checks that every tensor is a map (B, C, H, W).

    Args:
        tensors: by the names that an error shall use.

    Raises:
        ValueError: with the name and the shape of the first that is none.

    Example:
        >>> check_maps(student=torch.zeros(2, 3, 4, 4), teacher=torch.zeros(2, 5, 8, 8))
    """
    for name, t in tensors.items():
        if t.ndim != 4:
            raise ValueError(
                f"{name} has shape {tuple(t.shape)}; expected maps (B, C, H, W). Choose a "
                "convolutional layer."
            )


def check_relations(student: Tensor, teacher: Tensor, least: int, what: str) -> None:
    """Checks that both hold the same batch, and enough examples for relations among them.

    Args:
        student: (B, ...).
        teacher: (B, ...).
        least: how many examples a relation takes: 2 for pairs, 3 for triplets.
        what: the relation's name in an error.

    Raises:
        ValueError: for different batches or devices, and for a batch of fewer than ``least``.

    Example:
        >>> check_relations(torch.zeros(4, 2), torch.zeros(4, 3), 2, "pairs")
    """
    check_same_device("student", student, "teacher", teacher)
    if len(student) != len(teacher):
        raise ValueError(
            f"student has shape {tuple(student.shape)} but teacher has shape "
            f"{tuple(teacher.shape)}: both must hold the same batch."
        )
    if len(student) < least:
        raise ValueError(
            f"a batch of {len(student)} (shape {tuple(student.shape)}) has no {what}: relations "
            f"need at least {least} examples. Use a larger batch_size."
        )
