"""Learning-rate schedules, as functions of how much of a stage has passed (0 to 1), and the default
optimiser.
"""

import math
from collections.abc import Callable

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
