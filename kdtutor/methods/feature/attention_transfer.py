"""Zagoruyko, Komodakis: Paying More Attention to Attention (ICLR 2017, arXiv 1612.03928).

Where does a network look? A map of how strongly its channels respond at each place; or the gradient
of its loss with respect to the pixels. The student learns to look where the teacher looks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distiller import Layers, Offline, Outputs, check_weight, label_term
from ...distiller.autograd import HandMade, directions
from ...distiller.tensors import check_maps, precise, readable, same_size
from ...errors import check_same_shape, check_variant, unknown
from ...teacher import Teacher

KINDS = ("sum", "max")


def attention_map(features: Tensor, kind: str = "sum", p: float = 2) -> Tensor:
    """Where a layer responds, not normalised.

    kind "sum": F_sum^p = sum_c |A_c|^p (p = 1: F_sum). kind "max": F_max^p = max_c |A_c|^p.
    Absolute values, so that odd p is right for signed features too (public code omits them).

    Args:
        features: (B, C, H, W).
        kind: "sum" or "max".
        p: > 0; the larger, the more the strongest places count.

    Returns:
        (B, H, W).

    Raises:
        ValueError: for an unknown kind, p <= 0 or features that are not maps.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928.

    Example:
        >>> attention_map(torch.tensor([3.0, -4.0]).reshape(1, 2, 1, 1)).item()
        25.0
    """
    check_maps(features=features)
    if kind not in KINDS:
        raise unknown("kind of attention map", kind, KINDS)
    if not 0 < p < float("inf"):
        raise ValueError(
            f"p={p}: the exponent of an attention map must be finite and > 0 (the paper uses 2)."
        )
    features = precise(features)
    if p == 2 and kind == "sum":  # the paper's own, in two passes over memory instead of three
        return _SumOfSquares.apply(features)
    powers = (
        features.square() if p == 2 else features.abs() if p == 1 else _power(features.abs(), p)
    )
    return powers.sum(1) if kind == "sum" else powers.amax(1)


class _SumOfSquares(HandMade):
    """sum_c A_c^2 in two passes over A, one forward and one backward: about half the time of
    ``square().sum(1)``.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(features):
        norm = torch.linalg.vector_norm(features, dim=1)
        return norm.mul_(norm)  # vmap knows mul_, but not square_

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):  # dL/dA_c = 2 A_c g
        (features,) = ctx.saved_tensors
        return features * (2 * gradient).unsqueeze(1)


def _power(x: Tensor, p: float) -> Tensor:
    """x^p for x >= 0; the gradient at 0 is 0 for p < 1 too, where the derivative is infinite."""
    there = x > 0
    return torch.where(there, x, 1).pow(p) * there


def _tamed(x: Tensor) -> Tensor:
    """Each example over its largest magnitude: squares neither overflow nor vanish. Only for what
    is normalised afterwards.
    """
    largest = x.detach().abs().amax(tuple(range(1, x.ndim)), keepdim=True)
    return x / torch.where(largest > 1e-30, largest, 1)  # 1e-30 and below counts as zeros


def _comparable_map(features: Tensor, kind: str, p: float) -> Tensor:
    """``attention_map`` up to a factor per example, whatever the features' scale. Taming costs as
    much as the map itself, and on a CPU, where looking at values costs nothing, it waits until it
    is needed."""
    features = precise(features)
    if readable(features):
        plain = attention_map(features, kind, p)
        top = plain.detach().flatten(1).amax(1)
        # The map's squares, which its length sums, stay within float32's about 1e-45 to 1e38.
        if bool(((top > 1e-20) & (top < 1e20)).all()):
            return plain
    return attention_map(_tamed(features), kind, p)


def _normalised(values: Tensor) -> Tensor:
    """(B, ...) -> (B, N), rows of length 1, at any scale; zeros stay zeros."""
    return directions(_tamed(precise(values).flatten(1)))


