"""Boxes of images that hold different numbers of them, as tensors with one row per image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import explained
from ..tasks.detection import PADDING


@explained
def pad_boxes(boxes: Sequence, labels: Sequence) -> dict[str, Tensor]:
    """Lists of boxes and labels as padded tensors, the targets of ``kdtutor.tasks.Detection``.

    Args:
        boxes: Per image (K, 4): (x1, y1, x2, y2) in pixels, K from 0 up.
        labels: Per image (K,): the class of each box.

    Returns:
        ``{"boxes": (N, M, 4) float32, "labels": (N, M) int64}``, M the largest K (at least 1);
        rows without a box are zeros with label -1.

    Raises:
        ValueError: For lists of different lengths, or an image with other numbers of boxes than
            labels.

    Example:
        >>> y = pad_boxes([[[0, 0, 4, 4], [1, 1, 3, 3]], []], [[2, 0], []])
        >>> y["boxes"].shape, y["labels"].tolist()
        (torch.Size([2, 2, 4]), [[2, 0], [-1, -1]])
    """
    if len(boxes) != len(labels):
        raise ValueError(
            f"boxes of {len(boxes)} images but labels of {len(labels)}: expected one list each per "
            "image."
        )
    rows = [torch.as_tensor(b, dtype=torch.float32) for b in boxes]
    names = [torch.as_tensor(n, dtype=torch.int64) for n in labels]
    for i, (b, n) in enumerate(zip(rows, names)):
        good = n.ndim == 1 and (b.shape == (len(n), 4) or (not len(n) and not b.numel()))
        if not good:
            raise ValueError(
                f"image {i} has boxes of shape {tuple(b.shape)} and labels of shape "
                f"{tuple(n.shape)}: expected (K, 4) and (K,)."
            )
    most = max([1, *map(len, names)])
    y = {"boxes": torch.zeros(len(rows), most, 4), "labels": torch.full((len(rows), most), PADDING)}
    for i, (b, n) in enumerate(zip(rows, names)):
        if len(n):
            y["boxes"][i, : len(n)], y["labels"][i, : len(n)] = b, n
    return y
