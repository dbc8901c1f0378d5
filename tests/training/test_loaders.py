"""Other people's loaders in ``fit``: methods, seeds, a killed run that goes on, and what must be
said.
"""

import os

import numpy as np
import pytest
import torch
from losses import Killed
from small import blobs, net, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from kdtutor import Teacher, evaluate, fit, runs
from kdtutor.datasets import from_loaders, with_imbalance, with_label_noise
from kdtutor.methods import CRD, CrossEntropy, FitNet, Hinton
from kdtutor.models import resnet8
from kdtutor.runs import load_state

DATA = blobs()
QUIET = dict(progress=False, lr=0.1)


class Noisy(Dataset):
    """The blobs, a little moved by numpy and torch, so that an epoch depends on their numbers."""

    targets = DATA.train.y.tolist()

    def __len__(self):
        return len(DATA.train)

    def __getitem__(self, i):
        x = DATA.train.x[i].float() / 255
        return x + 0.05 * torch.randn(x.shape) + 0.05 * np.random.rand(), int(DATA.train.y[i])


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            i = int(torch.randint(len(DATA.train), ()))
            yield DATA.train.x[i], int(DATA.train.y[i])


TEST = TensorDataset(DATA.test.x, DATA.test.y)


def loaders(train=None, test=TEST, validation=TEST, **settings):
    train = DataLoader(Noisy(), 30, shuffle=True) if train is None else train
    return from_loaders(train, test, validation, classes=3, **settings)


class Dropped(nn.Module):
    input_shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def test_a_loader_of_pixels_trains_as_data_in_memory_do():
    history = fit(CrossEntropy(net()), DATA, 6, batch_size=30, validation=0, **QUIET)
    d = loaders(TensorDataset(DATA.train.x, DATA.train.y))
    mine = fit(CrossEntropy(net()), d, 6, batch_size=30, **QUIET)
    assert len(mine.rows) == 6 and mine.rows[-1]["val_accuracy"] > 0.6
    assert mine.rows[-1]["loss"] == pytest.approx(history.rows[-1]["loss"], rel=0.2)
    assert mine.result["test_accuracy_last"] == mine.rows[-1]["val_accuracy"]
    assert mine.spec["batch_size"] == 30 and mine.spec["examples"] == 180


@pytest.mark.parametrize(
    "make",
    [
        lambda s: CrossEntropy(s),
        lambda s: Hinton(s, net(1)),
        lambda s: FitNet(s, net(1), layers=("relu1", "relu1")),
    ],
)
def test_methods(make):
    distiller = make(net())
    d = loaders(DataLoader(Noisy(), 30, shuffle=True, num_workers=2))
    history = fit(distiller, d, 4, **QUIET)
    assert history.status == "finished" and history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert evaluate(distiller, d) == history.result["test_accuracy_last"]
    assert evaluate(Teacher(net()), d, d.validation) == evaluate(net(), d, DATA.test)


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(workers, tmp_path, monkeypatch):
    generator = torch.Generator()
    make = lambda: loaders(
        DataLoader(
            Noisy(),
            30,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=generator,
        )
    )
    settings = dict(seed=3, **QUIET)
    want = CrossEntropy(Dropped())
    fit(want, make(), 4, **settings)
    real, left = os.replace, 4

    def killing(*args):
        nonlocal left
        left -= 1
        real(*args)
        if not left:
            raise Killed

    monkeypatch.setattr(runs.files.os, "replace", killing)
    with pytest.raises(Killed):
        fit(CrossEntropy(Dropped()), make(), 4, run_dir=tmp_path, **settings)
    monkeypatch.setattr(runs.files.os, "replace", real)
    assert 0 < load_state(tmp_path / "checkpoint.safetensors")["epoch"] < 4
    generator.manual_seed(77)  # wherever the user's own stands by now
    np.random.seed(77)
    got = CrossEntropy(Dropped())
    fit(got, make(), 4, run_dir=tmp_path, **settings)
    assert torch.equal(weights(want), weights(got))
    other = CrossEntropy(Dropped())
    fit(other, make(), 4, **settings | {"seed": 4})
    assert not torch.equal(weights(want), weights(other))


def test_what_the_network_draws_changes_no_example():
    seen = {}

    class Seen(CrossEntropy):
        def terms(self, batch):
            seen.setdefault(id(self), []).append(batch.x)
            return super().terms(batch)

    plain, dropped = Seen(net()), Seen(Dropped())
    for distiller in (plain, dropped):
        fit(distiller, loaders(), 2, **QUIET)
    first, second = (torch.cat(seen[id(d)]) for d in (plain, dropped))
    assert torch.equal(first, second)
    assert not torch.equal(first[:180], first[180:]), "another order in every epoch"


def test_an_endless_stream():
    d = loaders(DataLoader(Endless(), 20), steps_per_epoch=7)
    history = fit(CrossEntropy(net()), d, 5, **QUIET)
    assert history.rows[-1]["val_accuracy"] > 0.6 and d.steps(d.train, 1) == 7


def test_torchvision_s_datasets():
    to = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, True)])
    images = FakeData(24, (3, 32, 32), 3, transform=to)
    d = from_loaders(DataLoader(images, 8, shuffle=True), images, classes=3)
    distiller = CrossEntropy(resnet8(3))
    history = fit(distiller, d, 1, progress=False)
    assert history.status == "finished" and 0 <= history.result["test_accuracy_last"] <= 1


