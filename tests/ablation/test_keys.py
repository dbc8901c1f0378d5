"""The bench's keys: another method, network or dataset is another run, and the same one is the same
wherever it is defined.
"""

import functools
import json
from dataclasses import replace

import pytest
import torch
from small import blobs
from torch import nn

from kdtutor.ablation import Grid, MethodChoice
from kdtutor.methods import Distiller

DATA = blobs(n=60)


def key(**changes) -> str:
    base = dict(dataset=DATA, teacher=None, students=["mlp8"], methods=["CrossEntropy"])
    return Grid(**base | dict(seeds=(0,), epochs=1) | changes).cells()[0].key


def method(helper="2 * x", constant=1, closure=1, before="") -> type:
    """A notebook's method: its loss calls a helper, reads a constant, and closes over a number."""
    names = {"Distiller": Distiller, "__name__": "__main__"}
    exec(
        f"{before}SCALE = {constant}\ndef helper(x):\n    return {helper}\n"
        "def make(closed):\n    class Own(Distiller):\n        def terms(self, batch):\n"
        "            return {'ce': SCALE * closed * helper(self.student(batch.x).sum())}\n"
        f"    return Own\nOwn = make({closure})\n",
        names,
    )
    return names["Own"]


class Scaled(nn.Module):
    def __init__(self, scale, drawn=0.1, p=0.0, loaded=None):
        super().__init__()
        self.scale, self.inner = scale, nn.Sequential(nn.Flatten(), nn.Dropout(p))
        self.fc = nn.Linear(16, 3)
        nn.init.normal_(self.fc.weight, std=drawn)
        if loaded is not None:
            self.fc.load_state_dict(loaded)

    def forward(self, x):
        return self.scale * self.fc(self.inner(x))


@pytest.mark.parametrize("change", [{"helper": "3 * x"}, {"constant": 2}, {"closure": 2}])
def test_an_own_method_is_what_it_reaches(change):
    assert key(methods=[method()]) == key(methods=[method(before="unused = 1\n\n")])
    assert key(methods=[method()]) != key(methods=[method(**change)])


def test_settings_may_be_functions_and_are_told_by_what_they_do():
    class Weighed(Distiller):
        def __init__(self, student, weigh=None):
            super().__init__(student)

    choice = lambda f: MethodChoice.of(functools.partial(Weighed, weigh=f)).plain()
    assert choice(lambda x: x) == choice(lambda x: x) != choice(lambda x: 2 * x)
    json.dumps(choice(lambda x: x))


def test_a_network_is_its_attributes_its_drawing_and_what_it_loads():
    state = nn.Linear(16, 3).state_dict()
    loaded = [state, {k: v.flip(0) for k, v in state.items()}]  # spread alike
    makers = [
        lambda: Scaled(1),
        lambda: Scaled(2),
        lambda: Scaled(1, p=0.5),
        lambda: Scaled(1, drawn=0.2),
        lambda: Scaled(1, loaded=loaded[0]),
        lambda: Scaled(1, loaded=loaded[1]),
    ]
    keys = [key(students=[m]) for m in makers]
    assert len(set(keys)) == len(keys) and keys == [key(students=[m]) for m in makers]
    torch.manual_seed(7)
    assert key(students=[lambda: Scaled(1)]) == keys[0], "whatever was drawn before"


def test_students_that_differ_in_a_plain_attribute_are_different_cells():
    students = [functools.partial(Scaled, 1), functools.partial(Scaled, 2)]
    grid = Grid(dataset=DATA, teacher=None, students=students, methods=["CrossEntropy"], seeds=(0,))
    assert len(grid.cells()) == 2


def test_a_dataset_is_all_of_its_content():
    x = DATA.test.x.clone()
    x[0, 0, 0, 0] += 1
    others = [
        DATA,
        replace(DATA, test=replace(DATA.test, x=x)),
        replace(DATA, train=replace(DATA.train, x=DATA.train.x.flip(0))),
        replace(DATA, train=replace(DATA.train, y=DATA.train.y.flip(0))),
        replace(DATA, classes=("x", "y", "z")),
    ]
    assert len({key(dataset=d) for d in others}) == len(others)
    before = key(dataset=DATA)
    same = blobs(n=60)
    assert key(dataset=same) == before
    same.train.x[0] += 1
    assert key(dataset=same) != before, "changed in place"


def test_equal_numbers_are_one_run():
    assert key(fit={"lr": 1}) == key(fit={"lr": 1.0}) != key(fit={"lr": 2})
    assert key(label_noise=[0]) == key(label_noise=[0.0])
