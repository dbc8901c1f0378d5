"""What importing kdtutor costs beside ``import torch``: fresh processes that take turns, the median
of the paired ratios.

``import kdtutor`` alone loads names when they are used, so what is timed is everything that a
training run uses.

    python benchmarks/import_time.py [--rounds 9] [--out data/results]

Where the ratio is too high, ``python -X importtime -c "import kdtutor.training"`` names the module
that takes the time."""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from paired import compare, take_turns

SELF = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
TORCH, KDTUTOR = (
    "import torch",
    "from kdtutor import Teacher, datasets, evaluate, fit, methods, models",
)


def seconds(statement: str) -> float:
    """How long a fresh interpreter takes for an import; starting the interpreter itself is not
    counted.
    """
    return float(
        subprocess.run(
            [sys.executable, "-c", SELF.format(statement)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", help="folder for import_time.csv")
    options = parser.parse_args(arguments)
    times = take_turns(
        {name: lambda name=name: seconds(name) for name in (TORCH, KDTUTOR)}, options.rounds
    )
    row = compare(
        KDTUTOR,
        TORCH,
        times[KDTUTOR],
        times[TORCH],
        at_most=1.20,
        seconds=round(statistics.median(times[KDTUTOR]), 2),
    )
    print(row)
    if options.out:
        import pandas as pd
        from provenance import write_csv

        write_csv(
            pd.DataFrame([row]),
            Path(options.out) / "import_time.csv",
            f"median of {options.rounds} paired ratios in fresh processes",
        )
    return row


if __name__ == "__main__":
    main()
