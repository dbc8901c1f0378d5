"""Top-1 accuracy, and ``evaluate``: the metric of a network, a distiller or an ensemble on a split
of the data.
"""

from collections.abc import Iterable

import torch
from torch import nn

from ..datasets import Batch, Data, Split
from ..distiller.plan import Distiller
from ..taps import call, eval_mode
from ..teacher import Teacher


def accuracy(net: nn.Module, batches: Iterable[Batch]) -> float:
    """Top-1 accuracy in [0, 1] of a network over batches: the default metric of ``fit`` and
    ``evaluate``.
    """
    right, seen = 0, 0
    for batch in batches:
        logits = call(net, batch.x)
        if logits.ndim != 2 or logits.shape[0] != len(batch.y):
            raise ValueError(
                f"accuracy needs logits (batch, classes); the network gave {tuple(logits.shape)} "
                "for "
                f"{len(batch.y)} labels. Pass metric= for other tasks."
            )
        right += (logits.argmax(1) == batch.y).sum()
        seen += len(batch.y)
    return float(right) / seen if seen else float("nan")


def evaluate(
    net: nn.Module | Distiller | Teacher,
    data: Data,
    split: Split | None = None,
    *,
    metric=accuracy,
    batch_size: int = 500,
) -> float:
    """A network's (a distiller's deployed network's, or an ensemble's) metric on a split of the
    data, by default the test set.

    In eval mode, without gradients; the network comes out in the mode it came in. Top-1 accuracy in
    [0, 1] by default."""
    net = net.deploy() if isinstance(net, Distiller) else net
    if isinstance(net, Teacher):
        net = _TeacherNetwork(net)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    with eval_mode(net):
        return float(
            metric(
                net, data.batches(data.test if split is None else split, batch_size, device=device)
            )
        )


class _TeacherNetwork(nn.Module):
    """A ``Teacher`` as a network, so that ensembles are measured like networks."""

    def __init__(self, teacher: Teacher):
        super().__init__()
        self.teacher, self.members = teacher, nn.ModuleList(teacher.nets)

    def forward(self, x=None, **named):
        return self.teacher(named if x is None else x)
