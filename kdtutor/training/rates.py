"""The learning rates of a run: our schedules, which are functions of how much of a stage has
passed, and torch's schedulers, which are objects around an optimiser.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..distiller import Schedule


@dataclass(frozen=True)
class Scheduler:
    """A scheduler of torch for ``fit``; made by ``per_epoch`` and ``per_step``."""

    make: Callable[[Optimizer], Any]
    each: str  # "epoch" or "step"


def per_epoch(make: Callable[[Optimizer], Any]) -> Scheduler:
    """A scheduler of torch that steps after every epoch, as ``fit``'s ``schedule=``.

    Args:
        make: optimiser -> scheduler; made anew for every stage. ``ReduceLROnPlateau`` is told the
            validation metric, without validation the loss.

    Returns:
        What ``fit`` takes.

    Example:
        >>> from torch.optim.lr_scheduler import StepLR
        >>> per_epoch(lambda optimizer: StepLR(optimizer, 30)).each
        'epoch'
    """
    return Scheduler(make, "epoch")


def per_step(make: Callable[[Optimizer], Any]) -> Scheduler:
    """A scheduler of torch that steps after every step of the optimiser, as ``fit``'s
    ``schedule=``.

    Args:
        make: optimiser -> scheduler; made anew for every stage.

    Returns:
        What ``fit`` takes.

    Example:
        >>> from torch.optim.lr_scheduler import OneCycleLR
        >>> per_step(lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=500)).each
        'step'
    """
    return Scheduler(make, "step")


def check_schedule(schedule) -> None:
    """Raises ``ValueError`` for what is neither a function of progress nor made by ``per_epoch`` or
    ``per_step``.
    """
    if isinstance(schedule, Scheduler):
        return
    way = (
        "a scheduler of torch is made for an optimiser, which fit makes itself: pass "
        "schedule=per_epoch(lambda optimizer: StepLR(optimizer, 30)), or per_step(...) for one "
        "that steps with every batch (kdtutor.training)"
    )
    kind = schedule.func if isinstance(schedule, partial) else schedule
    kind = kind if isinstance(kind, type) else type(kind)
    if issubclass(kind, (LRScheduler, ReduceLROnPlateau)):
        raise ValueError(f"schedule={getattr(kind, '__name__', kind)}: {way}.")
    if not callable(schedule):
        raise ValueError(
            f"schedule is a {type(schedule).__name__}; expected a function, progress of the stage "
            "in [0, 1) -> factor of the learning rate, such as cosine, linear or steps(0.5, 0.75)."
        )
    try:
        factor = float(schedule(0.0))
    except Exception as error:
        raise ValueError(
            "schedule is called with the progress of the stage in [0, 1) and gives a factor of the "
            f"learning rate; schedule(0.0) raised {type(error).__name__}: {error}. If it was meant "
            f"for an optimiser: {way}."
        ) from error
    if not math.isfinite(factor):
        raise ValueError(f"schedule(0.0) is {factor}; expected a finite factor of the rate.")


class Rate:
    """The learning rate of one optimiser while a stage lasts.

    Args:
        optimizer: whose groups' rates are set.
        schedule: a function of the stage's progress, or a ``Scheduler``.
        counts: how many epochs and steps the stage has, {"epoch": 3, "step": 600}, if known.

    Raises:
        ValueError: for what is no scheduler of this optimiser, or one for fewer steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule | Scheduler,
        counts: Mapping[str, int] = MappingProxyType({}),
    ):
        self.optimizer, self.schedule, self.torch = optimizer, schedule, None
        if isinstance(schedule, Scheduler):
            self.torch = schedule.make(optimizer)
            _check_made(self.torch, optimizer, schedule.each, counts.get(schedule.each, 0))

    def set(self, progress: float) -> None:
        """Before a step."""
        if not isinstance(self.schedule, Scheduler):
            factor = self.schedule(progress)
            for group in self.optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def stepped(self) -> None:
        """After a step."""
        if self.torch is not None and self._each == "step":
            self._advance(None)

    def ended(self, value: float) -> None:
        """After an epoch, whose validation metric (or loss) was ``value``."""
        if self.torch is not None and self._each == "epoch":
            self._advance(value)

    @property
    def _each(self) -> str:
        return self.schedule.each if isinstance(self.schedule, Scheduler) else ""

    def _advance(self, value: float | None) -> None:
        assert self.torch is not None
        told = isinstance(self.torch, ReduceLROnPlateau) and value is not None
        self.torch.step(value) if told else self.torch.step()

    def state(self) -> dict | None:
        """What continues it; plain data."""
        return None if self.torch is None else self.torch.state_dict()

    def load(self, state: dict | None) -> None:
        """Goes on from ``state()``."""
        if self.torch is not None and state is not None:
            self.torch.load_state_dict(state)


def _check_made(made, optimizer: Optimizer, each: str, count: int) -> None:
    """Raises ``ValueError`` for a scheduler that cannot step so many times with this optimiser."""
    kind = type(made).__name__
    if not hasattr(made, "step") or not hasattr(made, "state_dict"):
        raise ValueError(
            f"the scheduler's function returned a {kind}; expected one of "
            "torch.optim.lr_scheduler, made for the optimiser that it was given."
        )
    if getattr(made, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            f"the {kind} was made for another optimiser than the one that its function was given, "
            f"whose rates it would not change: per_{each}(lambda optimizer: {kind}(optimizer, "
            "...))."
        )
    if isinstance(made, ReduceLROnPlateau) and each == "step":
        raise ValueError(
            f"a {kind} waits for a metric, which is measured after an epoch: pass it by "
            "per_epoch(...)."
        )
    total = getattr(made, "total_steps", None)
    if isinstance(total, int) and total < count:
        raise ValueError(
            f"the {kind} is for total_steps={total}, and the stage has {count} {each}s: say "
            f"total_steps={count}."
        )
