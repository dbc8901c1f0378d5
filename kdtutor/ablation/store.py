"""A store: one directory per run, each file written by one process and complete or absent; reading it is one pandas frame.

    store/store.json                     the format
    store/STOP                           put there by anyone: every grid in this store ends within one epoch
    store/runs/<key>/cell.json           what was asked, as plain data: the key is its hash
                    spec.json  metrics.jsonl  checkpoint.safetensors  student.safetensors      ``fit``'s own
                    result.json          the last thing that a finished run writes
                    failure.json         instead: why it could not finish
                    lock  starts         who works on it now; how often it was begun
"""

import json
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..runs import RunDirectory, replace_file
from .grid import FORMAT, Cell

MAX_STARTS = 3  # a run whose process died so often without a word is not begun again


class Store:
    """A directory of runs. Raises ``ValueError`` for one of an incompatible version, ``OSError`` where nothing can be written."""

    def __init__(self, path: str | Path, create: bool = True):
        self.path = Path(path)
        mark = self.path / "store.json"
        if not mark.exists():
            if not create:
                raise FileNotFoundError(f"{self.path} is no store: it holds no store.json. A store is made by the first run of a grid.")
            RunDirectory(self.path)  # raises, with what to do, where nothing can be written
            replace_file(mark, lambda temporary: temporary.write_text(json.dumps({"format": FORMAT}) + "\n"))
        found = json.loads(mark.read_text()).get("format")
        if found != FORMAT:
            raise ValueError(f"{self.path} was written by another version of kdtutor (format {found}, this one has {FORMAT}): choose "
                             "another store, or read it with the version that wrote it.")

    def folder(self, key: str) -> Path:
        return self.path / "runs" / key

    def record(self, key: str) -> dict:
        """What is known of a run: {"status": "finished" | "diverged" | "failed" | "out of memory" | "died" | "pending", ...}."""
        folder = self.folder(key)
        for name in ("result.json", "failure.json"):
            try:
                return {"status": "finished"} | json.loads((folder / name).read_text())
            except FileNotFoundError:
                continue
        return {"status": "pending"}

    def fail(self, key: str, status: str, reason: str, trace: str = "") -> dict:
        """Keeps why a run could not finish."""
        about = {"status": status, "reason": reason, "traceback": trace}
        replace_file(self.folder(key) / "failure.json", lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
        return about

    @contextmanager
    def turn(self, cell: Cell, wait: bool):
        """True inside if this process alone may work on the run now; False if another does (wait: until it no longer does)."""
        folder = RunDirectory(self.folder(cell.key)).path
        lock = FileLock(folder / "lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            if not (folder / "cell.json").exists():
                about = {**cell.spec, "label": cell.label}
                replace_file(folder / "cell.json", lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
            yield True
        finally:
            lock.release()

    def starts(self, key: str, change: int | None) -> int:
        """How often a run was begun without an end; change None forgets it."""
        file = self.folder(key) / "starts"
        count = int(file.read_text() or 0) if file.exists() else 0
        if change is None:
            file.unlink(missing_ok=True)
        else:
            replace_file(file, lambda temporary: temporary.write_text(str(count + change)))
        return count + (change or 0)

    def stop(self) -> None:
        """Asks every grid that runs in this store to end within one epoch."""
        (self.path / "STOP").touch()

    @property
    def stopped(self) -> bool:
        return (self.path / "STOP").exists()

    def frame(self):
        """Every run of the store as a row: its spec, its record, and the accuracy of the teacher it learned from."""
        import pandas as pd
        rows = []
        for file in sorted((self.path / "runs").glob("*/cell.json")):
            cell = json.loads(file.read_text())
            rows.append({"key": file.parent.name, **cell, "method": cell["label"], **self.record(file.parent.name)})
        by_key = {row["key"]: row for row in rows}
        for row in rows:
            teacher = by_key.get(row["teacher"], row)
            row["teacher_accuracy"] = teacher.get("test_accuracy_last") if row["teacher"] else None
            same = all(teacher[k] == row[k] for k in ("label_noise", "imbalance"))
            row["teacher_sees"] = "same" if same else "clean"
        return pd.DataFrame(rows)
