"""What makes two things the same: equal wherever they were written, different where they compute
otherwise.
"""

import functools
import json
import random
import subprocess
import sys
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import blobs, net
from torch import nn

from kdtutor import Teacher
from kdtutor.datasets import CropFlip
from kdtutor.runs import describe, named, short_hash
from kdtutor.training import cosine, sgd, steps

LOSS = """
import math
SCALE = {scale}
def helper(x):
    return {helper}
class Base:
    rate = {rate}
class Own(Base):
    table = {{"a": {table}}}
    def terms(self, x):
        return {body}
def function(x, factor={default}):
    return SCALE * helper(x) * factor
def closing(power):
    return lambda x: x ** power
closure = closing({power})
"""
VALUES = dict(
    scale=2, helper="math.sin(x)", rate=1, table=1, body="SCALE * helper(x)", default=1, power=2
)


def module(before="", **changes) -> dict:
    """The names of a module of the user's own, as a notebook's cells would define them."""
    names = {"__name__": "__main__"}
    exec(before + LOSS.format(**VALUES | changes), names)
    return names


def same(a, b) -> bool:
    return describe(a) == describe(b)


# --- plain data

numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
plain = st.recursive(
    st.none() | st.text() | numbers,
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=12,
)


@given(plain, plain)
def test_plain_data_are_equal_exactly_if_their_hashes_are(a, b):
    assert (a == b) == (short_hash(a) == short_hash(b)) == same(a, b)
    assert same(a, json.loads(json.dumps(a))) and json.loads(json.dumps(describe(a))) == describe(a)


@given(st.lists(st.tuples(st.text(), numbers), unique_by=lambda p: p[0]), st.randoms())
def test_the_order_of_dicts_and_sets_does_not_matter(pairs, rng):
    other = rng.sample(pairs, len(pairs))
    assert same(dict(pairs), dict(other)) and short_hash(dict(pairs)) == short_hash(dict(other))
    assert same({k for k, _ in pairs}, {k for k, _ in other})
    assert same(pairs, list(map(list, pairs)))


def test_numbers_are_values_and_switches_are_not_numbers():
    assert describe(8) == describe(8.0) == describe(np.float32(8)) == 8
    assert describe(True) is True and short_hash({"a": 1}) != short_hash({"a": True})
    assert not same(1, "1")
    assert not same([1, 2], {1, 2}) and not same({}, []) and short_hash(0.1) != short_hash(0.2)


# --- functions


@pytest.mark.parametrize("name", ["function", "closure", "helper", "Own"])
def test_what_is_defined_twice_or_moved_is_the_same(name):
    first, again, moved = (module(b)[name] for b in ("", "", "import os\nunused = 3\n\n\n"))
    assert first is not again and same(first, again) and same(first, moved)
    assert named(first) == named(moved)


@pytest.mark.parametrize(
    "name, change",
    [
        ("function", {"scale": 3}),
        ("function", {"helper": "math.cos(x)"}),
        ("function", {"helper": "math.sin(2 * x)"}),
        ("function", {"default": 2}),
        ("closure", {"power": 3}),
        ("Own", {"scale": 3}),
        ("Own", {"helper": "math.cos(x)"}),
        ("Own", {"body": "SCALE * helper(x) + 1"}),
        ("Own", {"rate": 2}),
        ("Own", {"table": 2}),
    ],
)
def test_what_computes_otherwise_is_another(name, change):
    assert not same(module()[name], module(**change)[name])


def test_what_a_function_does_not_reach_is_no_part_of_it():
    assert same(module()["helper"], module(scale=5, rate=7, body="x")["helper"])
    a, b = ({"net": v, "__name__": "__main__"} for v in (1, 2))
    for names in (a, b):
        exec("def f(batch):\n    return batch.net", names)
    assert same(a["f"], b["f"]), "an attribute is no global of the same name"


def test_names_docstrings_and_lines_are_no_part_of_a_function():
    def one(x):
        """Says something."""
        return x + 1

    def other(x):
        # says nothing
        return x + 1

    assert same(one, other) and same(lambda x: x + 1, lambda x: x + 1)
    assert not same(lambda x: x / 8, lambda x: x / 9) and not same(lambda x: x, lambda y, x=1: x)
    assert not same(lambda x: x in {"a", "b"}, lambda x: x in {"a", "c"})


