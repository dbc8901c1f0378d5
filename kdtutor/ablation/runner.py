"""run(): a grid's teachers, then its students, here or on any ``concurrent.futures.Executor``;
equal runs are never done twice.

``run_cell`` is the whole contract with an executor: plain arguments in, a plain record out, never
an exception for a run that fails, nothing done that is already in the store. Progress is read from
the store, so any engine that can call a function will do."""

import multiprocessing
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..display.progress import bar
from ..runs import CannotWrite, RunDirectory
from ..training import NonFiniteError, evaluate, fit, pick_device
from ..training.processes import started
from .choice import finished, teacher_from
from .columns import ACCURACY, is_share, measured, word
from .grid import Cell, Grid
from .store import Store
from .teacher_cache import fill, planned, teacher_of, with_logit_cache

if TYPE_CHECKING:
    from .results import Results

MAX_DEATHS = 3  # processes over which a run may die, alone, before it is given up
_ONE = threading.Lock()  # seeds and numbers of threads belong to the process, so threads take turns


def run_cell(
    cell: Cell, store_path: str, wait: bool = False, show: bool = False, retry: bool = False
) -> dict:
    """One run, from wherever it stands to its end.

    Safe to call from any process, any number of times.

    Args:
        cell: The run.
        store_path: The store's folder.
        wait: Wait until no other process works on the run.
        show: Show a bar.
        retry: Begin a failed run again.

    Returns:
        Its record, as in ``Store.record``, or {"status": "busy" | "stopped" | "interrupted"}.

    Raises:
        CannotWrite: An ``OSError``, where the store cannot be written; nothing else.
    """
    store = Store(store_path)
    with _ONE, store.turn(cell, wait) as mine:
        record = store.record(cell.key)
        if not mine:
            return {"status": "busy"}
        if record["status"] != "pending" and not (retry and record["status"] != "finished"):
            return record
        if store.stopped or (
            cell.teacher and store.record(cell.teacher.key)["status"] == "pending"
        ):
            return {"status": "stopped"}  # a teacher that was stopped is no fault of its students
        (store.folder(cell.key) / "failure.json").unlink(missing_ok=True)
        begun = store.folder(cell.key) / "begun"
        begun.touch()
        threads = torch.get_num_threads()
        torch.set_num_threads(cell.spec["threads"])
        try:
            record = _train(cell, store, show)
        except CannotWrite:
            raise
        except NonFiniteError as error:
            record = store.fail(cell, "diverged", str(error))
        except (MemoryError, torch.OutOfMemoryError) as error:
            record = store.fail(
                cell, "out of memory", str(error) or "not enough memory for one run"
            )
        except Exception as error:  # a run that raises is a row, and never stops the others
            state = (
                "out of memory" if "memory" in str(error) and "alloc" in str(error) else "failed"
            )
            record = store.fail(
                cell, state, f"{type(error).__name__}: {error}", traceback.format_exc()
            )
        finally:
            torch.set_num_threads(threads)
        begun.unlink(missing_ok=True)
        return record


def _measured(cell: Cell, store: Store) -> dict:
    """A finished teacher's run: what it is worth on the test set, for the tables."""
    data, began = cell.data(), time.perf_counter()
    teacher = teacher_from(cell.objects["net"], data).to(pick_device())
    result: dict = {}
    if data.task.metrics and data.test is not None and len(data.test):
        value = evaluate(teacher, data)
        values = value if isinstance(value, dict) else {data.task.metrics[0].name: value}
        result = {f"test_{name}_last": v for name, v in values.items()}
    result["seconds"] = time.perf_counter() - began
    RunDirectory(store.folder(cell.key)).finish(result)
    return store.record(cell.key)


