"""The classes of all examples of a torch Dataset, where they can be known without reading it."""

from typing import Any

import torch
from torch import Tensor

from .chance import Chance


def known_classes(dataset) -> Tensor | None:
    """The class index of each example, as a dataset holds them beside its examples.

    They are the ``targets`` of torchvision's datasets, the second tensor of a TensorDataset, and
    those of a ``Subset`` of these. Because a transform may make other labels of them, they are
    believed only if a few examples agree.

    Args:
        dataset: A map-style Dataset.

    Returns:
        (N,) int64, or None where nothing of this kind is there.

    Example:
        >>> rows = torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.tensor([2, 0, 1]))
        >>> known_classes(torch.utils.data.Subset(rows, [2, 0]))
        tensor([1, 2])
    """
    found = _targets(dataset)
    if found is None or not len(found) or len(found) != len(dataset):
        return None
    with Chance(0):  # transforms may draw
        for i in {0, len(found) // 3, len(found) // 2, len(found) - 1}:
            example = dataset[i]
            label = example[1] if isinstance(example, (tuple, list)) and len(example) > 1 else None
            if _whole(label) != int(found[i]):
                return None
    return found


def _targets(dataset) -> Tensor | None:
    inner, positions = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and positions is not None:  # torch's Subset
        found = _targets(inner)
        return None if found is None else found[torch.as_tensor(positions)]
    tensors = tuple(getattr(dataset, "tensors", ()))
    held: Any = tensors[1] if len(tensors) > 1 else getattr(dataset, "targets", None)
    try:
        found = torch.as_tensor(held)
    except (TypeError, ValueError, RuntimeError):
        return None
    whole = not found.is_floating_point() and found.dtype != torch.bool
    return found.long() if whole and found.ndim == 1 else None


def _whole(label) -> int | None:
    try:
        return int(label)
    except (TypeError, ValueError, RuntimeError):
        return None
