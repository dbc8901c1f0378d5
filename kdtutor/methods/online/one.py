"""Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble (ONE, NeurIPS 2018, arXiv
1806.04606).

One network with several copies of its upper half: the branches, weighed by a gate, make a teacher
better than each of them, and each learns from it while all train together. One branch is deployed;
it has exactly the plain network's parameters."""

import copy
import math

import torch
from torch import Tensor, nn

from ...datasets import Batch
from ...distiller import Distiller, check_batch
from ...distiller.tensors import precise
from ...errors import check_same_device, check_temperature, check_variant, check_weights
from ...models.common import initialise
from ...softening import distillation_kl
from ...taps import Taps, cut, eval_mode, example_input, logits_of
from ...taps.default_layers import levels
from ...taps.examples import attempt


def gated_logits(branch_logits: Tensor, gate: Tensor) -> Tensor:
    """The native ensemble: z_e = sum_i g_i z_i.

    Args:
        branch_logits: (M, B, C).
        gate: (B, M), rows sum to 1.

    Returns:
        (B, C).

    Raises:
        ValueError: For shapes that do not belong together, and different devices.

    Source:
        Lan et al., NeurIPS 2018, arXiv 1806.04606.

    Example:
        >>> z, gate = torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]]), torch.tensor([[0.5, 0.5]])
        >>> gated_logits(z, gate).tolist()
        [[1.0, 2.0]]
    """
    check_same_device("branch_logits", branch_logits, "gate", gate)
    if branch_logits.ndim != 3 or gate.shape != (branch_logits.shape[1], branch_logits.shape[0]):
        raise ValueError(
            f"branch_logits has shape {tuple(branch_logits.shape)} and gate {tuple(gate.shape)}; "
            "expected (branches, batch, "
            "classes) and (batch, branches)."
        )
    return (gate.T[..., None] * branch_logits).sum(0)


class ONE(Distiller):
    """An ensemble of branches on one trunk teaches each of them while all train.

    L = sum_i CE_i + CE_ensemble + kd_weight * T^2 * sum_i KL(p_e^T || p_i^T) over the branches; the
    ensemble learns from labels alone. The gate: average pooling of the split's features, linear,
    batch norm, ReLU, softmax. ``deploy()`` is the student itself, the first branch.

    Args:
        student: the network to deploy.
        branches: how many, at least 2.
        split: the layer after which they part (see ``taps.cut``), by default the last but one
            level.
        temperature: T; 3, as in the authors' code (whether in the paper, too, we could not check).
        kd_weight: >= 0.
        variant: "paper", or "code": the last term grows as exp(-5 (1 - e)^2) over the first 80 of
            300 epochs, which the authors' notes call a tip beside the paper.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: Where the network cannot be cut at ``split``, where nothing above it could
            learn, and for numbers that cannot be.

    Source:
        Lan et al., NeurIPS 2018, arXiv 1806.04606.

    Example:
        >>> from kdtutor.models import resnet8
        >>> one = ONE(resnet8(classes=3), branches=2)
        >>> one.split, tuple(one(torch.rand(4, 3, 32, 32))[1].shape)
        ('layer2', (4, 2))
    """

    def __init__(
        self,
        student: nn.Module,
        branches: int = 3,
        split: str | None = None,
        temperature: float = 3.0,
        kd_weight: float = 1.0,
        variant: str = "paper",
        example: Tensor | None = None,
    ):
        super().__init__(student)
        if branches < 2:
            raise ValueError(f"branches={branches}: an ensemble needs at least 2.")
        check_weights(ce_weight=1.0, kd_weight=kd_weight)
        if split is None:
            own = levels(student)
            split = own[max(0, len(own) - 2)]
        self.split, self.temperature, self.kd_weight = (
            split,
            check_temperature(temperature),
            float(kd_weight),
        )
        self.variant, self.count = check_variant(variant), int(branches)
        x = example_input(student, example, random=True)
        with attempt("student", student, x), eval_mode(student):
            logits, features = Taps(student, [split])(x)
        shared = features[split]
        _, upper = cut(student, split, x, copy=True)
        if not any(True for _ in upper.parameters()):
            raise ValueError(
                f"split={split!r} leaves nothing above it that could learn, so that all branches "
                "would be the same: "
                "choose an earlier layer."
            )
        self.branches = nn.ModuleList(_fresh(upper) for _ in range(branches - 1))
        self.gate = nn.Sequential(
            nn.Linear(shared.shape[1], branches), nn.BatchNorm1d(branches), nn.ReLU(), nn.Softmax(1)
        ).to(logits_of(logits))

    def forward(self, x) -> tuple[Tensor, Tensor]:
        """Branches' logits (M, B, C) and the gate (B, M)."""
        first, features = Taps(self.student, [self.split])(x)
        shared = features[self.split]
        answers = (first, *(branch(shared) for branch in self.branches))
        logits = torch.stack([precise(self.task.logits(z)) for z in answers])
        gate = self.gate(shared.flatten(2).mean(2) if shared.ndim > 2 else shared)
        return logits, precise(gate)

    def terms(self, batch: Batch):
        check_batch(self.student, batch)
        branches, gate = self(batch.x)
        ensemble = gated_logits(branches, gate)
        ramp = (
            1.0
            if self.variant == "paper"
            else math.exp(-5 * (1 - min(self.progress * 300 / 80, 1)) ** 2)
        )
        return {
            "ce": sum(self.task.loss(z, batch.y) for z in branches),
            "ce_ensemble": self.task.loss(ensemble, batch.y),
            "kd": ramp
            * self.kd_weight
            * sum(distillation_kl(z, ensemble, self.temperature) for z in branches),
        }


def _fresh(upper: nn.Module) -> nn.Module:
    """A copy with new random weights, so that branches differ."""
    branch = copy.deepcopy(upper)
    for module in branch.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    initialise(branch)
    return branch
