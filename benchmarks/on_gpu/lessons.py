"""The lessons' code cells at the full budget, from top to bottom, as far as they fit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .cells import Cell, Options

COLUMNS = ("lesson",)
NOTE = (
    "Code cells as plain Python in a fresh process, in the notebook's order; widgets are drawn "
    "once, where ipywidgets is missing without their controls. Without MNIST or CIFAR-10 in the "
    "data folder a lesson takes what it takes instead."
)
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LIMIT = 100  # seconds, for one lesson


def cells(options: Options):
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))[: options.pick(None, 1)]:
        key = {"lesson": path.stem}
        yield Cell(key, LIMIT + 10, lambda path=path: run(path, options))


def run(path: Path, options: Options) -> list[dict]:
    budget = options.pick("full", "smoke")
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "on_gpu.lesson", str(path)],
        cwd=NOTEBOOKS,
        env=os.environ
        | {
            "KDTUTOR_BUDGET": budget,
            "KDTUTOR_PROGRESS": "0",
            "MPLBACKEND": "Agg",
            "PYTHONPATH": os.pathsep.join(map(str, (NOTEBOOKS.parent, Path(__file__).parents[1]))),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return [{"budget": budget, "outcome": f"more than {LIMIT} s", "seconds": ""}]
    seconds = round(time.perf_counter() - began, 1)
    done = not process.returncode
    last = [line for line in said.splitlines() if line.strip()][-1:] or [""]
    about = json.loads(last[0]) if done else {"said": last[0][:300]}
    outcome = "finished" if done else "failed"
    return [{"budget": budget, "outcome": outcome, "seconds": seconds, **about}]
