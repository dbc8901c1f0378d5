"""The base of all tasks, and what they share."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..taps import logits_of
from .metric import Metric

NOTHING: Mapping[str, str] = MappingProxyType({})


class Task:
    """What a label is: no data, but a frozen dataclass whose fields are its settings.

    To write one of your own, derive from a task, set the attributes and give ``loss``,
    ``check_labels`` and ``check_first_batch`` what they need.

    Attributes:
        name: "classification", "segmentation", ...
        class_axis: The axis of the classes in the logits, over which a softmax makes sense: 1 for
            (B, C) and (B, C, H, W), 2 for tokens (B, L, V), None where there is none.
        ignore: The label that takes no part in loss and metrics, None if there is none.
        metrics: What is measured; the first is the default of ``fit`` and ``evaluate``.
        moved: Which targets move with the pixels of an augmentation, and what they are: "mask",
            "boxes", "labels" (of boxes; those of a box that left the image become -1), or "still"
            for one that may stay as it is. The key is the name in a mapping y or x, or "y" for a y
            that is one tensor. A tensor y that is not named stays; an entry of a mapping that is
            not named is refused.

    Example:
        >>> from kdtutor.tasks import Segmentation
        >>> task = Segmentation()
        >>> task, task.class_axis, dict(task.moved)
        (Segmentation(ignore=255), 1, {'y': 'mask'})
    """

    name: str = "task"
    class_axis: int | None = None
    ignore: int | None = None
    metrics: tuple[Metric, ...] = ()
    moved: Mapping[str, str] = NOTHING

    def __repr__(self) -> str:
        shown = (f"{k}={_shown(v)}" for k, v in self._said().items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any] | None:
        """What it was set to: a setting that was left alone makes no other task of it, so that runs
        from before the setting are known again.
        """
        hidden = {f.name for f in fields(self)} - set(self._said()) if is_dataclass(self) else ()
        return {k: v for k, v in vars(self).items() if k not in hidden} or None

    def _said(self) -> dict[str, Any]:
        """Its settings; those with ``repr=False`` only where they differ from the default."""
        if not is_dataclass(self):
            return {}
        found = ((f, getattr(self, f.name)) for f in fields(self))
        return {f.name: v for f, v in found if f.repr or v != f.default}

    def logits(self, output) -> Any:
        """The logits (or values) in whatever a network returned.

        Args:
            output: A tensor, an object with ``.logits``, a mapping with "logits" or "out", or a
                tuple whose first tensor they are.

        Returns:
            The tensor.

        Raises:
            ValueError: If no tensor can be found.
        """
        return logits_of(output)

    def softmax_axis(self) -> int:
        """The axis over which answers are distilled.

        Returns:
            ``class_axis``.

        Raises:
            ValueError: Where there are no classes, so that a softmax would mean nothing.
        """
        if self.class_axis is None:
            raise ValueError(
                f"the task {self!r} has no classes, so there is no softmax whose answers could be "
                "distilled: use a method of features or relations."
            )
        return self.class_axis

    def as_labels(self, y) -> Any:
        """Labels in the form that the task reads, where they have another that means the same.

        Args:
            y: Labels of any form, or None.

        Returns:
            The labels; those that mean something else stay for ``check_labels`` to refuse.
        """
        return y

    def counted(self, y) -> Tensor | None:
        """Where labels take part: what is distilled there counts, too.

        Args:
            y: The labels of a batch.

        Returns:
            A bool mask of y's shape; None where all do.
        """
        if self.ignore is None or not is_integer(y):
            return None
        return y.long() != self.ignore  # as uint8, -100 would mean 156

    def loss(self, logits: Tensor, y) -> Tensor:
        """The label loss.

        Args:
            logits: What ``logits`` returned.
            y: The labels of the batch.

        Returns:
            A scalar: the mean over all labels that take part.

        Raises:
            ValueError: If the batch has no labels, or the task has no label loss.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss(logits, y).")

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks the labels of a whole split, before any training.

        Args:
            y: The labels; None (unlabelled data) always passes.
            classes: How many classes the dataset names; 0 for a dataset without classes.
            where: What the labels are, for the message: "digits: train".

        Raises:
            ValueError: For a shape, a type or a value that cannot be.
        """

    def check_first_batch(self, output, batch, classes: int, name: str) -> None:
        """Checks a network's answer against the labels of a batch, before any training.

        Args:
            output: What the network returned for ``batch.x``.
            batch: The batch, with ``y``.
            classes: How many classes the dataset names.
            name: The dataset's name, for the message.

        Raises:
            ValueError: If the answer and the labels do not fit together.
        """


def full_precision(values: Tensor) -> Tensor:
    """At least float32, because the sums of a loss lose too much in half precision."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def is_integer(y) -> TypeGuard[Tensor]:
    """Whether y is a tensor of whole numbers (bool is not)."""
    return isinstance(y, Tensor) and not (
        y.is_floating_point() or y.is_complex() or y.dtype == torch.bool
    )


def described(y) -> str:
    """A target in words, for messages: its type and shape."""
    if isinstance(y, Tensor):
        return f"{str(y.dtype).removeprefix('torch.')} of shape {tuple(y.shape)}"
    if isinstance(y, Mapping):
        return "a mapping with " + ", ".join(f"{k!r}: {described(v)}" for k, v in y.items())
    return "no labels (None)" if y is None else type(y).__name__


def labels_needed(y, what: str) -> None:
    """Raises ``ValueError`` if there are no labels."""
    if y is None:
        raise ValueError(
            f"{what} needs labels, but these batches have none (y is None): give the split labels, "
            "or use a loss or metric without them."
        )


def class_labels(y, who: str) -> Tensor:
    """The labels of a batch as class indices (B,) int64, for a method that looks classes up.

    Args:
        y: The labels.
        who: What needs them, for the message.

    Raises:
        ValueError: For labels of any other form, such as the probabilities that mixup makes.

    Example:
        >>> class_labels(torch.tensor([1, 0], dtype=torch.uint8), "a test")
        tensor([1, 0])
    """
    if not is_integer(y) or y.ndim != 1:
        raise ValueError(
            f"{who} needs one class index per example, whole numbers of shape (B,); the labels are "
            f"{described(y)}. Train without mixup and other soft labels, or choose a method that "
            "takes them, such as Hinton."
        )
    return y.long()


def check_range(y: Tensor, classes: int, ignore: int | None, where: str) -> None:
    """Raises ``ValueError`` for whole-number labels outside 0..classes-1 (classes 0: no upper end),
    apart from ignore.
    """
    # int64 first: an ignore of -100 compared as uint8 would mean 156.
    counted = y.long() if ignore is None else y.long()[y.long() != ignore]
    if not counted.numel():
        return
    low, high = int(counted.min()), int(counted.max())
    if low >= 0 and (high < classes or not classes):
        return
    allowed = f"{classes} classes allow 0 to {classes - 1} only" if classes else "0 is the lowest"
    besides = "" if ignore is None else f" (and {ignore} for what takes no part)"
    raise ValueError(
        f"{where} labels run from {low} to {high}, but {allowed}{besides}. Check the labels or "
        "the list of class names."
    )


def check_width(logits: Tensor, axis: int, classes: int, name: str) -> None:
    """Raises ``ValueError`` for logits of fewer classes than the dataset has."""
    if logits.shape[axis] < classes:
        raise ValueError(
            f"the student answers for {logits.shape[axis]} classes but {name} has {classes}: "
            f"build it with classes={classes}."
        )


def _shown(value) -> str:
    return getattr(value, "__name__", None) or repr(value)
