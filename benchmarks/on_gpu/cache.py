"""The exact cache of a teacher's answers on the device: filling it, its size, an epoch with it over
one without, and whether its answers are the teacher's.
"""

import statistics

import torch
from clock import timed
from paired import compare, take_turns
from training import CE, KD, PAIRS, T, calibrated, random_data

from kdtutor import Teacher
from kdtutor.methods import CrossEntropy, Hinton

from .cells import Cell, Options
from .speed import Epoch

COLUMNS = ("pair",)
NOTE = (
    "Pad-4 crop and flip, 162 views of an image, 100 classes, batches of 64. ratio: seconds of the "
    "epoch without the cache over those with it, full; student alone: the same epoch on the labels."
)


def cells(options: Options):
    for pair in options.pick(list(PAIRS)[:2], list(PAIRS)[2:]):
        yield Cell({"pair": pair}, 40, lambda pair=pair: run(pair, options))


def run(pair: str, options: Options) -> list[dict]:
    images = options.pick(5120, 16)
    data, device = random_data(images), options.device
    teacher, student, _ = PAIRS[pair]
    asked = Teacher(calibrated(teacher().to(device), data))
    order = torch.Generator().manual_seed(0)
    batch = next(data.batches(data.train, 16, shuffle=order, augment=True, device=device))
    computed = asked(batch)
    fill = timed(lambda: asked.cached(data, fill=True), device)()
    looked_up = asked(batch)
    size = asked._cache.logits.numel() * asked._cache.logits.element_size()

    contenders = {}
    for name in ("without", "with", "student alone"):
        epoch = Epoch(pair, data, 64 if images > 64 else 8, "float32", device)
        if name == "student alone":
            epoch.distiller = CrossEntropy(student())
        elif name == "with":
            epoch.distiller = Hinton(student(), asked, T, CE, KD)
        contenders[name] = epoch
    times = take_turns(contenders, options.pick(4, 1))
    found = compare("epoch", "without the cache", times["without"], times["with"])
    per_second = lambda name: round(images / statistics.median(times[name]))
    return [
        {
            "ratio": found["ratio"],
            "low": found["low"],
            "high": found["high"],
            "images_per_s": per_second("with"),
            "without_images_per_s": per_second("without"),
            "student_alone_images_per_s": per_second("student alone"),
            "images": images,
            "answers_per_s": round(images * data.views / fill),
            "cache_mib": round(size / 2**20, 1),
            "equal": "yes" if torch.equal(computed, looked_up) else "no",
            "largest_difference": f"{float((computed - looked_up).abs().max()):.1e}",
        }
    ]
