"""What an augmentation must do to targets: masks and boxes move with their pixels, or it is refused."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..tasks import Task
from .boxes import PADDING

KINDS = ("mask", "boxes", "labels", "still")


def check_movable(task: Task, augment, x, y, name: str) -> None:
    """Raises ``ValueError`` that names what cannot be moved, before any training.

    Args:
        task: Says what its targets are (``Task.moved``).
        augment: The augmentation; None moves nothing.
        x, y: Inputs and labels.
        name: The dataset's name.
    """
    if augment is None:
        return
    if isinstance(x, Mapping):
        raise ValueError(
            f"{name}: inputs are a mapping ({', '.join(x)}), and augment={augment!r} changes images "
            "alone: use augment=None, and augment where the mapping is made."
        )
    for key, kind in _targets(task, y, name).items():
        able = hasattr(augment, "move_masks" if kind == "mask" else "move_boxes")
        if kind in ("mask", "boxes") and not (able and hasattr(augment, "views")):
            what = "label maps" if kind == "mask" else "boxes"
            raise ValueError(
                f"{name}: augment={augment!r} moves pixels but cannot move {key!r}, {what}, with "
                "them. Use CropFlip, Flip or Jitter of kdtutor.datasets, or give it "
                f"{'move_masks' if kind == 'mask' else 'move_boxes'} and numbered views as they "
                "have."
            )


def move_targets(task: Task, augment, y, view: Tensor, size: tuple[int, int]):
    """The labels of a batch whose images the augmentation moved to these views."""
    kinds = _targets(task, y, "the batch")
    if not set(kinds.values()) & {"mask", "boxes"}:
        return y
    moved = {}
    for key, value in y.items() if isinstance(y, Mapping) else [("y", y)]:
        kind = kinds[key]
        if kind == "mask":
            fill = task.ignore if task.ignore is not None else 0
            value = augment.move_masks(value, view, fill)
        elif kind == "boxes":
            value = augment.move_boxes(value, view, size)
        moved[key] = value
    for key, kind in kinds.items():
        if kind == "labels":  # of boxes: one that left the image is no box any more
            boxes = next(v for k, v in moved.items() if kinds[k] == "boxes")
            gone = ((boxes[..., 2:] - boxes[..., :2]) <= 0).any(-1)
            moved[key] = torch.where(gone, PADDING, moved[key])
            for k in (k for k in kinds if kinds[k] == "boxes"):
                moved[k] = torch.where(gone[..., None], 0.0, moved[k])
    return moved if isinstance(y, Mapping) else moved["y"]


def _targets(task: Task, y, name: str) -> dict[str, Any]:
    """{entry of y: what it is}. Raises ``ValueError`` for an entry that the task does not know."""
    if y is None:
        return {}
    if not isinstance(y, Mapping):
        return {"y": task.moved.get("y", "still")}
    unknown = [k for k in y if task.moved.get(k) not in KINDS]
    if unknown:
        raise ValueError(
            f"{name}: the task {task!r} does not say whether {unknown} of y must move with the "
            "pixels: give your task moved={name: 'mask' | 'boxes' | 'labels' | 'still'}."
        )
    return {k: task.moved[k] for k in y}
