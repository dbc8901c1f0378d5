"""A table that grows: CSV with its provenance on top, rewritten after every measurement."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

WHERE = ("card", "torch", "date")  # of each row: a table may hold rows of several


class Table:
    """The rows of one part.

    Args:
        path: The file; what it holds already stays.
        columns: Those that name a row, beside where it was measured.
        note: For the head of the file.
    """

    def __init__(self, path: Path, columns: Sequence[str], note: str):
        self.path, self.columns, self.note = path, tuple(columns), note
        self.rows: list[dict[str, str]] = []
        if path.exists():
            lines = [s for s in path.read_text().splitlines() if not s.startswith("#")]
            self.rows = list(csv.DictReader(lines))

    def name(self, row: Mapping) -> tuple[str, ...]:
        """What tells this row's cell from others."""
        return tuple(str(row.get(c, "")) for c in self.columns)

    def known(self, machine: Mapping) -> set[tuple[str, ...]]:
        """The cells that are there, measured on this card with this torch."""
        same = lambda row: all(row.get(c) == machine[c] for c in ("card", "torch"))
        return {self.name(row) for row in self.rows if same(row)}

    def put(self, rows: list[dict], machine: Mapping) -> int:
        """Adds a cell's rows, in place of those that it had, and writes the file at once; how many
        are of cells that were not known.
        """
        known = self.known(machine)
        rows = [{k: str(v) for k, v in r.items()} | {c: machine[c] for c in WHERE} for r in rows]
        old = {(self.name(r), r["card"], r["torch"]) for r in rows}
        kept = [r for r in self.rows if (self.name(r), r.get("card"), r.get("torch")) not in old]
        # Why a part without cells of its own failed: over, now that it is told anew.
        kept = [r for r in kept if any(self.name(r)) or r.get("card") != machine["card"]]
        self.rows = kept + rows
        self.write(machine)
        return sum(self.name(r) not in known for r in rows)

    def forget(self, machine: Mapping) -> None:
        """Drops what was measured on this card."""
        self.rows = [r for r in self.rows if r.get("card") != machine["card"]]

    def write(self, machine: Mapping) -> None:
        names = list(self.columns)
        for row in self.rows:
            names += [c for c in row if c not in names and c not in (*WHERE, "error")]
        names += ["error", *WHERE]
        about = {k: v for k, v in machine.items() if k not in ("card", "torch")}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with open(temporary, "w", newline="") as file:
            file.writelines(f"# {key}: {value}\n" for key, value in about.items())
            file.write(f"# {self.note}\n")
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)
