"""Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization
and Transfer Learning (FSP, CVPR 2017).

The flow of the solution procedure: how a layer's channels go together with an earlier layer's. The
student first learns that flow, then the task, from the labels alone."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ...datasets import Batch
from ...distiller import Layers, Offline, Outputs, Player, Stage, check_weight, label_term
from ...distiller.autograd import HandMade
from ...distiller.tensors import check_features, check_maps, full_precision, precise, same_size
from ...errors import check_same_device, check_same_shape, check_variant, explained
from ...taps.default_layers import levels
from ...teacher import Teacher


@explained
@full_precision
def fsp_matrix(first: Tensor, second: Tensor) -> Tensor:
    """How the channels of two layers go together.

    G_ij = sum over places of F1_i F2_j / (H W), one matrix product. Of maps of different sizes the
    larger is average-pooled to the smaller. The places may also be those of a signal or a volume.

    Args:
        first: (B, m, H, W), or (B, m, L), (B, m, D, H, W).
        second: (B, n, ...), as many axes.

    Returns:
        (B, m, n).

    Raises:
        ValueError: for tensors that are not maps, or of different batches.

    Source:
        Yim et al., CVPR 2017.

    Example:
        >>> fsp_matrix(torch.ones(2, 3, 4, 4), 2 * torch.ones(2, 5, 4, 4))[0, 0].tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0]
    """
    check_maps(first=first, second=second)
    dtype = torch.promote_types(precise(first).dtype, precise(second).dtype)
    first, second = (
        t.to(dtype).movedim(1, -1).flatten(1, -2)
        for t in same_size("first", first, "second", second)
    )
    return _Gram.apply(first, second) / first.shape[1]


class _Gram(HandMade):
    """(B, places, m), (B, places, n) -> (B, m, n), with gradients in the inputs' own order of
    memory: channels last needs no copies.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(first, second):
        return first.mT @ second

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @full_precision
    def backward(ctx, gradient):
        first, second = ctx.saved_tensors
        return second @ gradient.mT, first @ gradient  # G = F1^T F2


@explained
def fsp_loss(
    student_pair: tuple[Tensor, Tensor], teacher_pair: tuple[Tensor, Tensor], variant: str = "paper"
) -> Tensor:
    """How far the student's flow between two layers is from the teacher's.

    (1/B) sum_b ||G_s - G_t||_F^2, G from ``fsp_matrix``. 0 when student equals teacher. The
    gradient reaches the student only.

    Args:
        student_pair: the student's features (first, second).
        teacher_pair: the teacher's.
        variant: "paper", or "code": the mean over B*m*n, smaller by 1/(m n).

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: unless both networks have the same channels there; for an unknown variant.

    Source:
        Yim et al., CVPR 2017.

    Example:
        >>> maps = torch.ones(2, 3, 4, 4), torch.ones(2, 5, 4, 4)
        >>> fsp_loss(maps, (maps[0], 2 * maps[1])).item()  # 15 entries, each 1 apart
        15.0
    """
    check_features(student_pair=student_pair[0], teacher_pair=teacher_pair[0])
    check_same_device("student_pair", student_pair[0], "teacher_pair", teacher_pair[0])
    student, teacher = fsp_matrix(*student_pair), fsp_matrix(*teacher_pair).detach()
    check_same_shape("the student's FSP matrix", student, "the teacher's FSP matrix", teacher)
    squares = (student - teacher).square()
    return squares.mean() if check_variant(variant) == "code" else squares.sum((1, 2)).mean()


@explained
class FSP(Offline):
    """Two stages: the student learns the teacher's flow, then the task.

    Stage "flow": the sum of ``fsp_loss`` over consecutive layers trains the student up to the last;
    all pairs weigh the same (the paper). Stage "task": CE alone.

    Args:
        student: the network to train, with the teacher's channels at the layers.
        teacher: a network or a ``Teacher``.
        layers: a chain of at least two; by default what enters the first stage, then the end of
            every stage.
        flow_share: the first stage's fraction of the epochs; 1/9 is the public code's 30 of 270,
            the paper's iterations were not available to us.
        flow_lr: of Adam in the first stage, ours: the loss is a sum over m n entries whose scale
            depends on the layer, and Adam's step does not.
        fsp_weight: of the sum, > 0.
        variant: of ``fsp_loss``.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for fewer than two layers, channels that differ, bad numbers, an unknown
            variant.

    Source:
        Yim et al., CVPR 2017.

    Example:
        >>> from kdtutor.models import resnet8
        >>> distiller = FSP(resnet8(10), resnet8(10))
        >>> [stage.name for stage in distiller.stages()]
        ['flow', 'task']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        layers: Layers = None,
        flow_share: float = 1 / 9,
        flow_lr: float = 1e-3,
        fsp_weight: float = 1.0,
        variant: str = "paper",
        example: Tensor | None = None,
    ):
        super().__init__(student, teacher, layers, example)
        if len(self.layers) < 2:
            raise ValueError(
                "FSP compares flows between two layers: layers must hold at least two pairs, got "
                f"{self.layers}."
            )
        if not 0 < flow_share < 1:
            raise ValueError(
                f"flow_share={flow_share}: expected a fraction of the epochs between 0 and 1."
            )
        self.variant, self.flow_share, self.flow_lr = (
            check_variant(variant),
            float(flow_share),
            check_weight("flow_lr", flow_lr),
        )
        self.fsp_weight = check_weight("fsp_weight", fsp_weight)
        self.check_pairs(self.example_features(example), _same_channels)

    def default_layers(self, net: nn.Module) -> list[str]:
        own = levels(net)
        return [own[0] + ":input", *own]

    def stages(self):
        first = Player(
            "flow",
            self.flow_terms,
            self.lower_parameters(),
            lambda p: torch.optim.Adam(p, self.flow_lr),
        )
        return [
            Stage("flow", self.flow_share, [first]),
            Stage(
                "task",
                1 - self.flow_share,
                [Player("student", self.terms, list(self.student.parameters()))],
            ),
        ]

    def flow_terms(self, batch: Batch):
        """{"fsp": the first stage's loss}; neither network runs further than its last layer."""
        student, teacher = zip(*self.early_features(batch))
        flows = zip(pairwise(student), pairwise(teacher))
        return {"fsp": self.fsp_weight * sum(fsp_loss(s, t, self.variant) for s, t in flows)}

    def reads(self):
        return [], []

    def losses(self, outputs: Outputs):
        return label_term(outputs, 1.0)


def _same_channels(student: Tensor, teacher: Tensor) -> None:
    check_maps(student=student, teacher=teacher)
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            "FSP needs equal channels. Choose a teacher or layers of the student's width."
        )
