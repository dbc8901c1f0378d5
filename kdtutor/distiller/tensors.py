"""Small tensor steps that several methods share: precision, scale, order of memory, checks."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import check_same_device

# What belongs to a feature, by the number of its axes of places: none, signal, map, volume.
LAYOUTS = "a row (B, D)", "a signal (B, C, L)", "a map (B, C, H, W)", "a volume (B, C, D, H, W)"
CONVOLUTIONS: Any = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d
NORMS: Any = nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
POOLS: Any = None, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d
# The order of memory with the channels last, by the number of a tensor's axes.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


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
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        device = "cpu" if first is None else first.device.type
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
    order = CHANNELS_LAST.get(x.ndim)
    last = order is not None and not wrapped and other.is_contiguous(memory_format=order)
    return (x.movedim(1, -1) if last else x).flatten(1)


def same_size(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both features at the smaller number of places along every axis: the larger is
    average-pooled (adaptive).

    Args:
        name_a: what ``a`` is called in an error.
        a: a signal (B, C, L), a map (B, C, H, W), a volume (B, C, D, H, W), or rows (B, D), which
            pass unchanged.
        name_b: what ``b`` is called in an error.
        b: as ``a``, with channels and size of its own.

    Returns:
        ``a`` and ``b`` with the same places.

    Raises:
        ValueError: for different batch sizes or numbers of dimensions, with both shapes, for
            different devices, and for numbers that are not floating point.

    Example:
        >>> a, b = same_size("a", torch.zeros(2, 3, 8, 8), "b", torch.zeros(2, 5, 4, 4))
        >>> a.shape, b.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 5, 4, 4]))
    """
    check_features(**{name_a: a, name_b: b})
    check_same_device(name_a, a, name_b, b)
    if a.ndim != b.ndim or len(a) != len(b):
        raise ValueError(
            f"{name_a} has shape {tuple(a.shape)}, {layout(a)}, but {name_b} has shape "
            f"{tuple(b.shape)}, {layout(b)}: both must hold the same batch in one layout, rows "
            "(B, D), signals (B, C, L), maps (B, C, H, W) or volumes (B, C, D, H, W). Tokens of an "
            "image's patches are a map as 'path:patches=14x14+1'."
        )
    size = tuple(min(p, q) for p, q in zip(a.shape[2:], b.shape[2:]))  # (H, W), or ()
    if len(size) > 3 and a.shape[2:] != b.shape[2:]:
        raise ValueError(
            f"{name_a} has shape {tuple(a.shape)} but {name_b} has shape {tuple(b.shape)}: with "
            "more than three axes of places features are compared at one size only."
        )
    a, b = (t if tuple(t.shape[2:]) == size else POOLS[len(size)](t, size) for t in (a, b))
    return a, b


def pointwise(inputs: int, outputs: int, places: int) -> Any:
    """A linear map of the channels that is the same at every place: a convolution of size 1.

    Args:
        inputs: channels that enter.
        outputs: channels that leave.
        places: axes of places, 0 (rows) to 3 (volumes).

    Returns:
        The layer, without bias.

    Example:
        >>> pointwise(2, 5, places=1)
        Conv1d(2, 5, kernel_size=(1,), stride=(1,), bias=False)
    """
    size: Any = (1,) if places else ()
    return CONVOLUTIONS[places](inputs, outputs, *size, bias=False)


def layout(x: Tensor) -> str:
    """What a feature of this many dimensions is called.

    Args:
        x: (B, ...).

    Returns:
        Words for an error.

    Example:
        >>> layout(torch.zeros(2, 3, 8))
        'a signal (B, C, L)'
    """
    places = x.ndim - 2
    return LAYOUTS[places] if 0 <= places < len(LAYOUTS) else f"with {x.ndim} axes"


def check_features(**tensors: Tensor) -> None:
    """Checks that every tensor holds numbers of examples that can be compared.

    Args:
        tensors: by the names that an error shall use.

    Raises:
        TypeError: with the name of the first that is no tensor.
        ValueError: with the name of the first that is not (B, ...) floating point with at least two
            axes and no empty one.

    Example:
        >>> check_features(student=torch.zeros(2, 3))
    """
    for name, t in tensors.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}; expected a torch.Tensor (B, ...).")
        if not t.is_floating_point():
            raise ValueError(
                f"{name} holds {t.dtype}; expected floating-point numbers. Convert it with "
                ".float(), complex numbers with torch.view_as_real."
            )
        if t.ndim < 2 or not t.numel():
            raise ValueError(
                f"{name} has shape {tuple(t.shape)}; expected (B, ...), the numbers of each "
                "example, none empty. One number per example is (B, 1)."
            )


def check_maps(**tensors: Tensor) -> None:
    """Checks that every tensor has channels and places: a signal (B, C, L), a map (B, C, H, W) or a
    volume (B, C, D, H, W).

    Args:
        tensors: by the names that an error shall use.

    Raises:
        ValueError: with the name and the shape of the first that has none, or holds no
            floating-point numbers.

    Example:
        >>> check_maps(student=torch.zeros(2, 3, 4, 4), teacher=torch.zeros(2, 5, 8, 8))
    """
    check_features(**tensors)
    for name, t in tensors.items():
        if not 3 <= t.ndim <= 5:
            raise ValueError(
                f"{name} has shape {tuple(t.shape)}, {layout(t)}; expected channels with places: "
                "signals (B, C, L), maps (B, C, H, W) or volumes (B, C, D, H, W). Choose a "
                "convolutional layer, or one of tokens read as 'path:tokens'."
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
    check_features(student=student, teacher=teacher)
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
