"""``evaluate``: the metric of a network, a distiller or an ensemble on a split of the data."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from ..datasets import Batch, Data, Split
from ..distiller import Distiller
from ..errors import explained
from ..taps import eval_mode
from ..tasks import Metric, accuracy
from ..teacher import Teacher

__all__ = ["accuracy", "chosen", "evaluate", "measure"]


@explained
def evaluate(
    net: nn.Module | Distiller | Teacher,
    data: Data,
    split: Split | None = None,
    *,
    metric: Metric | Callable | None = None,
    batch_size: int = 500,
) -> float | dict[str, float]:
    """A network's metric on a split of the data, in eval mode and without gradients; the network
    comes out in the mode in which it came.

    Args:
        net: a network, a distiller (its deployed network), or a ``Teacher`` (ensembles too).
        data: where the normalisation and the task come from.
        split: by default the test set.
        metric: ``(net, batches) -> float``, or a mapping of floats; by default the first of the
            data's task: top-1 accuracy in [0, 1] for classes.
        batch_size: examples at once.

    Returns:
        The number, or the mapping where the metric gives one of several.

    Raises:
        ValueError: where the data have no test set, or neither they nor the call say what to
            measure.

    Example:
        >>> from kdtutor.datasets import load
        >>> from kdtutor.models import mlp
        >>> 0 <= evaluate(mlp([8], inputs=64, classes=10), load("digits")) <= 1
        True
    """
    check_data(data)
    split = data.test if split is None else split
    if split is None or not len(split):
        own = " such as data.validation," if getattr(data, "validation", None) is not None else ""
        raise ValueError(
            f"{data.name} has no test set: pass split=,{own} the examples to measure on."
        )
    values = measure(
        net, data.batches(split, batch_size, device=device_of(net)), chosen(metric, data)
    )
    return next(iter(values.values())) if len(values) == 1 else values


def check_data(data) -> None:
    """Raises ``TypeError`` for anything but kdtutor's data."""
    if not all(hasattr(data, name) for name in ("batches", "task", "test")):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a kdtutor.datasets.Data: "
            "Data('mine', class_names, Split(x, y), Split(x_test, y_test)) of tensors in memory, "
            "load('path/to/folder') of images, from_loaders(train, test) of DataLoaders or of "
            "Datasets of torch, or a GeneratedData, which makes its batches."
        )


def chosen(metric: Metric | Callable | None, data: Data) -> Metric:
    """The metric that was asked for, or the task's own. Raises ``ValueError`` without one."""
    if metric is None and not data.task.metrics:
        raise ValueError(
            f"{data.name} has no labels, so there is nothing to measure: pass metric=, a function "
            "(net, batches) -> float."
        )
    return Metric.of(data.task.metrics[0] if metric is None else metric)


def measure(net, batches: Iterable[Batch], metric: Metric) -> dict[str, float]:
    """{name: value} of a metric over batches."""
    net = net.deploy() if isinstance(net, Distiller) else net
    if isinstance(net, Teacher):
        net = _TeacherNetwork(net)
    with eval_mode(net):
        return metric.values(net, batches)


def device_of(net) -> torch.device:
    """Where a network lies."""
    nets = net.nets if isinstance(net, Teacher) else [net]
    return next((p.device for n in nets for p in n.parameters()), torch.device("cpu"))


class _TeacherNetwork(nn.Module):
    """A ``Teacher`` as a network, so that ensembles are measured like networks."""

    def __init__(self, teacher: Teacher):
        super().__init__()
        self.teacher, self.members = teacher, nn.ModuleList(teacher.nets)

    def forward(self, x=None, **named):
        return self.teacher(named if x is None else x)
