"""Anything handed to anything public gives a result, or one sentence of ours.

KDTUTOR_FUZZ=1000 pytest tests/fuzz      # so many tries of each function and class
"""

import copy
import inspect
import os
from importlib import import_module

import pytest
from anything import arguments, outcome, small_data, small_net
from hypothesis import HealthCheck, Phase, given, settings

from kdtutor import ablation, concepts, datasets, methods, models, softening, taps, tasks, training
from kdtutor.methods import catalog
from kdtutor.models import resnet8
from kdtutor.teacher import Teacher

TRIES = int(os.environ.get("KDTUTOR_FUZZ", "25"))
# They look for files, or run whatever the user's network runs.
ELSEWHERE = {"available", "call", "eval_mode", "fetch", "load", "names", "pack", "unpack", "fit"}


def formulas() -> dict:
    """The pure functions of the methods' files, by name."""
    found = {}
    for one in classes():
        home = import_module(one.__module__)
        for name, value in vars(home).items():
            own = inspect.isfunction(value) and value.__module__ == home.__name__
            if own and not name.startswith("_"):
                found[f"{home.__name__}.{name}"] = value
    return found


def classes() -> list[type]:
    """Every class of the catalog, once."""
    return list(dict.fromkeys(catalog()["distiller"]))


def surface() -> dict:
    """What the library's rooms export, by name."""
    rooms = (softening, datasets, models, taps, tasks, concepts)
    found = {
        f"{room.__name__}.{name}": getattr(room, name)
        for room in rooms
        for name in room.__all__
        if callable(getattr(room, name)) and name not in ELSEWHERE
    }
    found |= {f"training.{n}": getattr(training, n) for n in ("evaluate", "steps", "pick_device")}
    found |= {"teacher.Teacher": Teacher, "Data.from_tensors": datasets.Data.from_tensors}
    return found | {"ablation.Grid": ablation.Grid, "Composition": methods.Composition}


def try_out(function, fitting: dict) -> None:
    @settings(
        max_examples=TRIES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(arguments(function, fitting))
    def one(chosen):
        outcome(lambda: function(**chosen))

    one()


@pytest.mark.parametrize(
    "name, function", [pytest.param(n, f, id=n) for n, f in formulas().items()]
)
def test_formulas(name, function):
    try_out(function, {})


NETS: list = []


def convolutional():
    """A fresh network for images; made once, copied often."""
    if not NETS:
        NETS.append(resnet8(3, channels=1))
    return copy.deepcopy(NETS[0])


@pytest.mark.parametrize("one", classes(), ids=lambda c: c.__name__)
def test_construction_of_methods(one):
    two = lambda: [convolutional(), convolutional()]
    try_out(one, {"student": convolutional, "teacher": convolutional, "students": two})


@pytest.mark.parametrize("name", surface())
def test_the_rest_of_the_library(name):
    fitting = {"net": small_net, "nets": small_net, "data": small_data}
    try_out(surface()[name], fitting | {"train": lambda: small_data().train})
