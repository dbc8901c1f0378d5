"""A teacher's answers, computed once for a whole grid, where the grid asks for them often enough to
repay it.

A run of E epochs asks its teacher E times about every image; all views of an image are asked once
to fill the file. So storing pays where the runs of one teacher ask more often than there are views:
162 for pad-4 crops with flips. Every answer is computed in one fixed order, in batches of one size,
so that what a run reads does not depend on who came first."""

from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from ..display.progress import bar
from ..runs import load_weights, short_hash
from ..teacher import GIB, Teacher
from ..training import pick_device
from ..training.device import move
from .choice import dataset, finished, network, teacher_from
from .grid import Cell
from .store import Store

MARGIN = 1.2  # so many times as often as there are views: the file has to be written and read, too
MOST = 2 * GIB


@dataclass(frozen=True)
class Plan:
    """Whether the answers of one teacher about one set of images are stored, and why.

    Attributes:
        teacher: Its title.
        runs: Runs that ask and are not finished.
        asked: How often they ask about each image.
        views: Views of each image.
        size: Of the file, in bytes.
        stored: The decision.
    """

    teacher: str
    runs: int
    asked: int
    views: int
    size: int
    stored: bool

    def __str__(self) -> str:
        size = (
            f"{self.size / 2**20:.0f} MiB" if self.size >= 2**20 else f"{self.size / 2**10:.0f} KiB"
        )
        some = lambda n, thing: f"{n} {thing}{'s' * (n != 1)}"
        what = (
            f"{some(self.runs, 'run')}, {some(self.asked, 'question')} about each image, "
            f"{some(self.views, 'view')} of it ({size})"
        )
        how = "stored once for all of them" if self.stored else "computed as they are asked for"
        return f"teacher {self.teacher}: {what}: its answers are {how}."


def planned(
    cells: list[Cell], wanted: bool | None, store: Store | None = None
) -> tuple[list[Cell], list[Plan]]:
    """Which teachers' answers are stored for all runs that ask.

    Args:
        cells: All runs of students.
        wanted: True or False decides; None: they are stored where they lie in the store already, or
            where the runs that are left ask often enough and they take at most 2 GiB.
        store: Where finished runs and files are known; None: there are none.

    Returns:
        (cells, plans): the cells, those whose teacher's answers are stored with their file; and
        what was decided for each teacher that is asked.
    """
    asking = defaultdict(list)
    for cell in cells:
        if (
            cell.logits_only
            and dataset(cell.objects["dataset"], cell.objects["root"]).views is not None
        ):
            asking[_file(cell)].append(cell)
    found = {}
    for file, some in asking.items():
        data, teacher = some[0].data(), some[0].teacher
        left = [c for c in some if store is None or store.record(c.key)["status"] != "finished"]
        asked, size = (
            sum(c.spec["epochs"] for c in left),
            len(data.train) * data.views * len(data.classes) * 4,
        )
        there = store is not None and (store.folder(teacher.key) / file).exists()
        pays = there or (size <= MOST and asked > MARGIN * data.views)
        found[file] = Plan(
            teacher.title, len(left), asked, data.views, size, pays if wanted is None else wanted
        )
    stored = {c.key: file for file, some in asking.items() if found[file].stored for c in some}
    return [replace(c, logit_cache=stored.get(c.key)) for c in cells], list(found.values())


def _file(cell: Cell) -> str:
    """One file for each teacher, set of images and precision, whatever the labels."""
    s = cell.spec
    about = [
        cell.teacher.key,
        s["data"],
        s["images"],
        s["imbalance"],
        s["fit"].get("precision", "float32"),
    ]
    return f"logits-{short_hash(about)}.safetensors"


def teacher_of(cell: Cell, store: Store, data) -> Teacher:
    """The trained teacher of a cell.

    Args:
        cell: A student's run.
        store: Where the teacher lies.
        data: Decides the network's classes and image size.

    Returns:
        A ``Teacher``.

    Raises:
        RuntimeError: Where its run is not finished.
    """
    known = store.record(cell.teacher.key)
    if known["status"] != "finished":
        raise RuntimeError(
            f"its teacher's run {cell.teacher.key} is {known['status']}: "
            f"{known.get('reason', 'it was not trained yet')}"
        )
    if finished(cell.teacher.objects["net"]):
        return teacher_from(cell.teacher.objects["net"], data)
    folder = store.folder(cell.teacher.key)
    return Teacher(
        load_weights(network(cell.teacher.objects["net"], data, 0), folder / "student.safetensors")
    )


def with_logit_cache(teacher: Teacher, cell: Cell, store: Store) -> Teacher:
    """The teacher with its stored answers, where the cell reads them and they are there.

    The run's cell.json says which.

    Args:
        teacher: As ``teacher_of`` gives it.
        cell: A student's run.
        store: Where the answers lie.

    Returns:
        A ``Teacher``.
    """
    file = cell.logit_cache and store.folder(cell.teacher.key) / cell.logit_cache
    stored = bool(file) and file.exists()
    store.tell(cell, "cached" if stored else "computed")
    return teacher.load_cache(file) if stored else teacher


def fill(cell: Cell, store_path: str, show: bool = False) -> None:
    """Computes and stores all answers that a cell's runs will ask for.

    Unless they are there, the teacher failed, or the grid was stopped.

    Args:
        cell: A student's run with a ``logit_cache``.
        store_path: The store's folder.
        show: Show a bar.
    """
    store = Store(store_path)
    with store.turn(cell.teacher, wait=True):
        path = store.folder(cell.teacher.key) / cell.logit_cache
        if path.exists() or store.record(cell.teacher.key)["status"] != "finished":
            return
        data, device, threads = cell.data(), pick_device(), torch.get_num_threads()
        teacher = teacher_of(cell, store, data).to(device)
        for net in teacher.nets:
            move(net, device)
        half = cell.spec["fit"].get("precision") == "bf16"
        torch.set_num_threads(cell.spec["threads"])
        try:
            with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
                teacher.cached(data, max_bytes=1 << 62)
                with bar(show, total=data.views, desc="teacher's answers", unit="view") as progress:
                    for view in range(data.views):
                        if store.stopped:
                            return
                        for batch in data.batches(
                            data.train, 512, augment=True, view=view, device=device
                        ):
                            teacher(batch)
                        progress.update(1)
        finally:
            torch.set_num_threads(threads)
        teacher.save_cache(path)
