"""A teacher that states with what it was trained is heard, once, before training."""

import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from small import blobs
from torch import nn

from kdtutor import Teacher, fit
from kdtutor.methods import Composition, CrossEntropy, Hinton
from kdtutor.models import adapt

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "input_size": (3, 8, 8)}
GREY = {"mean": (0.5,), "std": (0.25,)}


def coloured(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 3))  # fmt: skip


def grey(seed=0, cfg=None, **more):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    if cfg is not None:
        net.pretrained_cfg = cfg
    for name, value in more.items():
        setattr(net, name, value)
    return net


def said(distiller, data):
    """What was warned of, among all that this training says."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit(distiller, data, 1, batch_size=60, progress=False)
    return [str(w.message) for w in heard if "normalised" in str(w.message)]


def data(**kwargs):
    return blobs(**kwargs)


@pytest.mark.parametrize("form", [dict, lambda **cfg: SimpleNamespace(**cfg)])
@pytest.mark.parametrize("name", ["pretrained_cfg", "default_cfg"])
def test_another_normalisation_is_said_once(form, name):
    stated = form(mean=(0.1,), std=(0.9,), input_size=(1, 4, 4))
    teacher = Teacher(grey(1, **{name: stated}))
    student = grey(2)
    methods = {"KD": Hinton(student, teacher), "again": Hinton(student, teacher)}
    (text,) = said(Composition(methods), data(**GREY))
    assert "the batches of blobs are normalised with mean=(0.5,) and std=(0.25,)" in text
    assert "the teacher (Sequential) states mean=(0.1,) and std=(0.9,)" in text


def test_what_it_tells_to_do_is_what_ends_it():
    net = coloured()
    net.pretrained_cfg = IMAGENET
    some = data(**GREY)
    asked = adapt(net, channels=3)
    assert not said(Hinton(grey(2), asked), some), "who adapts has thought of it"
    plain = grey(1, {"mean": (0.1,), "std": (0.9,), "input_size": (1, 4, 4)})
    (text,) = said(Hinton(grey(2), plain), some)
    (code,) = re.findall(r"Teacher\((kdtutor\.models\.adapt\(.*data=data\))\)", text)
    import kdtutor

    made = eval(code, {"kdtutor": kdtutor, "net": plain, "data": some})
    assert not said(Hinton(grey(2), made), some)
    assert torch.allclose(
        made(torch.zeros(1, 1, 4, 4)), plain((torch.full((1, 1, 4, 4), 0.5) - 0.1) / 0.9)
    )
    plain.pretrained_cfg = {}
    assert not said(Hinton(grey(2), plain), some)


@pytest.mark.parametrize(
    "cfg",
    [
        None,
        {},
        {"mean": None, "std": None},
        {"mean": (0.5,), "std": (0.25,)},
        {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
        {"mean": (0.5004,), "std": (0.2496,)},
        {"input_size": (1, 4, 4)},
        "imagenet",
    ],
)
def test_what_agrees_or_says_nothing_is_not_warned_of(cfg):
    assert not said(Hinton(grey(2), grey(1, cfg)), data(**GREY))


def test_students_are_not_asked():
    assert not said(CrossEntropy(grey(1, {"mean": (0.1,), "std": (0.9,)})), data(**GREY))


def test_without_a_normalisation_of_the_data():
    (text,) = said(Hinton(grey(2), grey(1, {"mean": (0.1,), "std": (0.9,)})), data())
    assert "the batches of blobs are not normalised, but the teacher" in text
    assert not said(Hinton(grey(2), grey(1, {"mean": (0.0,), "std": (1.0,)})), data())


def test_an_adapter_that_was_told_of_other_batches():
    net = adapt(grey(1), mean=0.1, std=0.9, data=((0.4,), (0.25,)))
    (text,) = said(Hinton(grey(2), net), data(**GREY))
    assert (
        "adapt(...) was told that they have mean=(0.4,) and std=(0.25,): pass it data=data" in text
    )
    assert not said(
        Hinton(grey(2), adapt(grey(1), mean=0.1, std=0.9, data=data(**GREY))), data(**GREY)
    )
    bare = adapt(grey(1), mean=0.1, std=0.9, data=data())
    assert not said(Hinton(grey(2), bare), data())


def test_it_looks_through_what_only_runs_a_network():
    net = nn.DataParallel(grey(1, {"mean": (0.1,), "std": (0.9,)}))
    assert len(said(Hinton(grey(2), net), data(**GREY))) == 1
