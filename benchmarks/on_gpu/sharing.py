"""Several runs at once on one card: in processes of their own, and as seeds in one tensor program.

How many until throughput stops growing?"""

import copy
import statistics
import time
from multiprocessing import get_context
from queue import Empty

import torch
import torch.nn.functional as F
from clock import timed
from paired import take_turns
from torch.func import functional_call, grad, stack_module_state, vmap
from training import CE, CLASSES, KD, LR, PAIRS, T, calibrated, random_data, same_tensors

from kdtutor import models
from kdtutor.softening import distillation_kl

from .cells import Cell, Options, graphed, tried
from .speed import Epoch, bare_step

COLUMNS = ("how", "runs")
NOTE = (
    "Batches of 64, float32 with torch's default for TF32. processes: epochs of fit, ResNet-56 "
    "teaches ResNet-20, one CPU thread each. seeds in one program: ResNet-8 students of one "
    "ResNet-20 on the same batches (torch.func.vmap), with their bare loop one after another as "
    "the measure. images_per_s: of all runs together; over_one: over that of one run alone."
)


def cells(options: Options):
    for runs in options.pick((1, 2, 4, 8, 14), (2,)):
        key = {"how": "processes", "runs": runs}
        yield Cell(key, 45, lambda n=runs: processes(n, options))
    for runs in options.pick((1, 4, 16, 64), (2,)):
        key = {"how": "seeds in one program", "runs": runs}
        yield Cell(key, 25, lambda n=runs: seeds(n, options))


def processes(runs: int, options: Options) -> list[dict]:
    """Every process warms up alone, then all begin an epoch together."""
    context = get_context("spawn")
    together, found = context.Barrier(runs), context.Queue()
    started = [
        context.Process(target=one_process, args=(options.device, options.quick, together, found))
        for _ in range(runs)
    ]
    for process in started:
        process.start()
    try:
        spans = [found.get(timeout=150) for _ in started]
    except Empty:
        raise RuntimeError(
            f"of {runs} processes some did not end: is there memory for all?"
        ) from None
    finally:
        for process in started:
            process.join(timeout=10)
            process.kill()
    images = sum(n for *_, n in spans)
    seconds = max(end for _, end, _ in spans) - min(begin for begin, *_ in spans)
    alone = statistics.median(n / (end - begin) for begin, end, n in spans)
    return [{"contender": "fit", "images_per_s": round(images / seconds), "each": round(alone)}]


def one_process(device: str, quick: bool, together, found) -> None:
    torch.set_num_threads(1)
    pair = list(PAIRS)[2 if quick else 1]
    batch, steps = (4, 1) if quick else (64, 100)
    short, long = (random_data(n * batch) for n in (1 if quick else 10, steps))
    Epoch(pair, short, batch, "float32", device)()
    epoch = Epoch(pair, long, batch, "float32", device)
    epoch()
    together.wait(timeout=120)
    began = time.perf_counter()  # of the machine, not of the process
    epoch()
    found.put((began, time.perf_counter(), steps * batch))


def seeds(runs: int, options: Options) -> list[dict]:
    """A step of so many seeds in one program over as many bare steps, one after another."""
    batch, steps, device = options.pick(64, 4), options.pick(20, 1), options.device
    fixed = same_tensors(random_data(steps * batch), batch, device)
    batches = [(b.x, b.y) for b in fixed.prepared]
    teacher = calibrated(models.resnet20(CLASSES).to(device), fixed)
    teacher = teacher.to(memory_format=torch.channels_last).requires_grad_(False)
    one = models.resnet8(CLASSES).to(device, memory_format=torch.channels_last).train()

    def passes(step):
        return timed(lambda: [step(x, y) for x, y in batches], device)

    contenders = {
        "one after another": passes(bare_step(teacher, one, "float32")),
        "vmap": passes(stacked_step(teacher, runs, device)),
    }
    if torch.device(device).type == "cuda":
        recorded = tried(lambda: graphed(stacked_step(teacher, runs, device), *batches[0]))
        if callable(recorded):
            contenders["vmap, CUDA graph"] = passes(recorded)
    times = take_turns(contenders, options.pick(4, 1))
    one_s = statistics.median(times["one after another"])
    return [
        {
            "contender": who,
            "images_per_s": round(runs * steps * batch / statistics.median(seconds)),
            "over_one": round(runs * one_s / statistics.median(seconds), 3),
        }
        for who, seconds in times.items()
        if who != "one after another"
    ]


def stacked_step(teacher, runs: int, device: str):
    """(x, y) -> None: one step of all students, SGD with Nesterov momentum as in ``fit``."""
    nets = []
    for seed in range(runs):
        torch.manual_seed(seed)
        nets.append(models.resnet8(CLASSES).to(device).train())
    weights, buffers = stack_module_state(nets)
    weights = {k: v.detach() for k, v in weights.items()}
    velocity = {k: torch.zeros_like(v) for k, v in weights.items()}
    shell = copy.deepcopy(nets[0]).to("meta")

    def loss(own, statistics_of, x, y, given):
        logits = functional_call(shell, (own, statistics_of), (x,))
        return CE * F.cross_entropy(logits, y) + KD * distillation_kl(logits, given, T)

    gradients = vmap(grad(loss), in_dims=(0, 0, None, None, None), randomness="different")

    @torch.no_grad()
    def step(x, y) -> None:
        found = gradients(weights, buffers, x, y, teacher(x))
        for name, w in weights.items():
            g = found[name].add(w, alpha=5e-4)
            velocity[name].mul_(0.9).add_(g)
            w.sub_(g.add(velocity[name], alpha=0.9), alpha=LR)

    step.weights, step.buffers = weights, buffers
    return step
