"""Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble (ONE, NeurIPS 2018, arXiv
1806.04606).

One network with several copies of its upper half: the branches, weighed by a gate, make a teacher
better than each of them, and each learns from it while all train together. One branch is deployed;
it has exactly the plain network's parameters."""

import copy
import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets import Batch
from ...distiller import Distiller, check_batch, check_weight
from ...distiller.tensors import check_features, precise
from ...errors import check_same_device, check_temperature, check_variant, explained
from ...models.common import initialise
from ...softening import distillation_kl
from ...taps import Taps, cut, eval_mode, example_input
from ...taps.default_layers import numbered
from ...taps.examples import CannotRun, attempt
from ...taps.layout import channels_last, check_feature


@explained
def gated_logits(branch_logits: Tensor, gate: Tensor) -> Tensor:
    """The native ensemble: z_e = sum_i g_i z_i.

    Args:
        branch_logits: (M, B, C), or (M, B, C, ...) with an answer at every place.
        gate: (B, M), rows sum to 1.

    Returns:
        (B, C), or (B, C, ...).

    Raises:
        ValueError: For shapes that do not belong together, and different devices.

    Source:
        Lan et al., NeurIPS 2018, arXiv 1806.04606.

    Example:
        >>> z, gate = torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]]), torch.tensor([[0.5, 0.5]])
        >>> gated_logits(z, gate).tolist()
        [[1.0, 2.0]]
    """
    check_features(branch_logits=branch_logits, gate=gate)
    check_same_device("branch_logits", branch_logits, "gate", gate)
    if branch_logits.ndim < 3 or gate.shape != (branch_logits.shape[1], branch_logits.shape[0]):
        raise ValueError(
            f"branch_logits has shape {tuple(branch_logits.shape)} and gate {tuple(gate.shape)}; "
            "expected (branches, batch, classes) and (batch, branches)."
        )
    return (gate.T.reshape(*gate.T.shape, *[1] * (branch_logits.ndim - 2)) * branch_logits).sum(0)


@explained
class ONE(Distiller):
    """An ensemble of branches on one trunk teaches each of them while all train.

    L = sum_i CE_i + CE_ensemble + kd_weight * T^2 * sum_i KL(p_e^T || p_i^T) over the branches; the
    ensemble learns from labels alone. The gate: average pooling of the split's features, linear,
    batch norm, ReLU, softmax. ``deploy()`` is the student itself, the first branch.

    Args:
        student: the network to deploy.
        branches: how many, at least 2.
        split: the layer after which they part (see ``taps.cut``). By default the last but one of
            the stages layer1, layer2, ..., of the poolings inside ``features`` (VGG, AlexNet) or of
            the hidden layers relu1, relu2, ... of an ``mlp``; other networks need to be told.
        temperature: T; 3, as in the authors' code (whether in the paper, too, we could not check).
        kd_weight: >= 0.
        variant: "paper", or "code": the last term grows as exp(-5 (1 - e)^2) over the first 80 of
            300 epochs, which the authors' notes call a tip beside the paper.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: Where the network cannot be cut at ``split``, where nothing above it could
            learn, where no default is known, and for numbers that cannot be.

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
        if not isinstance(branches, (int, Integral)) or branches < 2:
            raise ValueError(
                f"branches={branches!r}: an ensemble needs at least 2, as a whole number."
            )
        self.split = default_split(student) if split is None else split
        self.temperature = check_temperature(temperature)
        self.kd_weight = check_weight("kd_weight", kd_weight, zero=True)
        self.variant, self.count = check_variant(variant), int(branches)
        mapping = isinstance(example, Mapping)
        x: Any = example_input(student, example, random=True)
        try:
            with attempt("student", student, x), eval_mode(student):
                shared = Taps(student, [self.split])(x)[1][self.split]
            _, upper = cut(student, self.split, x, copy=True)
        except CannotRun:
            raise
        except ValueError as error:
            raise ValueError(f"split={self.split!r}: {error}") from error
        if not any(True for _ in upper.parameters()):
            raise ValueError(
                f"split={self.split!r} leaves nothing above it that could learn, so that all "
                "branches would be the same: choose an earlier layer."
            )
        check_feature("student", self.split, shared, len(next(iter(x.values())) if mapping else x))
        self._last = bool(channels_last(student, [self.split], x))
        channels = shared.shape[-1 if self._last else 1]
        self.branches = nn.ModuleList(_fresh(upper) for _ in range(self.count - 1))
        self.gate = nn.Sequential(
            nn.Linear(channels, self.count), nn.BatchNorm1d(self.count), nn.ReLU(), nn.Softmax(1)
        ).to(shared)

    def forward(self, x) -> tuple[Tensor, Tensor]:
        """Branches' logits (M, B, C) and the gate (B, M)."""
        first, features = Taps(self.student, [self.split])(x)
        shared = features[self.split]
        answers = (first, *(b(shared) for b in self.branches))
        logits = torch.stack([precise(self.task.logits(z)) for z in answers])
        pooled = shared.movedim(-1, 1) if self._last else shared
        if self.training and len(shared) < 2:
            raise ValueError(
                "ONE's gate normalises over the batch, and this one has a single example: use a "
                "larger batch_size."
            )
        gate = self.gate(pooled.flatten(2).mean(2) if pooled.ndim > 2 else pooled)
        return logits, precise(gate)

    def terms(self, batch: Batch):
        check_batch(self.student, batch)
        branches, gate = self(batch.x)
        ensemble = gated_logits(branches, gate)
        places = self.task.softmax_axis(), self.task.counted(batch.y)
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
            * sum(distillation_kl(z, ensemble, self.temperature, *places) for z in branches),
        }


@explained
def default_split(net: nn.Module) -> str:
    """Where a network's branches part unless one says it: behind the last but one of its stages.

    Args:
        net: any torch module.

    Returns:
        A path.

    Raises:
        ValueError: for networks whose stages are not known by name; it lists what could be a split.

    Example:
        >>> from kdtutor.models import mlp, vgg
        >>> default_split(mlp((8, 8))), default_split(vgg())
        ('relu1', 'features.pool3')
    """
    features = getattr(net, "features", None)
    poolings = [
        f"features.{name}"
        for name, module in (features.named_children() if isinstance(features, nn.Module) else ())
        if isinstance(module, nn.MaxPool2d)
    ]
    for stages in (numbered(net, "layer"), poolings, numbered(net, "relu")):
        if stages:
            return stages[max(0, len(stages) - 2)]
    # Most networks hold nearly all of their weights in one chain of blocks: MobileNet's features,
    # ViT's encoder.layers.
    chains = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Sequential) and len(m) > 2]
    size = lambda pair: sum(p.numel() for p in pair[1].parameters())
    name, chain = max(chains, key=size, default=("", net))
    inside = [f"{name}.{child}".lstrip(".") for child, _ in chain.named_children()]
    if not inside:
        raise ValueError(
            f"{type(net).__name__} has no layers inside, behind which the branches could part: ONE "
            "needs a network of several layers."
        )
    raise ValueError(
        f"{type(net).__name__} has no stages named layer1, layer2, ... behind the last but one of "
        f"which the branches could part: pass split=, the path of a layer, such as one of {inside}."
    )


def _fresh(upper: nn.Module) -> nn.Module:
    """A copy with new random weights, so that branches differ."""
    branch = copy.deepcopy(upper)
    for module in branch.modules():
        # torch's own attention has it under another name.
        for name in ("reset_parameters", "_reset_parameters"):
            if callable(reset := getattr(module, name, None)):
                reset()
                break
    initialise(branch)
    return branch
