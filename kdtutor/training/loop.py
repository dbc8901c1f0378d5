"""``fit()``, the one training loop: plain PyTorch, short enough to read in a lesson."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..datasets import Data, Split
from ..display.progress import bar
from ..distiller import Distiller, OptimizerFactory, Schedule
from ..runs import environment
from ..tasks import Metric
from .epoch import Trainer
from .evaluation import check_data
from .history import History
from .plan import optimizers_of, restore, share_epochs
from .prepare import check_distiller, check_settings, own_batch_size, pick_device, prepare
from .record import Record
from .schedules import Unsaid, UnsaidCount, cosine, optimizer_factory
from .spec import run_spec
from .watch import out_of_memory, warn_if_worse
from .weight_path import WeightPath

TENTH = Unsaid(0.1)


def fit(
    distiller: Distiller,
    data: Data,
    epochs: int,
    *,
    batch_size: int = UnsaidCount(64),
    lr: float = Unsaid(0.05),
    weight_decay: float = Unsaid(5e-4),
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule = cosine,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    validation: float | Split | Data | None = TENTH,
    metric: Metric | Callable | None = None,
    test: bool = True,
    run_dir: str | Path | None = None,
    snapshots: Sequence[int] = (),
    weight_path: str | None = None,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> History:
    """Trains a distiller's plan, stage by stage and player by player; the student in place.

    Args:
        distiller: the method, around its student.
        data: what it learns from; the data's task says what a label is.
        epochs: of all stages together.
        batch_size: examples per step; a last, smaller batch of an epoch is left out. Loaders
            (``datasets.from_loaders``) have their own.
        lr, weight_decay: of the default optimiser, SGD with Nesterov momentum 0.9, or of the class
            ``optimizer``.
        optimizer: replaces it: a class, as torch.optim.AdamW (with lr and weight_decay where they
            are stated, else its own), or a function, parameters -> torch optimiser.
        schedule: progress of the stage in [0, 1) -> factor of the learning rate.
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
        test: report the test metric of the last and of the best-on-validation weights.
        run_dir: writes the run there, and continues it if it was interrupted or killed; a finished
            run is read, not repeated.
        snapshots: epochs after which the deployed weights are kept in run_dir (0: before training).
        weight_path: a layer of the deployed network whose weights' way is logged, "" for all of
            them (``WeightPath``).
        progress: show a bar.
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
    check_settings(epochs, batch_size, precision, snapshots, run_dir, validation)
    batch_size = own_batch_size(data, batch_size)
    device, usual = pick_device(device), optimizer_factory(optimizer, lr, weight_decay)
    ready = prepare(distiller, data, device, validation, metric, test)
    walked = None if weight_path is None else WeightPath(distiller.deploy(), weight_path)
    plan = share_epochs(ready.stages, epochs)
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
        **({} if weight_path is None else {"weight_path": weight_path}),
    )
    spec |= ready.measured()
    record = Record(distiller, data, ready.metric, spec, run_dir, snapshots)
    trainer = Trainer(
        distiller, data, ready.train, batch_size, schedule, seed, device, precision, walked
    )
    steps = trainer.steps
    show = bar(progress, total=epochs * steps, initial=record.done * steps, unit="step", leave=True)
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []), show:
        try:
            for part in plan:
                end = part.first + part.count
                if record.done >= end:
                    continue
                optimizers = optimizers_of(part.stage, usual)
                if record.saved and record.done > part.first:
                    restore(optimizers, record.saved["optimizers"])
                while record.done < end:
                    report = record.reporter(show, part.stage, epochs, steps)
                    row = trainer.epoch(part, optimizers, record.done, report)
                    record.epoch(row, optimizers, ready.held_out)
                    if stop is not None and record.done < epochs and stop():
                        return record.stopped()
                warn_if_worse(part.stage, record.history.rows[part.first : end])
        except KeyboardInterrupt:
            return record.interrupted(epochs)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, batch_size, precision, record) from error
    return record.finish(test)
