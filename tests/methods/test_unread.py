"""No step of a method waits for a GPU, and none mixes devices.

Shown without a GPU: device ``meta`` computes shapes but no values. Reading a value there is an
error, and so is a tensor that was left on the CPU."""

import pytest
import torch

from kdtutor import Teacher
from kdtutor.datasets import Batch, CropFlip, Data, Flip, Split
from kdtutor.methods import CRD, DML, ONE, CrossEntropy, catalog, method
from kdtutor.methods.response.boundary_support import _walk
from kdtutor.models import resnet8, resnet14
from kdtutor.training import sgd

# BSS asks which images are worth a walk: how many there are decides the size of what follows.
READS = {"BSS"}
NAMES = [name for name in catalog()["name"] if name not in READS]


def on_meta(name):
    """A method of the catalog, built and prepared as ``fit`` does it, then moved to meta."""
    row, student, teacher = method(name), resnet8(10), Teacher(resnet14(10))
    if row.distiller is DML:
        distiller = DML([student, resnet8(10)])
    elif row.distiller in (ONE, CrossEntropy):
        distiller = row.distiller(student)
    else:
        distiller = row.distiller(student, teacher, **row.settings)
    if isinstance(distiller, CRD):
        distiller.prepare(Split(torch.zeros(100, 1), torch.arange(100) % 10))
    for net in (distiller, *teacher.nets):
        net.to("meta")
    return distiller.train()


def batch(n=8):
    x = torch.zeros(n, 3, 32, 32, device="meta")
    y = torch.zeros(n, dtype=torch.long, device="meta")
    return Batch(x, y, torch.arange(n), torch.zeros(n, dtype=torch.long), "source")


@pytest.mark.parametrize("name", NAMES)
def test_no_step_reads_a_value_or_mixes_devices(name):
    distiller = on_meta(name)
    for stage in distiller.stages():
        for player in stage.players:
            terms = player.terms(batch())
            assert terms and all(t.is_meta and t.ndim == 0 for t in terms.values())
            alone = len(stage.players) == 1
            sum(terms.values()).backward(inputs=None if alone else list(player.parameters))
            sgd(0.1)(list(player.parameters)).step()


def test_that_meta_would_show_it():
    with pytest.raises(RuntimeError):
        torch.zeros(2, device="meta").sum().item()
    with pytest.raises(RuntimeError):
        torch.zeros(2, device="meta") + torch.zeros(2)


def test_a_walk_to_the_boundary_reads_nothing():
    x, y = batch()[:2]
    net = resnet14(10).to("meta").eval()
    assert _walk(net, x, y, y + 1, (0, 9), 3, 0.3, 1e-4, (0.0, 1.0)).is_meta


@pytest.mark.parametrize("bounds", [None, (-1.5, 1.5)])
def test_the_walk_that_reads_nothing_is_the_walk(bounds, monkeypatch):
    net, x = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh()), torch.randn(256, 8)
    net = net.append(torch.nn.Linear(32, 4)).requires_grad_(False)
    base, target = net(x).topk(2).indices.unbind(1)
    ask = lambda steps: _walk(net, x.clone(), base, target, (0, 3), steps, 2.0, 1e-4, bounds)
    leaving = ask(10)
    crossed = [int((net(ask(steps)).argmax(1) != base).sum()) for steps in (3, 10)]
    assert 0 < crossed[0] < crossed[1]  # some leave early, others walk on
    where = "kdtutor.methods.response.boundary_support.readable"
    monkeypatch.setattr(where, lambda x: False)
    assert torch.allclose(leaving, ask(10), atol=1e-5)


def test_the_draw_that_reads_nothing_draws_alike(monkeypatch):
    """CRD's step from the same random order, with and without looking at values."""
    values = []
    for readable in (True, False):
        torch.manual_seed(0)
        distiller = CRD(resnet8(10), resnet14(10), negatives=40)
        distiller.prepare(Split(torch.zeros(100, 1), torch.arange(100) % 10))
        monkeypatch.setattr("kdtutor.methods.relation.crd.readable", lambda x, r=readable: r)
        some = Batch(torch.rand(6, 3, 32, 32), torch.arange(6) % 4, torch.arange(6))
        torch.manual_seed(1)
        values.append([distiller.terms(some)["crd"].item() for _ in range(2)])
        assert (distiller.z > 0).all()
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_batches_and_the_cache_of_answers_read_nothing(monkeypatch):
    """The way of a batch to the device: cropped, flipped, normalised, its answers looked up."""
    images = torch.zeros(20, 3, 8, 8, dtype=torch.uint8)
    split = Split(images, torch.arange(20) % 2)
    for augment in (CropFlip(2), CropFlip(2, mode="reflect"), Flip(), None):
        data = Data("d", ("a", "b"), split, augment=augment, mean=(0.5,) * 3, std=(0.2,) * 3)
        made = list(data.batches(split, 5, shuffle=torch.Generator(), augment=True, device="meta"))
        assert len(made) == 4 and all(b.x.is_meta and b.y.is_meta for b in made)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    data = Data("d", ("a", "b"), split, augment=Flip())
    teacher = Teacher(net).cached(data, fill=True)
    net.to("meta")
    teacher._cache.to("meta")
    for b in data.batches(split, 5, shuffle=torch.Generator(), augment=True, device="meta"):
        assert teacher(b).is_meta
