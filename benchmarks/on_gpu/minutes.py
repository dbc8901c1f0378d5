"""How long each run of the study's Table III takes: 12 methods, 8 students, 5 seeds."""

import functools

import torch

from kdtutor.ablation.estimate import estimate
from kdtutor.datasets import CropFlip, Data, Split

from .cells import Cell, Options
from .study import METHODS, STUDENTS, grids

COLUMNS = ("method", "student")
NOTE = (
    "Seconds of a whole run, from some timed steps at batches of 128 of 50,000 random images of "
    "CIFAR-10's size; 200 epochs (ONE 300), one run at a time, evaluation left out, the teacher "
    "asked in every step. hours: of its five seeds."
)


def cells(options: Options):
    for student in options.pick(STUDENTS, STUDENTS[:1]):
        for method in options.pick(METHODS, ("CrossEntropy", "Hinton")):
            key = {"method": method, "student": student}
            yield Cell(key, 10, lambda k=key: run(**k, options=options))


def run(method: str, student: str, options: Options) -> list[dict]:
    data = blank(options.pick(50_000, 64))
    (asked,) = grids(data, [method], [student], [0], quick=options.quick)
    row = next(
        r for r in estimate(asked.cells(), batches=options.pick(24, 1)) if r["role"] == "student"
    )
    seconds = row["seconds"]
    return [
        {
            "epochs": asked.epochs,
            "seconds_per_run": round(seconds, 1),
            "runs": 5,
            "hours": round(5 * seconds / 3600, 3),
        }
    ]


@functools.cache
def blank(images: int) -> Data:
    """Random images in CIFAR-10's layout."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (images, 3, 32, 32), generator=g, dtype=torch.uint8)
    part = Split(x, torch.arange(images) % 10)
    names = tuple(map(str, range(10)))
    return Data("random", names, part, None, CropFlip(4), (0.5,) * 3, (0.25,) * 3)
