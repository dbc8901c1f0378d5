"""mixup and CutMix of data in memory: whole batches, soft labels, and the pixels that tests see."""

import pytest
import torch
from small import blobs, net, weights
from torchvision.transforms import v2

from kdtutor import Teacher, fit
from kdtutor.datasets import Data, Split, with_labels
from kdtutor.methods import CRD, CrossEntropy, Hinton
from kdtutor.tasks import Regression

X = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
Y = torch.arange(40) % 2


def data(augment, **settings):
    return Data("own", ("a", "b"), Split(X, Y), Split(X, Y), augment, **settings)


def first(d, seed=0):
    torch.manual_seed(seed)
    return next(d.batches(d.train, 40, augment=True))


@pytest.mark.parametrize("norm", [{}, {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.1)}])
def test_mixup_is_a_mixture_of_what_tests_see(norm):
    d = data(v2.MixUp(num_classes=2), **norm)
    batch, plain = first(d), next(d.batches(d.test, 40)).x
    torch.manual_seed(0)
    lam = float(torch.distributions.Beta(torch.ones(1), torch.ones(1)).sample())
    want = lam * plain + (1 - lam) * plain.roll(1, 0)
    assert torch.allclose(batch.x, want, atol=1e-5)
    hot = torch.nn.functional.one_hot(Y, 2).float()
    assert torch.allclose(batch.y, lam * hot + (1 - lam) * hot.roll(1, 0), atol=1e-6)
    assert batch.view is None and batch.index.tolist() == list(range(40))
    assert torch.equal(next(d.batches(d.train, 40)).y, Y), "only training batches are mixed"


def test_cutmix_and_a_choice_of_both():
    d = data(v2.CutMix(num_classes=2))
    batch, plain = first(d, 5), next(d.batches(d.test, 40)).x
    cut = (batch.x == plain).all(1).float().mean()
    assert 0 < cut < 1 and torch.allclose(batch.y[0, 0], cut, atol=1e-5)
    both = data(v2.RandomChoice([v2.CutMix(num_classes=2), v2.MixUp(num_classes=2)]))
    assert first(both).y.shape == (40, 2)
    assert data(v2.RandomHorizontalFlip()).augmented(None).augment is None


def test_a_function_of_ones_own():
    d = data(with_labels(lambda x, y: ((x + x.flip(0)) / 2, torch.full((len(y), 2), 0.5))))
    plain = next(d.batches(d.test, 40)).x
    assert torch.allclose(first(d).x, (plain + plain.flip(0)) / 2, atol=1e-6)


@pytest.mark.parametrize("method", [CrossEntropy, lambda s: Hinton(s, net(1))])
def test_it_trains_the_same_under_a_seed_and_goes_on_in_a_directory(method, tmp_path):
    mixed = blobs(augment=v2.MixUp(num_classes=3))
    settings = dict(batch_size=30, lr=0.1, seed=3, progress=False)
    want, again, plain = method(net()), method(net()), method(net())
    history = fit(want, mixed, 6, **settings)
    assert history.result["test_accuracy_last"] > 0.6
    part = fit(again, mixed, 6, run_dir=tmp_path, stop=lambda: True, **settings)
    assert part.status == "stopped"
    again = method(net())
    fit(again, mixed, 6, run_dir=tmp_path, **settings)
    assert torch.equal(weights(want.student), weights(again.student))
    fit(plain, blobs(), 6, **settings)
    assert not torch.equal(weights(want.student), weights(plain.student))


def test_methods_that_cannot():
    mixed = blobs(augment=v2.MixUp(num_classes=3))
    with pytest.raises(ValueError, match="CRD needs one class index per example.*without mixup"):
        fit(CRD(net(), net(1), negatives=8), mixed, 1, progress=False)
    with pytest.raises(ValueError, match="views of augment=WithLabels.* have no id"):
        Teacher(net()).cached(mixed)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: data(v2.MixUp(num_classes=10)), "own has 2 classes, so num_classes=2"),
        (lambda: data(v2.MixUp()), "own has 2 classes, so num_classes=2"),
        (
            lambda: data(v2.Compose([v2.RandomHorizontalFlip(), v2.MixUp(num_classes=2)])),
            "holds transforms of single images and MixUp, which mixes .*datasets.with_labels",
        ),
        (
            lambda: Data(
                "r", (), Split(X, Y.float()), augment=v2.MixUp(num_classes=0), task=Regression()
            ),
            r"mixes labels, and r has float32 of shape \(40,\) under the task Regression\(\)",
        ),
        (
            lambda: first(data(with_labels(lambda x, y: x))),
            "returned float32 of shape .*expected a pair",
        ),
        (
            lambda: first(data(with_labels(lambda x, y: (x, torch.ones(len(y), 2))))),
            "own: the mixed batch's labels are no probabilities in 40 of 40 rows",
        ),
        (
            lambda: first(data(with_labels(lambda x, y: (x * 255, y)))),
            "made floats from 0 to 255 of bytes",
        ),
    ],
)
def test_what_cannot_be_mixed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_soft_labels_may_be_mixed_without_a_number_of_classes():
    rows = torch.nn.functional.one_hot(Y, 2).float()
    d = Data("soft", 2, Split(X, rows), augment=v2.MixUp())
    assert first(d).y.sum(1).allclose(torch.ones(40))
