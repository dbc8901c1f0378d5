"""Heo, Lee, Yun, Choi: Knowledge Transfer via Distillation of Activation Boundaries Formed by
Hidden Neurons (AB, AAAI 2019).

What a hidden ReLU neuron decides is whether it fires. The student first learns these decisions of
the teacher, neuron by neuron, with a margin; then the task, from the labels alone. All features are
taken before the ReLU."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets import Batch
from ...distiller import Layers, Offline, Outputs, Player, Stage, check_weight, label_term
from ...distiller.tensors import NORMS, check_features, pointwise, precise, same_size
from ...errors import check_same_shape, check_variant, explained
from ...taps import eval_mode
from ...taps.default_layers import before_relu, levels
from ...teacher import Teacher

CODE = 3 / 1000  # the factor of the authors' code


@explained
def activation_boundary_loss(
    student: Tensor, teacher: Tensor, margin: float = 1.0, variant: str = "paper"
) -> Tensor:
    """How far the student's neurons are from the teacher's side of their boundary.

    (1/B) sum_b sum over neurons of relu(margin - s)^2 where the teacher's neuron fires (t > 0),
    else relu(margin + s)^2. It is 0 where every student neuron is on the teacher's side by at least
    the margin: how strongly a neuron fires does not matter, so a student equal to its teacher has 0
    only if |t| >= margin everywhere. The gradient reaches the student only.

    Args:
        student: (B, ...) features before the ReLU.
        teacher: the same shape.
        margin: finite and > 0.
        variant: "paper", or "code": the same times 3/1000.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: for shapes that differ, a margin that is not > 0, an unknown variant.

    Source:
        Heo et al., AAAI 2019; the factor from the authors' code.

    Example:
        >>> import torch
        >>> s, t = torch.tensor([[0.5, -2.0]]), torch.tensor([[3.0, -0.1]])
        >>> activation_boundary_loss(s, t).item()
        0.25
    """
    check_features(student=student, teacher=teacher)
    check_same_shape("student", student, "teacher", teacher)
    if not 0 < margin < float("inf"):
        raise ValueError(f"margin={margin}: it must be finite and > 0 (the authors use 1).")
    student = precise(student)
    # 1 - 2 [t > 0] is the sign that turns both cases into one.
    missing = F.relu(margin + student * (1 - 2 * (teacher.detach() > 0).to(student.dtype)))
    return missing.square().sum() / len(student) * (CODE if check_variant(variant) == "code" else 1)


@explained
class ActivationBoundary(Offline):
    """Two stages: the student learns where the teacher's neurons fire, then the task.

    Stage "boundaries": sum over layers of ab_weight / 2^(layers above) *
    ``activation_boundary_loss`` trains the student up to its last layer, and where a layer's
    channels are more or fewer than the teacher's a connector (1x1 convolution, or a linear map
    of rows, and batch norm) between them, as in the authors' code. Stage "task": CE alone. The
    larger of two maps (signals, volumes) is average-pooled to the smaller.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        layers: pairs of paths; by default what enters the ReLU at the end of every stage.
        margin: of ``activation_boundary_loss``.
        ab_weight: of the last layer, half of it for each layer below; 3/1000 as in the authors'
            code.
        boundary_share: the first stage's fraction of the epochs; 1/9 is the public code's 30 of
            270. The paper's weights, margin and epochs were not available to us.
        variant: "paper", or "code": the authors' second stage for CIFAR-10, KL(p_t^T || p_s^T) at T
            = 3 without labels and without the factor T^2.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers, an unknown variant, layers that do not exist or cannot be
            paired.

    Source:
        Heo et al., AAAI 2019, and the authors' code.

    Example:
        >>> from kdtutor.models import resnet8
        >>> distiller = ActivationBoundary(resnet8(10), resnet8(10))
        >>> [stage.name for stage in distiller.stages()]
        ['boundaries', 'task']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = None,
        margin: float = 1.0,
        ab_weight: float = CODE,
        boundary_share: float = 1 / 9,
        variant: str = "paper",
        example: Tensor | None = None,
    ):
        self._example, self.variant = example, check_variant(variant)
        super().__init__(student, teacher, layers, example)
        if not 0 < boundary_share < 1:
            raise ValueError(
                f"boundary_share={boundary_share}: expected a fraction of the epochs between 0 "
                "and 1."
            )
        self.margin, self.ab_weight, self.boundary_share = (
            float(margin),
            check_weight("ab_weight", ab_weight),
            float(boundary_share),
        )
        self.connectors = nn.ModuleList(
            self.check_pairs(self.example_features(example), self._connector)
        )

    @property
    def uses_logits(self) -> bool:  # type: ignore[override]  # here the variant decides
        return self.variant == "code"

    def default_layers(self, net: nn.Module) -> list[str]:
        return [before_relu(net, path, self._example) for path in levels(net)]

    def stages(self):
        lower = self.lower_parameters()
        return [
            Stage(
                "boundaries",
                self.boundary_share,
                [Player("lower", self.boundary_terms, [*lower, *self.connectors.parameters()])],
            ),
            Stage(
                "task",
                1 - self.boundary_share,
                [Player("student", self.terms, list(self.student.parameters()))],
            ),
        ]

    def boundary_terms(self, batch: Batch):
        """{"ab": the first stage's weighted loss}, a layer counts twice the one below it."""
        total, above = 0.0, len(self.layers)
        for connect, (own, theirs) in zip(self.connectors, self.early_features(batch)):
            above -= 1
            s, t = same_size("student", connect(own), "teacher", theirs)
            total = total + activation_boundary_loss(s, t, self.margin) / 2**above
        return {"ab": self.ab_weight * total}

    def reads(self):
        return [], []

    def losses(self, outputs: Outputs):
        if self.variant == "code":
            return {"kd": outputs.divergence(3.0) / 3.0**2}
        return label_term(outputs, 1.0)

    def _connector(self, student: Tensor, teacher: Tensor) -> nn.Module:
        a, b = student.shape[1], teacher.shape[1]
        if student.ndim != teacher.ndim or not 2 <= student.ndim <= 5:
            raise ValueError(
                "choose two layers of one layout, vectors (D,), signals (C, L), maps (C, H, W) or "
                "volumes (C, D, H, W). Tokens of an image's patches are a map as "
                "'path:patches=14x14+1'."
            )
        made = _between(a, b, places=student.ndim - 2).to(student)
        with eval_mode(made):
            activation_boundary_loss(
                *same_size("student", made(student), "teacher", teacher), self.margin
            )
        return made


def _between(a: int, b: int, places: int) -> nn.Module:
    """What leads from a channels to b: nothing where they are as many. There the boundaries would
    be learned in the part that is thrown away.
    """
    if a == b:
        return nn.Identity()
    step = pointwise(a, b, places)
    nn.init.normal_(step.weight, std=math.sqrt(2 / b))  # as in the authors' code
    return nn.Sequential(step, NORMS[places](b))
