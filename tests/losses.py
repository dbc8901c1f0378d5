"""What the tests of the methods share: random features, what every loss must pass, small networks
that teach and learn.
"""

import functools
import os

import pytest
import torch
import torchvision
from small import blobs, weights

from kdtutor import fit, runs
from kdtutor.datasets import Batch
from kdtutor.methods import CrossEntropy
from kdtutor.models import resnet8
from kdtutor.runs import load_state


def rand(*shape, seed=0, scale=1.0):
    """Normal numbers in float64: exact enough to compare formulas."""
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def close(value, expected, rel=1e-9):
    value, expected = (
        v.item() if isinstance(v, torch.Tensor) else float(v) for v in (value, expected)
    )
    assert value == pytest.approx(expected, rel=rel, abs=1e-12)


def teaches_the_student_alone(loss, s, t, gradcheck=True):
    """The gradient reaches the student, is right, and never reaches the teacher; either tensor
    matters; half is computed in float32.
    """
    student, teacher = s.clone().requires_grad_(), t.clone().requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    if gradcheck:
        assert torch.autograd.gradcheck(lambda z: loss(z, t), s.clone().requires_grad_())
    assert loss(s, t) != loss(s + rand(*s.shape, seed=50), t)
    assert loss(s, t) != loss(s, t + rand(*t.shape, seed=51))
    for half in (torch.bfloat16, torch.float16):
        value = loss(s.to(half), t.to(half))
        assert value.dtype == torch.float32
        close(value, loss(s.to(half).double(), t.to(half).double()), rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        close(loss(s.float(), t.float()), loss(s, t), rel=1e-3)


def stays_finite(loss, s, t, sizes=(0.0, 1e4)):
    """Value and gradient at extreme sizes, at student == teacher, zeros, duplicates. 0.0 stands for
    all zeros.
    """
    s, t = s.float(), t.float()
    cases = [
        (s, s[:, :]),
        (t, t),
        (s[:1].expand_as(s), t),
        (s, t[:1].expand_as(t)),
        (s[:1].expand_as(s), t[:1].expand_as(t)),
    ]
    cases += [
        pair for size in sizes for pair in ((size * s, t), (s, size * t), (size * s, size * t))
    ]
    for case, (a, b) in enumerate(cases):
        if case < 2 and s.shape != t.shape:
            continue
        a = a.clone().requires_grad_()
        value = loss(a, b)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(a.grad).all(), (case, value)


def names_both_shapes(loss, s, t, *words):
    with pytest.raises(ValueError) as error:
        loss(s, t)
    assert all(str(w) in str(error.value) for w in words or (tuple(s.shape), tuple(t.shape))), (
        error.value
    )


def names_both_devices(loss, s, t):
    names_both_shapes(loss, s, t.to("meta"), "cpu", "meta")


def ignores_duplication(loss, s, t):
    close(loss(torch.cat([s, s]), torch.cat([t, t])), loss(s, t))


# --- networks

images = functools.partial(blobs, n=160, side=8)


def small(seed=0, **kwargs):
    torch.manual_seed(seed)
    return resnet8(classes=3, channels=1, **kwargs)


@functools.cache
def _trained():
    net = small(1)
    fit(CrossEntropy(net), images(), 3, batch_size=30, validation=0, test=False, progress=False)
    return net.state_dict()


def taught():
    """A trained network, handed over in training mode and with gradients: a Teacher must freeze
    it."""
    net = small(1)
    net.load_state_dict(_trained())
    return net.train()


def batch(n=6, side=8, channels=1, classes=3, seed=0):
    x = torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.arange(n) % classes, torch.arange(n))


def learns(make, *terms, epochs=4, lr=0.05, factor=0.9, stage=None):
    """A short training lowers every named term and leaves the teacher's weights and batch-norm
    statistics alone. Returns the distiller.
    """
    teacher = taught()
    before = weights(teacher)
    distiller = make(small(2), teacher)
    history = fit(distiller, images(), epochs, batch_size=30, lr=lr, validation=0, progress=False)
    for term in terms:
        values = [r[term] for r in history.rows if term in r]
        assert values[-1] < factor * values[0], (term, values)
    assert torch.equal(before, weights(teacher)) and not teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    return distiller


@functools.cache
def foreign(name, seed=0):
    """One of torchvision's networks for three classes, as small as it goes."""
    torch.manual_seed(seed)
    return getattr(torchvision.models, name)(
        num_classes=3, **({"width_mult": 0.25} if name == "mobilenet_v2" else {})
    )


def works_with_torchvision(make, *names):
    """Terms and their gradient for a mobilenet that learns from a resnet at 32x32. make: (student,
    teacher, example) -> distiller.
    """
    some = batch(4, 32, 3)
    student = foreign("mobilenet_v2", seed=1).train().requires_grad_(True)
    distiller = make(student, foreign("resnet18"), some.x[:2]).train()
    terms = distiller.terms(some)
    assert list(terms) == list(names)
    sum(terms.values()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert all(p.grad is None for p in distiller.teacher.net.parameters())
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)
    student.zero_grad()
    return distiller


def state_of(net):
    """{child: its weights and statistics} of the children that have any."""
    return {name: weights(child) for name, child in net.named_children() if child.state_dict()}


def changed(before, net):
    """The names of the children that are not what they were."""
    now = state_of(net)
    return {name for name in before if not torch.equal(before[name], now[name])}


class Killed(BaseException):
    """Like a kill: nothing catches it."""


def resumes(make, folder, monkeypatch, data=None, epochs=4, moment=4):
    """Killed after its ``moment``-th write and started again, a run ends with the same weights as
    one that was never interrupted.
    """
    settings = dict(batch_size=30, lr=0.02, validation=0, test=False, progress=False)
    data = data or images()
    want = make()
    fit(want, data, epochs, **settings)
    real, left = os.replace, moment

    def killing(*args):
        nonlocal left
        left -= 1
        real(*args)
        if not left:
            raise Killed

    monkeypatch.setattr(runs.directory.os, "replace", killing)
    with pytest.raises(Killed):
        fit(make(), data, epochs, run_dir=folder, **settings)
    monkeypatch.setattr(runs.directory.os, "replace", real)
    assert 0 < load_state(folder / "checkpoint.safetensors")["epoch"] < epochs
    got = make()
    fit(got, data, epochs, run_dir=folder, **settings)
    assert torch.equal(weights(want), weights(got))
