"""How a distiller's stages share the epochs, and what their players learn with."""

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..distiller import Distiller, OptimizerFactory, Player, Schedule, Stage
from .rates import Rate, Scheduler


class Part(NamedTuple):
    """A stage and the epochs that it gets: ``count`` of them, the first with number ``first``."""

    stage: Stage
    first: int
    count: int  # type: ignore[assignment]  # tuples have a method of that name, not used here


def share_epochs(stages: Sequence[Stage], epochs: int) -> list[Part]:
    """Shares the epochs out by the stages' shares, at least one each.

    Args:
        stages: in the order of training.
        epochs: of all stages together.

    Returns:
        A ``Part`` per stage.

    Raises:
        ValueError: for fewer epochs than stages.

    Example:
        >>> from kdtutor.distiller import Player
        >>> players = [Player("net", dict, [torch.nn.Parameter(torch.zeros(1))])]
        >>> stages = [Stage("a", 1, players), Stage("b", 2, players)]
        >>> [part.count for part in share_epochs(stages, 9)]
        [3, 6]
    """
    if epochs < len(stages):
        raise ValueError(
            f"{epochs} epochs for {len(stages)} stages ({', '.join(s.name for s in stages)}): each "
            "needs at least one."
        )
    whole, ends, passed = sum(s.share for s in stages), [0], 0.0
    for i, stage in enumerate(stages):
        passed += stage.share
        low, high = ends[-1] + 1, epochs - (len(stages) - 1 - i)
        ends.append(min(max(round(epochs * passed / whole), low), high))
    return [Part(s, begin, end - begin) for s, begin, end in zip(stages, ends, ends[1:])]


class Parameters(list):
    """A player's parameters, for its optimiser: a list that also knows their names.

    Example:
        >>> weights = [torch.nn.Parameter(torch.zeros(2))]
        >>> [name for name, _ in Parameters(weights, {id(weights[0]): "fc.bias"}).named()]
        ['fc.bias']
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], names: dict[int, str]):
        super().__init__(parameters)
        self._names = names

    def named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """(name, parameter) pairs: the student's own names; others as the distiller has them."""
        return [(self._names.get(id(p), ""), p) for p in self]


class Learner(NamedTuple):
    """A player in training: with its optimiser, and the rate of that."""

    player: Player
    optimizer: torch.optim.Optimizer
    rate: Rate

    @property
    def trained(self) -> list[Tensor]:
        """What the optimiser steps: the player's parameters, or a part of them."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def state(self) -> dict:
        """What continues it; plain data and tensors."""
        return {"optimizer": self.optimizer.state_dict(), "rate": self.rate.state()}

    def load(self, saved: dict) -> None:
        """Puts a saved state back, in the memory format of the parameters."""
        self.optimizer.load_state_dict(saved["optimizer"])
        for parameter, values in self.optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Fused optimisers walk both side by side.
                    values[key] = torch.empty_like(parameter).copy_(value)
        self.rate.load(saved["rate"])


def learners(
    distiller: Distiller,
    stage: Stage,
    usual: OptimizerFactory,
    schedule: Schedule | Scheduler,
    epochs: int = 0,
    steps: int = 0,
) -> list[Learner]:
    """The players of a stage with their optimisers and rates: their own, or the run's.

    Args:
        distiller: whose stage it is; its parameters' names are the student's own.
        stage: any.
        usual: makes an optimiser for a player without one.
        schedule: of a player without one.
        epochs, steps: how many the stage has; 0 where nobody knows.

    Returns:
        A ``Learner`` per player.

    Raises:
        ValueError: for what makes no optimiser, or one of parameters that are not the player's.
    """
    names = {id(p): n.removeprefix("student.") for n, p in distiller.named_parameters()}
    made = []
    for player in stage.players:
        optimizer = (player.optimizer or usual)(Parameters(player.parameters, names))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"the function that makes the optimiser of player {player.name!r} returned a "
                f"{type(optimizer).__name__}; expected a torch.optim.Optimizer: lambda "
                "parameters: torch.optim.AdamW(parameters, lr=1e-3)."
            )
        if isinstance(optimizer, torch.optim.SparseAdam):
            raise ValueError(
                "SparseAdam takes sparse gradients only, and those of fit are dense: choose "
                "another optimiser, such as torch.optim.AdamW."
            )
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise ValueError(
                f"{type(optimizer).__name__} evaluates the loss several times in a step (its step "
                "needs a closure), and fit computes it once: choose another optimiser, such as "
                "torch.optim.AdamW."
            )
        own = {id(p) for p in player.parameters}
        if any(id(p) not in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                f"the optimiser of player {player.name!r} holds parameters that are not its own: "
                "make it of the parameters that the function is given (parameters.named() has "
                "their names)."
            )
        counts = {"epoch": epochs, "step": steps * player.steps}
        rate = Rate(optimizer, player.schedule or schedule, counts)
        made.append(Learner(player, optimizer, rate))
    return made
