"""fit(): the one training loop, plain PyTorch, short enough to read in a lesson; evaluate();
History.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..datasets import Data, Split
from ..display.progress import bar
from ..distiller.plan import Distiller, OptimizerFactory, Stage
from ..errors import unknown
from ..runs import RunDirectory, environment, save_weights
from ..taps import call, eval_mode
from .evaluation import accuracy, evaluate
from .history import History
from .memory import keep_freed_memory
from .schedules import constant, cosine, linear, sgd, steps
from .spec import run_spec
from .watch import NonFiniteError, diagnosis, warn_if_worse
from .weight_path import WeightPath

__all__ = [
    "History",
    "NonFiniteError",
    "accuracy",
    "constant",
    "cosine",
    "evaluate",
    "fit",
    "linear",
    "pick_device",
    "sgd",
    "steps",
]


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else CUDA where there is one, else the CPU."""
    return torch.device(
        device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    )


def fit(
    distiller: Distiller,
    data: Data,
    epochs: int,
    *,
    batch_size: int = 64,
    lr: float = 0.05,
    weight_decay: float = 5e-4,
    optimizer: OptimizerFactory | None = None,
    schedule: Callable[[float], float] = cosine,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    validation: float = 0.1,
    metric=accuracy,
    test: bool = True,
    run_dir=None,
    snapshots: Sequence[int] = (),
    weight_path: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> History:
    """Trains a distiller's plan, stage by stage and player by player. Returns a ``History``; the
    student is trained in place.

    epochs: all stages together.   lr, weight_decay: of the default optimiser, SGD with Nesterov
    momentum 0.9; ``optimizer`` replaces it (parameters -> torch optimiser).   schedule: progress of
    the stage in [0, 1) -> factor of the learning rate. seed: decides data order, views and dropout;
    same seed, same machine, same result (on CPU bit for bit). precision: "float32", or "bf16" for
    mixed precision.   validation: fraction of the training set held out, the same examples for
    every seed; 0 trains on everything.   test: report the test metric of the last and of the
    best-on-validation weights. run_dir: writes the run there, and continues it if it was
    interrupted or killed; a finished run is read, not repeated. snapshots: epochs after which the
    deployed weights are kept in run_dir (0: before training).   weight_path: a layer of the
    deployed network whose weights' way is logged, "" for all of them (``WeightPath``).   progress:
    show a bar. stop: asked after every epoch; when it says True, the run ends there with status
    "stopped", to be continued in run_dir.

    Ctrl-C ends after the current step and returns the finished epochs with status "interrupted".
    Raises ``NonFiniteError`` for a NaN or Inf loss, ``ValueError`` for settings or data that cannot
    work, ``OSError`` for a run_dir that cannot be written."""
    if precision not in ("float32", "bf16"):
        raise unknown("precision", precision, ["float32", "bf16"])
    if batch_size < 1 or epochs < 1:
        raise ValueError(f"epochs={epochs}, batch_size={batch_size}: both must be at least 1.")
    if snapshots and run_dir is None:
        raise ValueError("snapshots are files: pass run_dir, the directory where they go.")
    run = RunDirectory(run_dir) if run_dir is not None else None
    device, start = pick_device(device), time.perf_counter()
    if device.type == "cpu":
        keep_freed_memory()
    train, held_out = data.holdout(validation)
    if not len(train):
        raise ValueError(
            f"{data.name} has no training examples left after holding out {validation:.0%}."
        )
    distiller.prepare(train)
    # channels_last is how the convolutions of CPUs and tensor cores like their images; values do
    # not change.
    distiller.to(device, memory_format=torch.channels_last)
    for teacher in distiller.teachers():
        teacher.to(device, memory_format=torch.channels_last)
    _check_first_batch(distiller, data, train, device)

    walked = None if weight_path is None else WeightPath(distiller.deploy(), weight_path)
    plan = _plan(distiller.stages(), epochs)
    make = optimizer or sgd(lr, weight_decay=weight_decay)
    history = History(
        spec=run_spec(
            distiller,
            data,
            train,
            plan,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=make,
            schedule=schedule,
            seed=seed,
            precision=precision,
            validation=validation,
            metric=metric,
            strict=run is not None,
            versions=environment(device),
            **({} if weight_path is None else {"weight_path": weight_path}),
        )
    )
    best = {"value": -math.inf, "state": None}

    def state(epoch, optimizers=()):
        return {
            "epoch": epoch,
            "distiller": dict(distiller.state_dict()),
            "optimizers": [o.state_dict() for o in optimizers],
            "best": best,
            "seconds": time.perf_counter() - start,
        }

    done, saved = 0, run.begin(history.spec, lambda: state(0)) if run else None
    if saved:
        done, best = saved["epoch"], saved["best"]
        distiller.load_state_dict(saved["distiller"])
        history.rows = run.rows(done)
        start -= saved["seconds"]
    if run and 0 in snapshots and not done:
        save_weights(distiller.deploy(), run.path / "epoch_0000.safetensors", epoch=0)

    batches_per_epoch = max(1, len(train) // batch_size)
    show = bar(
        progress,
        total=epochs * batches_per_epoch,
        initial=done * batches_per_epoch,
        unit="step",
        leave=True,
    )
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []), show:
        try:
            for stage, first, count in plan:
                if done >= first + count:
                    continue
                optimizers = [(p.optimizer or make)(p.parameters) for p in stage.players]
                if saved and done > first:
                    _restore(optimizers, saved["optimizers"])
                for epoch in range(max(first, done), first + count):
                    row = _epoch(
                        distiller,
                        stage,
                        optimizers,
                        data,
                        train,
                        batch_size,
                        schedule,
                        device,
                        precision,
                        show,
                        seed=seed,
                        epoch=epoch,
                        passed=epoch - first,
                        count=count,
                        epochs=epochs,
                        note=_latest(history),
                        walked=walked,
                    )
                    if held_out is not None:
                        row["val_" + metric.__name__] = value = evaluate(
                            distiller, data, held_out, metric=metric
                        )
                        if value > best["value"]:
                            best = {
                                "value": value,
                                "epoch": epoch + 1,
                                "state": _copy(distiller.deploy()),
                            }
                    history.rows.append(row)
                    if run:
                        run.append(row)
                        run.checkpoint(state(epoch + 1, optimizers))
                        if epoch + 1 in snapshots:
                            save_weights(
                                distiller.deploy(),
                                run.path / f"epoch_{epoch + 1:04d}.safetensors",
                                epoch=epoch + 1,
                            )
                    if stop is not None and epoch + 1 < epochs and stop():
                        history.status = "stopped"
                        return history
                warn_if_worse(
                    stage, [r for r in history.rows if first < r["epoch"] <= first + count]
                )
        except KeyboardInterrupt:
            history.status = "interrupted"
            print(
                f"Interrupted after {len(history.rows)} of {epochs} epochs."
                + (f" Call fit with run_dir={str(run.path)!r} again to continue." if run else "")
            )
            return history
    history.result = (run.result if run else None) or _result(
        distiller, data, history, best, metric, test, time.perf_counter() - start
    )
    if run and run.result is None:
        save_weights(distiller.deploy(), run.path / "student.safetensors", epoch=epochs)
        run.finish(history.result)
    return history


def _epoch(
    distiller,
    stage,
    optimizers,
    data,
    train,
    batch_size,
    schedule,
    device,
    precision,
    show,
    *,
    seed,
    epoch,
    passed,
    count,
    epochs,
    note,
    walked,
) -> dict:
    """One pass over the training data; returns the epoch's row."""
    # Seeds belong to epochs, so an epoch is the same whether the run was interrupted before it or
    # not.
    torch.manual_seed(_mix(seed, epoch, "dropout"))
    order = torch.Generator().manual_seed(_mix(seed, epoch, "order"))
    total_steps = max(1, len(train) // batch_size)
    sums, seen, began, shared = {}, 0, time.perf_counter(), len(stage.players) > 1
    amp = (
        (lambda: torch.autocast(device.type, torch.bfloat16))
        if precision == "bf16"
        else nullcontext
    )
    distiller.train()
    if walked:
        walked.begin()
    for step, batch in enumerate(
        data.batches(train, batch_size, shuffle=order, augment=True, device=device, drop_last=True)
    ):
        distiller.progress = (passed + step / total_steps) / count
        for player, optimizer in zip(stage.players, optimizers):
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * schedule(
                    distiller.progress
                )
            with amp():
                terms = player.terms(batch)
            loss = sum(terms.values())
            # Reading a loss makes a GPU wait, so there it is looked at now and then; on a CPU it
            # costs nothing.
            if (device.type == "cpu" or step % 50 == 0) and not math.isfinite(loss.item()):
                raise NonFiniteError(diagnosis(distiller, batch, terms, epoch + 1, step + 1))
            optimizer.zero_grad(set_to_none=True)
            # A player's loss may run through another's network: only its own parameters get
            # gradients.
            loss.backward(inputs=player.parameters if shared else None)
            optimizer.step()
            prefix = f"{player.name}." if shared else ""
            for name, value in [("loss", loss), *terms.items()]:
                key = name if name == "loss" else prefix + name
                sums[key] = sums.get(key, 0.0) + value.detach()
        if walked:
            walked.step()
        seen += 1
        show.update(1)
        if step % max(1, total_steps // 5) == 0:
            show.set_description_str(f"epoch {epoch + 1}/{epochs} {stage.name}", refresh=False)
            show.set_postfix_str(
                " ".join(f"{k} {float(v) / seen:.3f}" for k, v in sums.items()) + note,
                refresh=False,
            )
    row = {
        "epoch": epoch + 1,
        "stage": stage.name,
        "lr": optimizers[0].param_groups[0]["lr"],
        **{k: float(v) / seen for k, v in sums.items()},
        **(walked.row() if walked else {}),
        "seconds": time.perf_counter() - began,
    }
    if not math.isfinite(row["loss"]):
        raise NonFiniteError(diagnosis(distiller, batch, terms, epoch + 1, seen))
    return row


def _plan(stages: Sequence[Stage], epochs: int) -> list[tuple[Stage, int, int]]:
    """[(stage, first epoch, number of epochs)]: epochs shared out by the stages' shares, at least
    one each.
    """
    if epochs < len(stages):
        raise ValueError(
            f"{epochs} epochs for {len(stages)} stages ({', '.join(s.name for s in stages)}): "
            "each needs at least one."
        )
    whole, ends, passed = sum(s.share for s in stages), [], 0.0
    for i, stage in enumerate(stages):
        passed += stage.share
        low, high = (ends[-1] if ends else 0) + 1, epochs - (len(stages) - 1 - i)
        ends.append(min(max(round(epochs * passed / whole), low), high))
    return [(s, begin, end - begin) for s, begin, end in zip(stages, [0, *ends], ends)]


def _check_first_batch(distiller: Distiller, data: Data, train: Split, device) -> None:
    """Finds what cannot work before any training: classes against logits, and (in a first stage's
    terms) shapes.
    """
    batch = next(iter(data.batches(train, min(2, len(train)), device=device)))
    net = distiller.deploy()
    if isinstance(train.y, Tensor) and train.y.ndim == 1 and not train.y.is_floating_point():
        with eval_mode(net):
            logits = call(net, batch.x)
        if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] < len(data.classes):
            raise ValueError(
                f"the student answers for {logits.shape[1]} classes but {data.name} has "
                f"{len(data.classes)}: build it "
                f"with classes={len(data.classes)}."
            )


def _restore(optimizers, states) -> None:
    for optimizer, saved in zip(optimizers, states):
        optimizer.load_state_dict(saved)
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Same memory format as the parameter: fused optimisers walk both side by side.
                    values[key] = torch.empty_like(parameter).copy_(value)


def _latest(history: History) -> str:
    """The last epoch's validation metric for the progress bar."""
    value = history.rows[-1].get(history.metric) if history.rows else None
    return "" if value is None else f" {history.metric} {value:.4f}"


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def _result(distiller, data, history, best, metric, test, seconds) -> dict:
    name, result = metric.__name__, {"seconds": seconds}
    if history.best() is not None:
        result |= {
            f"val_{name}_last": history.rows[-1][history.metric],
            f"val_{name}_best": best["value"],
            "best_epoch": best["epoch"],
        }
    if test and len(data.test):
        result[f"test_{name}_last"] = evaluate(distiller, data, metric=metric)
        if best["state"] is not None:
            net = deepcopy(distiller.deploy())
            net.load_state_dict(best["state"])
            result[f"test_{name}_best"] = evaluate(net, data, metric=metric)
    return result


def _mix(*parts) -> int:
    """A seed from several parts, so that neighbouring seeds and epochs share nothing."""
    return int.from_bytes(
        hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    )
