"""Results as CSV with their provenance on top: command, date, versions, device, threads.
``pandas.read_csv(…, comment="#")``.
"""

import datetime
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kdtutor.runs import environment, replace_file

if TYPE_CHECKING:
    import pandas as pd


def write_csv(frame: "pd.DataFrame", path: str | Path, *notes: str) -> None:
    """Writes a table under ``# …`` lines that say where it comes from."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where the data and the runs lie is this machine's affair, not part of what was measured.
    arguments = iter(sys.argv[1:])
    kept = [
        a
        for a in arguments
        if not (a in ("--data", "--runs", "--peer", "--out") and next(arguments))
    ]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *kept])
    about = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        **environment(torch.device("cpu")),
        "cpu": cpu_name(),
    }
    lines = [f"# {k}: {v}" for k, v in about.items()] + [f"# {n}" for n in notes]
    replace_file(path, lambda t: t.write_text("\n".join(lines) + "\n" + frame.to_csv(index=False)))


def cpu_name() -> str:
    """The processor as the system names it, with its instruction sets that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        import platform

        return platform.processor()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {k.strip(): v.strip() for k, v in fields.items()}
    sets = [
        s
        for s in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if s in fields.get("flags", "").split()
    ]
    return f"{fields.get('model name', 'unknown')} x{text.count('processor')} ({', '.join(sets)})"


def mean_std(frame: "pd.DataFrame", by: list[str], value: str) -> "pd.DataFrame":
    """Mean, sample standard deviation and number of seeds per group, in the order of appearance."""
    return (
        frame.groupby(by, sort=False)[value]
        .agg(mean="mean", std="std", seeds="count")
        .reset_index()
    )
