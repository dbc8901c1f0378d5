"""What the parts share: a cell, the options, precision, and a step as a CUDA graph."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Unavailable(Exception):
    """A cell cannot run here: what it lacks, and how to bring it. It is asked again next time."""


class Cell(NamedTuple):
    """What is measured in one piece.

    Args:
        key: Names it, in the part's columns. A cell whose key is in the table is not run again.
        seconds: About how long it takes on a card of a computing centre; it is begun only if so
            much time is left.
        run: () -> its rows, without the key.
    """

    key: dict[str, Any]
    seconds: float
    run: Callable[[], list[dict]]


@dataclass(frozen=True)
class Options:
    """What the command was told, as every part sees it."""

    quick: bool
    device: str
    data: Path
    state: Path
    out: Path
    peer: str | None = None
    left: Callable[[], float] = lambda: float("inf")  # seconds

    def pick(self, full, quick):
        """The size for a measurement, or for a look whether everything runs."""
        return quick if self.quick else full


PRECISIONS = ("float32", "tf32", "bf16")


@contextmanager
def precision(name: str) -> Iterator[str]:
    """Sets what float32 means on a GPU: to the last bit, or TF32 in convolutions and products.
    Gives the precision that ``fit`` is told.
    """
    places = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [p.fp32_precision for p in places]
    for p in places:
        p.fp32_precision = "ieee" if name == "float32" else "tf32"
    try:
        yield "bf16" if name == "bf16" else "float32"
    finally:
        for p, value in zip(places, before):
            p.fp32_precision = value


def graphed(step: Callable, x, y) -> Callable:
    """A step of inputs and labels as one CUDA graph: (x, y) -> replayed with these values."""
    x, y = x.clone(memory_format=torch.preserve_format), y.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is made in the first steps must be there before
        for _ in range(3):
            step(x, y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(x, y)

    def replay(given_x, given_y) -> None:
        x.copy_(given_x)
        y.copy_(given_y)
        graph.replay()

    replay.keeps = step  # the graph knows the weights' addresses only: they must stay alive
    return replay


def tried(work: Callable):
    """What it returns, or what it said: an extra figure must not cost the row that it adds to."""
    try:
        return work()
    except Exception as error:
        return f"failed: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """An error in one line of a table."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def waits(work: Callable, device: str) -> int | str:
    """How often a piece of work makes the CPU wait for the GPU; "" where nobody can say."""
    if torch.device(device).type != "cuda":
        return ""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in seen)


def busy(work: Callable[[], float], device: str) -> float | str:
    """The share of the seconds that a piece of work says it took in which the GPU computed; ""
    where nobody can say.
    """
    if torch.device(device).type != "cuda":
        return ""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        seconds = work()
        torch.cuda.synchronize()
    # Its calls on the CPU carry their kernels' times, too.
    events = [e for e in found.key_averages() if e.device_type == DeviceType.CUDA]
    spent = sum(e.self_device_time_total for e in events)
    return round(spent / 1e6 / seconds, 3)
