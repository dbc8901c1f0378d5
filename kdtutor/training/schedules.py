"""Learning-rate schedules, as functions of how much of a stage has passed (0 to 1), and the default
optimiser.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import cast

import torch

from ..distiller import OptimizerFactory


def constant(progress: float) -> float:
    """Learning-rate factor 1."""
    return 1.0


def linear(progress: float) -> float:
    """Learning-rate factor from 1 down to 0."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Learning-rate factor from 1 down to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def steps(*at: float, factor: float = 0.1) -> Callable[[float], float]:
    """Learning-rate factor that is multiplied by ``factor`` at each fraction of the training:
    steps(150/240, 180/240, 210/240).
    """
    schedule = lambda progress: factor ** sum(progress >= a for a in at)
    schedule.__name__ = f"steps({', '.join(f'{a!r}' for a in at)}; {factor!r})"
    return schedule


def sgd(lr: float, momentum: float = 0.9, weight_decay: float = 5e-4) -> OptimizerFactory:
    """A factory of SGD optimisers (Nesterov if there is momentum), fused where torch can."""

    def make(parameters):
        fused = {p.device.type for p in parameters} <= {"cpu", "cuda"} and {
            p.dtype for p in parameters
        } == {torch.float32}
        return torch.optim.SGD(
            parameters, lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=fused
        )

    make.__name__ = f"sgd(lr={lr!r}, momentum={momentum!r}, weight_decay={weight_decay!r})"
    return make


class Unsaid(float):
    """A default that the caller did not state, told apart from the same number that was."""


class UnsaidCount(int):
    """The same of a whole number."""


def optimizer_factory(
    optimizer: OptimizerFactory | None, lr: float, weight_decay: float
) -> OptimizerFactory:
    """What makes the optimisers of a run, from what ``fit`` was given.

    Args:
        optimizer: a factory, a class of ``torch.optim``, or None for ``sgd``.
        lr: of the default optimiser or of the class.
        weight_decay: the same.

    Returns:
        A factory.

    Raises:
        ValueError: for a rate or decay beside a factory, which would not be used, and for what is
            no factory.
    """
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 <= value < float("inf"):
            raise ValueError(f"{name}={value!r}: expected a finite number of at least 0.")
    if optimizer is None:
        return sgd(float(lr), weight_decay=float(weight_decay))
    stated = {
        name: float(value)
        for name, value in (("lr", lr), ("weight_decay", weight_decay))
        if not isinstance(value, Unsaid)
    }
    given = ", ".join(f"{name}={value!r}" for name, value in stated.items())
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        kind: Callable = optimizer
        make = lambda parameters: kind(parameters, **stated)
        make.__name__ = f"{optimizer.__name__}({given})"
        return make
    if not callable(optimizer):
        raise ValueError(
            f"optimizer is a {type(optimizer).__name__} object; fit makes the optimisers itself, "
            "for it knows which parameters each player trains. Pass a class, such as "
            "torch.optim.AdamW, or a function: lambda parameters: torch.optim.AdamW(parameters, "
            "lr=1e-3)."
        )
    if stated:
        raise ValueError(
            f"{given} would not be used: a function that makes the optimiser sets its own. Say it "
            "there, lambda parameters: torch.optim.AdamW(parameters, lr=1e-3), or pass the class "
            "torch.optim.AdamW."
        )
    return cast(OptimizerFactory, optimizer)
