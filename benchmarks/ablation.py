"""What the bench costs: overhead of a run, two workers over one, reading a finished store, a run
that reads its teacher's answers.

    python benchmarks/ablation.py --out data/results

overhead: ``run`` over a loop of bare ``fit`` calls with run directories, on trivial runs.
workers: a grid of ResNet-8 runs, one thread each, in two processes over one; the processes' start
is left out (a grid of trivial runs starts them).   resume: ``run`` on a store of 200 finished runs.
answers: a run of ResNet-56 -> ResNet-20 that reads its teacher's stored answers over one that
computes them; the time to fill the file for one view stands beside.   scale: what a grid of 10,000
runs asks of the process that lists, reads and sends them."""

import argparse
import json
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from provenance import write_csv

from kdtutor import Teacher, fit
from kdtutor.ablation import Grid, Store, load, run
from kdtutor.ablation.runner import run_cell
from kdtutor.datasets import Data, Flip, Split
from kdtutor.runs import load_weights

TINY = dict(
    dataset="digits",
    teacher="mlp16",
    students=["mlp8"],
    images=100,
    epochs=1,
    fit={"batch_size": 50},
)


def timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def overhead(folder: Path, seeds: int) -> dict:
    """Seconds of the bench per run, beyond what ``fit`` itself takes for the same runs."""
    grid = Grid(**TINY, methods=["CrossEntropy", "Hinton"], seeds=range(seeds))
    run(Grid(**TINY, methods=["Hinton"], seeds=[999]), folder / "warm", progress=False)
    bench = timed(lambda: run(grid, folder / "bench", progress=False))
    cells = grid.cells()
    (teacher,) = grid.teachers()

    def bare():
        fit(
            teacher.distiller(teacher.data(), None),
            teacher.data(),
            1,
            seed=0,
            run_dir=folder / "bare" / "t",
            progress=False,
            **teacher.spec["fit"],
        )
        net = load_weights(
            teacher.distiller(teacher.data(), None).student,
            folder / "bare" / "t" / "student.safetensors",
        )
        for cell in cells:
            data = cell.data()
            fit(
                cell.distiller(data, Teacher(net) if cell.teacher else None),
                data,
                1,
                seed=cell.spec["seed"],
                run_dir=folder / "bare" / cell.key,
                progress=False,
                **cell.spec["fit"],
            )

    alone = timed(bare)
    return {
        "what": "overhead of a run, ms",
        "value": 1e3 * (bench - alone) / (len(cells) + 1),
        "aim": "<= 50",
        "runs": len(cells) + 1,
        "bench_s": bench,
        "other_s": alone,
    }


def workers(folder: Path, epochs: int, images: int) -> dict:
    """How many times as fast two processes are as one."""
    seconds = {}
    for count in (1, 2):
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            run(
                Grid(**TINY, methods=["CrossEntropy"], seeds=range(4 * count)),
                folder / f"start{count}",
                pool,
                progress=False,
            )
            grid = Grid(
                dataset="digits",
                teacher=None,
                students=["resnet8"],
                methods=["CrossEntropy"],
                seeds=range(8),
                epochs=epochs,
                images=images,
            )
            seconds[count] = timed(lambda: run(grid, folder / f"w{count}", pool, progress=False))
    return {
        "what": "two workers over one",
        "value": seconds[1] / seconds[2],
        "aim": ">= 1.7",
        "runs": 8,
        "bench_s": seconds[2],
        "other_s": seconds[1],
    }


def resume(folder: Path, runs: int) -> dict:
    """Seconds of ``run`` where everything is finished."""
    grid = Grid(**TINY, methods=["CrossEntropy"], seeds=range(runs))
    run(grid, folder / "many", progress=False)
    seconds = timed(lambda: run(grid, folder / "many", progress=False).table())
    return {"what": "resume of a finished store, s", "value": seconds, "aim": "< 2", "runs": runs}