def attention_loss(
    student: Tensor, teacher: Tensor, p: float = 2, variant: str = "paper", kind: str = "sum"
) -> Tensor:
    """How far the student looks from where the teacher looks.

    (1/B) sum_b || Q_s/||Q_s||_2 - Q_t/||Q_t||_2 ||_2, Q the flattened ``attention_map``. 0 when
    student equals teacher (also up to a factor). The gradient reaches the student only.

    Args:
        student: features (B, C, H, W) of one pair of layers.
        teacher: the other's; channels may differ, and the larger map is average-pooled to the
            smaller.
        p: of ``attention_map``.
        variant: "paper", or "code": the mean over B*H*W of the squared difference, that is
            mean_b (norm_b^2) / (H W).
        kind: of ``attention_map``.

    Returns:
        A scalar in [0, sqrt 2].

    Raises:
        ValueError: for different batches, tensors that are not maps, an unknown kind or variant, p
            <= 0.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928.

    Example:
        >>> features = torch.rand(2, 3, 4, 4)
        >>> attention_loss(features, 2 * features).item() < 1e-6
        True
    """
    check_maps(student=student, teacher=teacher)
    student, teacher = same_size("student", student, "teacher", teacher.detach())
    difference = _normalised(_comparable_map(student, kind, p)) - _normalised(
        _comparable_map(teacher, kind, p)
    )
    return (
        difference.square().mean()
        if check_variant(variant) == "code"
        else torch.linalg.vector_norm(difference, dim=1).mean()
    )


def full_activation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``attention_loss`` without the map: what is lost and won by aggregating.

    (1/B) sum_b || F_s/||F_s||_2 - F_t/||F_t||_2 ||_2 over all channels and places. The gradient
    reaches the student only.

    Args:
        student: (B, C, H, W).
        teacher: (B, C, H, W) with equal channels; the larger map is average-pooled to the smaller.

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: for different batches, channels or devices.

    Example:
        >>> features = torch.rand(2, 3, 4, 4)
        >>> round(full_activation_loss(-features, features).item(), 4)
        2.0
    """
    student, teacher = same_size("student", student, "teacher", teacher)
    check_same_shape("student", student, "teacher", teacher)
    return torch.linalg.vector_norm(
        _normalised(student) - _normalised(teacher.detach()), dim=1
    ).mean()


def gradient_attention_loss(student_grad: Tensor, teacher_grad: Tensor) -> Tensor:
    """How far the student's input gradients are from the teacher's.

    (1/B) sum_b ||J_s - J_t||_2^2, J = d CE / d x of each example. 0 when student equals teacher.
    The paper prints the norm without the square but derives its gradient with it, beta (J_s - J_t)
    d^2 CE / dW dx; so the square. The gradient reaches the student only.

    Args:
        student_grad: (B, ...).
        teacher_grad: the same shape.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: for shapes that differ.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928.

    Example:
        >>> gradient_attention_loss(torch.ones(2, 3), torch.zeros(2, 3)).item()
        3.0
    """
    check_same_shape("student_grad", student_grad, "teacher_grad", teacher_grad)
    return (
        (precise(student_grad) - precise(teacher_grad.detach())).square().flatten(1).sum(1).mean()
    )


class AttentionTransfer(Offline):
    """The student learns to look where the teacher looks.

    L = CE + (at_weight / 2) * sum over pairs of layers of ``attention_loss``; variant "code":
    CE + at_weight * sum.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        layers: pairs of paths to maps; by default the ends of all stages.
        at_weight: None: 12.8, for the code 1000. We found no number in the paper; its author names
            "about 0.1", 1000 / (H W B), for a loss summed over the batch: for our mean
            0.1 * 128 = 12.8.
        p: of ``attention_map``.
        kind: of ``attention_map``.
        variant: of ``attention_loss``.
        ce_weight: of the label term, >= 0.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers, layers that are not maps, an unknown kind or variant.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> some = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> list(AttentionTransfer(resnet8(10), resnet8(10)).terms(some))
        ['ce', 'at']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = None,
        at_weight: float | None = None,
        p: float = 2,
        kind: str = "sum",
        variant: str = "paper",
        ce_weight: float = 1.0,
        example: Tensor | None = None,
    ):
        super().__init__(student, teacher, layers, example)
        self.p, self.kind, self.variant = p, kind, check_variant(variant)
        self.ce_weight = check_weight("ce_weight", ce_weight, zero=True)
        self.at_weight = check_weight(
            "at_weight",
            at_weight if at_weight is not None else 12.8 if variant == "paper" else 1000.0,
        )
        self.check_pairs(
            self.example_features(example), lambda s, t: attention_loss(s, t, p, variant, kind)
        )

    def losses(self, outputs: Outputs):
        total = sum(
            attention_loss(s, t, self.p, self.variant, self.kind) for s, t in self.pairs(outputs)
        )
        factor = self.at_weight / 2 if self.variant == "paper" else self.at_weight
        return label_term(outputs, self.ce_weight) | {"at": factor * total}