def _train(cell: Cell, store: Store, show: bool) -> dict:
    if finished(cell.objects["net"]):
        return _measured(cell, store)
    data = cell.data()
    teacher = with_logit_cache(teacher_of(cell, store, data), cell, store) if cell.teacher else None
    history = fit(
        cell.distiller(data, teacher),
        data,
        cell.spec["epochs"],
        seed=cell.spec["seed"],
        run_dir=store.folder(cell.key),
        progress=show,
        stop=lambda: store.stopped,
        **cell.spec["fit"],
    )
    ended = history.status in ("finished", "early")
    return store.record(cell.key) if ended else {"status": history.status}


def run(
    grid: Grid,
    store: str | Path,
    executor: Executor | None = None,
    *,
    workers: int = 0,
    retry: bool = False,
    progress: bool = True,
    since: float | None = None,
) -> "Results":
    """Runs what a store does not hold yet of a grid.

    Everything is checked before anything runs; teachers come first, and their accuracy is printed.
    Kill it whenever you like and call it again: finished runs are read, begun ones continue at
    their last epoch.

    Args:
        grid: What to run.
        store: The store's folder; made where there is none.
        executor: Any ``concurrent.futures.Executor``, such as
            ``dask.distributed.Client.get_executor(pure=False)``; None runs here.
        workers: Instead, so many processes of this machine.
        retry: Begin failed runs again.
        progress: Show bars.
        since: A moment (``time.time()``): a STOP that was put into the store after it holds; None:
            an earlier STOP is taken away.

    Returns:
        The ``Results`` of the whole grid.

    Raises:
        ValueError: For a grid that cannot work, and under torchrun, which is for one run.
        OSError: If the store cannot be written: nothing that was written before is lost.
        RuntimeError: If the processes die before they begin a run, or an executor of yours broke.
    """
    if started():
        raise ValueError(
            "this script was started as several processes (torchrun), which would train each run "
            "of the grid together: start it with python, and give run(..., workers=N) the "
            "processes."
        )
    cells, home = grid.cells(), Store(store)
    cells, plans = planned(cells, grid.cache_logits, home)
    teachers = list({c.teacher.key: c.teacher for c in cells if c.teacher}.values())
    home.go(time.time() if since is None else since)
    home.remember(cells)
    try:
        for what, some in (("teachers", teachers), ("runs", cells)):
            records = {c.key: home.record(c.key)["status"] for c in some}
            _all(
                [
                    c
                    for c in some
                    if records[c.key] == "pending" or (retry and records[c.key] != "finished")
                ],
                home,
                executor,
                workers,
                retry,
                progress,
                what,
            )
            for cell in teachers if what == "teachers" and progress else []:
                print(f"teacher {cell.title}: {_outcome(home.record(cell.key))}")
            if what == "teachers":
                _fill_caches(cells, plans, home, executor, progress)
    except KeyboardInterrupt:
        home.stop()  # workers end within one epoch
        print(f"Interrupted. Call run again with store={str(home.path)!r} to continue.")
    from .results import Results  # pandas and scipy: not for workers

    return Results(home, cells)


def _outcome(record: dict) -> str:
    name = next(iter(measured(record)), None)
    if name is None:
        return f"{record['status']} {record.get('reason', '')}"
    shown = f"{record[name]:.2%}" if is_share(name, record) else f"{record[name]:.4g}"
    return f"{shown} on the test set" + ("" if name == ACCURACY else f" ({word(name)})")


def _fill_caches(cells: Sequence[Cell], plans, store: Store, executor, progress: bool) -> None:
    """Fills the logit caches that pending runs will read, once each. Where that fails the runs ask
    their teacher themselves.
    """
    needed = {
        (c.teacher.key, c.logit_cache): c
        for c in cells
        if c.logit_cache and store.record(c.key)["status"] == "pending"
    }
    for plan in plans if needed and progress else []:
        print(plan)
    try:
        if executor is None:
            for cell in needed.values():
                fill(cell, str(store.path), progress)
        else:
            for future in [
                executor.submit(fill, cell, str(store.path)) for cell in needed.values()
            ]:
                future.result()
    except (RuntimeError, MemoryError) as error:  # out of memory, a worker that died
        print(
            f"The teachers' logits were not stored ({error}): they are computed as they are "
            "asked for."
        )