def answers(folder: Path, epochs: int, images: int, rounds: int) -> dict:
    """Seconds of a run with stored answers over one without, in turns; both with the same trained
    teacher in their store.
    """
    g = torch.Generator().manual_seed(0)
    split = lambda n: Split(
        torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=g), torch.arange(n) % 10
    )
    data = Data("noise", tuple("abcdefghij"), split(images), split(100), augment=Flip())
    one = lambda seed, stored: Grid(
        dataset=data,
        teacher="resnet56",
        students=["resnet20"],
        methods=["Hinton"],
        seeds=[seed],
        epochs=epochs,
        teacher_epochs=1,
        cache_logits=stored,
    )
    run(one(0, False), folder / "computed", progress=False)
    shutil.copytree(folder / "computed", folder / "stored")
    filling = timed(lambda: run(one(1, True), folder / "stored", progress=False))
    times = []
    for seed in range(2, 2 + rounds):
        times.append(
            [
                timed(lambda: run(one(seed, stored), folder / name, progress=False))
                for name, stored in (("stored", True), ("computed", False))
            ]
        )
    ratio = median(a / b for a, b in times)
    stored, computed = (median(column) for column in zip(*times))
    return {
        "what": "run with its teacher's answers stored over computed",
        "value": ratio,
        "aim": "<= 0.6",
        "runs": rounds,
        "bench_s": stored,
        "other_s": computed,
        "fill_a_view_s": (filling - stored) / data.views,
    }


def scale(folder: Path, runs: int) -> list[dict]:
    """Seconds of what a large grid asks of one process: listing its runs, reading their store,
    finding that nothing is left, and the round trip of a task through Dask.
    """
    from dask.distributed import Client, LocalCluster

    grid = Grid(**TINY, methods=["CrossEntropy"], seeds=range(runs))
    began = time.perf_counter()
    cells = grid.cells()
    listing = time.perf_counter() - began
    run(Grid(**TINY, methods=["CrossEntropy"], seeds=[0]), folder, progress=False)
    home = Store(folder)
    result = (home.folder(cells[0].key) / "result.json").read_text()
    for cell in cells[1:]:
        home.folder(cell.key).mkdir()
        (home.folder(cell.key) / "cell.json").write_text(
            json.dumps({**cell.spec, "label": cell.label, "teacher_logits": "computed"})
        )
        (home.folder(cell.key) / "result.json").write_text(result)
    size = sum(f.stat().st_size for f in home.folder(cells[0].key).iterdir())
    reading = timed(lambda: load(folder).frame())
    resuming = timed(lambda: run(grid, folder, progress=False))
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        some = cells[: min(runs, 500)]
        with client.get_executor(pure=False) as pool:
            list(pool.map(run_cell, some[:1], [str(folder)]))
            trip = timed(lambda: list(pool.map(run_cell, some, [str(folder)] * len(some)))) / len(
                some
            )
    rows = [
        ("runs listed and checked, s", listing),
        ("store read as a frame, s", reading),
        ("resume, s", resuming),
    ]
    return [
        {"what": f"{runs} runs: {what}", "value": value, "runs": runs} for what, value in rows
    ] + [
        {
            "what": "a finished run through a Dask worker, ms",
            "value": 1e3 * trip,
            "runs": len(some),
        },
        {"what": "files of an MLP's run, kB", "value": size / 1e3, "runs": 1},
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="of the overhead's grid")
    parser.add_argument("--epochs", type=int, default=15, help="of the ResNet-8 runs")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--runs", type=int, default=200, help="of the finished store")
    parser.add_argument(
        "--many", type=int, default=10_000, help="runs of a large grid's store, copies of one run"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="of the runs with stored answers and without"
    )
    parser.add_argument("--out", help="folder for ablation.csv")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for measure in (
            lambda f: overhead(f, args.seeds),
            lambda f: resume(f, args.runs),
            lambda f: workers(f, args.epochs, args.images),
            lambda f: answers(f, 2, args.images, args.rounds),
        ):
            rows.append(measure(Path(folder)))
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
        rows += scale(Path(folder) / "scale", args.many)
        print(pd.DataFrame(rows[-5:]).to_string(index=False), flush=True)
    if args.out:
        write_csv(
            pd.DataFrame(rows).round(3),
            f"{args.out}/ablation.csv",
            "digits; MLPs for overhead and resume; ResNet-8, one thread each, for workers; 32x32 "
            "images, batch 64, one thread for answers.",
        )


if __name__ == "__main__":
    main()
