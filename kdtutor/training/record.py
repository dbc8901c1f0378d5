"""What a run leaves behind: its history, the best weights, and the files that continue it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..datasets import Data, Split
from ..distiller import Distiller, Stage
from ..distiller.processes import rank
from ..runs import RunDirectory, save_weights
from ..tasks import Metric
from .averaging import Averaged
from .epoch import Means
from .extend import Extension
from .history import History
from .networks import Networks
from .plan import Learner
from .processes import told


class Keeping(NamedTuple):
    """Where a run is written, and what of it."""

    directory: str | Path | None = None
    snapshots: Sequence[int] = ()  # epochs after which the deployed weights are kept
    extension: Extension | None = None
    evaluated_at_once: int = 500  # examples


NOWHERE = Keeping()


class Record:
    """The history of a run and, with a directory, the files from which it goes on.

    Args:
        distiller, data: what is trained, and on what.
        metric: what is measured after every epoch (None: nothing).
        spec: what decides the run's result.
        keeping: where it is written, and what of it.
        average: the averaged weights, which are measured and kept instead of the last ones.
    """

    def __init__(
        self,
        distiller: Distiller,
        data: Data,
        metric: Metric | None,
        spec: dict,
        keeping: Keeping = NOWHERE,
        average: Averaged | None = None,
    ):
        self.distiller, self.data, self.metric = distiller, data, metric
        self.keeping, self.average, self.history = keeping, average, History(spec=spec)
        self.networks = Networks(distiller, data, metric, average, keeping.evaluated_at_once)
        where = keeping.directory
        self.run = told(lambda: RunDirectory(where)) if where else None
        self.best: dict = {"value": None, "epoch": 0, "state": None}
        self.saved: dict | None = None
        self.done, self.start = 0, time.perf_counter()
        if self.run:
            self._continue(self.run)

    def _continue(self, run: RunDirectory) -> None:
        """Goes on where the directory's run stopped, if it holds one."""
        extension = self.keeping.extension
        if extension is not None:
            self.history.spec |= told(lambda: extension.apply(run, self.history.spec))
        self.saved = told(lambda: run.begin(self.history.spec, lambda: self._state(())))
        if self.saved:
            self.done, self.best = self.saved["epoch"], self.saved["best"]
            self.distiller.load_state_dict(self.saved["distiller"])
            if "optimizers" in self.saved:  # before they stood with their rates
                self.saved["learners"] = [
                    {"optimizer": o, "rate": None} for o in self.saved["optimizers"]
                ]
            if self.average:
                self.average.load(self.saved["average"])
            self.history.rows = told(lambda: run.rows(self.done))
            self.start -= self.saved["seconds"]
        elif 0 in self.keeping.snapshots:
            self._snapshot(0)

    @property
    def finished(self) -> bool:
        """Does the directory hold the run's result?"""
        run = self.run
        return run is not None and told(lambda: run.result is not None)

    def epoch(self, row: dict, learners: Sequence[Learner], held_out: Split | None) -> None:
        """Measures after an epoch, and writes it down."""
        if held_out is not None and self.metric is not None:
            row |= told(lambda: self.networks.measured(held_out, "val"))
            value = row[self.history.metric]
            if self.metric.better(value, self.best["value"]):
                self.best = {
                    "value": value,
                    "epoch": row["epoch"],
                    "state": self.networks.weights(),
                }
        self.history.rows.append(row)
        self.done = row["epoch"]
        for learner in learners:
            learner.rate.ended(row.get(self.history.metric, row["loss"]))
        if self.run:
            told(lambda: self._write(row, learners))

    def _write(self, row: dict, learners: Sequence[Learner]) -> None:
        assert self.run is not None
        self.run.append(row)
        self.run.checkpoint(self._state(learners))
        if self.done in self.keeping.snapshots:
            self._snapshot(self.done)

    def waited(self, patience: int | None, since: int) -> bool:
        """Is the best validation value, of the epochs after ``since``, so many epochs old?"""
        if patience is None:
            return False
        best = self.history.best(since)
        return self.done - (best["epoch"] if best else since) >= patience

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

    def finish(self, test: bool, epochs: int) -> History:
        """The result of a finished run: read if it is there, else measured and written."""
        run = self.run
        known = told(lambda: run.result) if run is not None else None
        self.history.result = known or told(lambda: self._result(test))
        if self.average:
            self.average.give(self.distiller.deploy())
        if self.run and known is None:
            told(self._end)
        if self.done < epochs:
            self.history.status = "early"
        return self.history

    def _end(self) -> None:
        """Writes the weights, and last of all the result."""
        assert self.run is not None
        folder, best = self.run.path, self.best
        save_weights(self.distiller.deploy(), folder / "student.safetensors", epoch=self.done)
        if best["state"] is not None:
            with self.networks.as_it_was(best["state"]) as net:
                save_weights(net, folder / "student_best.safetensors", epoch=best["epoch"])
        self.run.finish(self.history.result)

    def interrupted(self, epochs: int) -> History:
        """After Ctrl-C: what there is, and how to go on."""
        self.history.status = "interrupted"
        again = (
            f" Call fit with run_dir={str(self.run.path)!r} again to continue." if self.run else ""
        )
        if not rank():
            print(f"Interrupted after {self.done} of {epochs} epochs.{again}")
        return self.history

    def _result(self, test: bool) -> dict:
        result: dict = {"seconds": time.perf_counter() - self.start}
        examples, whole = self.history.spec["examples"], self.data.train
        if isinstance(whole, Split) and examples < len(whole):
            # Published tables are of whole training sets: what was held out must be seen beside.
            result["trained_on"] = examples / len(whole)
        if self.metric is not None and not self.metric.higher_is_better:
            result["better"] = "lower"
        name = self.history.metric.removeprefix("val_")
        if self.history.best() is not None:
            result[f"val_{name}_last"] = self.history.rows[-1][self.history.metric]
            result |= {f"val_{name}_best": self.best["value"], "best_epoch": self.best["epoch"]}
        if test and self.metric is not None and self.data.test is not None and len(self.data.test):
            result |= self.networks.measured(self.data.test, "test", "_last")
            if isinstance(self.data.test, Split):
                result["test_examples"] = len(self.data.test)
            if self.best["state"] is not None:
                with self.networks.as_it_was(self.best["state"]) as net:
                    values = self.networks.values(net, self.data.test)
                result |= {f"test_{k}_best": v for k, v in values.items()}
        return result

    def _state(self, learners: Sequence[Learner]) -> dict:
        return {
            "epoch": self.done,
            "distiller": dict(self.distiller.state_dict()),
            "learners": [learner.state() for learner in learners],
            "average": self.average and self.average.state(),
            "best": self.best,
            "seconds": time.perf_counter() - self.start,
        }

    def _snapshot(self, epoch: int) -> None:
        assert self.run is not None
        path = self.run.path / f"epoch_{epoch:04d}.safetensors"
        save_weights(self.networks.kept, path, epoch=epoch)
