"""A run directory answers for the very run that it holds, and refuses every other by the name of
what differs.
"""

import functools
from dataclasses import replace

import pytest
import torch
from small import blobs, net
from torch import nn
from torch.nn import functional as F

from kdtutor import fit
from kdtutor.datasets import CropFlip
from kdtutor.methods import CrossEntropy, Distiller, Hinton
from kdtutor.training import accuracy, constant, cosine, steps


def own(weight="1", helper="2 * x", scale=1, before=""):
    """A distiller class of the user's own, as a notebook defines it, with helper and constant."""
    names = {"Distiller": Distiller, "F": F, "__name__": "__main__"}
    exec(
        f"{before}SCALE = {scale}\ndef helper(x):\n    return {helper}\n"
        "class Own(Distiller):\n    def terms(self, batch):\n        "
        f"ce = F.cross_entropy(self.student(batch.x), batch.y)\n        "
        f"return {{'ce': SCALE * helper(ce) * {weight}}}\n",
        names,
    )
    return names["Own"]


class Scaled(nn.Module):
    """A student with a plain attribute that its answers depend on."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.inner = scale, net(1)

    def forward(self, x):
        return self.scale * self.inner(x)


class Tolerant:
    """A metric object."""

    __name__ = "accuracy"

    def __init__(self, margin):
        self.margin = margin

    def __call__(self, network, batches):
        return accuracy(network, batches) + self.margin


class Power:
    """A schedule object."""

    def __init__(self, power):
        self.power = power

    def __call__(self, progress):
        return (1 - progress) ** self.power


class Labelled(CrossEntropy):
    """A method with a function, an object and a table."""

    def __init__(self, student, **extra):
        super().__init__(student)
        self.extra = extra


DATA = blobs(n=60)
LABELS = DATA.train.y.clone()
LABELS[0] = (LABELS[0] + 1) % 3
TEST = replace(DATA, test=DATA.test.select(torch.arange(1, len(DATA.test))))
other_x = DATA.train.x.clone()
other_x[0, 0, 0, 0] += 1

momentum = lambda value: lambda ps: torch.optim.SGD(ps, 0.1, momentum=value)
partial = lambda value: functools.partial(torch.optim.SGD, lr=0.1, momentum=value)
power = lambda value: lambda progress: (1 - progress) ** value
margin = lambda value: lambda network, batches: accuracy(network, batches) + value


def run(folder, method=CrossEntropy, student=None, data=DATA, **settings):
    settings = dict(batch_size=15, progress=False) | settings
    return fit(method(student or net(1)), data, 1, run_dir=folder, **settings)


# what changes: (the key that the error names, how it is, how else it could be)
CHANGES = {
    "optimizer by lambda": (
        "optimizer",
        dict(optimizer=lambda ps: torch.optim.SGD(ps, 0.1)),
        dict(optimizer=lambda ps: torch.optim.SGD(ps, 0.2)),
    ),
    "optimizer by closure": (
        "optimizer",
        dict(optimizer=momentum(0.1)),
        dict(optimizer=momentum(0.2)),
    ),
    "optimizer by partial": (
        "optimizer",
        dict(optimizer=partial(0.1)),
        dict(optimizer=partial(0.2)),
    ),
    "lr": ("optimizer", dict(lr=0.1), dict(lr=0.2)),
    "dropout": ("network", dict(student=net(1, dropout=0.1)), dict(student=net(1, dropout=0.2))),
    "initial weights": ("initial_weights", dict(student=net(1)), dict(student=net(2))),
    "attribute of a network": ("network", dict(student=Scaled(1)), dict(student=Scaled(2))),
    "loss in the class": ("code", dict(method=own()), dict(method=own(weight="3"))),
    "helper function": ("code", dict(method=own()), dict(method=own(helper="3 * x"))),
    "module constant": ("code", dict(method=own()), dict(method=own(scale=2))),
    "what a method holds": (
        "attributes",
        dict(method=lambda s: Labelled(s, weigh=lambda x: x)),
        dict(method=lambda s: Labelled(s, weigh=lambda x: 2 * x)),
    ),
    "augmentation by lambda": (
        "augment",
        dict(data=DATA.augmented(lambda x: x.flip(-1))),
        dict(data=DATA.augmented(lambda x: x.flip(-2))),
    ),
    "augmentation": ("augment", dict(data=DATA), dict(data=DATA.augmented(CropFlip(1)))),
    "schedule": ("schedule", dict(schedule=cosine), dict(schedule=constant)),
    "schedule of kdtutor": ("schedule", dict(schedule=steps(0.2)), dict(schedule=steps(0.3))),
    "schedule by lambda": (
        "schedule",
        dict(schedule=lambda p: 1 - p),
        dict(schedule=lambda p: 1 - p / 2),
    ),
    "schedule by closure": ("schedule", dict(schedule=power(1)), dict(schedule=power(2))),
    "schedule object": ("schedule", dict(schedule=Power(1)), dict(schedule=Power(2))),
    "metric by lambda": ("metric_code", dict(metric=margin(0)), dict(metric=margin(1))),
    "metric object": ("metric_code", dict(metric=Tolerant(0)), dict(metric=Tolerant(1))),
    "labels": (
        "labels",
        dict(data=DATA),
        dict(data=replace(DATA, train=replace(DATA.train, y=LABELS))),
    ),
    "images": (
        "train_data",
        dict(data=DATA),
        dict(data=replace(DATA, train=replace(DATA.train, x=other_x))),
    ),
    "test split": ("test_data", dict(data=DATA), dict(data=TEST)),
    "normalisation": (
        "normalisation",
        dict(data=DATA),
        dict(data=replace(DATA, mean=(0.5,), std=(0.2,))),
    ),
    "class names": ("class_names", dict(data=DATA), dict(data=replace(DATA, classes=tuple("xyz")))),
    "seed": ("seed", dict(seed=0), dict(seed=1)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_run_is_refused_by_name(what, tmp_path):
    key, one, other = CHANGES[what]
    one, other = (v | ({} if "student" in v else {"student": None}) for v in (one, other))
    run(tmp_path / "run", **one)
    with pytest.raises(ValueError, match=rf"other settings \(.*\b{key}: .* there, .* now"):
        run(tmp_path / "run", **other)


def test_the_same_run_defined_again_is_read(tmp_path):
    asked = lambda: dict(
        optimizer=lambda ps: torch.optim.SGD(ps, 0.1),
        schedule=power(2),
        metric=margin(0.0),
        data=blobs(n=60).augmented(lambda x: x.flip(-1)),
        student=net(1, dropout=0.1),
    )
    first = run(tmp_path, method=own(), **asked())
    again = run(tmp_path, method=own(before="unused = 1\n\n"), **asked())
    assert again.rows == first.rows and again.result == first.result
    assert again.spec == first.spec


def test_a_stronger_teacher_and_a_players_own_optimiser_are_other_runs(tmp_path):
    class Players(CrossEntropy):
        def __init__(self, student, rate):
            super().__init__(student)
            self.make = lambda ps: torch.optim.SGD(ps, rate)

        def stages(self):
            stages = super().stages()
            stages[0].players[0].optimizer = self.make
            return stages

    run(tmp_path / "a", lambda s: Players(s, 0.1))
    with pytest.raises(ValueError, match="players: "):
        run(tmp_path / "a", lambda s: Players(s, 0.2))
    run(tmp_path / "b", lambda s: Hinton(s, Scaled(1)))
    with pytest.raises(ValueError, match="teacher_networks: "):
        run(tmp_path / "b", lambda s: Hinton(s, Scaled(2)))


def test_what_cannot_be_told_is_refused_where_a_run_is_kept_and_said_where_it_is_not(tmp_path):
    import threading

    lock = threading.Lock()

    def metric(network, batches):
        with lock:
            return accuracy(network, batches)

    with pytest.raises(ValueError, match=r"what a lock is.*identity\(\)"):
        run(tmp_path / "run", metric=metric)
    history = fit(CrossEntropy(net(1)), DATA, 1, metric=metric, progress=False)
    assert history.spec["metric_code"].startswith("unknown: cannot tell what a lock is")


def test_known_names_are_read_as_they_were():
    spec = fit(CrossEntropy(net(1)), DATA, 1, lr=0.1, progress=False).spec
    assert spec["schedule"] == "cosine" and spec["metric"] == spec["metric_code"] == "accuracy"
    assert spec["optimizer"] == "sgd(lr=0.1, momentum=0.9, weight_decay=0.0005)"
    assert spec["code"] == "CrossEntropy" and spec["augment"] == "None"


def test_notes_under_an_underscore_are_no_part_of_a_run(tmp_path):
    """What a distiller remembers for itself may differ when the run is continued."""

    class Noted(CrossEntropy):
        def __init__(self, student, note, asked=1):
            super().__init__(student)
            self._note, self.asked = note, asked

    settings = dict(run_dir=tmp_path, progress=False)
    first = fit(Noted(net(1), "a"), blobs(), 1, **settings)
    assert fit(Noted(net(1), "b"), blobs(), 1, **settings).result == first.result
    with pytest.raises(ValueError, match="asked: 1 there, 2 now"):
        fit(Noted(net(1), "a", asked=2), blobs(), 1, **settings)
