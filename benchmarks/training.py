"""How fast kdtutor distils: against a bare loop (the limit) and against RepDistiller (the peer).
Always ratios within one run.

    python benchmarks/training.py limit                                the step and the whole epoch
    over a bare hand-written loop python benchmarks/training.py peer --peer PATH
    images per second over those of RepDistiller, from a checkout python benchmarks/training.py all
    --peer PATH --out data/results   both, written to training_speed.csv

Images are random, CIFAR-shaped and uint8; 100 classes, batches of 64, crop and flip, T = 4. The
epochs are those that ``fit`` itself times, progress bar included."""

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from paired import compare, take_turns
from peer import Peer
from provenance import write_csv

from kdtutor import Teacher, fit, models
from kdtutor.datasets import CropFlip, Data, Split
from kdtutor.methods import Hinton
from kdtutor.training import sgd

CLASSES, BATCH, T, CE, KD, LR = 100, 64, 4.0, 0.1, 0.9, 0.01
# name: (teacher, student, their names at the peer)
PAIRS = {
    "wrn_40_2 -> wrn_16_2": (
        lambda: models.wrn(40, 2, CLASSES),
        lambda: models.wrn(16, 2, CLASSES),
        ("wrn_16_2", "wrn_40_2"),
    ),
    "resnet56 -> resnet20": (
        lambda: models.resnet56(CLASSES),
        lambda: models.resnet20(CLASSES),
        ("resnet20", "resnet56"),
    ),
    "resnet8 -> resnet8": (
        lambda: models.resnet8(CLASSES),
        lambda: models.resnet8(CLASSES),
        ("resnet8", "resnet8"),
    ),
}
QUICK = {"resnet8 -> resnet8"}


def random_data(images: int) -> Data:
    g = torch.Generator().manual_seed(0)
    part = lambda n: Split(
        torch.randint(0, 256, (n, 3, 32, 32), generator=g, dtype=torch.uint8),
        torch.randint(CLASSES, (n,), generator=g),
    )
    return Data(
        "random",
        tuple(map(str, range(CLASSES))),
        part(images),
        part(2),
        CropFlip(4),
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
    )


class SameTensors(Data):
    """Data that hands out the same prepared batches each time: what remains of an epoch is its
    steps.
    """

    def batches(self, *args, **kwargs):
        return iter(self.prepared)


def same_tensors(data: Data, batch_size: int = BATCH, device="cpu") -> SameTensors:
    fixed = SameTensors(
        data.name, data.classes, data.train, data.test, data.augment, data.mean, data.std
    )
    object.__setattr__(
        fixed,
        "prepared",
        list(
            data.batches(
                data.train, batch_size, shuffle=torch.Generator(), augment=True, device=device
            )
        ),
    )
    return fixed


def calibrated(net: torch.nn.Module, data: Data) -> torch.nn.Module:
    """Batch normalisation learns the images' statistics, so that an untrained teacher's logits are
    of ordinary size.
    """
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    device = next(net.parameters()).device
    with torch.no_grad():
        net.train()(next(iter(data.batches(data.train, 64, device=device))).x)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def warm(teacher: Teacher, data: Data) -> Teacher:
    """The teacher with a cache that already holds every view. Its answers are random: a lookup
    takes as long.
    """
    teacher.cached(data)
    teacher._cache.logits.normal_()
    teacher._cache.filled.fill_(True)
    return teacher


def distilled(pair: str, data: Data, cache: bool = False, precision: str = "float32"):
    """() -> seconds of one epoch of ``fit``."""
    teacher, student, _ = PAIRS[pair]
    teacher = Teacher(calibrated(teacher(), data))
    distiller = Hinton(student(), warm(teacher, data) if cache else teacher, T, CE, KD)

    def run() -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            return fit(
                distiller,
                data,
                1,
                batch_size=BATCH,
                lr=LR,
                validation=0,
                test=False,
                precision=precision,
            ).rows[0]["seconds"]

    return run


def bare(pair: str, data: SameTensors, with_teacher: bool):
    """() -> seconds of the same number of steps, written by hand: nothing but the arithmetic of
    distillation.
    """
    teacher, student, _ = PAIRS[pair]
    teacher = (
        calibrated(teacher(), data).to(memory_format=torch.channels_last).requires_grad_(False)
    )
    student = student().to(memory_format=torch.channels_last).train()
    optimizer = sgd(LR)(list(student.parameters()))
    given = torch.randn(BATCH, CLASSES)

    def run() -> float:
        began = time.perf_counter()
        for batch in data.prepared:
            teacher_logits = given
            if with_teacher:
                with torch.no_grad():
                    teacher_logits = teacher(batch.x)
            logits = student(batch.x)
            soft = F.kl_div(
                F.log_softmax(logits / T, 1),
                F.softmax(teacher_logits / T, 1),
                reduction="batchmean",
            )
            loss = CE * F.cross_entropy(logits, batch.y) + KD * T * T * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    return run


