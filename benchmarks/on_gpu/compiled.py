"""What ``torch.compile`` does for a step: of the bare loop, and of ``fit`` with such networks."""

import time

import torch
from paired import take_turns
from training import PAIRS, random_data, same_tensors

from .cells import Cell, Options, precision
from .speed import BARE, Epoch, bare_step, networks, passes, row

COLUMNS = ("pair", "batch", "precision", "mode")
NOTE = (
    "As gpu_speed.csv, with the networks compiled. compile_s: seconds of the first pass, in which "
    "torch compiles. mode reduce-overhead: with CUDA graphs of torch's own."
)


def cells(options: Options):
    for pair in options.pick(list(PAIRS)[:2], list(PAIRS)[2:]):
        for batch in options.pick((64, 1024), (2,)):
            for name in options.pick(("tf32", "bf16"), ("float32",)):
                for mode in options.pick(("default", "reduce-overhead"), ("default",)):
                    key = {"pair": pair, "batch": batch, "precision": name, "mode": mode}
                    yield Cell(key, 90, lambda k=key: run(*k.values(), options))


def run(pair: str, batch: int, name: str, mode: str, options: Options) -> list[dict]:
    steps, device = options.pick(max(8, 2560 // batch), 1), options.device
    fixed = same_tensors(random_data(steps * batch), batch, device)
    batches = [(b.x, b.y) for b in fixed.prepared]
    # A look whether it runs needs no compiler.
    how = {"backend": "eager"} if options.quick else {"mode": mode}
    compiled = lambda net: torch.compile(net, **how)
    with precision(name) as told:
        nets = lambda: networks(pair, fixed, torch.channels_last, device)
        contenders = {
            BARE: passes(bare_step(*nets(), told), batches, device),
            "bare loop, compiled": passes(bare_step(*nets(), told, compiled), batches, device),
            "fit, compiled, step": Epoch(pair, fixed, batch, told, device, compiled),
        }
        first = {}
        for who, work in contenders.items():
            began = time.perf_counter()
            work()
            first[who] = round(time.perf_counter() - began, 1)
        times = take_turns(contenders, options.pick(4, 1))
    return [
        row(who, seconds, times[BARE], steps * batch) | {"compile_s": first[who]}
        for who, seconds in times.items()
    ]
