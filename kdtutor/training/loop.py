"""``fit()``, the one training loop: plain PyTorch, short enough to read in a lesson."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..datasets import Data, Split
from ..display.progress import bar
from ..distiller import Distiller, OptimizerFactory, Schedule
from ..distiller.processes import count, rank
from ..runs import environment
from ..tasks import Metric
from .averaging import Averaged
from .device import pick_device
from .epoch import Trainer
from .evaluation import check_data
from .extend import Extension
from .history import History
from .plan import learners, share_epochs
from .prepare import prepare
from .processes import check_shares, join, meet, same_start, told, warn_of_shares
from .rates import Scheduler, check_schedule
from .record import Keeping, Record
from .schedules import Unsaid, UnsaidCount, cosine, optimizer_factory
from .settings import VALIDATION, check_distiller, check_plan, check_settings, own_batch_size
from .spec import run_spec, stated
from .watch import out_of_memory, warn_if_worse
from .weight_path import WeightPath


def fit(
    distiller: Distiller,
    data: Data,
    epochs: int,
    *,
    batch_size: int = UnsaidCount(64),
    lr: float = Unsaid(0.05),
    weight_decay: float = Unsaid(5e-4),
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule | Scheduler = cosine,
    clip_norm: float | None = None,
    accumulate: int = 1,
    drop_last: bool = True,
    ema: float | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    validation: float | Split | Data | None = VALIDATION,
    metric: Metric | Callable | None = None,
    eval_batch_size: int = 500,
    patience: int | None = None,
    test: bool = True,
    run_dir: str | Path | None = None,
    extend: bool = False,
    snapshots: Sequence[int] = (),
    weight_path: str | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict], Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> History:
    """Trains a distiller's plan, stage by stage and player by player; the student in place.

    Started by ``torchrun --nproc-per-node N script.py``, N processes train one run together: each
    takes its share of every batch (``training.processes``).

    Args:
        distiller: the method, around its student.
        data: what it learns from; the data's task says what a label is.
        epochs: of all stages together.
        batch_size: examples per batch, those of all processes together. Loaders
            (``datasets.from_loaders``) have their own.
        lr, weight_decay: of the default optimiser, SGD with Nesterov momentum 0.9, or of the class
            ``optimizer``.
        optimizer: replaces it: a class, as torch.optim.AdamW (with lr and weight_decay where they
            are stated, else its own), or a function, parameters -> torch optimiser. For groups of
            its own it finds their names in ``parameters.named()``, (name, parameter) pairs.
        schedule: progress of the stage in [0, 1) -> factor of the learning rate; or a scheduler of
            torch, ``per_epoch(lambda optimizer: StepLR(optimizer, 30))`` or ``per_step(...)``.
        clip_norm: the largest norm of a player's gradient; None: any.
        accumulate: batches whose gradients make one step: their mean. The examples of a step are
            batch_size * accumulate.
        drop_last: leave out a last, smaller batch of an epoch.
        ema: decay of the averaged weights, such as 0.999, which are then measured and kept instead
            of the last step's; those stand beside them as "last_step". None: no average.
        seed: decides data order, views and dropout; same seed, same machine, same result (on CPU
            bit for bit).
        device: where to train; by default CUDA where there is one.
        precision: "float32", or "bf16" for mixed precision. What float32 means in a GPU's
            convolutions is torch's setting, by default TF32 (``torch.backends``).
        validation: measured after each epoch, not trained on: a fraction of the training set, the
            same examples for every seed, or a ``Split``, or the training split of a ``Data``; 0 or
            None: nothing, all is trained on. By default the data's own validation split, else a
            tenth of the training set. Without a metric nothing is held out.
        metric: ``(net, batches) -> number``, or a mapping of numbers of which the first decides;
            ``Metric(function, higher_is_better=False)`` where less is better. By default the
            task's own.
        eval_batch_size: examples at once when it measures.
        patience: end after so many epochs of the last stage without a better validation metric.
        test: report the test metric of the last and of the best-on-validation weights.
        run_dir: writes the run there, and continues it if it was interrupted or killed; a finished
            run is read, not repeated. The deployed network's weights stand there under its own
            parameter names: student.safetensors of the end, student_best.safetensors of the best
            epoch on validation.
        extend: go on with the finished run in run_dir, up to more epochs; the rates are from there
            on those of a run of that length.
        snapshots: epochs after which the deployed weights are kept in run_dir (0: before training).
        weight_path: a layer of the deployed network whose weights' way is logged, "" for all of
            them (``WeightPath``).
        progress: show a bar.
        on_epoch: called after every epoch with its row, a dict as in ``History.rows``, for loggers.
        stop: asked after every epoch; when it says True, the run ends there with status "stopped",
            to be continued in run_dir.

    Returns:
        The ``History``. Ctrl-C ends after the current step and returns the finished epochs with
        status "interrupted".

    Raises:
        NonFiniteError: for a NaN or Inf loss.
        torch.OutOfMemoryError: where the GPU's memory does not suffice, with what to lower.
        ValueError: for settings, data, networks or a metric that cannot work, before training.
        TypeError: for a bare network instead of a method, and for what is no data of kdtutor.
        OSError: for a run_dir that cannot be written.

    Example:
        >>> from kdtutor.datasets import load
        >>> from kdtutor.methods import CrossEntropy
        >>> from kdtutor.models import mlp
        >>> net = mlp([8], inputs=64, classes=10)
        >>> fit(CrossEntropy(net), load("digits"), 1, progress=False).status
        'finished'
    """
    check_distiller(distiller)
    check_data(data)
    check_settings(
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        eval_batch_size=eval_batch_size,
        validation=validation,
        precision=precision,
        run_dir=run_dir,
        seed=seed,
        snapshots=snapshots,
        clip_norm=clip_norm,
        patience=patience,
        on_epoch=on_epoch,
        stop=stop,
    )
    check_schedule(schedule)
    epochs, seed = int(epochs), int(seed)  # numpy's, too
    batch_size = own_batch_size(data, batch_size)
    join()
    device, usual = pick_device(device), optimizer_factory(optimizer, lr, weight_decay)
    ready = prepare(distiller, data, device, validation, metric, test, eval_batch_size)
    check_plan(ready.stages, accumulate)
    check_shares(ready.train, batch_size, drop_last)
    same_start(distiller)
    warn_of_shares(distiller, batch_size)
    walked = None if weight_path is None else WeightPath(distiller.deploy(), weight_path)
    average = None if ema is None else Averaged.of(distiller, ema)
    longer = told(lambda: Extension.of(run_dir, epochs)) if extend else None
    plan = longer.plan(ready.stages, epochs) if longer else share_epochs(ready.stages, epochs)
    spec = run_spec(
        distiller,
        data,
        ready.train,
        plan,
        strict=run_dir is not None,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=usual,
        schedule=schedule,
        seed=seed,
        precision=precision,
        validation=validation or 0,
        metric=ready.metric and ready.metric.function,
        versions=environment(device),
        **stated(
            clip_norm=(clip_norm, None),
            accumulate=(accumulate, 1),
            drop_last=(drop_last, True),
            ema=(ema, None),
            patience=(patience, None),
            weight_path=(weight_path, None),
            extended=(longer.ended if longer else [], []),
            processes=(count(), 1),
        ),
    )
    spec |= ready.measured()
    keeping = Keeping(run_dir, snapshots, longer, eval_batch_size)
    record = Record(distiller, data, ready.metric, spec, keeping, average)
    trainer = Trainer(
        distiller,
        data,
        ready.train,
        batch_size,
        seed,
        device,
        precision,
        drop_last,
        accumulate,
        clip_norm,
        average,
        walked,
    )
    steps = trainer.steps
    show = bar(
        progress and not rank(),
        total=epochs * steps,
        initial=record.done * steps,
        unit="step",
        leave=True,
    )
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []), show:
        try:
            for part in () if record.finished else plan:
                end = part.first + part.count
                if record.done >= end:
                    continue
                players = learners(
                    distiller, part.stage, usual, schedule, part.count, part.count * trainer.updates
                )
                if record.saved and record.done > part.first:
                    for learner, saved in zip(players, record.saved["learners"]):
                        learner.load(saved)
                # A longer run waits anew.
                since = max([part.first, *(longer.ended if longer else [])])
                patient = patience if part is plan[-1] else None
                while record.done < end and not record.waited(patient, since):
                    report = record.reporter(show, part.stage, epochs, steps)
                    row = trainer.epoch(part, players, record.done, report)
                    record.epoch(row, players, ready.held_out)
                    if on_epoch is not None:
                        told(partial(_tell, on_epoch, dict(row)))
                    ended = record.done == epochs or record.waited(patient, since)
                    if stop is not None and not ended and told(stop):
                        return record.stopped()
                warn_if_worse(part.stage, record.history.rows[part.first : end])
        except KeyboardInterrupt:
            return record.interrupted(epochs)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, batch_size, precision, record) from error
    history = record.finish(test, epochs)
    meet()
    return history


def _tell(hear: Callable[[dict], Any], row: dict) -> None:
    """What a logger answers is nobody's business."""
    hear(row)