def limit(pair: str, steps: int, rounds: int) -> list[dict]:
    data = random_data(steps * BATCH)
    fixed = same_tensors(data)
    times = take_turns(
        {
            "bare": bare(pair, fixed, True),
            "step": distilled(pair, fixed),
            "epoch": distilled(pair, data),
            "bare student": bare(pair, fixed, False),
            "cached step": distilled(pair, fixed, cache=True),
            "cached epoch": distilled(pair, data, cache=True),
        },
        rounds,
    )
    row = lambda what, name, versus, under, **aim: compare(
        what,
        versus,
        times[name],
        times[under],
        **aim,
        pair=pair,
        ms_per_step=round(1e3 * statistics.median(times[name]) / steps, 1),
    )
    loop, alone = "bare loop: student step and teacher forward", "bare loop: student step alone"
    return [
        row("KD step", "step", loop, "bare", at_most=1.10),
        row("KD epoch with data and augmentation", "epoch", loop, "bare", at_most=1.15),
        row("KD step, warm teacher cache", "cached step", alone, "bare student", at_most=1.10),
        row(
            "KD epoch with data and augmentation, warm teacher cache",
            "cached epoch",
            alone,
            "bare student",
            at_most=1.15,
        ),
    ]


def against_peer(
    pair: str, steps: int, rounds: int, checkout: str, threads: int, workers: list[int]
) -> list[dict]:
    data, names = random_data(steps * BATCH), PAIRS[pair][2]
    with Peer(checkout, steps * BATCH, threads, BATCH) as peer:
        # Its number of workers is the one that suits it best here: each is tried twice, the second
        # time counts.
        tried = {n: [peer(*names, n)["seconds"] for _ in range(2)][1] for n in workers}
        best = min(tried, key=tried.get)
        ours = [sum(p.numel() for p in make().parameters()) for make in PAIRS[pair][:2]]
        assert ours == [peer(*names, best)[who] for who in ("teacher", "student")], (
            "the networks differ from the peer's"
        )
        times = take_turns(
            {
                "peer": lambda: peer(*names, best)["seconds"],
                "float32": distilled(pair, data),
                "cached": distilled(pair, data, cache=True),
                "bf16": distilled(pair, data, precision="bf16"),
                "bf16 cached": distilled(pair, data, cache=True, precision="bf16"),
            },
            rounds,
        )
    speed = lambda name: round(steps * BATCH / statistics.median(times[name]), 1)
    row = lambda what, name, **aim: compare(
        what,
        f"RepDistiller, {best} workers",
        times["peer"],
        times[name],
        **aim,
        pair=pair,
        images_per_s=speed(name),
        peer_images_per_s=speed("peer"),
    )
    return [
        row("images per second, float32", "float32", at_least=1.6),
        row("images per second, float32, warm teacher cache", "cached", at_least=2.8),
        row("images per second, bf16", "bf16"),
        row("images per second, bf16, warm teacher cache", "bf16 cached", at_least=5.0),
    ]


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["limit", "peer", "all"])
    parser.add_argument("--peer", help="path of a checkout of RepDistiller")
    parser.add_argument(
        "--pair",
        choices=PAIRS,
        action="append",
        help="the networks (default: the two published pairs)",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--steps", type=int, default=12, help="training steps of each contender per round"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 2, 8],
        help="the peer's worker counts to try (its own default: 8)",
    )
    parser.add_argument("--out", help="folder for training_speed.csv")
    parser.add_argument(
        "--quick", action="store_true", help="tiny networks and two steps: does it run?"
    )
    options = parser.parse_args(arguments)
    if options.what != "limit" and not options.peer:
        parser.error(
            "the peer needs --peer PATH, a checkout of https://github.com/HobbitLong/RepDistiller"
        )
    if options.what != "limit" and not Peer.there(options.peer):
        parser.error(f"{options.peer} is no checkout of RepDistiller: helper/loops.py is not there")
    if options.quick:
        options.steps, options.rounds, options.workers = 2, 2, [0]
    torch.set_num_threads(options.threads)
    rows = []
    for pair in options.pair or (QUICK if options.quick else [p for p in PAIRS if p not in QUICK]):
        print(pair, file=sys.stderr)
        if options.what != "peer":
            rows += limit(pair, options.steps, options.rounds)
        if options.what != "limit":
            rows += against_peer(
                pair, options.steps, options.rounds, options.peer, options.threads, options.workers
            )
    import pandas as pd  # not for the functions above, which others use

    table = pd.DataFrame(rows)
    print(table.to_string(index=False, na_rep=""))
    if options.out:
        write_csv(
            table,
            Path(options.out) / "training_speed.csv",
            f"median of {options.rounds} paired ratios, lowest and highest; "
            f"{options.steps} steps of {BATCH} random images per round",
        )
    return rows


if __name__ == "__main__":
    os.environ.pop("KDTUTOR_PROGRESS", None)
    main()
