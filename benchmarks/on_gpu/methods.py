"""Every method of the catalog: its step over the limit, its memory, whether it waits, and whether
the same seed gives the same weights to the last bit.
"""

import copy
import statistics

import torch
from clock import peak, timed
from methods import FIRST_STAGE, bare_step, build, networks, player_step
from paired import compare, take_turns
from training import random_data

from kdtutor import Teacher, models
from kdtutor.methods.rows import ROWS

from .cells import Cell, Options, tried, waits

COLUMNS = ("method", "batch")
NOTE = (
    "ResNet-56 teaches ResNet-20, 100 classes, random images, float32 with torch's default for "
    "TF32. ratio: a step over the bare one (the student's step on the labels, the teacher's "
    "forward pass). waits: how often a step makes the CPU wait for the GPU. same: two times five "
    "steps from the same seed end in the same bits; exact: the same with "
    "torch.use_deterministic_algorithms. FSP, AB, FitNet: a step of their first stage."
)
QUICK = ("Hinton", "CRD", "DML")


def cells(options: Options):
    names = [row.name for row in ROWS if row.name != "CrossEntropy"]
    for batch in options.pick((64, 256), (4,)):
        for name in options.pick(names, QUICK):
            key = {"method": name, "batch": batch}
            yield Cell(key, 6, lambda k=key: run(**k, options=options))
    for batch in options.pick((512, 1024), ()):
        key = {"method": "RKD-A", "batch": batch}
        yield Cell(key, 10, lambda k=key: run(**k, options=options))


def run(method: str, batch: int, options: Options) -> list[dict]:
    device, data = options.device, random_data(max(64, batch))
    some = next(data.batches(data.train, batch, device=device))
    row = next(r for r in ROWS if r.name == method)
    teacher, student = networks(device)
    limit = bare_step(student, teacher, some)
    ours = player_step(fresh(row, teacher, device), some)
    count = options.pick(10, 1)
    times = take_turns(
        {"ours": timed(ours, device, count), "limit": timed(limit, device, count)},
        options.pick(5, 1),
    )
    found = compare("step", "the limit", times["ours"], times["limit"])
    ms = lambda who: round(1e3 * statistics.median(times[who]), 2)
    again = lambda: "yes" if same_again(row, teacher, some, device) else "no"
    return [
        {
            "stage": "first" if method in FIRST_STAGE else "all",
            "ratio": found["ratio"],
            "low": found["low"],
            "high": found["high"],
            "ms": ms("ours"),
            "limit_ms": ms("limit"),
            "peak_mib": tried(lambda: peak(ours, device)),
            "limit_peak_mib": tried(lambda: peak(limit, device)),
            "waits": tried(lambda: waits(ours, device)),
            "same": tried(again),
            "exact": tried(lambda: exactly(again)),
        }
    ]


def fresh(row, teacher, device: str):
    """The method around a new student of a fixed seed."""
    torch.manual_seed(1)
    student = models.resnet20(100).to(device, memory_format=torch.channels_last)
    return build(row, student, Teacher(teacher)).to(device)


def same_again(row, teacher, some, device: str) -> bool:
    """Do two times five steps from the same seed end in the same weights, bit for bit?"""
    ends = []
    for _ in range(2):
        distiller = fresh(row, copy.deepcopy(teacher), device)
        step = player_step(distiller, some)
        torch.manual_seed(2)
        for _ in range(5):
            step()
        ends.append([p.detach().clone() for p in distiller.student.parameters()])
    return all(torch.equal(a, b) for a, b in zip(*ends))


def exactly(work):
    """The same under torch's deterministic algorithms, as far as there are any."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        return work()
    finally:
        torch.use_deterministic_algorithms(False)