def _all(
    cells: Sequence[Cell],
    store: Store,
    executor,
    workers: int,
    retry: bool,
    progress: bool,
    what: str,
) -> None:
    """Calls ``run_cell`` for all; those that another grid is busy with are waited for at last."""
    pending, wait, deaths = list(cells), False, Counter()
    with bar(progress and bool(cells), total=len(cells), desc=what, unit="run") as show:
        while pending and not store.stopped:
            # A pool dies as a whole: who begun then is suspect, and is tried again alone, so that
            # nobody dies for another's fault.
            suspects = [c for c in pending if deaths[c.key]][:1]
            batch, busy, done, since = suspects or pending, [], set(), time.time()
            try:
                for cell, record in _outcomes(
                    batch, store, executor, 1 if suspects else workers, retry, progress, wait
                ):
                    done.add(cell.key)
                    busy += [cell] if record["status"] == "busy" else []
                    show.update(record["status"] != "busy")
                    if record["status"] == "interrupted":
                        raise KeyboardInterrupt
                pending = [c for c in pending if c.key not in done] + busy
                wait = not suspects
            except BrokenProcessPool:
                if executor is not None:
                    raise RuntimeError(
                        "a worker process died (killed, or out of memory), and the executor with "
                        "it. Everything finished is "
                        "in the store: call run again with a new executor."
                    ) from None
                # On in a new pool. Only deaths of workers count, never those of a whole grid, which
                # may be killed at will.
                pending = [c for c in pending if c.key not in done] + busy
                begun = [
                    c.key for c in batch if c.key not in done and store.begun_since(c.key, since)
                ]
                if not done and not begun:
                    raise RuntimeError(
                        "the worker processes die before they begin a run. A method or network "
                        "that a notebook or a script "
                        "defines must stand in a module of its own, and a script needs `if "
                        "__name__ == '__main__':`. With "
                        "workers=0 everything runs here."
                    ) from None
                deaths.update(begun)
                for cell in [c for c in pending if deaths[c.key] > MAX_DEATHS]:
                    _give_up(
                        store,
                        cell,
                        "died",
                        f"{MAX_DEATHS} processes died over it alone without a word: killed by the "
                        "system, "
                        "perhaps for memory. Give it more memory or fewer images, then run the "
                        "grid with retry=True.",
                    )
                    pending.remove(cell)
                    show.update(1)


def _outcomes(cells, store, executor, workers, retry, progress, wait):
    """(cell, record) in the order in which they end."""
    path = str(store.path.absolute())
    if executor is None and not workers:
        for cell in cells:
            yield cell, run_cell(cell, path, wait, progress, retry)
        return
    own, futures = executor is None, {}
    pool = (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
        if own
        else executor
    )
    try:
        futures = {pool.submit(run_cell, cell, path, wait, False, retry): cell for cell in cells}
        for future in as_completed(futures):
            cell = futures[future]
            try:
                yield cell, future.result()
            except (CannotWrite, BrokenExecutor, CancelledError):
                raise
            except (
                Exception
            ) as error:  # the engine's own: what cannot be pickled, a worker that Dask gave up
                yield (
                    cell,
                    _give_up(
                        store,
                        cell,
                        "failed",
                        f"{type(error).__name__}: {error}",
                        traceback.format_exc(),
                    ),
                )
    except (
        KeyboardInterrupt,
        GeneratorExit,
    ):  # the second: whoever asked for the outcomes was interrupted
        store.stop()  # before the pool is waited for: its runs end within one epoch
        raise
    finally:
        for future in futures:
            future.cancel()
        if own:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever, and hold the locks of its run."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _give_up(store: Store, cell: Cell, status: str, reason: str, trace: str = "") -> dict:
    """Keeps why a run failed outside ``run_cell``, unless another grid finished it meanwhile."""
    with store.turn(cell, wait=True):
        record = store.record(cell.key)
        return record if record["status"] == "finished" else store.fail(cell, status, reason, trace)
