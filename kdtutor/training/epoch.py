"""One pass over the training data: the heart of the loop, plain PyTorch."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from ..datasets import Batch, Data, Split
from ..distiller import Distiller, Player, Terms, check_terms
from ..distiller.processes import count, rank
from .averaging import Averaged
from .plan import Learner, Part
from .processes import average_gradients, same_row, same_statistics, share
from .watch import NonFiniteError, diagnosis, one_example
from .weight_path import WeightPath


@dataclass
class Trainer:
    """What is the same in all epochs of a run; ``epoch`` trains one."""

    distiller: Distiller
    data: Data
    train: Split
    batch_size: int
    seed: int
    device: torch.device
    precision: str
    drop_last: bool = True
    accumulate: int = 1
    clip_norm: float | None = None
    average: Averaged | None = None
    walked: WeightPath | None = None

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return self.data.steps(self.train, self.batch_size, self.drop_last)

    @property
    def updates(self) -> int:
        """How many steps of an optimiser."""
        return -(-self.steps // self.accumulate)

    def epoch(self, part: Part, learners: list[Learner], number: int, report: Callable) -> dict:
        """Trains epoch ``number`` (from 0) of a part of the plan; returns the epoch's row."""
        # Seeds belong to epochs, so an epoch is the same whether or not the run was interrupted
        # before it.
        torch.manual_seed(mix(self.seed, number, "dropout"))
        order = torch.Generator().manual_seed(mix(self.seed, number, "order"))
        means, began = Means(part.stage.players), time.perf_counter()
        self.distiller.train()
        if self.walked:
            self.walked.begin()
        batches = self.data.batches(
            self.train,
            self.batch_size,
            shuffle=order,
            augment=True,
            device=self.device,
            drop_last=self.drop_last,
            epoch=number,
        )
        for step, whole in enumerate(batches):
            self.distiller.progress = (number - part.first + step / self.steps) / part.count
            batch, weight = share(whole)
            if count() > 1:  # dropout and the like: each process its own, whatever its batches drew
                torch.manual_seed(mix(self.seed, number, step, rank()))
            for learner in learners:
                for _ in range(learner.player.steps):
                    terms = self._step(learner, batch, weight, number, step, len(learners) == 1)
                    means.add(learner.player, terms, weight)
            if self._ends(step):
                self._stepped(batch)
            report(step, means)
        row: dict[str, Any] = {"epoch": number + 1, "stage": part.stage.name}
        row |= same_row(means.row(learners) | self.distiller.logged())
        row |= self.walked.row() if self.walked else {}
        if not math.isfinite(row["loss"]):
            raise NonFiniteError(diagnosis(self.distiller, batch, terms, number + 1, step + 1))
        same_statistics(self.distiller)
        return row | {"seconds": time.perf_counter() - began}

    def _ends(self, step: int) -> bool:
        """Does this batch end a step of the optimisers?"""
        return (step + 1) % self.accumulate == 0 or step + 1 == self.steps

    def _stepped(self, batch: Batch) -> None:
        """After a step of all players."""
        with torch.no_grad():
            self.distiller.after_step(batch)
        if self.average:
            self.average.step(self.distiller.deploy())
        if self.walked:
            self.walked.step()

    def _step(
        self, learner: Learner, batch: Batch, weight: float, number: int, step: int, alone: bool
    ) -> Terms:
        """One batch of one player; returns its terms."""
        player, optimizer, rate = learner
        rate.set(self.distiller.progress)
        try:
            with self._precision():
                terms = player.terms(batch)
        except ValueError as error:
            if told := one_example(error, batch):
                raise told from error
            raise
        if not step:
            check_terms(player, terms)
        loss = total(terms)
        # Reading a loss makes a GPU wait, so there it is looked at now and then; on a CPU it costs
        # nothing.
        if (self.device.type == "cpu" or step % 50 == 0) and not math.isfinite(loss.item()):
            raise NonFiniteError(diagnosis(self.distiller, batch, terms, number + 1, step + 1))
        first = step - step % self.accumulate  # of the batches whose gradients are one step's
        if step == first:
            for parameter in player.parameters:  # those, too, that its optimiser leaves out
                parameter.grad = None
        weight /= min(self.accumulate, self.steps - first)
        # A player's loss may run through another's network: only its own parameters get gradients.
        (loss if weight == 1 else weight * loss).backward(
            inputs=None if alone else player.parameters
        )
        if self._ends(step):
            average_gradients(player.parameters)
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(learner.trained, self.clip_norm)
            optimizer.step()
            rate.stepped()
        return terms

    def _precision(self):
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()


@dataclass
class Means:
    """Means over the steps of an epoch. Sums stay on the device until they are asked for.

    One player logs "loss" and its terms; two or more log "loss", the sum of all, and
    "name.loss", "name.lr" and "name.term" each.
    """

    players: Sequence[Player]
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, player: Player, terms: Terms, weight: float = 1.0) -> None:
        """The terms of one step of one player; ``weight``: of this process's share of the batch."""
        prefix = f"{player.name}." if len(self.players) > 1 else ""
        for name, value in {"loss": total(terms), **terms}.items():
            key = prefix + name
            one = value.detach() if weight == 1 else weight * value.detach()
            self.sums[key] = self.sums.get(key, 0.0) + one
            self.counts[key] = self.counts.get(key, 0) + 1

    def values(self) -> dict[str, float]:
        """The means so far."""
        means = {k: float(v) / self.counts[k] for k, v in self.sums.items()}
        if len(self.players) > 1:
            losses = [means[f"{p.name}.loss"] for p in self.players if f"{p.name}.loss" in means]
            means = {"loss": sum(losses)} | means
        return means

    def row(self, learners: Sequence[Learner]) -> dict[str, float]:
        """The means, with the learning rates of the last step."""
        # A number, also of an optimiser that keeps its rate in a tensor.
        rates = [float(learner.optimizer.param_groups[0]["lr"]) for learner in learners]
        own = {f"{p.name}.lr": lr for p, lr in zip(self.players, rates)} if len(rates) > 1 else {}
        return {"lr": rates[0]} | self.values() | own


def total(terms: Terms) -> Tensor:
    """The objective: the sum of the terms."""
    return cast(Tensor, sum(terms.values()))


def mix(*parts) -> int:
    """A seed from several parts, so that neighbouring seeds and epochs share nothing."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())
