"""Augmentation that changes images and labels together, such as mixup and CutMix: it is given a
whole batch and makes soft labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import explained, said_by_us
from ..tasks import Classification, Task
from ..tasks.task import described, is_integer
from .augment import per_image
from .pixels import check_view

MIXING = ("MixUp", "CutMix")  # of torchvision
REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, IndexError)


@dataclass(frozen=True)
class WithLabels:
    """A function of a batch and its labels (``with_labels``)."""

    function: Callable

    def __call__(self, x: Tensor, y) -> tuple[Tensor, Tensor]:
        # Mixed bytes are fractions of bytes; labels as the one-hot of torch wants them.
        x = x.float() * (1 / 255) if x.dtype == torch.uint8 else x
        made = self.function(x, y.long() if is_integer(y) else y)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise ValueError(
                f"augment={self!r} returned {described(made)}; expected a pair: the images and "
                "their labels."
            )
        return made[0], made[1]


@explained
def with_labels(function: Callable) -> WithLabels:
    """An augmentation of a whole batch and its labels together, such as a mixup of your own.

    ``Data(augment=)`` takes torchvision's ``v2.MixUp`` and ``v2.CutMix`` (and ``v2.RandomChoice``
    of them) as they are.

    Args:
        function: (images, labels) -> (images, labels): floats (B, C, H, W), bytes divided by 255
            before, and (B,) class indices; it returns the same shape and either form of the labels
            of ``Classification``. Its chance comes from torch's global generator.

    Returns:
        For ``Data(augment=)``. Its views have no id.

    Example:
        >>> half = with_labels(lambda x, y: ((x + x.flip(0)) / 2, torch.full((len(y), 2), 0.5)))
        >>> x, y = half(torch.tensor([[[[255]]], [[[0]]]], dtype=torch.uint8), torch.tensor([0, 1]))
        >>> x.flatten().tolist(), y.tolist()
        ([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]])
    """
    return WithLabels(function)


def adapted(augment, classes: int, y, task: Task, name: str):
    """A transform of torchvision as an augmentation; anything else as it is.

    Most of them draw one crop and one flip for all that they are given at once, so they are called
    image by image; mixup and CutMix need a whole batch with its labels.

    Args:
        augment: As ``Data`` was given it.
        classes: How many classes the data have.
        y: The training labels.
        task: The data's.
        name: The data's, for the messages.

    Returns:
        The augmentation.

    Raises:
        ValueError: For a mixture of both kinds, labels that cannot be mixed, and a wrong number of
            classes.

    Example:
        >>> adapted(None, 2, None, Classification(), "d") is None
        True
    """
    if augment is not None and not callable(augment) and not hasattr(augment, "views"):
        raise ValueError(
            f"augment={augment!r} is a {type(augment).__name__}; expected a function of a batch, "
            "such as datasets.CropFlip(4), or one transform; v2.Compose([...]) makes one of "
            "several."
        )
    parts = list(_parts(augment))
    if any(type(p).__module__.startswith("torchvision.transforms") for p in parts):
        mixing = [p for p in parts if type(p).__name__ in MIXING]
        if mixing and len(mixing) < len(parts):
            one = type(mixing[0]).__name__
            raise ValueError(
                f"augment={augment!r} holds transforms of single images and {one}, which "
                "mixes those of a batch: use the one or the other, or one function of the whole "
                "batch, datasets.with_labels(function)."
            )
        for part in mixing:
            if part.num_classes != classes and not (part.num_classes is None and not is_integer(y)):
                raise ValueError(
                    f"augment={part!r}: {name} has {classes} classes, so num_classes={classes}."
                )
        augment = with_labels(augment) if mixing else per_image(augment)
    if isinstance(augment, WithLabels) and (y is None or not isinstance(task, Classification)):
        raise ValueError(
            f"augment={augment!r} mixes labels, and {name} has {described(y)} under the task "
            f"{task!r}: only those of Classification can be mixed."
        )
    return augment


def changed(change, x, y, look: bool) -> tuple:
    """What an augmentation without numbered views makes of a batch.

    Args:
        change: The augmentation.
        x: The inputs.
        y: The labels.
        look: Look at the values, too.

    Returns:
        (x, y); y is the one that was given unless the augmentation mixes labels.

    Raises:
        ValueError: As ``check_view`` does.

    Example:
        >>> changed(lambda x: -x, torch.ones(1), None, look=False)
        (tensor([-1.]), None)
    """
    try:
        made, labels = change(x, y) if isinstance(change, WithLabels) else (change(x), y)
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as error:  # a transform refuses in its own way
        if isinstance(error, ValueError) and said_by_us(error):
            raise
        raise ValueError(
            f"augment={change!r} cannot take a batch of {described(x)}: {error}. Its images are "
            "bytes unless the data's are floats; Data(mean=, std=) normalises them afterwards."
        ) from error
    check_view(change, x, made, look)
    return made, labels


def _parts(transform):
    """The transforms that a transform is made of, itself if it holds no others."""
    inside = transform if isinstance(transform, nn.Sequential) else None
    inside = getattr(transform, "transforms", inside)
    if inside is None:
        yield transform
        return
    for part in inside:
        yield from _parts(part)