def test_mixed_in_the_collate_function():
    mix = v2.MixUp(num_classes=3)
    loader = DataLoader(Noisy(), 30, shuffle=True, collate_fn=lambda r: mix(*default_collate(r)))
    histories = [fit(Hinton(net(), net(1)), loaders(loader), 3, **QUIET) for _ in range(2)]
    assert histories[0].rows[-1]["loss"] == histories[1].rows[-1]["loss"]
    assert histories[0].rows[-1]["val_accuracy"] > 0.4
    with pytest.raises(ValueError, match="CRD must know the position"):
        fit(CRD(net(), net(1), negatives=4), loaders(loader), 1, **QUIET)


def test_crd_where_the_examples_are_known():
    for train in (DataLoader(Noisy(), 30, shuffle=True), Noisy()):
        distiller = CRD(net(), net(1), negatives=16)
        history = fit(distiller, loaders(train), 4, **QUIET)
        assert len(distiller.memory_student) == 180
        assert torch.equal(distiller.labels, DATA.train.y)
        assert history.rows[-1]["crd"] < history.rows[0]["crd"]
    for train in (
        DataLoader(Noisy(), 30, collate_fn=lambda rows: default_collate(rows)),
        [(torch.rand(4, 1, 4, 4), torch.arange(4) % 3)],
    ):
        with pytest.raises(ValueError, match="CRD .*from_loaders.*collate.*targets"):
            fit(CRD(net(), net(1), negatives=16), loaders(train), 1, **QUIET)


def test_what_needs_rows_in_memory():
    with pytest.raises(ValueError, match="batches of loaders are read or made anew in every epoch"):
        Teacher(net()).cached(loaders())
    for change in (with_label_noise, with_imbalance):
        with pytest.raises(ValueError, match="needs examples in memory, and these are read"):
            change(loaders(Noisy()), 0.5)


def test_a_stated_batch_size_is_not_ignored():
    d = loaders()
    assert fit(CrossEntropy(net()), d, 1, batch_size=30, **QUIET).spec["batch_size"] == 30
    with pytest.raises(ValueError, match="batch_size=64, but the batches of loaders are .* is 30"):
        fit(CrossEntropy(net()), d, 1, batch_size=64, **QUIET)
    given = loaders([(torch.rand(4, 1, 4, 4), torch.arange(4) % 3)])
    fit(CrossEntropy(net()), given, 1, **QUIET)
    with pytest.raises(ValueError, match="batch_size=4, but .* whose size is unknown"):
        fit(CrossEntropy(net()), given, 1, batch_size=4, **QUIET)


def test_no_share_is_cut_off():
    d = loaders(validation=None)
    assert "val_accuracy" not in fit(CrossEntropy(net()), d, 1, **QUIET).rows[0]
    with pytest.raises(ValueError, match="validation=0.2: no share can be cut off loaders"):
        fit(CrossEntropy(net()), d, 1, validation=0.2, **QUIET)
    history = fit(CrossEntropy(net()), d, 1, validation=DATA.test, **QUIET)
    assert "val_accuracy" in history.rows[0]
    history = fit(CrossEntropy(net()), loaders(), 1, validation=0, **QUIET)
    assert "val_accuracy" not in history.rows[0]


def test_on_a_gpu(gpu):
    student = CrossEntropy(net())
    history = fit(student, loaders(), 2, device=gpu, **QUIET)
    assert history.status == "finished"
    assert next(student.parameters()).device.type == gpu.type


def test_without_a_test_part():
    d = loaders(test=None)
    history = fit(CrossEntropy(net()), d, 1, **QUIET)
    assert "test_accuracy_last" not in history.result
    with pytest.raises(ValueError, match="loaders has no test set"):
        evaluate(net(), d)


def test_wrong_batches_are_found_before_training():
    bad = [(torch.rand(4, 1, 4, 4), torch.arange(4))]
    with pytest.raises(ValueError, match="loaders: the train batch's labels run from 0 to 3"):
        fit(CrossEntropy(net()), loaders(bad), 1, **QUIET)
    with pytest.raises(ValueError, match="loaders: the validation batch's labels run from 0 to 3"):
        fit(CrossEntropy(net()), loaders(validation=bad), 1, **QUIET)
    with pytest.raises(ValueError, match="loaders: the test batch's labels run from 0 to 3"):
        fit(CrossEntropy(net()), loaders(test=bad), 1, stop=pytest.fail, **QUIET)


def test_what_cannot_be_described_asks_for_a_name(tmp_path):
    class Locked(Noisy):
        def __init__(self):
            self.file = open(os.devnull)  # noqa: SIM115 (as a database that stays open)

    with pytest.raises(ValueError, match=r"cannot tell what .*from_loaders\(..., source='a name'"):
        fit(CrossEntropy(net()), loaders(Locked()), 1, run_dir=tmp_path, **QUIET)
    named = loaders(Locked(), source="v1")
    assert fit(CrossEntropy(net()), named, 1, run_dir=tmp_path, **QUIET).status == "finished"
    with pytest.raises(ValueError, match="holds a run with other settings"):
        fit(CrossEntropy(net()), loaders(Locked(), source="v2"), 1, run_dir=tmp_path, **QUIET)
    assert fit(CrossEntropy(net()), loaders(Locked()), 1, **QUIET).status == "finished"
