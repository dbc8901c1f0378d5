"""What decides a run's result, as plain data: two runs with equal specs are the same run."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..datasets import Data, Split
from ..datasets.data import digest, leaves
from ..distiller import Distiller, Player
from ..runs import describe, named, parts, short_hash
from ..runs.architecture import BASE, architecture, weights
from ..runs.code import is_own
from ..teacher import Teacher

# A teacher is its networks and how they agree; its cache holds what they would say anyway.
parts.register(Teacher)(lambda t: ("teacher", [t.nets, t.mean]))


def run_spec(
    distiller: Distiller, data: Data, train: Split, plan, *, strict: bool = True, **settings
) -> dict[str, Any]:
    """Everything that decides a run's result, as plain data.

    Names, numbers and switches stand as they are, for messages; next to them stand digests of what
    they stand for: the code of the user's own classes and functions, objects' states,
    architectures, initial weights, the data's content.

    Args:
        distiller: after ``prepare``, before any step.
        data: all splits.
        train: the examples that are trained on.
        plan: [(stage, first epoch, number of epochs)].
        strict: raise for what cannot be told apart. A run that is not kept passes False: its spec
            says "unknown: why" there.
        settings: of ``fit``; functions and objects (optimizer, schedule, metric) as they are.

    Returns:
        A dict that JSON can hold. "metric" is the metric's name, "metric_code" what it is.

    Raises:
        ValueError: for what has no state to be told by, such as a lock, with what to do.
    """

    def tell(way, value):
        try:
            return way(value)
        except ValueError as error:
            if strict:
                raise ValueError(f"{error} {getattr(value, 'hint', '')}".rstrip()) from error
            return f"unknown: {error}"

    content = lambda value: tell(lambda v: short_hash(describe(v)), value)
    plain, teachers = distiller.settings(), distiller.teachers()
    other = {
        k: v
        for k, v in vars(distiller).items()
        # What a distiller keeps under an underscore is its notes, not what it was asked to do.
        if not k.startswith("_") and k not in {*BASE, *plain, "progress"}
        if not isinstance(v, Teacher)
    }
    metric, own = settings.pop("metric", None), getattr(data, "validation", None)
    known = data.augment is None or not is_own(type(data.augment).__module__)
    shown = known and (data.augment is None or data.views is not None)
    return {
        "distiller": type(distiller).__name__,
        **plain,
        "code": tell(named, type(distiller)),
        "attributes": content(other),
        "student": type(distiller.deploy()).__name__,
        "network": content(architecture(distiller, root=False)),
        "initial_weights": content(weights(distiller)),
        "teachers": [t.fingerprint() for t in teachers],
        "teacher_networks": [content([architecture(n) for n in t.nets]) for t in teachers],
        "data": data.name,
        "images": train.source,
        "labels": digest(_tensors(train.y)),
        "train_data": content(data.train),
        "test_data": content(data.test),
        # Without one a run is what it was before there was a place for it.
        **({} if own is None else {"validation_data": content(own)}),
        "normalisation": [list(data.mean), list(data.std)],
        "task": content(data.task),
        "augment": repr(data.augment) if shown else tell(named, data.augment),
        "examples": len(train),
        "classes": len(data.classes),
        "class_names": content(data.classes),
        "stages": [[s.name, n] for s, _, n in plan],
        "players": [
            [s.name, p.name, *(tell(_setting, v) for v in _own(p))]
            for s, _, _ in plan
            for p in s.players
            if any(v is not None for v in _own(p))
        ],
        **{k: tell(_setting, v) for k, v in settings.items()},
        **({} if metric is None else _metric(metric, tell)),
    }


def stated(**settings: tuple[Any, Any]) -> dict[str, Any]:
    """The settings that are not their defaults: the others leave a run what it was before they
    existed.

    Args:
        settings: (value, default) by name.

    Returns:
        {name: value}.

    Example:
        >>> stated(accumulate=(1, 1), clip_norm=(5.0, None))
        {'clip_norm': 5.0}
    """
    return {k: value for k, (value, default) in settings.items() if value != default}


def _own(player: Player) -> list:
    """What a player has of its own instead of the run's."""
    steps = player.steps if player.steps != 1 else None
    return [player.optimizer, player.schedule, steps]


def _setting(value):
    """Plain data as it is; a function or an object by its name, the user's with a digest."""
    return value if _is_plain(value) else named(value)


def _is_plain(value) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str, type(None)))


def _metric(metric, tell) -> dict:
    name = metric if isinstance(metric, str) else getattr(metric, "name", None)
    name = name or getattr(metric, "__name__", type(metric).__name__)
    return {"metric": name, "metric_code": tell(_setting, metric)}


def _tensors(y) -> Sequence[Tensor]:
    return [] if y is None else leaves(y)
