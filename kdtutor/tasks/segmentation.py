"""One class per pixel."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..errors import explained
from ..taps import call, logits_of
from .label_term import LabelTerm
from .metric import Metric
from .task import check_range, check_width, described, full_precision, is_integer, labels_needed


@explained
def mean_iou(net: nn.Module, batches: Iterable, ignore: int = 255) -> float:
    """Mean intersection over union, from one confusion matrix over all pixels of all batches.

    IoU_c = hits_c / (true_c + predicted_c - hits_c); the mean leaves out classes that are neither
    true nor predicted anywhere. Pixels labelled ``ignore`` take no part.

    Args:
        net: A network whose answer has logits (B, C, H, W).
        batches: Batches with ``x`` and label maps ``y`` (B, H, W).
        ignore: The label that takes no part.

    Returns:
        The mean IoU in [0, 1]; NaN if no pixel takes part.

    Raises:
        ValueError: For logits and labels that do not fit, or batches without labels.

    Source:
        Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", section 4.3.

    Example:
        >>> from types import SimpleNamespace
        >>> truth = torch.tensor([[[0, 0, 1, 255]]])
        >>> logits = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1]]).view(1, 2, 1, 4)
        >>> mean_iou(torch.nn.Identity(), [SimpleNamespace(x=logits, y=truth)])  # 1/2 and 1/2
        0.5
    """
    matrix = _confusion(net, batches, ignore)
    if matrix is None:
        return float("nan")
    hits = matrix.diag()
    union = matrix.sum(0) + matrix.sum(1) - hits
    return float((hits / union)[union > 0].mean())


@explained
def pixel_accuracy(net: nn.Module, batches: Iterable, ignore: int = 255) -> float:
    """The share of pixels whose largest logit is the label's; those labelled ``ignore`` are not
    counted.

    Args:
        net: A network whose answer has logits (B, C, H, W).
        batches: Batches with ``x`` and label maps ``y`` (B, H, W).
        ignore: The label that takes no part.

    Returns:
        The accuracy in [0, 1]; NaN if no pixel takes part.

    Raises:
        ValueError: As ``mean_iou`` does.

    Example:
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(x=torch.zeros(1, 2, 1, 4), y=torch.tensor([[[0, 0, 1, 0]]]))
        >>> pixel_accuracy(torch.nn.Identity(), [batch])
        0.75
    """
    matrix = _confusion(net, batches, ignore)
    return float("nan") if matrix is None else float(matrix.diag().sum() / matrix.sum())


def _confusion(net, batches, ignore) -> Tensor | None:
    """How often each class (row) was predicted as each (column), (C, C) float64."""
    matrix = None
    for batch in batches:
        labels_needed(batch.y, "a segmentation metric")
        logits = logits_of(call(net, batch.x))
        _check(logits, batch.y)
        classes, truth = logits.shape[1], batch.y.long()
        counted = truth != ignore
        pairs = truth[counted] * classes + logits.argmax(1)[counted]
        counts = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
        matrix = counts if matrix is None else matrix + counts
    return None if matrix is None else matrix.double()


@explained
@dataclass(frozen=True, repr=False)
class Segmentation(LabelTerm):
    """One class index per pixel: logits (B, C, H, W), label maps (B, H, W) whole numbers 0..C-1.

    The label loss is the cross-entropy, its mean over the pixels that take part; metrics are
    ``mean_iou`` and ``pixel_accuracy``. An augmentation moves the label maps with the pixels and
    fills what comes in from outside with ``ignore``. ``label_smoothing`` and ``class_weights``
    change the loss as in ``torch.nn.CrossEntropyLoss``.

    Args:
        ignore: The label of pixels that take no part. Default 255, as in PASCAL VOC.

    Example:
        >>> labels = torch.tensor([[[0, 255]]])
        >>> round(float(Segmentation().loss(torch.zeros(1, 4, 1, 2), labels)), 4)  # log 4
        1.3863
    """

    ignore: int = 255

    name = "segmentation"
    class_axis = 1
    moved = MappingProxyType({"y": "mask"})

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """``mean_iou`` and ``pixel_accuracy``, without the pixels labelled ``ignore``."""
        return tuple(
            Metric(partial(f, ignore=self.ignore), higher_is_better=True)
            for f in (mean_iou, pixel_accuracy)
        )

    def loss(self, logits: Tensor, y) -> Tensor:
        """The cross-entropy, its mean over the pixels not labelled ``ignore``.

        Args:
            logits: (B, C, H, W).
            y: (B, H, W) whole numbers.

        Returns:
            A scalar, in float32 or more; 0 (with a gradient of 0) if no pixel takes part.

        Raises:
            ValueError: If the batch has no labels, or the shapes do not fit.
        """
        labels_needed(y, "the cross-entropy")
        _check(logits, y)
        return self.counted_cross_entropy(full_precision(logits), y.long(), self.ignore)

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that labels are (N, H, W) whole numbers in 0..classes-1, or ``ignore``.

        Args:
            y: The label maps of a split, or None.
            classes: How many classes there are.
            where: What the labels are, for the message.

        Raises:
            ValueError: If they are not.
        """
        if y is None:
            return
        if not is_integer(y) or y.ndim != 3:
            raise ValueError(
                f"{where} labels are {described(y)}: segmentation needs one class index per pixel, "
                "whole numbers of shape (N, H, W)."
            )
        check_range(y, classes, self.ignore, where)

    def check_first_batch(self, output, batch, classes: int, name: str) -> None:
        """Checks that the network answers with (B, C, H, W) logits of the labels' height and width.

        Args:
            output: What the network returned.
            batch: The batch.
            classes: How many classes the dataset has.
            name: The dataset's name.

        Raises:
            ValueError: If it does not.
        """
        logits = self.logits(output)
        if logits.ndim != 4:
            raise ValueError(
                f"the student answers {described(logits)}: expected logits (B, C, H, W)."
            )
        check_width(logits, 1, classes, name)
        self.check_weights(logits.shape[1], "the student's answer")
        if batch.y is not None:
            _check(logits, batch.y)


def _check(logits: Tensor, y) -> None:
    fits = logits.ndim == 4 and isinstance(y, Tensor)
    if not fits or y.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"segmentation needs logits (B, C, H, W) and label maps (B, H, W) of one size; given "
            f"logits {tuple(logits.shape)} and labels {described(y)}. Let the network upsample its "
            "logits to the size of the labels."
        )
