"""What decides a run's result."""

from ..datasets.batch import digest, leaves
from ..runs import environment


def run_spec(
    distiller,
    data,
    train,
    plan,
    *,
    optimizer,
    schedule,
    metric,
    metric_name,
    device,
    weight_path,
    **settings,
):
    """Everything that decides a run's result, as plain data."""
    return {
        "distiller": type(distiller).__name__,
        **distiller.settings(),
        "student": type(distiller.deploy()).__name__,
        "teachers": [t.fingerprint() for t in distiller.teachers()],
        "data": data.name,
        "images": train.source,
        "labels": digest([t for t in leaves(train.y) if t is not None]),
        "augment": repr(data.augment) if data.views else _name(data.augment),
        "examples": len(train),
        "classes": len(data.classes),
        "stages": [[s.name, n] for s, _, n in plan],
        "optimizer": _name(optimizer),
        "schedule": _name(schedule),
        "metric": metric_name,
        "better": "higher" if metric is None or metric.higher_is_better else "lower",
        "versions": environment(device),
        **({} if weight_path is None else {"weight_path": weight_path}),
        **settings,
    }


def _name(function) -> str:
    return getattr(function, "__name__", type(function).__name__)
