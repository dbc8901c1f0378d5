"""A run is a directory: what was asked (spec.json), what happened (metrics.jsonl), where it stands
(checkpoint.safetensors).

Every file appears complete or not at all, so a run may be killed at any moment."""

import json
from pathlib import Path

from .files import CannotWrite, replace_file
from .state import load_state, save_state


class RunDirectory:
    """The files of one run.

    Args:
        path: the directory, made where there is none.

    Raises:
        CannotWrite: an ``OSError`` with what to do, if it cannot be created or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = RunDirectory(folder).begin({"lr": 0.1}, lambda: {"epoch": 0})
        ...     first, RunDirectory(folder).begin({"lr": 0.1}, lambda: {"epoch": 0})
        (None, {'epoch': 0})
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"cannot create the run directory {self.path} ({error.strerror or error}): choose "
                "a folder you may "
                "write to."
            ) from error
        replace_file(self.path / ".writable", lambda temporary: temporary.write_text(""))
        (self.path / ".writable").unlink(
            missing_ok=True
        )  # another process that opens the folder now may have been here first

    def begin(self, spec: dict, state) -> dict | None:
        """Starts a run with its initial state, or returns the state where this very run stopped.

        Args:
            spec: what decides the run, as plain data; "versions" may differ.
            state: makes the initial state.

        Returns:
            None for a run that begins, else the state of its last checkpoint.

        Raises:
            ValueError: listing the differences if the directory holds a run with another spec.
        """
        if not (self.path / "spec.json").exists():
            (self.path / "metrics.jsonl").unlink(missing_ok=True)
            save_state(self.path / "checkpoint.safetensors", state())
            self._write_json("spec.json", spec)
            return None
        old = self._read_json("spec.json")
        new = json.loads(json.dumps(spec))
        differ = [
            f"{k}: {old.get(k)!r} there, {new.get(k)!r} now"
            for k in sorted({*old, *new} - {"versions"})
            if old.get(k) != new.get(k)
        ]
        if differ:
            raise ValueError(
                f"{self.path} holds a run with other settings ({'; '.join(differ)}). Continue it "
                "with its own settings, "
                "or choose another run_dir."
            )
        return load_state(self.path / "checkpoint.safetensors")

    def rows(self, until: int) -> list[dict]:
        """The metrics of the first epochs; later rows and a torn last line leave the file.

        Args:
            until: the number of epochs.

        Returns:
            One dict for each epoch.
        """
        file, rows = self.path / "metrics.jsonl", []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        rows = [r for r in rows if r["epoch"] <= until]
        replace_file(
            file,
            lambda temporary: temporary.write_text("".join(json.dumps(r) + "\n" for r in rows)),
        )
        return rows

    def append(self, row: dict) -> None:
        """Adds one epoch's metrics."""
        try:
            with open(self.path / "metrics.jsonl", "a") as f:
                f.write(json.dumps(row) + "\n")
        except OSError as error:
            raise CannotWrite(
                f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror or error}). Is the "
                "disk full? What was saved "
                "before is intact; free space, then run again."
            ) from error

    def checkpoint(self, state) -> None:
        """Replaces the checkpoint."""
        save_state(self.path / "checkpoint.safetensors", state)

    def reopen(self, spec: dict) -> None:
        """Makes a finished run one that goes on, with another spec."""
        (self.path / "result.json").unlink(missing_ok=True)
        self._write_json("spec.json", spec)

    def finish(self, result: dict) -> None:
        """Writes result.json, the last thing a finished run writes."""
        self._write_json("result.json", result)

    @property
    def result(self) -> dict | None:
        return self._read_json("result.json") if (self.path / "result.json").exists() else None

    def _write_json(self, name: str, value: dict) -> None:
        replace_file(
            self.path / name,
            lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"),
        )

    def _read_json(self, name: str) -> dict:
        try:
            return json.loads((self.path / name).read_text())
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{self.path / name} is corrupted ({error}). Delete the run directory to start "
                "over."
            ) from error
