"""Functions whose gradients are made by hand: they save a pass over memory or a matrix product.

Each gradient is of ordinary operations, so that it can be differentiated again, and has a rule for
``torch.func.vmap``."""

import inspect

import torch
from torch import Tensor

from .tensors import full_precision, precise, rows


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
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> Double.apply(x).backward(), x.grad.item()
        (None, 2.0)
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
