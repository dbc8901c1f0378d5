"""Small tensor steps that several methods share.

Gradients made by hand save a pass over memory or a matrix product. Each is of ordinary operations,
so that it can be differentiated again, and has a rule for ``torch.func.vmap``."""

import inspect
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
        if not torch.is_autocast_enabled(device):  # asking is cheaper than a context
            return formula(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return formula(*args, **kwargs)

    return run


class HandMade(torch.autograd.Function):
    """A function whose gradient is made by hand: a base for ``forward``, ``setup_context``,
    ``backward`` of ordinary operations, and ``vmap`` or ``generate_vmap_rule``.

    Example:
        >>> class Double(HandMade):
        ...     generate_vmap_rule = True
        ...     @staticmethod
        ...     def forward(x):
        ...         return 2 * x
        ...     @staticmethod
        ...     def setup_context(ctx, inputs, output):
        ...         pass
        ...     @staticmethod
        ...     def backward(ctx, gradient):
        ...         return 2 * gradient
        >>> torch.func.grad(Double.apply)(torch.tensor(1.0)).item()
        2.0
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # torch asks for forward's signature at every call; made once, a call costs half the time.
        setattr(cls.forward, "__signature__", inspect.signature(cls.forward))  # noqa: B010

    @classmethod
    def apply(cls, *args):
        """``forward`` with its gradient; for a teacher, whose gradient nobody wants, alone."""
        wanted = any(isinstance(a, Tensor) and a.requires_grad for a in args)
        # Under a transform only torch knows who has a gradient.
        if wanted or torch._C._are_functorch_transforms_active():
            return super().apply(*args)
        return cls.forward(*args)


def readable(x: Tensor) -> bool:
    """May Python look at the values and choose its way by them?

    On a CPU that costs nothing; a GPU would have to be waited for; inside ``torch.func``'s
    transforms one tensor stands for many, and the way must be the same for all.

    Args:
        x: any shape.

    Returns:
        True on a CPU outside ``vmap``, ``grad`` and the like.

    Example:
        >>> readable(torch.ones(2)), readable(torch.ones(2, device="meta"))
        (True, False)
    """
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


def directions(x: Tensor) -> Tensor:
    """Rows (the last dimension) divided by their length.

    A row of zeros has no direction: it stays 0, and its gradient is 0. ``F.normalize`` would give
    such a row, which every dead ReLU and every duplicate in a batch makes, a gradient of 1e12.

    Args:
        x: (..., D).

    Returns:
        (..., D), rows of length 1 or 0.

    Example:
        >>> directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    return unit_vectors(x)[0]


def unit_vectors(x: Tensor) -> tuple[Tensor, Tensor]:
    """``directions`` and the factor that makes them, for gradients made by hand.

    Args:
        x: (..., D).

    Returns:
        The directions (..., D) and 1 / length, or 0 for a row of zeros: (..., 1).

    Example:
        >>> unit_vectors(torch.tensor([[3.0, 4.0]]))[1].tolist()
        [[0.20000000298023224]]
    """
    return _UnitVectors.apply(x)


class _UnitVectors(HandMade):
    """u = x / |x| and i = 1 / |x|:  dL/dx = i (g_u - u (u . g_u)) - i^2 g_i u.

    i is an output so that backward can be differentiated: what it reads has a gradient too."""

    @staticmethod
    def forward(x):
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        # 1e-30: below, float32's 1 / length comes near overflow.
        inverse = torch.where(length > 1e-30, 1 / length, 0.0)
        return x * inverse, inverse

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*output)
        ctx.set_materialize_grads(False)  # nearly always only one of the two has a gradient

    @staticmethod
    def backward(ctx, by_unit, by_inverse):
        unit, inverse = ctx.saved_tensors
        gradient = None if by_unit is None else unit_vectors_backward(by_unit, unit, inverse)
        if by_inverse is not None:
            along = -by_inverse * inverse.square() * unit
            gradient = along if gradient is None else gradient + along
        return gradient

    @staticmethod
    def vmap(info, in_dims, x):
        return _UnitVectors.apply(x.movedim(in_dims[0], 0)), (0, 0)


def unit_vectors_backward(gradient: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """The gradient by x from the gradient by its direction.

    What lies along the direction changes nothing: g -> (g - u (u . g)) / |x|.

    Args:
        gradient: (..., D) by the directions.
        unit: (..., D) the directions.
        inverse: (..., 1) as ``unit_vectors`` gives it.

    Returns:
        (..., D), the gradient by x.

    Example:
        >>> unit, inverse = unit_vectors(torch.tensor([[2.0, 0.0]]))
        >>> unit_vectors_backward(torch.ones(1, 2), unit, inverse).tolist()
        [[0.0, 0.5]]
    """
    along = (gradient * unit).sum(-1, keepdim=True)
    return torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The sum of (student - teacher)^2: one pass forward, one back, and that to the student only.

    Args:
        student: (B, ...).
        teacher: the same shape; no gradient reaches it.

    Returns:
        A scalar >= 0.

    Example:
        >>> squared_distance(torch.ones(2, 3), torch.zeros(2, 3)).item()
        6.0
    """
    theirs = rows(precise(teacher.detach()), like=student)
    return _SquaredDistance.apply(rows(precise(student)), theirs)[0]


class _SquaredDistance(HandMade):
    """v = |d|^2 and d = s - t:  dL/ds = 2 g_v d + g_d.

    d is an output, as in ``_UnitVectors``: a saved difference spares backward one pass."""

    @staticmethod
    def forward(student, teacher):
        difference = student - teacher
        return difference.flatten().dot(difference.flatten()), difference

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, by_value, by_difference):
        (difference,) = ctx.saved_tensors
        gradient = by_difference
        if by_value is not None:
            gradient = difference * (2 * by_value)
            gradient = gradient if by_difference is None else gradient + by_difference
        return gradient, None

    @staticmethod
    def vmap(info, in_dims, student, teacher):
        student, teacher = (
            x if d is None else x.movedim(d, 0) for x, d in zip((student, teacher), in_dims)
        )
        difference = student - teacher  # (V, B, N): each of the V pairs has its own sum
        return (difference.square().sum((1, 2)), difference), (0, 0)


def gram(x: Tensor) -> Tensor:
    """All inner products of the rows.

    Its gradient is one matrix product, where autograd would make two.

    Args:
        x: (..., B, D).

    Returns:
        (..., B, B).

    Example:
        >>> gram(torch.tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
        [[5.0, 2.0], [2.0, 1.0]]
    """
    return _Gram.apply(x)


class _Gram(HandMade):
    """G = x x^T:  dL/dx = (g + g^T) x."""

    generate_vmap_rule = True

    @staticmethod
    @full_precision
    def forward(x):
        return x @ x.mT

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @full_precision
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (gradient + gradient.mT) @ x


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
    size = [min(p, q) for p, q in zip(a.shape[2:], b.shape[2:])]
    if size:
        a, b = (t if list(t.shape[2:]) == size else F.adaptive_avg_pool2d(t, size) for t in (a, b))
    return a, b


def check_maps(**tensors: Tensor) -> None:
    """Checks that every tensor is a map (B, C, H, W).

    Args:
        tensors: by the names that an error shall use.

    Raises:
        ValueError: with the name and the shape of the first that is none.

    Example:
        >>> check_maps(student=torch.zeros(2, 3))
        Traceback (most recent call last):
        ValueError: student has shape (2, 3); expected maps (B, C, H, W). Choose a convolutional layer.
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
