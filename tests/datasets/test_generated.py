"""Batches that are made: their number, their chance, and what takes their place in fit."""

import pytest
import torch

from kdtutor.datasets import GeneratedData, Split
from kdtutor.tasks import Classification, NoLabels, Tokens

TEST = Split(torch.full((6, 1, 4, 4), 255, dtype=torch.uint8), torch.arange(6) % 2)


def noise(generator, batch_size, device):
    return torch.randn(batch_size, 3, generator=generator).to(device), None


def labelled(generator, batch_size, device):
    y = torch.randint(2, (batch_size,), generator=generator)
    return torch.full((batch_size, 1, 4, 4), 255, dtype=torch.uint8), y


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_epoch_has_exactly_its_steps(size):
    data = GeneratedData("noise", noise, 5)
    order = torch.Generator().manual_seed(0)
    given = list(data.batches(data.train, size, shuffle=order, augment=True, drop_last=True))
    assert len(given) == data.steps(data.train, size) == len(data.train) == 5
    for batch in given:
        assert batch.x.shape == (size, 3)
        assert (batch.y, batch.index, batch.view) == (None, None, None)
    assert len({tuple(b.x[0].tolist()) for b in given}) == 5


def test_the_generator_decides():
    data = GeneratedData("noise", noise, 3)

    def epoch(seed):
        order = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.cat([b.x for b in data.batches(data.train, 4, shuffle=order)])

    assert torch.equal(epoch(1), epoch(1)) and not torch.equal(epoch(1), epoch(2))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(epoch(None), epoch(None))
    assert torch.equal(torch.get_rng_state(), before)


def test_it_stands_where_data_stands():
    data = GeneratedData(
        "g", labelled, 4, ("a", "b"), Classification(), TEST, TEST, mean=(0.5,), std=(0.25,)
    )
    train, held = data.holdout(0.1)
    assert train is data.train and held is TEST
    assert data.holdout(0) == (data.train, None)
    assert (data.augment, data.views, train.y, train.x, len(train.index)) == (
        None,
        None,
        None,
        None,
        0,
    )
    assert train.source == "generated/g"
    for split in (data.train, TEST):  # made and read images are normalised alike
        batch = next(data.batches(split, 2))
        assert batch.x.dtype == torch.float32 and (batch.x == 2).all() and batch.y.shape == (2,)
    assert data.steps(TEST, 4) == 1 and len(list(data.batches(TEST, 4))) == 2
    assert (data.normalised(TEST.x) == 2).all()
    assert repr(data) == (
        "GeneratedData(g: 4 batches per epoch, 6 test, 2 classes, task=Classification())"
    )


def test_without_rows_at_all():
    data = GeneratedData("noise", noise, 2)
    assert len(data.test) == 0 and list(data.batches(data.test, 4)) == []
    assert data.holdout(0.5) == (data.train, None) and data.task == NoLabels()


def test_mappings_are_made_too():
    def make(generator, batch_size, device):
        ids = torch.randint(9, (batch_size, 5), generator=generator)
        return {"ids": ids, "mask": torch.ones(batch_size, 5, dtype=torch.uint8)}, ids

    data = GeneratedData("text", make, 2, task=Tokens())
    batch = next(data.batches(data.train, 3))
    assert batch.x["mask"].dtype == torch.uint8 and torch.equal(batch.y, batch.x["ids"])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GeneratedData("g", noise, 0), "steps_per_epoch=0: expected a whole number"),
        (lambda: GeneratedData("g", noise, 2.5), "steps_per_epoch=2.5"),
        (lambda: GeneratedData("g", "noise", 2), "make='noise': expected a function"),
        (
            lambda: GeneratedData("g", noise, 2, ("a",), Classification(), test=TEST),
            "g: test labels run from 0 to 1, but 1 classes",
        ),
        (
            lambda: GeneratedData("g", noise, 2, ("a",), Classification(), validation=TEST),
            "g: validation labels run from 0 to 1, but 1 classes",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda g, n, d: torch.zeros(n, 3), "g: make returned Tensor, expected a pair"),
        (lambda g, n, d: (torch.zeros(n, 3), None, 1), "g: make returned tuple, expected a pair"),
        (labelled, "g: the made batch's has labels .*task is NoLabels"),
    ],
)
def test_bad_batches(make, message):
    data = GeneratedData("g", make, 2)
    with pytest.raises(ValueError, match=message):
        next(data.batches(data.train, 2))
