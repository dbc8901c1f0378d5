"""A store: one directory per run, each file written by one process and complete or absent.

Reading it is one pandas frame.

    store/store.json          the format
    store/grids/<hash>.json   the runs of each grid that was run here, as keys
    store/STOP                put there by anyone: every grid in this store ends within one epoch
    store/runs/<key>/         one run
        cell.json             what was asked, as plain data: the key is its hash
        spec.json  metrics.jsonl  checkpoint.safetensors  student.safetensors   ``fit``'s own
        result.json           the last thing that a finished run writes
        failure.json          instead: why it could not finish
        lock  begun           who works on it now; that somebody began and has not ended
"""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..runs import CannotWrite, RunDirectory, replace_file, short_hash
from .columns import ACCURACY, measured
from .grid import FORMAT, Cell


class Store:
    """A directory of runs.

    Args:
        path: The directory.
        create: Make it where it is not there.

    Raises:
        ValueError: For one of an incompatible version.
        FileNotFoundError: Where there is none and none is to be made.
        OSError: Where nothing can be written.

    Example:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> store.record("0123abcd"), store.students()
        ({'status': 'pending'}, [])
    """

    def __init__(self, path: str | Path, create: bool = True):
        self.path = Path(path)
        mark = self.path / "store.json"
        if not mark.exists():
            if not create:
                raise FileNotFoundError(
                    f"{self.path} is no store: it holds no store.json. A store is made by the "
                    "first run of a grid."
                )
            RunDirectory(self.path)  # raises, with what to do, where nothing can be written
            _write_json(mark, {"format": FORMAT})
        found = json.loads(mark.read_text()).get("format")
        if found != FORMAT:
            raise ValueError(
                f"{self.path} was written by another version of kdtutor (format {found}, this one "
                f"has {FORMAT}): choose "
                "another store, or read it with the version that wrote it."
            )

    def folder(self, key: str) -> Path:
        """The directory of a run; it may not exist yet."""
        return self.path / "runs" / key

    def record(self, key: str) -> dict:
        """What is known of a run.

        Args:
            key: The run's.

        Returns:
            {"status": "finished" | "diverged" | "failed" | "out of memory" | "died" | "pending",
            ...}.
        """
        folder = self.folder(key)
        for name in ("result.json", "failure.json"):
            try:
                return {"status": "finished"} | json.loads((folder / name).read_text())
            except FileNotFoundError:
                continue
        return {"status": "pending"}

    def fail(self, cell: Cell, status: str, reason: str, trace: str = "") -> dict:
        """Keeps why a run could not finish. For the process whose turn it is.

        Args:
            cell: The run.
            status: As in ``record``.
            reason: In one sentence.
            trace: The traceback.

        Returns:
            The record.
        """
        about = {"status": status, "reason": reason, "traceback": trace}
        _write_json(self.folder(cell.key) / "failure.json", about)
        return about

    def tell(self, cell: Cell, logits: str) -> None:
        """Writes what the run is. For the process whose turn it is.

        Args:
            cell: The run.
            logits: Whether its teacher's logits are "cached" or "computed".
        """
        _write_json(
            self.folder(cell.key) / "cell.json",
            {**cell.spec, "label": cell.label, "teacher_logits": logits},
        )

    @contextmanager
    def turn(self, cell: Cell, wait: bool):
        """One process at a time works on a run.

        Args:
            cell: The run.
            wait: Until no other process works on it.

        Yields:
            True if this process alone may work on the run now; False if another does.

        Raises:
            CannotWrite: An ``OSError``, where the store cannot be written.
        """
        folder = self.folder(cell.key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock", timeout=-1 if wait else 0)
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError as error:
            raise CannotWrite(
                f"cannot write {folder} ({error.strerror or error}): choose a store in a folder "
                "you may write to, on a disk "
                "with space."
            ) from error
        try:
            for torn in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                torn.unlink(missing_ok=True)
            if not (folder / "cell.json").exists():
                self.tell(cell, "computed")
            yield True
        finally:
            lock.release()

    def begun_since(self, key: str, moment: float) -> bool:
        """Was a run begun after a moment and not ended?

        Args:
            key: The run's.
            moment: As of ``time.time()``.
        """
        try:
            return (
                self.folder(key) / "begun"
            ).stat().st_mtime >= moment - 1  # some file systems round to seconds
        except FileNotFoundError:
            return False

    def stop(self) -> None:
        """Asks every grid that runs in this store to end within one epoch."""
        (self.path / "STOP").touch()

    def go(self, since: float) -> None:
        """Takes away a STOP that is older than that moment (``time.time()``)."""
        try:
            if (self.path / "STOP").stat().st_mtime <= since:
                (self.path / "STOP").unlink()
        except FileNotFoundError:
            pass

    @property
    def stopped(self) -> bool:
        """Was a STOP put into the store?"""
        return (self.path / "STOP").exists()

    def remember(self, cells: Sequence[Cell]) -> None:
        """Keeps which runs a grid asked for: a teacher's run may be a student's as well."""
        keys = [cell.key for cell in cells]
        folder = self.path / "grids"
        folder.mkdir(exist_ok=True)
        if not (file := folder / f"{short_hash(keys)}.json").exists():
            _write_json(file, {"students": keys})

    def students(self) -> list[str]:
        """The keys of all runs that any grid asked for as students'."""
        return [
            key
            for file in sorted((self.path / "grids").glob("*.json"))
            for key in json.loads(file.read_text())["students"]
        ]

    def frame(self):
        """Every run of the store.

        Returns:
            A pandas table with a row per run: its spec, its record, and the accuracy of the
            teacher it learned from.
        """
        import pandas as pd

        rows = []
        for file in sorted((self.path / "runs").glob("*/cell.json")):
            cell = json.loads(file.read_text())
            rows.append(
                {
                    "key": file.parent.name,
                    **cell,
                    "method": cell["label"],
                    "method_is": short_hash(cell["method"]),
                    **self.record(file.parent.name),
                }
            )
        by_key = {row["key"]: row for row in rows}
        for row in rows:
            teacher = by_key.get(row["teacher"], row)
            own = next(iter(measured(teacher)), ACCURACY)
            row["teacher_accuracy"] = teacher.get(own) if row["teacher"] else None
            row["teacher_net"] = (
                f"{teacher['net']}, {teacher['epochs']} epochs, seed {teacher['seed']}"
                if row["teacher"]
                else None
            )
            same = all(teacher[k] == row[k] for k in ("label_noise", "imbalance"))
            row["teacher_sees"] = "same" if same else "clean"
        return pd.DataFrame(rows)


def _write_json(path: Path, value: dict) -> None:
    replace_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"))
