"""Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization
and Transfer Learning (FSP, CVPR 2017).

The flow of the solution procedure: how a layer's channels go together with an earlier layer's. The
student first learns that flow, then the task, from the labels alone."""

import torch
from torch import Tensor, nn

from ...datasets import Batch
from ...distiller import Layers, Offline, Outputs, Player, Stage, check_weight, label_term
from ...distiller.tensors import HandMade, check_maps, full_precision, precise, same_size
from ...errors import check_same_device, check_same_shape, check_variant
from ...taps.default_layers import levels, parameters_before
from ...teacher import Teacher


@full_precision
def fsp_matrix(first: Tensor, second: Tensor) -> Tensor:
    """G_ij = sum over places of F1_i F2_j / (H W): (B, m, H, W), (B, n, H, W) -> (B, m, n), one
    matrix product.

    Maps of different sizes: the larger is average-pooled to the smaller. Raises ``ValueError`` for
    tensors that are not maps."""
    check_maps(first=first, second=second)
    first, second = (
        precise(t).permute(0, 2, 3, 1).flatten(1, 2)
        for t in same_size("first", first, "second", second)
    )
    return _Gram.apply(first, second) / first.shape[1]


class _Gram(HandMade):
    """(B, HW, m), (B, HW, n) -> (B, m, n), with gradients in the inputs' own order of memory:
    channels last needs no copies.
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


def fsp_loss(
    student_pair: tuple[Tensor, Tensor], teacher_pair: tuple[Tensor, Tensor], variant: str = "paper"
) -> Tensor:
    """(1/B) sum_b ||G_s - G_t||_F^2, a scalar >= 0, of one pair of layers; 0 when student equals
    teacher.

    student_pair, teacher_pair: the features (first, second) of each network. The gradient reaches
    the student only. variant "code": the mean over B*m*n, smaller by 1/(m n). Raises ``ValueError``
    unless both networks have the same channels there."""
    check_same_device("student_pair", student_pair[0], "teacher_pair", teacher_pair[0])
    student, teacher = fsp_matrix(*student_pair), fsp_matrix(*teacher_pair).detach()
    check_same_shape("the student's FSP matrix", student, "the teacher's FSP matrix", teacher)
    squares = (student - teacher).square()
    return squares.mean() if check_variant(variant) == "code" else squares.sum((1, 2)).mean()


class FSP(Offline):
    """Stage "flow": the sum of ``fsp_loss`` over consecutive layers trains the student up to the
    last. Stage "task": CE alone.

    layers: a chain of at least two; by default what enters the first stage, then the end of every
    stage. Channels must be equal in student and teacher. All pairs weigh the same (the paper).
    flow_share: of the epochs; 1/9 is the public code's 30 of 270, the paper's iterations were not
    available to us. The first stage uses Adam at ``flow_lr``, ours: the loss is a sum over m n
    entries whose scale depends on the layer, and Adam's step does not."""

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
        self.fsp_weight, self._example = check_weight("fsp_weight", fsp_weight), example
        self.check_pairs(self.example_features(example), _same_channels)

    def default_layers(self, net: nn.Module) -> list[str]:
        own = levels(net)
        return [own[0] + ":input", *own]

    def stages(self):
        first = Player(
            "flow",
            self.flow_terms,
            parameters_before(self.student, self.student_layers, self._example),
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
        student, teacher = zip(*self.early_features(batch))
        flows = zip(zip(student, student[1:]), zip(teacher, teacher[1:]))
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
