"""One contract for every way to run a grid: in this process, in processes, on a Dask cluster; and
faults with real processes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import psutil
import pytest

from kdtutor.ablation import Grid, load, run, runner
from tests.ablation.test_grid_and_runner import SMALL, Fails, Mine

GRID = Grid(**SMALL | dict(methods=["CrossEntropy", "Hinton", Mine, Fails], epochs=3))
KILLS = int(os.environ.get("KDTUTOR_KILLS", 3))


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return numbers(run(GRID, tmp_path_factory.mktemp("reference"), progress=False))


def numbers(results) -> pd.DataFrame:
    """All that must be the same wherever and however often interrupted a grid was run."""
    return results.frame().drop(columns=["seconds", "traceback"])


@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "processes", "dask"])
def test_the_contract(where, tmp_path, request, reference):
    executor = None if where == "here" else request.getfixturevalue(where)
    results = run(GRID, tmp_path / "s", executor, progress=False)
    pd.testing.assert_frame_equal(numbers(results), reference)
    assert set(reference["status"]) == {"finished", "failed"} and "on purpose" in str(
        results.frame()["reason"].tolist()
    )
    before = stamps(tmp_path / "s")
    assert (
        numbers(run(GRID, tmp_path / "s", executor, progress=False)).equals(numbers(results))
        and stamps(tmp_path / "s") == before
    )
    wider = run(
        Grid(**SMALL | dict(methods=["CrossEntropy"], epochs=3, seeds=(0, 1, 2))),
        tmp_path / "s",
        executor,
        progress=False,
    )
    assert (
        set(wider.frame()["status"]) == {"finished"}
        and stamps(tmp_path / "s").items() >= before.items()
    )


def stamps(store: Path) -> dict:
    """When each finished run wrote its end: nothing finished is done again."""
    return {
        str(p): p.stat().st_mtime_ns
        for p in store.glob("runs/*/*.json")
        if p.name in ("result.json", "failure.json")
    }


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {package!r}]
if __name__ == "__main__":
    from kdtutor.ablation import Grid, run
    from tests.ablation.test_executors import GRID
    run(GRID, sys.argv[1], workers=int(sys.argv[2]), progress=False)
"""


