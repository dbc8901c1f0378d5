"""One class per token of a sequence."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import explained
from ..taps import call, logits_of
from .label_term import LabelTerm
from .metric import Metric
from .task import check_range, check_width, described, full_precision, is_integer, labels_needed


@explained
def nll(net: nn.Module, batches: Iterable, ignore: int = -100) -> float:
    """The mean negative log-likelihood per token, in nats: less is better.

    Every token that takes part weighs the same, however the batches are cut.

    Args:
        net: A network whose answer has logits (B, L, V).
        batches: Batches with ``x`` and labels ``y`` (B, L).
        ignore: The label that takes no part.

    Returns:
        The mean of -log softmax(z)_y; NaN if no token takes part.

    Raises:
        ValueError: For logits and labels that do not fit, or batches without labels.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(x=torch.zeros(1, 2, 4), y=torch.tensor([[3, -100]]))
        >>> round(nll(torch.nn.Identity(), [batch]), 4)  # log 4
        1.3863
    """
    total: float | Tensor = 0.0
    seen = 0
    for logits, y in _counted(net, batches, ignore):
        total += F.cross_entropy(full_precision(logits), y, reduction="sum").double()
        seen += len(y)
    return float(total) / seen if seen else float("nan")


@explained
def token_accuracy(net: nn.Module, batches: Iterable, ignore: int = -100) -> float:
    """The share of tokens whose largest logit is the label's.

    Args:
        net: A network whose answer has logits (B, L, V).
        batches: Batches with ``x`` and labels ``y`` (B, L).
        ignore: The label that takes no part.

    Returns:
        The accuracy in [0, 1]; NaN if no token takes part.

    Raises:
        ValueError: As ``nll`` does.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(x=torch.eye(3)[None], y=torch.tensor([[0, 0, -100]]))
        >>> token_accuracy(torch.nn.Identity(), [batch])
        0.5
    """
    right, seen = 0, 0
    for logits, y in _counted(net, batches, ignore):
        right += (logits.argmax(1) == y).sum()
        seen += len(y)
    return float(right) / seen if seen else float("nan")


def _counted(net, batches, ignore):
    """(logits (n, V), labels (n,)) of the tokens that take part, batch by batch."""
    for batch in batches:
        labels_needed(batch.y, "a token metric")
        logits = logits_of(call(net, batch.x))
        _check(logits, batch.y)
        y = batch.y.long()
        yield logits[y != ignore], y[y != ignore]


@explained
@dataclass(frozen=True, repr=False)
class Tokens(LabelTerm):
    """One class index per token: logits (B, L, V), labels (B, L) whole numbers 0..V-1.

    The label loss is the cross-entropy, its mean over the tokens that take part; metrics are
    ``nll`` and ``token_accuracy``. Logits and labels stand at the same positions: for a language
    model, whose answer at one place is for the next token, shift the labels in the data.
    ``label_smoothing`` and ``class_weights`` change the loss as in ``torch.nn.CrossEntropyLoss``.

    Args:
        ignore: The label of tokens that take no part (padding, prompts). Default -100, as in
            transformers.

    Example:
        >>> import torch
        >>> loss = Tokens().loss(torch.zeros(1, 2, 4), torch.tensor([[3, -100]]))
        >>> round(float(loss), 4)  # log 4
        1.3863
    """

    ignore: int = -100

    name = "tokens"
    class_axis = 2

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """``nll`` and ``token_accuracy``, without the tokens labelled ``ignore``."""
        return (
            Metric(partial(nll, ignore=self.ignore), higher_is_better=False),
            Metric(partial(token_accuracy, ignore=self.ignore), higher_is_better=True),
        )

    def loss(self, logits: Tensor, y) -> Tensor:
        """The cross-entropy, its mean over the tokens not labelled ``ignore``.

        Args:
            logits: (B, L, V).
            y: (B, L) whole numbers.

        Returns:
            A scalar, in float32 or more; 0 (with a gradient of 0) if no token takes part.

        Raises:
            ValueError: If the batch has no labels, or the shapes do not fit.
        """
        labels_needed(y, "the cross-entropy")
        _check(logits, y)
        flat = full_precision(logits).flatten(0, 1)
        return self.counted_cross_entropy(flat, y.long().flatten(), self.ignore)

    def check_labels(self, y, classes: int, where: str) -> None:
        """Checks that labels are (N, L) whole numbers in 0..classes-1, or ``ignore``.

        Args:
            y: The labels of a split, or None.
            classes: The size of the vocabulary; 0 where the dataset does not name it.
            where: What the labels are, for the message.

        Raises:
            ValueError: If they are not.
        """
        if y is None:
            return
        if not is_integer(y) or y.ndim != 2:
            raise ValueError(
                f"{where} labels are {described(y)}: tokens need one class index per token, whole "
                "numbers of shape (N, L)."
            )
        check_range(y, classes, self.ignore, where)

    def check_first_batch(self, output, batch, classes: int, name: str) -> None:
        """Checks that the network answers with (B, L, V) logits at the labels' positions.

        Args:
            output: What the network returned.
            batch: The batch.
            classes: The size of the vocabulary; 0 where the dataset does not name it.
            name: The dataset's name.

        Raises:
            ValueError: If it does not.
        """
        logits = self.logits(output)
        if logits.ndim != 3:
            raise ValueError(f"the student answers {described(logits)}: expected logits (B, L, V).")
        check_width(logits, 2, classes, name)
        self.check_weights(logits.shape[2], "the student's answer")
        if batch.y is not None:
            _check(logits, batch.y)
            check_range(batch.y, logits.shape[2], self.ignore, f"{name}: the first batch's")


def _check(logits: Tensor, y) -> None:
    if logits.ndim != 3 or not isinstance(y, Tensor) or y.shape != logits.shape[:2]:
        raise ValueError(
            f"tokens need logits (B, L, V) and labels (B, L); given logits {tuple(logits.shape)} "
            f"and labels {described(y)}."
        )
