"""What must hold before the first step: settings, devices, first batch, metric, plan."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from ..datasets import Batch, Data, Split
from ..distiller import Distiller, Stage
from ..distiller.requirements import check_players, warn_of_probabilities
from ..taps import call, eval_mode
from ..taps.examples import attempt
from ..tasks import Metric
from .device import move
from .evaluation import chosen, measure
from .memory import keep_freed_memory
from .normalisation import warn_of_other_eyes
from .validation import set_apart


class Ready(NamedTuple):
    """What ``prepare`` found: the examples to train on, those held out, the stages, the metric."""

    train: Split
    held_out: Split | None
    stages: list[Stage]
    metric: Metric | None
    key: str  # of the metric's value that decides which epoch is best

    def measured(self) -> dict:
        """What the spec and the history know of the metric."""
        better = "lower" if self.metric and not self.metric.higher_is_better else "higher"
        return {"metric": self.key, "better": better}


def prepare(
    distiller: Distiller,
    data: Data,
    device: torch.device,
    validation: float | Split | Data | None,
    metric: Metric | Callable | None,
    test: bool,
    at_once: int = 500,
) -> Ready:
    """Everything on its device, the held-out examples set aside, and what cannot work found.

    Raises:
        ValueError: for data without training examples, a network that does not answer for the
            data's classes, a plan that hides a network, a metric that cannot be computed.
    """
    if device.type == "cpu":
        keep_freed_memory()
    measured = chosen(metric, data) if metric is not None or data.task.metrics else None
    # Where there is nothing to measure, nothing is held out.
    train, held_out = set_apart(data, validation if measured else 0)
    if not len(train):
        kept = f" after holding out {len(held_out)}" if held_out is not None else ""
        raise ValueError(f"{data.name} has no training examples left{kept}.")
    for inside in distiller.nested():
        inside.task = data.task
    distiller.prepare(train)
    move(distiller, device)
    for teacher in distiller.teachers():
        teacher.to(device)
        for net in teacher.nets:
            move(net, device)
    _check_first_batch(distiller, data, train, device)
    stages = distiller.stages()
    check_players(distiller, stages)
    shown = held_out if held_out is not None else data.test if test else None
    key = measured.name if measured else "accuracy"
    if measured and shown is not None and len(shown):
        key = _try_metric(measured, distiller.deploy(), data, shown, device, at_once)
    if test and (not isinstance(data.test, Split) or len(data.test)):
        _check_test(distiller.deploy(), data, device, measured if metric is None else None)
    # Once for the run, where they will be asked for in every epoch.
    there = lambda split: split.to(device) if isinstance(split, Split) else split
    return Ready(there(train), there(held_out), stages, measured, key)


def _check_first_batch(distiller: Distiller, data: Data, train: Split, device) -> None:
    """Asks the data's task whether the student's answer fits the labels, and the method whether all
    its networks can take the inputs.
    """
    asked = [d for d in distiller.nested() if type(d).check_first is not Distiller.check_first]
    if not data.task.metrics and not asked:
        return
    batch = next(iter(data.batches(train, min(2, len(train)), device=device)))
    if data.task.metrics:  # without labels, what a network returns is the method's business
        output = _check_student(distiller.deploy(), data, batch)
        logits, axis = data.task.logits(output), data.task.class_axis
        if axis is not None and not data.classes and isinstance(train, Split):
            # Nobody named the classes, so the network's own are those that labels may be.
            data.task.check_labels(train.y, logits.shape[axis], f"{data.name}: train")
        warn_of_probabilities("student", logits, axis)
        for inside in distiller.nested():
            inside._one_answer = isinstance(output, torch.Tensor)
    for method in asked:
        method.check_first(batch)
    warn_of_other_eyes(distiller.teachers(), data)


def _check_test(net: nn.Module, data: Data, device, usual: Metric | None) -> None:
    """Looks at the test set, which is measured when all is trained. ``usual``: the task's own
    metric, None where another is measured.
    """
    batch = next(iter(data.batches(data.test, 2, device=device)))
    if usual is None:
        return
    if batch.y is None:
        raise ValueError(
            f"the test examples of {data.name} have no labels, so {usual.name} cannot be "
            "measured on them: fit(..., test=False), or give them labels."
        )
    try:
        _check_student(net, data, batch)
    except ValueError as error:
        raise ValueError(f"the test examples of {data.name} do not fit: {error}") from error


def _check_student(net: nn.Module, data: Data, batch: Batch):
    """The network's answer, which the task finds to fit the labels."""
    with attempt("student", net, batch.x), eval_mode(net):
        try:
            output = call(net, batch.x)
        except RuntimeError as error:
            kinds = {p.dtype for p in net.parameters()}
            mine = batch.x.dtype if isinstance(batch.x, torch.Tensor) else None
            if mine is None or not mine.is_floating_point or not kinds or mine in kinds:
                raise
            raise ValueError(
                f"the inputs of {data.name} are {mine} and the network's weights "
                f"{' and '.join(map(str, kinds))}: convert the one, x.float(), or the other, "
                "net.double()."
            ) from error
    data.task.check_first_batch(output, batch, len(data.classes), data.name)
    return output


def _try_metric(metric: Metric, net, data: Data, split: Split, device, at_once: int) -> str:
    """Measures a little before training, so that a metric that cannot work ends nothing that was
    trained. Returns the name of its first value.
    """
    first = next(iter(data.batches(split, at_once, device=device)))
    try:
        values = measure(net, [first], metric)
    except Exception:  # some metrics need more than one batch, such as all classes
        try:
            values = measure(net, data.batches(split, at_once, device=device), metric)
        except Exception as error:
            raise ValueError(
                f"metric {metric.name!r} cannot be computed for {data.name}: "
                f"{type(error).__name__}: {error}. It is called as metric(net, batches) with an "
                "iterable of Batch, and gives a number or a mapping of numbers."
            ) from error
    return next(iter(values))
