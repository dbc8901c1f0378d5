"""Images per second of a distillation step and epoch: ``fit`` beside a bare loop, the bare loop as
a CUDA graph, and RepDistiller's own loop where a checkout is given.
"""

import contextlib
import io
import statistics

import torch
import torch.nn.functional as F
from clock import peak, timed
from paired import take_turns
from peer import Peer
from training import CE, KD, LR, PAIRS, T, calibrated, random_data, same_tensors

from kdtutor import Teacher, fit
from kdtutor.methods import Hinton
from kdtutor.training import sgd

from .cells import PRECISIONS, Cell, Options, busy, graphed, precision, tried, waits

COLUMNS = ("pair", "batch", "precision")
NOTE = (
    "100 classes, random 32 x 32 images, T = 4. over_bare: seconds over those of the bare loop in "
    "channels last, paired by round, median with lowest and highest. epoch: with data, crop and "
    "flip. float32: no TF32 anywhere; tf32: in convolutions and products. waits_per_step: how "
    "often a step makes the CPU wait for the GPU. busy: share of the epoch in which it computes."
)
BARE = "bare loop"


def cells(options: Options):
    for pair in options.pick(list(PAIRS)[:2], list(PAIRS)[2:]):
        for batch in options.pick((64, 256, 1024), (8,)):
            for name in options.pick(PRECISIONS, ("float32", "bf16")):
                key = {"pair": pair, "batch": batch, "precision": name}
                yield Cell(key, 20, lambda k=key: run(*k.values(), options))


def run(pair: str, batch: int, name: str, options: Options) -> list[dict]:
    """One row for each contender."""
    steps = options.pick(max(8, 2560 // batch), 2)
    data = random_data(steps * batch)
    fixed = same_tensors(data, batch, options.device)
    with precision(name) as told, contextlib.ExitStack() as open_until_the_end:
        contenders = bare_loops(pair, fixed, told, options)
        step, epoch = (Epoch(pair, d, batch, told, options.device) for d in (fixed, data))
        contenders |= {"fit, step": step, "fit, epoch": epoch}
        if options.peer and name != "bf16":
            contenders |= peer(pair, steps, batch, name, options, open_until_the_end)
        times = take_turns(contenders, options.pick(4, 1))
        rows = [row(who, seconds, times[BARE], steps * batch) for who, seconds in times.items()]
        for found in rows:
            work = contenders[found["contender"]]
            if not found["contender"].startswith("RepDistiller"):
                found["peak_mib"] = tried(lambda work=work: peak(work, options.device))
            if isinstance(work, Epoch):
                found["busy"] = tried(lambda work=work: busy(work, options.device))
        rows[list(times).index("fit, epoch")]["waits_per_step"] = tried(
            lambda: waits_per_step(pair, batch, steps, told, options)
        )
    return rows


def waits_per_step(pair: str, batch: int, steps: int, told: str, options: Options):
    """What a longer epoch waits more than a shorter one, per step: its beginning and end may."""
    if torch.device(options.device).type != "cuda":
        return ""
    short, long = (
        Epoch(pair, random_data(n * steps * batch), batch, told, options.device) for n in (1, 3)
    )
    short()
    return (waits(long, options.device) - waits(short, options.device)) / (2 * steps)


def row(who: str, seconds: list[float], bare: list[float], images: int) -> dict:
    ratios = [a / b for a, b in zip(seconds, bare)]
    return {
        "contender": who,
        "images_per_s": round(images / statistics.median(seconds)),
        "over_bare": round(statistics.median(ratios), 3),
        "low": round(min(ratios), 3),
        "high": round(max(ratios), 3),
    }


class Epoch:
    """() -> seconds of one epoch of ``fit``, as it times them itself."""

    def __init__(self, pair: str, data, batch: int, told: str, device: str, compile=None):
        teacher, student, _ = PAIRS[pair]
        teacher, student = calibrated(teacher().to(device), data), student()
        compile = compile or (lambda net: net)
        self.distiller = Hinton(compile(student), Teacher(compile(teacher)), T, CE, KD)
        self.data, self.settings = data, dict(batch_size=batch, precision=told, device=device)

    def __call__(self) -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            history = fit(
                self.distiller, self.data, 1, lr=LR, validation=0, test=False, **self.settings
            )
        return history.rows[0]["seconds"]


def bare_loops(pair: str, fixed, told: str, options: Options) -> dict:
    """{contender: () -> seconds of a pass over the prepared batches}, written by hand."""
    layouts = {BARE: torch.channels_last, "bare loop, contiguous": torch.contiguous_format}
    found = {}
    for name, layout in layouts.items():
        batches = [(b.x.contiguous(memory_format=layout), b.y) for b in fixed.prepared]
        step = bare_step(*networks(pair, fixed, layout, options.device), told)
        found[name] = passes(step, batches, options.device)
    if torch.device(options.device).type == "cuda":
        batches = [(b.x, b.y) for b in fixed.prepared]
        step = bare_step(*networks(pair, fixed, torch.channels_last, options.device), told)
        recorded = tried(lambda: graphed(step, *batches[0]))
        if callable(recorded):
            found["bare loop, CUDA graph"] = passes(recorded, batches, options.device)
    return found


def passes(step, batches, device):
    """() -> seconds of a step on each batch."""

    def work() -> None:
        for x, y in batches:
            step(x, y)

    return timed(work, device)


def networks(pair: str, data, layout, device: str):
    teacher, student, _ = PAIRS[pair]
    teacher = calibrated(teacher().to(device), data).to(memory_format=layout)
    return teacher.requires_grad_(False), student().to(device, memory_format=layout).train()


def bare_step(teacher, student, told: str, compiled=None):
    """(x, y) -> None: one step of distillation, and nothing but its arithmetic."""
    parameters = list(student.parameters())
    optimizer, compiled = sgd(LR)(parameters), compiled or (lambda net: net)
    teacher, student = compiled(teacher), compiled(student)
    device, half = parameters[0].device.type, told == "bf16"

    def step(x, y) -> None:
        # A graph may not keep weights that a cache cast before it was recorded.
        with torch.autocast(device, torch.bfloat16, enabled=half, cache_enabled=False):
            with torch.no_grad():
                given = teacher(x)
            logits = student(x)
        logits, given = logits.float(), given.float()
        soft = F.kl_div(
            F.log_softmax(logits / T, 1), F.softmax(given / T, 1), reduction="batchmean"
        )
        loss = CE * F.cross_entropy(logits, y) + KD * T * T * soft
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def peer(pair: str, steps: int, batch: int, name: str, options: Options, until_the_end) -> dict:
    """RepDistiller's loop in its own process, with as many workers as it has by default."""
    names = PAIRS[pair][2]
    running = until_the_end.enter_context(
        Peer(options.peer, steps * batch, 1, batch, options.device, tf32=name == "tf32")
    )
    ours = [sum(p.numel() for p in make().parameters()) for make in PAIRS[pair][:2]]
    answer = running(*names, 8)
    assert ours == [answer[who] for who in ("teacher", "student")], "the networks differ"
    return {"RepDistiller, epoch, 8 workers": lambda: running(*names, 8)["seconds"]}