def start(tmp_path, store, workers=0) -> subprocess.Popen:
    import kdtutor

    script = tmp_path / "grid.py"
    script.write_text(
        SCRIPT.format(
            tests=str(Path(__file__).parents[1]), package=str(Path(kdtutor.__file__).parents[1])
        )
    )
    return subprocess.Popen(
        [sys.executable, str(script), str(store), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process group")
def test_killed_at_random_moments_the_table_is_the_same(tmp_path, reference):
    dice, store, done = random.Random(0), tmp_path / "s", {}
    for _ in range(KILLS):
        process = start(tmp_path, store, workers=dice.choice([0, 2]))
        deadline = time.time() + 60
        while not list(store.glob("runs/*/metrics.jsonl")) and time.time() < deadline:
            time.sleep(0.05)
        time.sleep(dice.random() * 3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = stamps(store)
        assert now.items() >= done.items(), "what was finished stays as it is"
        done = now
    results = run(GRID, store, progress=False)
    pd.testing.assert_frame_equal(numbers(results), reference)
    assert stamps(store).items() >= done.items() and not list(store.glob("**/*.tmp"))


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path, reference):
    process = start(tmp_path, tmp_path / "s", workers=2)
    deadline, killed = time.time() + 60, False
    while time.time() < deadline and process.poll() is None and not killed:
        if list(tmp_path.glob("s/runs/*/metrics.jsonl")):
            workers = [
                c
                for c in psutil.Process(process.pid).children()
                if "spawn_main" in " ".join(c.cmdline())
            ]
            for worker in workers[:1]:
                worker.kill()
                killed = True
        time.sleep(0.02)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and killed, output
    pd.testing.assert_frame_equal(numbers(load_in_order(tmp_path / "s")), reference)


def load_in_order(store):
    results = load(store)
    results.cells = GRID.cells()
    return results


class Kills(Mine):
    def terms(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_run_that_kills_its_process_every_time_is_a_row(tmp_path):
    frame = run(
        Grid(**SMALL | dict(methods=[Kills, "CrossEntropy"], seeds=(0,))),
        tmp_path / "s",
        workers=1,
        progress=False,
    ).frame()
    assert (
        frame["status"].tolist() == ["died", "finished"]
        and "3 processes died" in frame["reason"][0]
    )


@pytest.mark.slow
def test_a_grid_may_be_killed_in_the_same_run_as_often_as_one_likes(tmp_path, reference):
    from kdtutor.ablation import Store

    cell, home = GRID.cells()[0], Store(tmp_path / "s")
    with home.turn(cell, wait=False):
        (home.folder(cell.key) / "begun").touch()  # what every killed grid leaves behind
    pd.testing.assert_frame_equal(numbers(run(GRID, tmp_path / "s", progress=False)), reference)


@pytest.mark.slow
def test_nobody_dies_for_anothers_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "MAX_DEATHS", 1)  # the test above dies as often as it may
    grid = Grid(**SMALL | dict(methods=["CrossEntropy", Kills, "Hinton"], seeds=(0, 1), epochs=20))
    frame = run(grid, tmp_path / "s", workers=2, progress=False).frame()
    assert dict(zip(frame["method"], frame["status"])) == {
        "CrossEntropy": "finished",
        "Kills": "died",
        "Hinton": "finished",
    }


@pytest.mark.slow
def test_workers_that_cannot_begin_end_the_grid_with_words(tmp_path, monkeypatch):
    ghost = types.ModuleType("ghost")
    exec(
        "from tests.ablation.test_grid_and_runner import Mine\nclass Ghost(Mine):\n    pass",
        vars(ghost),
    )
    monkeypatch.setitem(sys.modules, "ghost", ghost)  # here, and nowhere else
    with pytest.raises(RuntimeError, match="die before they begin a run.*module of its own"):
        run(
            Grid(**SMALL | dict(methods=[ghost.Ghost], seeds=(0,), teacher=None)),
            tmp_path,
            workers=2,
            progress=False,
        )


def test_threads_take_turns(tmp_path, reference):
    with ThreadPoolExecutor(4) as pool:
        pd.testing.assert_frame_equal(numbers(run(GRID, tmp_path, pool, progress=False)), reference)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks who the children of a process are")
def test_workers_end_with_their_parent(tmp_path):
    process = start(tmp_path, tmp_path / "s", workers=2)
    deadline = time.time() + 60
    while not list(tmp_path.glob("s/runs/*/metrics.jsonl")) and time.time() < deadline:
        time.sleep(0.05)
    workers = [
        c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())
    ]
    assert workers
    process.kill()  # the parent alone, as a notebook's kernel is killed
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


@pytest.mark.slow
def test_what_cannot_be_sent_to_a_process_is_a_row(tmp_path, processes):
    class Local(Mine):
        pass

    frame = run(
        Grid(**SMALL | dict(methods=[Local, "CrossEntropy"], seeds=(0,))),
        tmp_path / "s",
        processes,
        progress=False,
    ).frame()
    assert frame["status"].tolist() == ["failed", "finished"] and "ickl" in frame["reason"][0]


@pytest.mark.slow
def test_two_grids_on_one_store_share_the_work(tmp_path, reference):
    both = [start(tmp_path, tmp_path / "s") for _ in range(2)]
    outputs = [p.communicate(timeout=180)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], outputs
    pd.testing.assert_frame_equal(numbers(load_in_order(tmp_path / "s")), reference)
    for folder in (tmp_path / "s" / "runs").iterdir():
        rows = (
            (folder / "metrics.jsonl").read_text().splitlines()
            if (folder / "result.json").exists()
            else []
        )
        assert [json.loads(r)["epoch"] for r in rows] == list(range(1, len(rows) + 1)), (
            "no file is torn, no epoch is there twice"
        )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_stops_the_grid_and_corrupts_nothing(tmp_path, reference):
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1200, resource.RLIM_INFINITY))\n"
    )
    global SCRIPT
    whole, SCRIPT = SCRIPT, SCRIPT.replace("import sys\n", "import sys\n" + code, 1)
    try:
        process = start(tmp_path, tmp_path / "s")
        output, _ = process.communicate(timeout=60)
    finally:
        SCRIPT = whole
    assert process.returncode != 0 and "Is the disk full" in output
    pd.testing.assert_frame_equal(numbers(run(GRID, tmp_path / "s", progress=False)), reference)