def test_partials_methods_and_decorated_functions():
    partial = lambda lr: functools.partial(torch.optim.SGD, lr=lr)
    assert same(partial(0.1), partial(0.1)) and not same(partial(0.1), partial(0.2))

    class Mine:
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, x):
            return self.rate * x

    assert same(Mine(1).__call__, Mine(1.0).__call__)
    assert not same(Mine(1).__call__, Mine(2).__call__)
    decorated = lambda c: torch.no_grad()(lambda x: c * x)
    assert same(decorated(1), decorated(1)) and not same(decorated(1), decorated(2))
    cached = lambda c: functools.lru_cache(lambda x: c * x)
    assert same(cached(1), cached(1)) and not same(cached(1), cached(2))


def test_cycles_end():
    names = module(before="def even(n):\n    return n == 0 or odd(n - 1)\n")
    exec("def odd(n):\n    return n != 0 and even(n - 1)", names)
    again = module(before="def even(n):\n    return n == 0 or odd(n - 1)\n")
    exec("def odd(n):\n    return n != 0 and even(n - 2)", again)
    assert same(names["even"], names["even"]) and not same(names["even"], again["even"])
    loop: list = [1]
    loop.append(loop)
    assert describe(loop) == [1, {"up": 1}]


def test_what_is_reached_from_within_a_function_within_a_function_counts():
    def define(scale):
        names = {"__name__": "__main__", "SCALE": scale}
        exec("def f(xs):\n    return map(lambda x: SCALE * x, xs)", names)
        return names["f"]

    assert same(define(1), define(1)) and not same(define(1), define(2))


def test_what_a_function_writes_is_its_state():
    def make():
        log, count = [], 0

        def metric(x):
            nonlocal count
            count += 1
            log.append(x)
            return x + len(log)

        return metric

    used = make()
    used(1)
    assert same(used, make())


