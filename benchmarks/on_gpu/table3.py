"""Runs of the study's Table III on the whole of CIFAR-10, cheapest first, into a store that grows
from call to call.
"""

import csv
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context

from kdtutor.ablation import Cell as Run
from kdtutor.ablation import Store
from kdtutor.ablation.runner import run_cell
from kdtutor.datasets import load

from .cells import Cell, Options, Unavailable
from .minutes import blank
from .study import METHODS, SEEDS, STUDENTS, grids

COLUMNS = ("method", "student", "seed")
NOTE = (
    "Test accuracy of the last epoch, in percent. 200 epochs (ONE 300) on all 50,000 images, SGD "
    "0.1 with Nesterov momentum 0.9, cosine, weight decay 5e-4, batches of 128, pad-4 crop and "
    "flip, no validation split; teachers ResNet-26 and WRN-40-2 of seed 0. The study's optimiser "
    "is not known. seconds: of a run beside others on the same card."
)
ENOUGH = 90  # seconds, to begin at all
TO_STOP = 25  # seconds, for epochs to end


def cells(options: Options):
    # Without a key: it is never done, and finished runs are read.
    yield Cell({}, ENOUGH, lambda: run(options))


def run(options: Options) -> list[dict]:
    store = Store(options.state / "table3")
    some = options.pick((METHODS, STUDENTS, SEEDS), (METHODS[:2], STUDENTS[:1], SEEDS[:1]))
    runs = ordered(images(options), *some, options)
    store.remember(runs)
    store.go(time.time())
    unfinished = [r for r in runs if store.record(r.key)["status"] == "pending"]
    work(unfinished, store, options)
    return [row(r, record) for r in runs if (record := store.record(r.key))["status"] != "pending"]


def images(options: Options):
    """CIFAR-10, which must be here."""
    if options.quick:
        return blank(64)
    try:
        load("cifar10", root=options.data)
    except FileNotFoundError as error:
        raise Unavailable(
            f"CIFAR-10 is not in {options.data}: pack it where it is with `kdtutor data pack "
            "cifar10 --pieces`, bring the pieces, and `kdtutor data unpack` them here"
        ) from error
    return "cifar10"


def ordered(dataset, methods, students, seeds, options: Options) -> list[Run]:
    """By student, seed and method, cheapest first, each teacher before the first that needs it."""
    rank = lambda r: (
        students.index(r.spec["net"]),
        seeds.index(r.spec["seed"]),
        methods.index(r.label),
    )
    about = dict(quick=options.quick, root=options.data)
    listed = [r for g in grids(dataset, methods, students, seeds, **about) for r in g.cells()]
    found: dict[str, Run] = {}
    for run in sorted(listed, key=rank):
        for one in (run.teacher, run) if run.teacher else (run,):
            found.setdefault(one.key, one)
    return list(found.values())


def work(runs: list[Run], store: Store, options: Options) -> None:
    """Keeps as many processes busy as serve the card best, until the time is nearly over."""
    many = 1 if options.quick else best_number(options)
    with ProcessPoolExecutor(many, mp_context=get_context("spawn")) as pool:
        going: dict = {}
        while runs or going:
            enough = options.left() > TO_STOP
            while enough and len(going) < many and (ready := first_ready(runs, store)):
                runs.remove(ready)
                going[pool.submit(run_cell, ready, str(store.path))] = ready
            if not going:
                return  # what is left waits for a teacher that failed, or for another call
            if not enough:
                store.stop()
            done, _ = wait(going, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                going.pop(future)
                future.result()


def first_ready(runs: list[Run], store: Store) -> Run | None:
    """The first whose teacher is there."""
    there = lambda r: r.teacher is None or store.record(r.teacher.key)["status"] == "finished"
    return next(filter(there, runs), None)


def best_number(options: Options) -> int:
    """How many processes serve the card best, as far as that was measured; else 6."""
    try:
        text = (options.out / "gpu_sharing.csv").read_text()
    except FileNotFoundError:
        return 6
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    found = [r for r in rows if r["how"] == "processes" and r["images_per_s"]]
    return int(max(found, key=lambda r: float(r["images_per_s"]))["runs"]) if found else 6


def row(run: Run, record: dict) -> dict:
    """What is known of a run that ended."""
    accuracy = record.get("test_accuracy_last")
    return {
        "method": run.label,
        "student": run.spec["net"],
        "seed": run.spec["seed"],
        "status": record["status"],
        "accuracy": "" if accuracy is None else round(100 * accuracy, 2),
        "epochs": run.spec["epochs"],
        "seconds": round(record["seconds"], 1) if "seconds" in record else "",
        "said": record.get("reason", "")[:200],
    }
