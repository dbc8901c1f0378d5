"""What is measured after each epoch and not trained on."""

from dataclasses import replace

import torch

from ..datasets import Data, Split
from ..datasets.data import leaves
from .schedules import Unsaid


def set_apart(data, validation: float | Split | Data | None) -> tuple:
    """(what is trained on, what is measured after each epoch, None for nothing).

    Args:
        data: the data, with or without a validation split of their own.
        validation: as ``fit`` has it.

    Returns:
        The two parts.

    Raises:
        ValueError: for a split that shares examples with the training set or holds other inputs or
            labels; for a fraction where the data have a split of their own or cannot be cut.

    Example:
        >>> x, y = torch.rand(8, 2), torch.tensor([0, 1] * 4)
        >>> data = Data("mine", 2, Split(x, y))
        >>> [len(part) for part in set_apart(data, 0.25)]
        [6, 2]
    """
    if isinstance(validation, Data):
        if len(validation.test):
            raise ValueError(
                f"validation={validation.name} has a training and a test split: say which is "
                "meant, validation=that.train or that.test."
            )
        validation = validation.train
    if isinstance(validation, Split):
        y = data.task.as_labels(validation.y)
        validation = validation if y is validation.y else replace(validation, y=y)
        if not len(validation):
            raise ValueError(
                "validation is a Split without examples, on which nothing can be measured: pass "
                "validation=0 for none."
            )
        _check_same_kind(data, validation)
        _check_apart(data, validation)
        return data.train, validation
    own = getattr(data, "validation", None)
    if validation and not isinstance(validation, Unsaid):
        if own is not None:
            raise ValueError(
                f"validation={validation}, but {data.name} has a validation split of its own "
                f"({len(own)} examples): leave validation out, or pass 0 to train without."
            )
        if not isinstance(data.train, Split):
            raise ValueError(
                f"validation={validation}: no share can be cut off {data.name}, which is not in "
                "memory. Pass a validation part when you make it (torch.utils.data.random_split "
                "cuts a Dataset), or leave validation out."
            )
    return data.holdout(validation or 0)


def _check_same_kind(data, split: Split) -> None:
    """Raises ``ValueError`` for inputs of another kind than the training set's, and for labels that
    the task does not allow.
    """
    data.task.check_labels(split.y, len(data.classes), f"{data.name}: the validation split's")
    mine, theirs = ([_kind(t) for t in leaves(s.x)] for s in (split, data.train))
    if theirs and mine != theirs:
        raise ValueError(
            f"the validation split holds inputs {', '.join(mine)}; the training set of {data.name} "
            f"holds {', '.join(theirs)}. Both must be of one kind, before normalisation."
        )


def _kind(t: torch.Tensor) -> str:
    """The type, number of axes and channels of inputs; the size of images may differ."""
    shape = ["N", *map(str, t.shape[1:])]
    if t.ndim > 2:
        shape[2:] = ["?"] * (t.ndim - 2)
    return f"{str(t.dtype).removeprefix('torch.')} ({', '.join(shape)})"


def _check_apart(data, split: Split) -> None:
    """Raises ``ValueError`` for examples that are trained on as well."""
    train = data.train
    if not isinstance(train, Split) or train.source != split.source:
        return
    shared = int(torch.isin(split.index, train.index).sum())
    if shared:
        raise ValueError(
            f"{shared} of {len(split)} validation examples are in the training set of {data.name}, "
            "too: train on the others alone, fit(..., dataclasses.replace(data, train=rest), "
            "validation=held) with rest, held = data.holdout(0.1), or pass the fraction."
        )