def test_a_module_of_the_users_own_is_reached_by_attribute_and_by_import(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_losses.py").write_text("A = 1\nB = 2\ndef loss(x):\n    return A * x\n")
    names = {"__name__": "__main__"}
    exec("import own_losses\ndef f(x):\n    return own_losses.loss(x)", names)
    exec("def g(x):\n    from own_losses import loss\n    return loss(x)", names)
    before = describe([names["f"], names["g"]])
    monkeypatch.setattr("own_losses.B", 3)
    assert describe([names["f"], names["g"]]) == before
    monkeypatch.setattr("own_losses.A", 3)
    assert all(a != b for a, b in zip(describe([names["f"], names["g"]]), before))


# --- objects


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: float = 1.0


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


OBJECTS = [
    *Colour,
    Point(1),
    Point(2),
    Slotted(1),
    Slotted(2),
    CropFlip(2),
    CropFlip(4),
    torch.float32,
    torch.float64,
    torch.device("cpu"),
    Path("a"),
    Path("b"),
    torch.zeros(2),
    torch.ones(2),
    torch.zeros(3),
    torch.zeros(2, dtype=torch.int64),
    np.zeros(2),
    np.ones(2),
    np.array(["a", None], dtype=object),
    torch.Generator().manual_seed(1),
    torch.Generator().manual_seed(2),
    random.Random(1),
    random.Random(2),
    np.random.default_rng(1),
    torch.relu,
    torch.tanh,
    torch.Tensor.relu,
    nn.ReLU,
    nn.ReLU(),
    nn.GELU(),
    Point,
    b"a",
    range(3),
    1 + 2j,
]


def test_objects_are_their_class_and_their_state():
    texts = [json.dumps(describe(o)) for o in OBJECTS]
    assert len(set(texts)) == len(texts)
    again = [Point(1.0), Slotted(1), CropFlip(2), torch.zeros(2), random.Random(1), nn.ReLU()]
    assert {json.dumps(describe(o)) for o in again} <= set(texts)


def test_an_object_may_say_what_it_is():
    class Locked:
        def __init__(self, rate):
            self.rate, self.lock = rate, threading.Lock()

    class Says(Locked):
        def identity(self):
            return {"rate": self.rate}

    with pytest.raises(ValueError, match=r"what a lock is.*metric\.Locked.*identity\(\)"):
        describe({"metric": Locked(1)})
    with pytest.raises(ValueError, match="identity"):
        describe(functools.partial(print, threading.Lock()))
    with open(__file__) as file, pytest.raises(ValueError, match="TextIOWrapper"):
        describe(file)
    assert same(Says(1), Says(1)) and not same(Says(1), Says(2))


# --- networks and data


class Scaled(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale, self.inner = scale, nn.Linear(3, 3)

    def forward(self, x):
        return self.scale * self.inner(x)


def made(make, seed=0):
    torch.manual_seed(seed)
    return make()


def test_networks_are_architecture_attributes_and_weights():
    block = lambda p=0.1, scale=1.0: nn.Sequential(Scaled(scale), nn.Dropout(p), nn.BatchNorm1d(3))
    base = describe(made(block))

    def change(edit):
        network = made(block)
        edit(network)
        return describe(network)

    copy = lambda n: setattr(n[0].inner, "bias", nn.Parameter(n[2].bias.detach().clone()))
    tie = lambda n: setattr(n[0].inner, "bias", n[2].bias)  # the same numbers, learned as one
    others = [
        describe(made(block, 1)),
        describe(made(lambda: block(0.2))),
        describe(made(lambda: block(scale=2))),
        change(lambda n: n[2].requires_grad_(False)),
        change(lambda n: n[2].eval()),
        change(lambda n: n[2].running_mean.add_(1)),
        change(lambda n: setattr(n[2], "eps", 0.1)),
        change(lambda n: n[1].register_forward_hook(lambda m, i, o: 2 * o)),
        change(copy),
        change(tie),
    ]
    assert len({json.dumps(d) for d in [base, *others]}) == 1 + len(others)
    assert base == describe(made(block)) == change(lambda n: n.eval())


def test_how_numbers_lie_in_memory_is_no_part_of_a_network():
    conv = made(lambda: nn.Conv2d(3, 4, 3))
    before = describe(conv)
    assert describe(conv.to(memory_format=torch.channels_last)) == before
    assert (
        same(torch.arange(6).view(2, 3), torch.arange(6).view(3, 2).t().contiguous().t()) is False
    )
    turned = torch.arange(6).view(2, 3).t()
    assert same(turned, turned.contiguous()) and not same(turned, turned.reshape(2, 3))
    assert not same(turned, torch.arange(6).view(3, 2))


def test_a_teacher_is_its_networks_not_its_cache():
    data = blobs()
    assert same(Teacher(net(1)), Teacher(net(1)).cached(data, fill=True))
    assert not same(Teacher(net(1)), Teacher(net(2)))


def test_data_are_their_content():
    from dataclasses import replace

    base = blobs()
    flip = lambda y: replace(base.train, y=y.flip(0))
    others = [
        replace(base, train=flip(base.train.y)),
        replace(base, test=replace(base.test, x=base.test.x.flip(0))),
        replace(base, classes=("x", "y", "z")),
        replace(base, mean=(0.5,), std=(0.2,)),
        base.augmented(CropFlip(1)),
        base.augmented(lambda x: x.flip(-1)),
        base.augmented(lambda x: x.flip(-2)),
    ]
    assert len({json.dumps(describe(d)) for d in [base, *others]}) == 1 + len(others)
    assert same(base, blobs(name="another name"))


# --- names


def test_known_things_keep_their_name_and_the_users_own_get_a_digest():
    assert named(cosine) == "cosine" and named(torch.optim.SGD) == "SGD"
    assert named(sgd(0.1)) == "sgd(lr=0.1, momentum=0.9, weight_decay=0.0005)"
    assert named(steps(0.5)) != named(steps(0.6)) and named(lambda p: p).startswith("<lambda>/")
    assert named(lambda p: p) == named(lambda p: p) != named(lambda p: 1 - p)


# --- other processes

SCRIPT = """
import json, sys
sys.path[:0] = {paths!r}
import own_things
from kdtutor.runs import describe
print(json.dumps(describe([getattr(own_things, n) for n in ("function", "Own", "closure")]
                          + [own_things.Own(), {{"a", "b", "c"}}, {{"x": 1, "y": 2}}])))
"""


def test_another_process_and_another_hash_seed_tell_the_same(tmp_path):
    (tmp_path / "own_things.py").write_text(LOSS.format(**VALUES))
    told = []
    for seed in ("1", "2"):
        paths = [str(tmp_path), str(Path(__file__).parents[2])]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(paths=paths)],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(json.loads(done.stdout))
    here = module()
    mine = [here[n] for n in ("function", "Own", "closure")] + [here["Own"]()]
    assert told[0] == told[1] == describe([*mine, {"c", "b", "a"}, {"y": 2, "x": 1}])


def test_tied_weights_a_name_without_value_and_a_lambda_of_the_library_are_told():
    tied, apart = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    for module in [*tied, *apart]:
        nn.init.constant_(module.weight, 0.5), nn.init.constant_(module.bias, 0)
    tied[1].weight = tied[0].weight
    assert short_hash(describe(tied)) != short_hash(describe(apart))

    def early():
        return later

    assert describe(early)  # `later` is closed over, but has no value yet
    later = 1
    own = lambda p: p
    own.__module__ = "kdtutor.training.schedules"
    assert named(own).startswith("<lambda>/")
