"""How speed is measured here: contenders take turns (A B A B …) in one run, and only their ratio
within a round counts.

Absolute times depend on the machine and on what else it does; the ratio of neighbours in time
hardly does. Reported is the median of the rounds' ratios with the smallest and the largest."""

import statistics
import sys
from collections.abc import Callable, Mapping


def take_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """{name: seconds of each round}. A contender does its piece of work and returns the seconds
    that count. One round before those that count warms caches, allocators and clock frequency.
    """
    times = {name: [] for name in contenders}
    for done in range(rounds + 1):
        for name, run in contenders.items():
            seconds = run()
            if done:
                times[name].append(seconds)
        print(
            f"  round {done}/{rounds}",
            end="\n" if done == rounds else "\r",
            file=sys.stderr,
            flush=True,
        )
    return times


def compare(
    what: str,
    versus: str,
    over: list[float],
    under: list[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    **extra,
) -> dict:
    """A row of the table: the median of the paired ratios over/under, their range, and whether the
    aim is met.
    """
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    ratio = statistics.median(ratios)
    aim = f"<= {at_most:.2f}" if at_most else f">= {at_least:.2f}" if at_least else ""
    met = "" if not aim else "yes" if (ratio <= at_most if at_most else ratio >= at_least) else "no"
    return {
        "what": what,
        "versus": versus,
        "ratio": round(ratio, 3),
        "low": round(min(ratios), 3),
        "high": round(max(ratios), 3),
        "aim": aim,
        "met": met,
        **extra,
    }
