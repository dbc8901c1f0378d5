"""What the tasks with classes may change in their label loss: smoothed labels, weighted classes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .task import Task


@dataclass(frozen=True, repr=False, kw_only=True)
class LabelTerm(Task):
    """A task whose label loss is a cross-entropy.

    Args:
        label_smoothing: e in [0, 1]: the label's class counts 1 - e, and e is spread over all
            classes. 0: the labels as they are.
        class_weights: A factor >= 0 per class, in the classes' order; the mean over examples is
            then weighted by those of their labels, as in ``torch.nn.CrossEntropyLoss``. Empty: all
            count the same.

    Raises:
        ValueError: For a share outside [0, 1], and weights that are no finite numbers >= 0.

    Source:
        Szegedy et al., CVPR 2016, section 7 (label smoothing).

    Example:
        >>> from kdtutor.tasks import Classification
        >>> Classification(label_smoothing=0.1, class_weights=[1, 2])
        Classification(label_smoothing=0.1, class_weights=(1.0, 2.0))
    """

    label_smoothing: float = field(default=0.0, repr=False)
    class_weights: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self):
        share = self.label_smoothing
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(
                f"label_smoothing={share!r}: expected a share from 0 (none) to 1, such as 0.1."
            )
        object.__setattr__(self, "label_smoothing", float(share))
        object.__setattr__(self, "class_weights", _factors(self.class_weights))

    def check_weights(self, classes: int, what: str) -> None:
        """Checks that there is one weight for each class, if there are any.

        Args:
            classes: How many classes there are.
            what: What has the classes, for the message.

        Raises:
            ValueError: For another number of weights.
        """
        if self.class_weights and len(self.class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} numbers but {what} has {classes} "
                "classes: give one for each class, in their order."
            )

    def cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean cross-entropy, smoothed and weighted.

        Args:
            logits: (B, C), in float32 or more.
            target: (B,) int64, or (B, C) probabilities.

        Returns:
            A scalar.
        """
        return F.cross_entropy(
            logits, target, self._weight(logits), label_smoothing=self.label_smoothing
        )

    def counted_cross_entropy(self, logits: Tensor, y: Tensor, ignore: int) -> Tensor:
        """The mean cross-entropy over the places that are counted, smoothed and weighted.

        Args:
            logits: (B, C, ...), in float32 or more.
            y: (B, ...) int64.
            ignore: The label of places that take no part.

        Returns:
            A scalar; 0 (with a gradient of 0) if no place takes part.
        """
        weight = self._weight(logits)
        total = F.cross_entropy(
            logits,
            y,
            weight,
            ignore_index=ignore,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        counted = y != ignore
        # Not reduction="mean": a batch in which nothing is counted would give 0/0.
        if weight is None:
            return total / counted.sum().clamp(min=1)
        shares = weight[torch.where(counted, y, 0)] * counted
        return total / shares.sum().clamp(min=torch.finfo(weight.dtype).tiny)

    def _weight(self, logits: Tensor) -> Tensor | None:
        if not self.class_weights:
            return None
        return torch.tensor(self.class_weights, dtype=logits.dtype).to(
            logits.device, non_blocking=True
        )


def _factors(weights: Any) -> tuple[float, ...]:
    """Weights as a tuple of floats. Raises ``ValueError`` for anything else."""
    given = weights
    try:
        weights = weights.tolist() if hasattr(weights, "tolist") else weights
        found = tuple(float(w) for w in weights) if isinstance(weights, Iterable) else None
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or isinstance(weights, (str, dict)):
        raise ValueError(
            f"class_weights={given!r}: expected one number per class, such as (1.0, 2.5)."
        )
    if found and (not all(isfinite(w) and w >= 0 for w in found) or not any(found)):
        raise ValueError(
            f"class_weights={found}: expected finite numbers >= 0 of which one is above 0."
        )
    return found
