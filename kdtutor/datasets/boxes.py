"""Boxes of images that have different numbers of them, as one padded tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

PADDING = -1  # the label of a row that is no box


def pad_boxes(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> dict[str, Tensor]:
    """Lists of boxes and labels, one entry per image, as tensors with rows of padding.

    Args:
        boxes: Per image (K, 4) x1, y1, x2, y2 in pixels; K may be 0 and differ.
        labels: Per image (K,) whole numbers.

    Returns:
        {"boxes": (N, M, 4) float32, "labels": (N, M) int64}, M the largest K; rows of padding are
        zeros with label -1. It is the y of a ``Split`` for the task ``Detection``.

    Raises:
        ValueError: For lists of different lengths, or an image whose boxes and labels do not fit.

    Example:
        >>> y = pad_boxes([torch.tensor([[0, 0, 4, 4.]]), torch.zeros(0, 4)],
        ...               [torch.tensor([2]), torch.zeros(0)])
        >>> y["labels"].tolist()
        [[2], [-1]]
    """
    if len(boxes) != len(labels):
        raise ValueError(
            f"boxes of {len(boxes)} images but labels of {len(labels)}: expected one entry each."
        )
    most = max((len(b) for b in boxes), default=0)
    padded = torch.zeros(len(boxes), most, 4)
    names = torch.full((len(boxes), most), PADDING)
    for i, (b, y) in enumerate(zip(boxes, labels)):
        b, y = torch.as_tensor(b), torch.as_tensor(y)
        if b.shape != (len(y), 4) and len(y) + len(b):
            raise ValueError(
                f"image {i} has boxes of shape {tuple(b.shape)} and {len(y)} labels: expected "
                "(K, 4), x1, y1, x2, y2 in pixels, and K labels."
            )
        padded[i, : len(b)], names[i, : len(y)] = b.reshape(-1, 4), y.long()
    return {"boxes": padded, "labels": names}
