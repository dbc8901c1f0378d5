"""A metric: a function of a network and batches, with a name and the direction that is better."""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ..errors import explained

# A name with one of these usually belongs to a metric where less is better, but not always: so a
# direction is asked for.
ERRORS = (
    "loss", "error", "err", "mse", "mae", "nll", "perplexity", "entropy", "brier", "ece",
    "distance", "bits", "divergence",
)  # fmt: skip


@explained
@dataclass(frozen=True)
class Metric:
    """What is measured on a split after each epoch, and which way is better.

    The function is called with the network in eval mode and an iterable of batches, without
    gradients, and returns one number, or a mapping of names to numbers; of a mapping the first
    entry decides which epoch is best.

    Args:
        function: Any callable ``(net, batches) -> float or mapping of floats``.
        name: What the values are called. Default: the callable's ``name``, its ``__name__``, the
            name of the function in a ``functools.partial``, or of the object's class; a lambda is
            called "metric".
        higher_is_better: The direction. Default: the callable's own ``higher_is_better`` (the
            convention of torchmetrics), else True. A callable that states none but is called like
            an error ("loss", "mse", "nll", ...) is refused, because a guess could keep the worst
            epoch as the best.

    Raises:
        ValueError: If the function is not callable, or sounds like an error and states no
            direction.

    Example:
        >>> def mean_bits(net, batches):
        ...     return 2.5
        >>> metric = Metric(mean_bits, higher_is_better=False)
        >>> metric.values(None, [])
        {'mean_bits': 2.5}
        >>> metric.better(2.0, 2.5)
        True
    """

    function: Callable[[Any, Iterable], Any]
    name: str = None  # type: ignore[assignment]  # always a string after construction
    higher_is_better: bool = None  # type: ignore[assignment]  # always a bool after construction

    def __post_init__(self):
        if not callable(self.function):
            raise ValueError(
                f"metric={self.function!r}: expected a function (net, batches) -> float, or a "
                "Metric."
            )
        if self.name is None:
            object.__setattr__(self, "name", _name(self.function))
        if self.higher_is_better is None:
            object.__setattr__(self, "higher_is_better", _direction(self.function, self.name))

    def __repr__(self) -> str:
        return f"Metric({self.name}, higher_is_better={self.higher_is_better})"

    @classmethod
    def of(cls, metric: "Metric | Callable") -> "Metric":
        """A metric as it is, or any callable wrapped as one.

        Args:
            metric: A ``Metric``, or a callable ``(net, batches) -> float or mapping of floats``.

        Returns:
            The ``Metric``.

        Raises:
            ValueError: As the constructor does.

        Example:
            >>> Metric.of(lambda net, batches: 0.5)
            Metric(metric, higher_is_better=True)
        """
        return metric if isinstance(metric, Metric) else cls(metric)

    def values(self, net, batches: Iterable) -> dict[str, float]:
        """What the function measures, by name.

        Args:
            net: The network, in eval mode.
            batches: Batches with ``x`` and ``y``.

        Returns:
            ``{name: value}`` for a number; a mapping's own names, in its order.

        Raises:
            ValueError: If the function returned anything else.

        Example:
            >>> Metric(lambda net, batches: {"iou": 0.5, "f1": 0.6}).values(None, [])
            {'iou': 0.5, 'f1': 0.6}
        """
        given = self.function(net, batches)
        if isinstance(given, Mapping):
            numbers_only = all(isinstance(k, str) and _is_number(v) for k, v in given.items())
            if given and numbers_only:
                return {k: float(v) for k, v in given.items()}
        elif _is_number(given):
            return {self.name: float(given)}
        raise ValueError(
            f"the metric {self.name!r} returned {_described(given)}: expected a number, or a "
            "mapping of names to numbers."
        )

    def better(self, a: float | None, b: float | None) -> bool:
        """Whether ``a`` is strictly better than ``b``.

        NaN and None are never better than anything, and every number is better than they are.

        Args:
            a: The new value.
            b: The best value up to now, None if there is none.

        Returns:
            True if ``a`` is better.

        Example:
            >>> accuracy = Metric(lambda net, batches: 0.5, name="accuracy")
            >>> accuracy.better(0.9, 0.8), accuracy.better(0.8, 0.8), accuracy.better(0.1, None)
            (True, False, True)
        """
        if a is None or math.isnan(a):
            return False
        if b is None or math.isnan(b):
            return True
        return a > b if self.higher_is_better else a < b


def _name(function) -> str:
    while isinstance(function, partial) and not isinstance(getattr(function, "name", None), str):
        function = function.func
    for name in (getattr(function, "name", None), getattr(function, "__name__", None)):
        if isinstance(name, str) and name:
            return "metric" if name == "<lambda>" else name
    return type(function).__name__


def _direction(function, name: str) -> bool:
    while function is not None:
        stated = getattr(function, "higher_is_better", None)
        if stated is not None:
            return bool(stated)
        function = function.func if isinstance(function, partial) else None
    if any(word in name.lower() for word in ERRORS):
        raise ValueError(
            f"the metric {name!r} sounds like an error but does not say which way is better: pass "
            f"Metric({name}, higher_is_better=False), or True if more is better."
        )
    return True


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) or (isinstance(value, Tensor) and value.ndim == 0)


def _described(value) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        wrong = {k: type(v).__name__ for k, v in value.items() if not _is_number(v)}
        return f"a mapping with {wrong}" if wrong else f"a mapping with the names {list(value)}"
    return f"{type(value).__name__} {str(value)[:60]!r}"
