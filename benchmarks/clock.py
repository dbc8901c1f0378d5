"""Seconds of a piece of work, with what a GPU still has to do of it, and the memory it takes."""

import gc
import time
from collections.abc import Callable

import torch


def wait(device: torch.device | str) -> None:
    """Until the device has done everything that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable, device: torch.device | str = "cpu", times: int = 1):
    """() -> seconds of one of so many calls in a row, the GPU's part included."""

    def run() -> float:
        wait(device)
        began = time.perf_counter()
        for _ in range(times):
            work()
        wait(device)
        return (time.perf_counter() - began) / times

    return run


def peak(work: Callable, device: torch.device | str = "cpu") -> float:
    """MiB that one call holds at most beyond what was there before; the first call of two, which
    fills caches, does not count.
    """
    work()
    gc.collect()
    if torch.device(device).type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        wait(device)
        return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return round(most / 2**20, 1)
