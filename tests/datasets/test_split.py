"""Splits and how they are cut: without labels, oversampled, with label maps."""

import pytest
import torch
from small import blobs

from kdtutor.datasets import Data, Split, with_imbalance, with_label_noise
from kdtutor.datasets.split import held_out
from kdtutor.tasks import NoLabels, Segmentation


def maps(n=72, side=6):
    g = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 3, side, side), generator=g).byte()
    y = torch.randint(3, (n, side, side), generator=g)
    return Data("maps", ("a", "b", "c"), Split(x, y), Split(x[:8], y[:8]), task=Segmentation())


def test_unlabelled_data_are_cut_and_batched_like_any():
    split = Split(torch.arange(20.0)[:, None], None)
    data = Data("bare", (), split, None, task=NoLabels())
    train, held = data.holdout(0.25)
    assert len(train) == 15 and len(held) == 5 and train.y is None
    assert sorted([*train.index.tolist(), *held.index.tolist()]) == list(range(20))
    assert len(data.subset(7).train) == 7 and "0 test" in repr(data)
    batch = next(data.batches(data.train, 4))
    assert batch.y is None and batch.x.shape == (4, 1)


def test_labels_without_a_task_for_them_are_refused():
    with pytest.raises(ValueError, match="task is NoLabels"):
        Data("d", (), Split(torch.zeros(3, 1), torch.zeros(3).long()), task=NoLabels())


@pytest.mark.parametrize("do", [
    lambda d: d.without(1), lambda d: with_label_noise(d, 0.5), lambda d: with_imbalance(d, 0.5)])  # fmt: skip
@pytest.mark.parametrize(
    "data", [maps(), Data("bare", (), Split(torch.zeros(4, 1)), task=NoLabels())]
)
def test_what_needs_one_class_per_example_refuses_other_labels(do, data):
    with pytest.raises(ValueError, match=r"needs one class index per example.*maps|bare"):
        do(data)


def test_a_subset_of_label_maps_has_whole_images():
    data = maps()
    part = data.subset(10).train
    assert len(part) == 10 and part.y.shape == (10, 6, 6)
    train, held = data.holdout(0.5)
    assert len(train) == len(held) == 36
    assert torch.equal(held.y, data.train.y[held.index])


def test_no_copy_of_an_example_lies_on_both_sides():
    data = blobs(n=80)  # 60 to train on
    g = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.arange(60), torch.randint(60, (140,), generator=g)])
    many = Data("many", data.classes, data.train.select(rows), data.test)
    train, held = many.holdout(0.2)
    assert not set(train.index.tolist()) & set(held.index.tolist())
    assert len(train) + len(held) == 200 and 20 <= len(held) <= 70
    assert len(set(held.index.tolist())) == 12, "a fifth of the examples"


def test_without_copies_the_cut_is_what_it_always_was():
    held = held_out(blobs(n=80).train, 6, 0)
    assert held.nonzero().flatten().tolist() == [3, 19, 44, 47, 48, 49]


def test_a_mask_among_the_inputs_is_not_divided_by_255():
    image = torch.full((4, 3, 5, 5), 255, dtype=torch.uint8)
    for shape in ((4, 5, 5), (4, 1, 5, 5)):
        x = {"image": image, "mask": torch.full(shape, 2, dtype=torch.uint8)}
        data = Data("two", (), Split(x), task=NoLabels(), images=("image",))
        batch = next(data.batches(data.train, 4))
        assert batch.x["image"].max() == 1.0 and batch.x["image"].dtype == torch.float32
        assert batch.x["mask"].dtype == torch.uint8 and batch.x["mask"].min() == 2
        with pytest.raises(ValueError, match="'image', 'mask' of the inputs hold uint8"):
            Data("two", (), Split(x), task=NoLabels())
