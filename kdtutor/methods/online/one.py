"""Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble (ONE, NeurIPS 2018, arXiv
1806.04606).

One network with several copies of its upper half: the branches, weighed by a gate, make a teacher
better than each of them, and each learns from it while all train together. One branch is deployed;
it has exactly the plain network's parameters."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distiller.plan import Batch, Distiller, check_batch
from ...errors import check_same_device, check_temperature, check_variant, check_weights
from ...models.common import initialise
from ...softening import distillation_kl
from ...taps import Taps, cut, eval_mode, example_input
from ...taps.default_layers import levels


def gated_logits(branch_logits: Tensor, gate: Tensor) -> Tensor:
    """The native ensemble: z_e = sum_i g_i z_i.

    Args:
        branch_logits: (M, B, C), the logits of M branches.
        gate: (B, M), rows sum to 1.

    Returns:
        (B, C).

    Raises:
        ValueError: for shapes that do not belong together, and for different devices.

    Source:
        Lan et al. 2018.

    Example:
        >>> gated_logits(torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]]), torch.tensor([[0.5, 0.5]]))
        tensor([[2., 4.]])
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
    """One network with several upper halves, which learn from the ensemble that a gate makes of
    them.

    L = sum_i CE_i + CE_ensemble + kd_weight * T^2 * sum_i KL(p_e^T || p_i^T) over the branches; the
    ensemble learns from labels alone. The gate: average pooling of the split's features, linear,
    batch norm, ReLU, softmax. ``deploy()`` is the student itself.

    Args:
        student: the network to deploy, and the first branch.
        branches: how many, at least 2.
        split: the layer after which they part, a whole child of the network; by default the last
            but one stage.
        temperature: T, finite and > 0; 3, as in the authors' code (whether in the paper, too, we
            could not check).
        kd_weight: >= 0.
        variant: "paper"; or "code", where the last term grows as exp(-5 (1 - e)^2) over the first
            80 of 300 epochs, which the authors' notes call a tip beside the paper.
        example: an input of the network, where it has no ``input_shape``.

    Raises:
        ValueError: where the network cannot be cut at ``split`` (``kdtutor.taps.cut``), where
            nothing above it could learn, and for values outside these ranges.

    Source:
        Lan, Zhu, Gong (NeurIPS 2018), arXiv 1806.04606.

    Example:
        >>> from kdtutor.models import resnet8
        >>> distiller = ONE(resnet8(classes=3, channels=1), branches=2)
        >>> distiller.split, [name for name, _ in distiller.branches[0].named_children()]
        ('layer2', ['layer3', 'pool', 'fc'])
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
        lower, upper = cut(student, split, example=x, copy=True)
        if "." in split:  # a block's own end is no place where the paper's branches part
            raise ValueError(
                f"{type(student).__name__} cannot be cut after {split!r}: branches part between "
                "whole children of the network. Pass split=, one of "
                f"{[name for name, _ in student.named_children()]}."
            )
        with eval_mode(lower):
            shared = lower(x)
        if not any(True for _ in upper.parameters()):
            raise ValueError(
                f"split={split!r} leaves nothing above it that could learn, so that all branches "
                "would be the same: "
                "choose an earlier layer."
            )
        self.branches = nn.ModuleList(_fresh(upper) for _ in range(branches - 1))
        self.gate = nn.Sequential(
            nn.Linear(shared.shape[1], branches), nn.BatchNorm1d(branches), nn.ReLU(), nn.Softmax(1)
        ).to(shared)

    def forward(self, x) -> tuple[Tensor, Tensor]:
        """Branches' logits (M, B, C) and the gate (B, M)."""
        first, features = Taps(self.student, [self.split])(x)
        shared = features[self.split]
        logits = torch.stack([first.float(), *(branch(shared).float() for branch in self.branches)])
        return logits, self.gate(shared.flatten(2).mean(2) if shared.ndim > 2 else shared).float()

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
            "ce": sum(F.cross_entropy(z, batch.y) for z in branches),
            "ce_ensemble": F.cross_entropy(ensemble, batch.y),
            "kd": ramp
            * self.kd_weight
            * sum(distillation_kl(z, ensemble, self.temperature) for z in branches),
        }


def _fresh(upper: nn.Module) -> nn.Module:
    """A copy with new random weights, so that branches differ."""
    branch = copy.deepcopy(upper)
    for module in branch.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    initialise(branch)
    return branch
