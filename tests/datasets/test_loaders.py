"""Other people's loaders: what a batch is, whose chance it is, what is counted and checked."""

import random
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from kdtutor.datasets import Data, Split, from_loaders
from kdtutor.datasets.stream import Stream
from kdtutor.runs import describe, short_hash
from kdtutor.tasks import Detection, NoLabels, Regression

X, Y = torch.arange(40.0).view(20, 2), torch.arange(20) % 2
ROWS = TensorDataset(X, Y)


def data(train=ROWS, *args, classes=2, **settings):
    return from_loaders(train, *args, classes=classes, **settings)


def epoch(d, seed=0, size=4, number=None):
    order = torch.Generator().manual_seed(seed)
    return list(d.batches(d.train, size, shuffle=order, augment=True, drop_last=True, epoch=number))


def values(batches):
    return torch.cat([b.x.flatten(1)[:, 0] for b in batches])


class Endless(IterableDataset):
    def __iter__(self):
        return ((X[i], int(Y[i])) for i in range(20))


class Counted(Endless):
    def __len__(self):
        return 20


class Jittered(Dataset):
    """Its examples are random: torch's, numpy's and Python's numbers."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        drawn = [float(torch.rand(())), np.random.rand(), random.random()]
        return torch.tensor([float(i), *drawn]), i % 2


class Batches:
    """Batches that can be begun anew, without a length."""

    def __iter__(self):
        return iter([(X[:3], Y[:3]), (X[3:5], Y[3:5])])


# Batches


@pytest.mark.parametrize(
    "train, sizes",
    [
        (ROWS, [8, 8]),
        (Subset(ROWS, range(17)), [8, 8]),
        (DataLoader(ROWS, batch_size=6, shuffle=True), [6, 6, 6, 2]),
        (DataLoader(ROWS, batch_size=6, drop_last=True), [6, 6, 6]),
        (DataLoader(ROWS, batch_sampler=BatchSampler(RandomSampler(ROWS), 7, False)), [7, 7, 6]),
        (DataLoader(ROWS, batch_size=5, sampler=SubsetRandomSampler(range(10))), [5, 5]),
        (Counted(), [8, 8]),
        (DataLoader(Counted(), batch_size=9), [9, 9, 2]),
        ([(X[:3], Y[:3]), (X[3:5], Y[3:5])], [3, 2]),
    ],
)
def test_what_is_taken(train, sizes):
    d = data(train)
    batches = epoch(d, size=8)
    assert [len(b.y) for b in batches] == sizes and d.steps(d.train, 8) == len(sizes)
    for b in batches:
        assert torch.equal(b.y, (b.x[:, 0] / 2).long() % 2) and b.y.dtype == torch.int64
        assert b.view is None and b.source == d.train.source
    assert len(set(values(batches).tolist())) == sum(sizes)


def test_what_a_batch_may_be():
    pair = (X[:4], Y[:4])
    mapping = {"image": X[:4], "labels": Y[:4]}
    for made in [pair, [*pair, "rest", None], mapping, (X[:4].numpy(), Y[:4].tolist())]:
        (b,) = data([made]).batches(data([made]).train, 1)
        assert torch.equal(b.x, X[:4]) and torch.equal(b.y, Y[:4])
    several = {"ids": X[:4], "mask": X[:4] > 3, "y": Y[:4]}
    (b,) = epoch(data([several]))
    assert list(b.x) == ["ids", "mask"] and b.x["mask"].dtype == torch.bool
    (b,) = epoch(data([several], inputs="ids"))
    assert torch.equal(b.x, X[:4])
    (b,) = epoch(data([several], inputs=("ids",), labels="y"))
    assert list(b.x) == ["ids"]
    y = {"boxes": torch.tensor([[[0.0, 0, 1, 1]]]), "labels": torch.zeros(1, 1).long()}
    boxes = {"image": X[:1], **y}
    (b,) = epoch(data([boxes], inputs="image", labels=("boxes", "labels"), task=Detection()))
    assert list(b.y) == ["boxes", "labels"]


@pytest.mark.parametrize("made", [X[:4], (X[:4],), [X[:4], Y[:4]], {"image": X[:4]}])
def test_without_labels(made):
    (b,) = epoch(data([made], task=NoLabels(), classes=()))
    assert torch.equal(b.x, X[:4]) and b.y is None


@pytest.mark.parametrize(
    "y",
    [
        Y[:4].int(),
        Y[:4].to(torch.uint8),
        Y[:4, None],
        Y[:4] > 0,
        Y[:4].tolist(),
        Y[:4].numpy(),
        [torch.tensor(int(v)) for v in Y[:4]],
    ],
)
def test_forms_of_class_indices(y):
    (b,) = epoch(data([(X[:4], y)]))
    assert b.y.dtype == torch.int64 and b.y.tolist() == [0, 1, 0, 1]


def test_one_row_and_one_number():
    (b,) = epoch(data([(X[:1], torch.tensor(1))]))
    assert b.y.tolist() == [1]


def test_soft_labels_of_a_mixing_collate_function():
    mix = v2.RandomChoice([v2.MixUp(num_classes=2), v2.CutMix(num_classes=2)])
    images = TensorDataset(torch.rand(20, 3, 4, 4), Y)
    loader = DataLoader(images, 5, collate_fn=lambda rows: mix(*default_collate(rows)))
    batches = epoch(data(loader))
    assert all(b.y.shape == (5, 2) and b.y.sum(1).allclose(torch.ones(5)) for b in batches)
    assert all(b.index is None for b in batches)
    again = epoch(data(loader))
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(batches, again))


def test_pixels_are_what_data_in_memory_make_of_them():
    x = torch.randint(0, 256, (8, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    y = torch.arange(8) % 2
    norm = dict(mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1))
    for settings in ({}, norm):
        held = Data("m", 2, Split(x, y), **settings)
        want = next(held.batches(held.train, 8)).x
        for pixels in (x, x.float() / 255):
            d = data(TensorDataset(pixels, y), **settings)
            got = next(d.batches(d.train, 8)).x
            assert torch.allclose(got, want, atol=1e-6)
    raw = torch.randn(8, 3)
    d = data(TensorDataset(raw, y))
    assert torch.equal(next(d.batches(d.train, 8)).x, raw)


def test_rows_with_a_split_beside():
    d = data(ROWS, Split(X, Y), Split(X[:5], Y[:5]))
    assert d.holdout(0.1)[1].index.tolist() == [0, 1, 2, 3, 4] and d.holdout(0)[1] is None
    assert [len(b.y) for b in d.batches(d.test, 12)] == [12, 8]
    counts = "20 train, 5 validation, 20 test, 2 classes"
    assert repr(d) == f"LoaderData(loaders: {counts}, task=Classification())"
    with pytest.raises(ValueError, match="loaders: test labels run from 0 to 1, but 1 classes"):
        data(ROWS, Split(X, Y), classes=1)


# Chance


def own(generator):
    batches = BatchSampler(RandomSampler(ROWS, generator=generator), 4, False)
    return [
        DataLoader(ROWS, 4, shuffle=True, generator=generator),
        DataLoader(ROWS, 4, sampler=RandomSampler(ROWS, generator=generator)),
        DataLoader(ROWS, 4, sampler=WeightedRandomSampler([1.0] * 20, 20, generator=generator)),
        DataLoader(ROWS, batch_sampler=batches),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("generator", [None, "own"])
def test_a_seed_is_an_order_and_nobody_s_generator_moves(kind, generator):
    g = torch.Generator().manual_seed(9) if generator else None
    d = data(own(g)[kind])
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    state = g.get_state() if g else None
    first = values(epoch(d, 5))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]
    assert g is None or torch.equal(g.get_state(), state)
    torch.rand(3)
    again = []
    for b in d.batches(d.train, 4, shuffle=torch.Generator().manual_seed(5)):
        torch.rand(3)  # as dropout does
        again.append(b)
    assert torch.equal(values(again), first)
    assert not torch.equal(values(epoch(d, 6)), first)
    assert torch.equal(values(d.batches(d.train, 4)), values(d.batches(d.train, 4)))


@pytest.mark.parametrize("workers", [0, 2])
def test_random_examples_are_the_same_under_a_seed(workers):
    more = dict(num_workers=workers, persistent_workers=workers > 0)
    loader = DataLoader(Jittered(), 5, shuffle=True, **more)
    d = data(loader)
    one, two = (torch.cat([b.x for b in epoch(d, seed)]) for seed in (0, 1))
    list(loader)  # workers that live on have drawn
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    again = torch.cat([b.x for b in epoch(d, 0)])
    assert torch.equal(one, again) and not torch.equal(one[:, 1:], two[:, 1:])
    assert (one[:, 1:].std(0) > 0.1).all() and d.train.given.persistent_workers == (workers > 0)


def test_a_plain_dataset_is_shuffled_by_the_run():
    d = data(Jittered())
    one, again, two = (torch.cat([b.x for b in epoch(d, s)]) for s in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, two)
    assert sorted(one[:, 0].tolist()) == list(range(20)) != one[:, 0].tolist()
    assert values(d.batches(d.train, 6)).tolist() == list(range(20))


def test_set_epoch_is_told():
    told = []

    class Sampler(RandomSampler):
        def set_epoch(self, epoch):
            told.append(("sampler", epoch))

    class Told(TensorDataset):
        def set_epoch(self, epoch):
            told.append(("dataset", epoch))

    rows = Told(X, Y)
    d = data(DataLoader(rows, 5, sampler=Sampler(rows)))
    epoch(d, number=3)
    assert sorted(told) == [("dataset", 3), ("sampler", 3)]
    list(d.batches(d.train, 5))
    assert len(told) == 2, "only training has epochs"


# Index and classes


def test_index_where_it_is_known():
    loaders = [
        ROWS,
        DataLoader(ROWS, 6, shuffle=True),
        DataLoader(ROWS, 6, shuffle=True, num_workers=2),
        DataLoader(ROWS, 5, sampler=WeightedRandomSampler([1.0] * 20, 20)),
        DataLoader(ROWS, batch_sampler=BatchSampler(RandomSampler(ROWS), 7, False)),
    ]
    for loader in loaders:
        d = data(loader)
        for b in epoch(d, 2):
            assert torch.equal(X[b.index], b.x) and b.index.dtype == torch.int64
        assert torch.equal(d.train.y, Y) and d.train.index.tolist() == list(range(20))
    unknown = [
        DataLoader(ROWS, 6, collate_fn=lambda rows: default_collate(rows[::-1])),
        DataLoader(ROWS, batch_size=None, sampler=[[0, 1], [2, 3]]),
        Counted(),
        [(X, Y)],
    ]
    for loader in unknown:
        d = data(loader)
        assert all(b.index is None for b in epoch(d))
        assert d.train.y is None and not len(d.train.index)


def test_classes_of_the_examples_are_believed_if_they_agree():
    class Listed(Dataset):
        targets = Y.tolist()

        def __init__(self, change):
            self.change = change

        def __len__(self):
            return 20

        def __getitem__(self, i):
            return X[i], self.change(int(Y[i]))

    assert torch.equal(Stream(Listed(lambda y: y), "train").y, Y)
    assert torch.equal(Stream(Subset(Listed(lambda y: y), [3, 2]), "train").y, Y[[3, 2]])
    assert Stream(Listed(lambda y: 1 - y), "train").y is None
    assert Stream(TensorDataset(X, X[:, 0]), "train").y is None


def test_classes_that_the_dataset_names():
    class Named(TensorDataset):
        classes: ClassVar = ["even", "odd"]

    assert from_loaders(DataLoader(Named(X, Y), 4)).classes == ("even", "odd")
    assert data(Named(X, Y), classes=["a", "b"]).classes == ("a", "b")


# What cannot be


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: data(iter([(X, Y)])), "train is a list_iterator, which is used up after one pass"),
        (lambda: data(((x, y) for x, y in [(X, Y)])), "train is a generator, which is used up"),
        (lambda: data(ROWS, zip([X], [Y])), "test is a zip, which is used up"),
        (lambda: data(X), "train is a Tensor; expected a DataLoader"),
        (lambda: data("folder"), "train is a str; expected a DataLoader"),
        (lambda: data(3), "train is a int; expected"),
        (lambda: data({"x": X}), "train is a dict; expected"),
        (lambda: data(Split(X, Y)), "train is a Split, which is in memory: Data"),
        (
            lambda: data(SimpleNamespace(__getitem__=None, __len__=None)),
            "What holds examples becomes one by DataLoader",
        ),
        (lambda: data(Dataset()), "expected a DataLoader, a torch.utils.data.Dataset with a len"),
        (lambda: data(Endless()), "nobody knows how many batches .* steps_per_epoch=500"),
        (lambda: data(DataLoader(Endless(), 4)), "epoch of this DataLoader has"),
        (lambda: data(Batches()), "epoch of this Batches has"),
        (lambda: data(ROWS, steps_per_epoch=0), "steps_per_epoch=0: expected a whole number"),
        (lambda: data(ROWS, steps_per_epoch=2.5), "steps_per_epoch=2.5"),
        (lambda: data([(X, Y)], classes=None), "does not name its classes: say them"),
        (lambda: data(ROWS, mean=(0.5,)), r"mean=\(0.5,\) and std=\(\): expected as many"),
        (lambda: data(ROWS, classes="cat"), "classes='cat': expected the names"),
        (
            lambda: data(DataLoader(ROWS, 4, num_workers=1, in_order=False)),
            "in_order=False lets batches arrive as workers finish",
        ),
    ],
)
def test_what_is_no_loader(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "made, settings, message",
    [
        ((X[:4],), {}, "loaders: the train batch is a tuple of 1; expected .*task=NoLabels"),
        (X[:4], {}, "batch is a Tensor; expected"),
        (
            {"image": X[:4], "kind": Y[:4]},
            {},
            "has the keys 'image', 'kind', of which none may be the label: say which, .*labels=",
        ),
        (
            {"image": X[:4], "y": Y[:4], "label": Y[:4]},
            {},
            "of which 'label' and 'y' may be the label",
        ),
        (
            {"image": X[:4], "y": Y[:4]},
            {"inputs": "pixels"},
            "has the keys 'image', 'y'; 'pixels' is missing: say which they are",
        ),
        ({"y": Y[:4]}, {}, "an input is missing"),
        ((X[:4], Y[:3]), {}, r"x of shape \[\(4, 2\)\] and y of shape \[\(3,\)\]: expected as"),
        ((X[0], torch.tensor(1)), {}, "Single examples become batches with .*DataLoader"),
        (([X[0], X[1, :1]], Y[:2]), {}, "loaders: the train x is a list; expected a tensor"),
        ((X[:4], ["cat"] * 4), {}, "loaders: the train y is a list of <U3; expected numbers"),
        ((X[:4], Y[:4] + 1), {}, "train batch's labels run from 1 to 2, but 2 classes"),
        ((X[:4], Y[:4].float()), {}, "train batch's labels are float32.*Classes stored as floats"),
        ((X[:4] / 0, Y[:4]), {}, "train batch holds NaN or Inf in 4 of 4 inputs, the first at"),
        (
            (X[:4], Y[:4]),
            {"task": Regression(), "classes": ()},
            "labels are int64 .*regression needs float",
        ),
    ],
)
def test_what_is_no_batch(made, settings, message):
    d = data([made], **settings)
    with pytest.raises(ValueError, match=message):
        epoch(d)


def test_later_batches_are_looked_at_too():
    for bad in ((X[:4] / 0, Y[:4]), (X[:4], Y[:4] + 5)):
        batches = data([(X[:4], Y[:4]), bad])
        with pytest.raises(ValueError, match="train batch"):
            epoch(batches)


def test_large_numbers_are_finite():
    epoch(data([(torch.full((2, 2), 3e38), Y[:2])]))


def test_fewer_batches_than_were_counted():
    hidden = SimpleNamespace(once=iter([(X[:4], Y[:4])] * 2))

    class Once:
        def __iter__(self):
            return hidden.once

    d = data(Once(), steps_per_epoch=2)
    assert len(epoch(d)) == 2
    with pytest.raises(ValueError, match="train gave no batches. .*begins anew"):
        epoch(d)
    with pytest.raises(ValueError, match="train gave 2 batches where 3 were expected.*epoch=2"):
        epoch(data(Batches(), steps_per_epoch=3))
    d = data(Batches(), Batches(), steps_per_epoch=1)
    assert len(epoch(d)) == 1 and len(list(d.batches(d.test, 4))) == 2


def test_more_batches_than_were_counted():
    loader = DataLoader(Counted(), 5, num_workers=2)  # each worker reads all of it
    with pytest.raises(ValueError, match="train gave more than 4 batches, its len. Each worker"):
        epoch(data(loader))
    assert len(epoch(data(loader, steps_per_epoch=6))) == 6


def test_pictures_without_a_transform():
    d = from_loaders(FakeData(8, (3, 6, 6), 3), classes=3)
    with pytest.raises(ValueError, match="train: torch cannot put the examples into a batch.*v2"):
        epoch(d)
    sizes = [torch.zeros(2), torch.zeros(3)]
    with pytest.raises(ValueError, match="torch cannot put the examples"):
        epoch(data(DataLoader([(x, 0) for x in sizes], 2)))


def test_a_split_of_somewhere_else():
    with pytest.raises(TypeError, match="split is a DataLoader; expected data.train"):
        next(data().batches(DataLoader(ROWS), 4))


# Keys


def test_a_key_is_what_can_be_said():
    key = lambda d: short_hash(describe(d))
    seen = [
        data(),
        data(TensorDataset(X + 1, Y)),
        data(DataLoader(ROWS, 4)),
        data(DataLoader(ROWS, 5)),
        data(DataLoader(ROWS, 4, shuffle=True)),
        data(DataLoader(ROWS, 4, collate_fn=lambda rows: default_collate(rows))),
        data(DataLoader(ROWS, 4, sampler=WeightedRandomSampler([1.0] * 20, 20))),
        data(DataLoader(ROWS, 4, sampler=WeightedRandomSampler([1.0] * 19 + [2.0], 20))),
        data(ROWS, ROWS),
        data(ROWS, mean=(0.5,), std=(1.0,)),
        data(source="v1"),
        data(source="v2"),
    ]
    keys = [key(d) for d in seen]
    assert len(set(keys)) == len(keys)
    g = torch.Generator()
    loader = DataLoader(TensorDataset(X, Y), 4, shuffle=True, generator=g)
    before = key(data(loader))
    assert before == keys[4], "the generator is seeded by fit"
    epoch(data(loader), number=1)
    assert key(data(loader)) == before
    assert key(data(name="other")) == keys[0]


def test_the_classes_of_labels_that_a_dataset_holds_need_not_be_said():
    rows = TensorDataset(torch.rand(6, 2), torch.tensor([0, 1, 2, 0, 1, 2]))
    for train in (rows, DataLoader(rows, 2), Subset(rows, [0, 1, 2])):
        assert from_loaders(train).classes == ("0", "1", "2")
    named = FakeData(8, (1, 4, 4), 2)
    named.classes = ["cat", "dog"]
    assert from_loaders(DataLoader(Subset(named, [0, 1]), 2)).classes == ("cat", "dog")
    with pytest.raises(ValueError, match="does not name its classes"):
        from_loaders([(torch.rand(2, 2), torch.tensor([0, 1]))] * 3)


def test_what_is_no_input_beside_the_labels_is_named():
    rows = [{"image": X[i], "path": f"{i}.png", "label": int(Y[i])} for i in range(4)]
    with pytest.raises(ValueError, match=r"has 'path' beside the labels.*inputs='image'"):
        epoch(data(DataLoader(rows, 2)))
    assert epoch(data(DataLoader(rows, 2), inputs="image"))


def test_a_batch_larger_than_the_dataset_is_said():
    with pytest.raises(ValueError, match=r"its 20 examples are fewer .*batch_size=64.*drop_last"):
        epoch(data(DataLoader(ROWS, 64, drop_last=True)))


def test_floats_of_bytes_are_told_of():
    rows = TensorDataset(torch.rand(4, 3, 5, 5) * 255, torch.tensor([0, 1, 0, 1]))
    with pytest.warns(UserWarning, match=r"loaders.* to 25\d.*divide the images by 255"):
        epoch(data(DataLoader(rows, 2), mean=(0.5,), std=(0.25,)))
    with pytest.raises(ValueError, match="for 2 channels, and the images have 3"):
        epoch(data(DataLoader(rows, 2), mean=(0.5, 0.5), std=(0.25, 0.25)))


@pytest.mark.parametrize("classes", [0, ()])
def test_no_classes_are_no_classes_of_a_classification(classes):
    with pytest.raises(ValueError, match="does not name its classes"):
        data(classes=classes)
    assert from_loaders([(X, X)], classes=classes, task=Regression()).classes == ()
