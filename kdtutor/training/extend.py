"""More epochs for a run that has finished: its directory becomes that of the longer run."""

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from ..distiller import Stage
from ..runs import RunDirectory
from .plan import Part


class Extension(NamedTuple):
    """What a longer run takes over from the one in its directory."""

    old: dict  # its spec
    ended: list[int]  # after how many epochs runs had ended here before

    @classmethod
    def of(cls, directory: str | Path | None, epochs: int) -> "Extension":
        """The extension of the run in a directory to so many epochs.

        Raises:
            ValueError: where there is no run, it was longer, or it was not finished.
        """
        spec = Path(directory or "") / "spec.json"
        if directory is None or not spec.exists():
            raise ValueError(
                f"extend=True goes on with a finished run, and there is none in run_dir="
                f"{directory!r}: train it first, without extend."
            )
        old = json.loads(spec.read_text())
        before, ended = old["epochs"], old.get("extended", [])
        if epochs < before:
            raise ValueError(
                f"{directory} holds a run of {before} epochs: extend=True needs more of them, "
                f"not {epochs}."
            )
        if epochs > before:
            if not (Path(directory) / "result.json").exists():
                raise ValueError(
                    f"the run in {directory} has not finished its {before} epochs: let it end "
                    f"first, fit(..., epochs={before}, run_dir=...), then extend it."
                )
            rows = (Path(directory) / "metrics.jsonl").read_text().splitlines()
            ended = [*ended, len(rows)]  # fewer than were asked for, where patience ended it
        return cls(old, ended)

    def plan(self, stages: Sequence[Stage], epochs: int) -> list[Part]:
        """The old plan, its last stage longer; the parts as ``share_epochs`` gives them."""
        counts = [n for _, n in self.old["stages"]][:-1]
        ends = [0, *accumulate(counts), epochs]
        return [Part(s, begin, end - begin) for s, begin, end in zip(stages, ends, ends[1:])]

    def apply(self, run: RunDirectory, spec: dict) -> dict:
        """Makes the directory that of the longer run, if the two agree in all but their length.

        Args:
            run: the directory.
            spec: of the longer run.

        Returns:
            What that spec takes over: it starts from the run's own weights, whatever the network
            holds that was given.
        """
        started = {"initial_weights": self.old["initial_weights"]}
        new = json.loads(json.dumps(spec | started))
        lengths = {"versions", "epochs", "stages", "extended"}
        same = all(self.old.get(k) == new.get(k) for k in {*self.old, *new} - lengths)
        if same and self.old["epochs"] != spec["epochs"]:
            run.reopen(spec | started)
        return started
