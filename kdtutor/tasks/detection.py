"""Boxes with classes, any number per image."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import explained
from ..taps import call
from .metric import Metric
from .task import Task, check_range, described, is_integer, labels_needed

PADDING = -1  # the label of a row that holds no box


@explained
def average_precision_50(
    net: nn.Module, batches: Iterable, predict: Callable[[Any], Iterable], iou: float = 0.5
) -> float:
    """The mean over classes of the average precision of detected boxes, at an overlap of 0.5.

    Detections of a class, over all images, are taken from the highest score down. One is right if
    the true box of its image and class that it overlaps most has IoU >= ``iou`` and no detection
    before it took that box. AP is the area under the precision-recall curve, where precision at a
    recall is the highest at that recall or beyond (all-point interpolation). Classes without a true
    box are left out.

    Args:
        net: The detector.
        batches: Batches with ``x`` and ``y``: boxes (B, M, 4) as (x1, y1, x2, y2) in pixels, and
            labels (B, M), -1 for rows that hold no box.
        predict: The network's answer -> per image (boxes (K, 4), scores (K,), labels (K,)).
        iou: The overlap from which a detection is right, in (0, 1].

    Returns:
        The mean AP in [0, 1]; NaN if there is no true box.

    Raises:
        ValueError: For batches without labels, or predictions for another number of images.

    Source:
        Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", section 4.2; all-point
        interpolation as in its development kit from 2010 on.

    Example:
        >>> from types import SimpleNamespace
        >>> y = {"boxes": torch.tensor([[[0.0, 0, 4, 4]]]), "labels": torch.tensor([[0]])}
        >>> found = [(torch.tensor([[0.0, 0, 4, 3]]), torch.tensor([0.9]), torch.tensor([0]))]
        >>> batch = SimpleNamespace(x=torch.zeros(1), y=y)
        >>> average_precision_50(torch.nn.Identity(), [batch], predict=lambda output: found)
        1.0
    """
    true, found = [], []  # per image (boxes, labels) and (boxes, scores, labels), on the CPU
    for batch in batches:
        labels_needed(batch.y, "average precision")
        boxes, labels = batch.y["boxes"].cpu(), batch.y["labels"].cpu()
        predictions = [tuple(t.detach().cpu() for t in p) for p in predict(call(net, batch.x))]
        if len(predictions) != len(boxes):
            raise ValueError(
                f"predict gave boxes for {len(predictions)} images, but the batch has {len(boxes)}."
            )
        true += [(b[n >= 0], n[n >= 0]) for b, n in zip(boxes, labels)]
        found += predictions
    classes = sorted({int(c) for _, labels in true for c in labels})
    precisions = [_average_precision(true, found, c, iou) for c in classes]
    return sum(precisions) / len(precisions) if precisions else float("nan")


def _average_precision(true, found, label: int, iou: float) -> float:
    total = sum(int((labels == label).sum()) for _, labels in true)
    scores, hits = [], []
    for (true_boxes, true_labels), (boxes, score, labels) in zip(true, found):
        mine, wanted = labels == label, true_boxes[true_labels == label]
        ranked = score[mine].argsort(descending=True, stable=True)
        overlap = box_iou(boxes[mine][ranked], wanted)
        taken: set[int] = set()
        for row in overlap:
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and float(row[best]) >= iou and best not in taken
            taken |= {best} if hit else set()
            hits.append(hit)
        scores.append(score[mine][ranked])
    if not hits:
        return 0.0
    order = torch.cat(scores).argsort(descending=True, stable=True)
    right = torch.tensor(hits)[order].double()
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    # The highest precision at each recall or beyond; recall grows by 1/total at each hit.
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((envelope * right).sum()) / total


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of ``a`` (K, 4) with every one of ``b`` (M, 4)."""
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    area_a, area_b = ((t[:, 2:] - t[:, :2]).prod(1) for t in (a, b))
    return shared / (area_a[:, None] + area_b - shared)


def no_label_loss(output, y) -> Tensor:
    """The label loss of ``Detection`` where none was given: raises ``ValueError``."""
    raise ValueError(
        "detection has no label loss of its own, because anchors and matching are the model's "
        "business: pass Detection(loss=function of (output, y))."
    )


@explained
@dataclass(frozen=True, repr=False)
class Detection(Task):
    """Boxes with classes: y is {"boxes": (B, M, 4) float, "labels": (B, M) whole numbers}.

    Boxes are (x1, y1, x2, y2) in pixels of the image, 0 <= x1 < x2 <= W. Images with fewer than M
    boxes are padded by rows of zeros with label -1 (``kdtutor.datasets.pad_boxes``). An
    augmentation moves the boxes with the pixels.

    Args:
        loss: Label loss, a function (output, y) -> scalar; output is all that the network returned,
            y the padded boxes and labels. Default: calling it is an error.
        predict: The network's output -> a list, per image, of (boxes (K, 4), scores (K,), labels
            (K,)). Needed for the metric ``average_precision_50``; without it there is none.

    Example:
        >>> Detection(loss=lambda output, y: output.mean()).loss(torch.ones(2), {})
        tensor(1.)
        >>> Detection().metrics
        ()
    """

    loss: Callable[[Any, Any], Tensor] = no_label_loss  # type: ignore[assignment]
    predict: Callable[[Any], Iterable] | None = None

    name = "detection"
    moved = MappingProxyType({"boxes": "boxes", "labels": "labels"})

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """``average_precision_50`` if there is a ``predict``, else nothing."""
        if self.predict is None:
            return ()
        return (Metric(partial(average_precision_50, predict=self.predict), higher_is_better=True),)

    def logits(self, output) -> Any:
        """All that the network returned, unchanged: what it means is the loss's business.

        Args:
            output: What the network returned.

        Returns:
            The same object.
        """
        return output

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks shapes and types, that labels are -1..classes-1, and that boxes have an area.

        Args:
            y: The targets of a split, or None.
            classes: How many classes there are.
            where: What the labels are, for the message.

        Raises:
            ValueError: For anything else.
        """
        if y is None:
            return
        boxes, labels = (y.get(k) if isinstance(y, Mapping) else None for k in ("boxes", "labels"))
        if not (
            isinstance(boxes, Tensor)
            and boxes.is_floating_point()
            and is_integer(labels)
            and boxes.ndim == 3
            and boxes.shape == (*labels.shape, 4)
        ):
            raise ValueError(
                f"{where} labels are {described(y)}: detection needs a mapping with 'boxes', float "
                "of shape (N, M, 4), and 'labels', whole numbers of shape (N, M), -1 for padding. "
                "pad_boxes makes it of lists."
            )
        check_range(labels, classes, PADDING, where)
        flat = ((boxes[..., 2:] <= boxes[..., :2]).any(2) & (labels != PADDING)).nonzero()
        if len(flat):
            image, row = flat[0].tolist()
            raise ValueError(
                f"{where}: {len(flat)} boxes have no area, the first in image {image}: "
                f"{boxes[image, row].tolist()}. Expected (x1, y1, x2, y2) with x1 < x2, y1 < y2."
            )
