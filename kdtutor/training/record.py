"""What a run leaves behind: its history, the best weights, and the files that continue it."""

import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from torch import Tensor

from ..datasets import Data, Split
from ..distiller import Distiller, Stage
from ..runs import RunDirectory, save_weights
from ..tasks import Metric
from .epoch import Means
from .evaluation import measure
from .history import History

EVALUATED_AT_ONCE = 500  # examples


class Record:
    """The history of a run and, with a directory, the files from which it goes on.

    Args:
        distiller, data: what is trained, and on what.
        metric: what is measured after every epoch (None: nothing).
        spec: what decides the run's result.
        directory: where the run is written (None: nowhere).
        snapshots: epochs after which the deployed weights are kept there (0: before training).
    """

    def __init__(
        self,
        distiller: Distiller,
        data: Data,
        metric: Metric | None,
        spec: dict,
        directory: str | Path | None = None,
        snapshots: Sequence[int] = (),
    ):
        self.distiller, self.data, self.metric, self.snapshots = distiller, data, metric, snapshots
        self.history, self.run = History(spec=spec), RunDirectory(directory) if directory else None
        self.best: dict = {"value": None, "epoch": 0, "state": None}
        self.saved: dict | None = None
        self.done, self.start = 0, time.perf_counter()
        if self.run:
            self._continue(self.run)

    def _continue(self, run: RunDirectory) -> None:
        """Goes on where the directory's run stopped, if it holds one."""
        self.saved = run.begin(self.history.spec, lambda: self._state(()))
        if self.saved:
            self.done, self.best = self.saved["epoch"], self.saved["best"]
            self.distiller.load_state_dict(self.saved["distiller"])
            self.history.rows = run.rows(self.done)
            self.start -= self.saved["seconds"]
        elif 0 in self.snapshots:
            self._snapshot(0)

    def epoch(self, row: dict, optimizers, held_out: Split | None) -> None:
        """Measures after an epoch, and writes it down."""
        if held_out is not None and self.metric is not None:
            row |= self._measured(held_out, "val")
            value = row[self.history.metric]
            if self.metric.better(value, self.best["value"]):
                self.best = {"value": value, "epoch": row["epoch"], "state": self._weights()}
        self.history.rows.append(row)
        self.done = row["epoch"]
        if self.run:
            self.run.append(row)
            self.run.checkpoint(self._state(optimizers))
            if self.done in self.snapshots:
                self._snapshot(self.done)

    def reporter(self, show, stage: Stage, epochs: int, steps: int):
        """(step, means) -> what the bar shows: a few times an epoch, because reading a loss makes a
        GPU wait.
        """
        last = self.history.rows[-1].get(self.history.metric) if self.history.rows else None
        note = "" if last is None else f" {self.history.metric} {last:.4g}"

        def report(step: int, means: Means) -> None:
            show.update(1)
            if step % max(1, steps // 5) == 0:
                show.set_description_str(f"epoch {self.done + 1}/{epochs} {stage.name}", False)
                values = " ".join(f"{k} {v:.3f}" for k, v in means.values().items())
                show.set_postfix_str(values + note, False)

        return report

    def stopped(self) -> History:
        """Where ``stop`` said so."""
        self.history.status = "stopped"
        return self.history

    def finish(self, test: bool) -> History:
        """The result of a finished run: read if it is there, else measured and written."""
        known = self.run.result if self.run else None
        self.history.result = known or self._result(test)
        if self.run and known is None:
            path = self.run.path / "student.safetensors"
            save_weights(self.distiller.deploy(), path, epoch=self.done)
            self.run.finish(self.history.result)
        return self.history

    def interrupted(self, epochs: int) -> History:
        """After Ctrl-C: what there is, and how to go on."""
        self.history.status = "interrupted"
        again = (
            f" Call fit with run_dir={str(self.run.path)!r} again to continue." if self.run else ""
        )
        print(f"Interrupted after {self.done} of {epochs} epochs.{again}")
        return self.history

    def _measured(self, split: Split, what: str, end: str = "") -> dict[str, float]:
        """{"val_accuracy": ...} of the deployed network, {"net2.val_accuracy": ...} of others."""
        found: dict[str, float] = {}
        metric = self.metric
        assert metric is not None
        device = next(self.distiller.parameters()).device
        for i, (name, net) in enumerate(self.distiller.networks().items()):
            batches = self.data.batches(split, EVALUATED_AT_ONCE, device=device)
            prefix = f"{name}.{what}_" if i else f"{what}_"
            values = measure(net, batches, metric)
            found |= {f"{prefix}{k}{end}": v for k, v in values.items()}
        return found

    def _result(self, test: bool) -> dict:
        result: dict = {"seconds": time.perf_counter() - self.start}
        if self.metric is not None and not self.metric.higher_is_better:
            result["better"] = "lower"
        name = self.history.metric.removeprefix("val_")
        if self.history.best() is not None:
            result[f"val_{name}_last"] = self.history.rows[-1][self.history.metric]
            result |= {f"val_{name}_best": self.best["value"], "best_epoch": self.best["epoch"]}
        if test and self.metric is not None and self.data.test is not None and len(self.data.test):
            result |= self._measured(self.data.test, "test", "_last")
            if self.best["state"] is not None:
                net = deepcopy(self.distiller.deploy())
                net.load_state_dict(self.best["state"])
                device = next(self.distiller.parameters()).device
                batches = self.data.batches(self.data.test, EVALUATED_AT_ONCE, device=device)
                values = measure(net, batches, self.metric)
                result |= {f"test_{k}_best": v for k, v in values.items()}
        return result

    def _state(self, optimizers) -> dict:
        return {
            "epoch": self.done,
            "distiller": dict(self.distiller.state_dict()),
            "optimizers": [o.state_dict() for o in optimizers],
            "best": self.best,
            "seconds": time.perf_counter() - self.start,
        }

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.distiller.deploy().state_dict().items()}

    def _snapshot(self, epoch: int) -> None:
        assert self.run is not None
        path = self.run.path / f"epoch_{epoch:04d}.safetensors"
        save_weights(self.distiller.deploy(), path, epoch=epoch)