class FullActivationTransfer(Offline):
    """The paper's F-ActT: full activations instead of maps.

    L = CE + (at_weight / 2) * sum over pairs of layers of ``full_activation_loss``. A 1x1
    convolution takes the student's channels to the teacher's where they differ. The paper says that
    F-ActT compares full activations; weight and normalisation are left open and are ours.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        layers: pairs of paths to maps; by default the ends of all stages.
        at_weight: as in ``AttentionTransfer``.
        ce_weight: of the label term, >= 0.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers and layers that are not maps.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> some = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> list(FullActivationTransfer(resnet8(10), resnet8(10)).terms(some))
        ['ce', 'full']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = None,
        at_weight: float = 12.8,
        ce_weight: float = 1.0,
        example: Tensor | None = None,
    ):
        super().__init__(student, teacher, layers, example)
        self.at_weight, self.ce_weight = (
            check_weight("at_weight", at_weight),
            check_weight("ce_weight", ce_weight, zero=True),
        )
        self.connectors = nn.ModuleList(
            self.check_pairs(self.example_features(example), _connector)
        )

    def losses(self, outputs: Outputs):
        total = sum(
            full_activation_loss(connect(s), t)
            for connect, (s, t) in zip(self.connectors, self.pairs(outputs))
        )
        return label_term(outputs, self.ce_weight) | {"full": self.at_weight / 2 * total}


def _connector(student: Tensor, teacher: Tensor) -> nn.Module:
    check_maps(student=student, teacher=teacher)
    a, b = student.shape[1], teacher.shape[1]
    return nn.Identity() if a == b else nn.Conv2d(a, b, 1, bias=False).to(student)


class GradientAttentionTransfer(Offline):
    """The student learns to which pixels the teacher's loss is sensitive.

    L = CE + (at_weight / 2) * ``gradient_attention_loss``, J = d CE / d x of each network: double
    backpropagation. Each J is of the example's own loss, not of the batch's mean; the student's
    runs in training mode, where batch normalisation couples the examples a little, the teacher's in
    eval mode.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher`` of one network.
        at_weight: the paper gives none for gradients; 1 is ours, and much for networks with steep
            losses, which then diverge: lower it.
        ce_weight: of the label term, >= 0.
        example: a small batch of inputs, a tensor: student and teacher are tried on it at once.

    Raises:
        ValueError: for bad numbers, different classes and an ensemble, which has no single
            gradient.

    Source:
        Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> some = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> list(GradientAttentionTransfer(resnet8(10), resnet8(10)).terms(some))
        ['ce', 'gradient']
    """

    input_gradient = uses_logits = True

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        at_weight: float = 1.0,
        ce_weight: float = 1.0,
        example: Tensor | None = None,
    ):
        super().__init__(student, teacher, example=example)
        _ = self.teacher.net  # raises for an ensemble, which has no single gradient
        self.at_weight, self.ce_weight = (
            check_weight("at_weight", at_weight),
            check_weight("ce_weight", ce_weight, zero=True),
        )

    def losses(self, outputs: Outputs):
        y = outputs.batch.y
        own = outputs.input_gradient(F.cross_entropy(outputs.student_logits, y, reduction="sum"))
        theirs, *_ = self.teacher.input_gradient(
            outputs.batch, lambda z, _: F.cross_entropy(precise(z), y, reduction="none")
        )
        return label_term(outputs, self.ce_weight) | {
            "gradient": self.at_weight / 2 * gradient_attention_loss(own, theirs)
        }
