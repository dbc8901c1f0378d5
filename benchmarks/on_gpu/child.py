"""The process that measures: tells its parent, line by line, what it begins and what came out."""

import datetime
import gc
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

import torch
from provenance import cpu_name

from on_gpu import BROKEN
from on_gpu.cells import Options, Unavailable, one_line


def main(told: dict) -> None:
    """Measures cell after cell of the parts that it was told, while time is left."""
    # What is printed on the way must not come between the lines.
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**what) -> None:
        lines.write(json.dumps(what) + "\n")
        lines.flush()

    options = Options(
        quick=told["quick"],
        device="cpu" if told["quick"] else "cuda",
        data=Path(told["data"]),
        state=Path(told["state"]),
        out=Path(told["out"]),
        peer=told["peer"],
        left=lambda: told["deadline"] - time.monotonic(),
    )
    if options.device == "cuda" and not torch.cuda.is_available():
        say(
            missing=f"no GPU that this torch ({torch.__version__}) can use: see `kdtutor doctor`; "
            "--quick shows on the CPU that every part runs"
        )
        raise SystemExit(1)
    if options.quick:
        torch.set_num_threads(1)
    say(machine=machine(options.device))
    for name in told["parts"]:
        try:
            part = importlib.import_module(f"on_gpu.{name}")
        except ImportError as error:
            say(part=name, lack=one_line(error))
            continue
        say(part=name, columns=part.COLUMNS, note=part.NOTE)
        known = set(map(tuple, json.loads(sys.stdin.readline())))
        for cell in part.cells(options):
            key = tuple(str(cell.key.get(c, "")) for c in part.COLUMNS)
            if cell.key and key in known:
                continue
            if cell.seconds > options.left():
                say(part=name, later=cell.key)
                continue
            say(part=name, begun=cell.key, about=cell.seconds)
            began = time.perf_counter()
            try:
                rows = [cell.key | row for row in cell.run()]
            except Unavailable as lack:
                say(part=name, lack=str(lack))
                continue
            except Exception as error:
                rows = [cell.key | {"error": one_line(error)}]
            say(part=name, rows=rows, seconds=round(time.perf_counter() - began, 1))
            gc.collect()
            if options.device == "cuda" and not recovered():
                os._exit(BROKEN)


def recovered() -> bool:
    """Is CUDA still there? After a fault of a kernel every call of the process fails."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def machine(device: str) -> dict:
    """What a table says of where it was measured."""
    card = torch.cuda.get_device_name() if device == "cuda" else "none: a look on the CPU"
    return {
        "card": card,
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "cuda": torch.version.cuda if device == "cuda" else "",
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else "",
        "python": platform.python_version(),
        "cpu": cpu_name(),
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
