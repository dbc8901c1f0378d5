"""How long a grid will take, from a few timed steps of each kind of run."""

import time
import warnings
from dataclasses import replace

import torch

from ..datasets import GeneratedData, LoaderData
from ..training import fit
from .choice import teacher_from
from .grid import Cell
from .store import Store

BATCHES = 8


def estimate(cells: list[Cell], store: Store | None = None, batches: int = BATCHES) -> list[dict]:
    """How long the pending runs will take, from one short training of each kind.

    The timed training has a few batches, its own network and no store; evaluation is left out.

    Args:
        cells: All runs of students, as ``Grid.cells`` gives them.
        store: Where finished runs are known; None: all are pending.
        batches: How many an epoch of the short training has; more where they are fast.

    Returns:
        A dictionary per kind of run, the teacher's first: role, net, method, runs, pending, and
        seconds of all its pending runs.
    """
    teachers = list({c.teacher.key: c.teacher for c in cells if c.teacher}.values())
    rows = {}
    for role, some in (("teacher", teachers), ("student", cells)):
        for cell in some:
            row = rows.setdefault(
                (role, cell.spec["net"], cell.label),
                {
                    "role": role,
                    "net": cell.spec["net"],
                    "method": cell.label,
                    "runs": 0,
                    "pending": 0,
                    "seconds": 0.0,
                    "cell": cell,
                },
            )
            row["runs"] += 1
            row["pending"] += store is None or store.record(cell.key)["status"] == "pending"
    for row in rows.values():
        cell = row.pop("cell")
        if row["pending"] and cell.spec["epochs"]:  # a finished teacher is only measured
            row["seconds"] = row["pending"] * cell.spec["epochs"] * _epoch_seconds(cell, batches)
    return list(rows.values())


def _epoch_seconds(cell: Cell, batches: int) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(cell.spec["threads"])
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so short a training may end worse than it began
            data, settings = cell.data(), {**cell.spec["fit"], "validation": 0}
            size = settings.get("batch_size", 64)
            if isinstance(data, LoaderData):
                whole = data.steps(data.train, size)
                few = min(whole, batches)
                small = replace(data, train=replace(data.train, stated=few))
            elif isinstance(data, GeneratedData):
                whole, few = data.steps_per_epoch, min(data.steps_per_epoch, batches)
                small = replace(data, steps_per_epoch=few)
            else:
                whole, few = len(data.train), min(len(data.train), batches * size)
                small = replace(data, train=data.train.select(torch.arange(few)))
            teacher = teacher_from(cell.teacher.objects["net"], data) if cell.teacher else None
            distiller = cell.distiller(data, teacher)
            epochs = 2 * len(distiller.stages())
            fit(distiller, small, epochs, progress=False, test=False, **settings)  # warms up
            began = time.perf_counter()
            fit(
                cell.distiller(data, teacher), small, epochs, progress=False, test=False, **settings
            )
            return (time.perf_counter() - began) / epochs * whole / few
    finally:
        torch.set_num_threads(threads)
