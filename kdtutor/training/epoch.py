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
from ..distiller import Distiller, Player, Schedule, Terms, check_terms
from .plan import Part
from .watch import NonFiniteError, diagnosis
from .weight_path import WeightPath


@dataclass
class Trainer:
    """What is the same in all epochs of a run; ``epoch`` trains one."""

    distiller: Distiller
    data: Data
    train: Split
    batch_size: int
    schedule: Schedule
    seed: int
    device: torch.device
    precision: str
    walked: WeightPath | None = None

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return self.data.steps(self.train, self.batch_size)

    def epoch(self, part: Part, optimizers, number: int, report: Callable) -> dict:
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
            drop_last=True,
            epoch=number,
        )
        for step, batch in enumerate(batches):
            self.distiller.progress = (number - part.first + step / self.steps) / part.count
            for player, optimizer in zip(part.stage.players, optimizers):
                for _ in range(player.steps):
                    terms = self._step(part, player, optimizer, batch, number, step)
                    means.add(player, terms)
            with torch.no_grad():
                self.distiller.after_step(batch)
            if self.walked:
                self.walked.step()
            report(step, means)
        row: dict[str, Any] = {"epoch": number + 1, "stage": part.stage.name}
        row |= means.row(optimizers) | self.distiller.logged()
        row |= self.walked.row() if self.walked else {}
        if not math.isfinite(row["loss"]):
            raise NonFiniteError(diagnosis(self.distiller, batch, terms, number + 1, step + 1))
        return row | {"seconds": time.perf_counter() - began}

    def _step(self, part: Part, player: Player, optimizer, batch: Batch, number: int, step: int):
        """One step of one player; returns its terms."""
        schedule = player.schedule or self.schedule
        for group in optimizer.param_groups:
            start = group.setdefault("initial_lr", group["lr"])
            group["lr"] = start * schedule(self.distiller.progress)
        with self._precision():
            terms = player.terms(batch)
        if not step:
            check_terms(player, terms)
        loss = total(terms)
        # Reading a loss makes a GPU wait, so there it is looked at now and then; on a CPU it costs
        # nothing.
        if (self.device.type == "cpu" or step % 50 == 0) and not math.isfinite(loss.item()):
            raise NonFiniteError(diagnosis(self.distiller, batch, terms, number + 1, step + 1))
        optimizer.zero_grad(set_to_none=True)
        # A player's loss may run through another's network: only its own parameters get gradients.
        alone = len(part.stage.players) == 1
        loss.backward(inputs=None if alone else player.parameters)
        optimizer.step()
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

    def add(self, player: Player, terms: Terms) -> None:
        """The terms of one step of one player."""
        prefix = f"{player.name}." if len(self.players) > 1 else ""
        for name, value in {"loss": total(terms), **terms}.items():
            key = prefix + name
            self.sums[key] = self.sums.get(key, 0.0) + value.detach()
            self.counts[key] = self.counts.get(key, 0) + 1

    def values(self) -> dict[str, float]:
        """The means so far."""
        means = {k: float(v) / self.counts[k] for k, v in self.sums.items()}
        if len(self.players) > 1:
            losses = [means[f"{p.name}.loss"] for p in self.players if f"{p.name}.loss" in means]
            means = {"loss": sum(losses)} | means
        return means

    def row(self, optimizers) -> dict[str, float]:
        """The means, with the learning rates of the last step."""
        rates = [o.param_groups[0]["lr"] for o in optimizers]
        own = {f"{p.name}.lr": lr for p, lr in zip(self.players, rates)} if len(rates) > 1 else {}
        return {"lr": rates[0]} | self.values() | own


def total(terms: Terms) -> Tensor:
    """The objective: the sum of the terms."""
    return cast(Tensor, sum(terms.values()))


def mix(*parts) -> int:
    """A seed from several parts, so that neighbouring seeds and epochs share nothing."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())
