"""Splits: unlabelled data, what is drawn under a seed, and repeated examples on one side."""

import hashlib

import pytest
import torch

from kdtutor.datasets import Data, Split, load, pad_boxes, with_imbalance, with_label_noise
from kdtutor.tasks import Detection, Segmentation, Tokens

SMALL = torch.arange(40.0)[:, None]


def data_of(train, **options):
    return Data("d", ("a", "b", "c"), train, train, **options)


def name_of(positions):
    return hashlib.sha256(positions.numpy().tobytes()).hexdigest()[:12]


def slow_stratified(y, n, seed):
    """Independent of the code under test: relative ranks in each class, the n smallest."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).tolist()
    if y.is_floating_point() or y.ndim != 1:
        return sorted(order[:n])
    ranked = []
    for c in sorted(set(y.tolist())):
        mine = [i for i in order if y[i] == c]
        ranked += [
            (float(torch.tensor((k + 0.5) / len(mine))), order.index(i), i)
            for k, i in enumerate(mine)
        ]
    return sorted(i for _, _, i in sorted(ranked)[:n])


@pytest.mark.parametrize("seed", [0, 3])
def test_holdout_and_subset_equal_slow_code(seed):
    y = (torch.arange(40) * 7 % 10).clamp(max=2)
    data = data_of(Split(SMALL, y))
    train, held = data.holdout(0.2, seed)
    assert held.index.tolist() == slow_stratified(y, 8, seed)
    assert sorted(train.index.tolist() + held.index.tolist()) == list(range(40))
    assert data.subset(11, seed).train.index.tolist() == slow_stratified(y, 11, seed)


def test_draws_are_those_of_earlier_versions_bit_for_bit():
    data = load("digits")
    assert name_of(data.train.y) == "ce65a15085cd"
    assert name_of(data.holdout(0.1)[1].index) == "37fb3bbf8ea2"
    assert name_of(data.holdout(0.25, 3)[1].index) == "2f83d651047c"
    assert name_of(data.subset(300, 1).train.index) == "f3ffaf13ecfb"
    assert name_of(data.without(3, 5).train.index) == "29f6750e4cd0"
    assert name_of(data.subset(300).holdout(0.1)[1].index) == "d2ba4f45b58d"
    assert name_of(with_label_noise(data, 0.4, 2).train.y) == "005ecfaddc45"
    assert name_of(with_imbalance(data, 0.5, seed=1).train.index) == "25d1e1f3181c"
    parts = Data("f", (), Split(SMALL, None), Split(SMALL, None)).holdout(0.2, 1)
    assert name_of(parts[1].index) == "65c179ca72ab"


@pytest.mark.parametrize("labelled", [True, False])
def test_repeated_examples_lie_on_one_side(labelled):
    y = torch.arange(200) % 3
    whole = Split(torch.arange(200.0)[:, None], y if labelled else None)
    rare = (y == 2).nonzero().flatten()
    many = whole.select(torch.cat([torch.arange(200), rare, rare, rare]))  # class 2 four times
    for seed in range(5):
        train, held = data_of(many).holdout(0.2, seed)
        assert not set(train.index.tolist()) & set(held.index.tolist())
        assert len(train) + len(held) == len(many) == 398
        assert len(held.index.unique()) == 40
        assert 0.15 < len(held) / len(many) < 0.25
        if labelled:
            counts = [len(held.index[held.y == c].unique()) for c in range(3)]
            assert sorted(counts) == [13, 13, 14]
    again = data_of(many).holdout(0.2, 0)[1]
    assert torch.equal(again.index, data_of(many).holdout(0.2, 0)[1].index)


def test_permuted_data_without_repetition_is_cut_row_by_row():
    split = Split(SMALL, torch.arange(40) % 3).select(torch.arange(39, -1, -1))
    expected = slow_stratified(split.y, 10, 0)
    held = data_of(split).holdout(0.25)[1]
    assert held.index.tolist() == [39 - i for i in expected]


def test_unlabelled_data():
    split = Split({"ids": torch.arange(40)[:, None]}, None, extra={"weight": torch.ones(40)})
    data = Data("d", (), split, split, task=Tokens())
    assert len(split) == 40 and split.select([3, 1]).y is None
    train, held = data.holdout(0.25)
    assert (len(train), len(held), train.y) == (30, 10, None)
    assert len(data.subset(7).train) == 7
    batch = next(data.batches(data.train, 4))
    assert batch.y is None and batch.x["ids"].flatten().tolist() == [0, 1, 2, 3]


MAPS = (torch.arange(40)[:, None, None] % 3).expand(40, 6, 1).contiguous()


@pytest.mark.parametrize(
    "y, task, words",
    [
        (MAPS, Segmentation(), r"int64 of shape \(40, 6, 1\)"),
        (None, Segmentation(), "no labels .None."),
        (
            pad_boxes([[[0, 0, 1, 1]]] * 40, [[0]] * 40),
            Detection(),
            "a mapping with 'boxes': float32 of shape .40, 1, 4.",
        ),
    ],
)
@pytest.mark.parametrize(
    "change, what",
    [
        (lambda d: d.without(1), r"without\(1\)"),
        (lambda d: with_label_noise(d, 0.1), "label noise"),
        (lambda d: with_imbalance(d, 0.5), "imbalance"),
    ],
)
def test_what_needs_class_indices_says_so(y, task, words, change, what):
    data = data_of(Split(SMALL, y), task=task)
    expected = f"{what} needs one class index per example.*training labels are {words}"
    with pytest.raises(ValueError, match=expected):
        change(data)


def test_holdout_and_subset_of_label_maps_are_plain_random():
    data = data_of(Split(SMALL, MAPS), task=Segmentation())
    plain = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:10].sort().values
    assert torch.equal(data.holdout(0.25)[1].index, plain)
    assert torch.equal(data.subset(10).train.index, plain)
    assert data.subset(10).train.y.shape == (10, 6, 1)


def test_without_a_class_that_does_not_exist():
    with pytest.raises(ValueError, match=r"without\(1, 3\): d has the classes 0 to 2, not \[3\]"):
        data_of(Split(SMALL, torch.arange(40) % 3)).without(1, 3)


@pytest.mark.parametrize(
    "y, options, message",
    [
        (torch.full((40,), 3), {}, "d: train labels run from 3 to 3, but 3 classes allow 0 to 2"),
        (MAPS, {}, "d: train labels are int64 .*classification needs.*task="),
        (torch.arange(40) % 3, {"task": Segmentation()}, "d: train labels.*segmentation needs"),
        (MAPS + 1, {"task": Segmentation()}, "d: train labels run from 1 to 3, but 3 classes"),
    ],
)
def test_labels_are_checked_by_the_task(y, options, message):
    with pytest.raises(ValueError, match=message):
        data_of(Split(SMALL, y), **options)


def test_the_task_is_part_of_the_description():
    split = Split(SMALL, MAPS)
    assert repr(data_of(split, task=Segmentation())).endswith(", task=Segmentation(ignore=255))")
    assert "task" not in repr(data_of(Split(SMALL, torch.arange(40) % 3)))


def test_steps_are_what_batches_gives():
    data = data_of(Split(SMALL, torch.arange(40) % 3))
    for size in (1, 7, 8, 40, 41, 100):
        given = list(data.batches(data.train, size, drop_last=True))
        assert data.steps(data.train, size) == len(given)


def test_pad_boxes():
    y = pad_boxes(
        [[[0, 0, 4, 4], [1, 2, 3, 4]], [], torch.tensor([[5.0, 5, 6, 6]])], [[2, 0], [], [1]]
    )
    assert y["boxes"].dtype == torch.float32 and y["labels"].dtype == torch.int64
    assert y["labels"].tolist() == [[2, 0], [-1, -1], [1, -1]]
    assert y["boxes"].tolist() == [
        [[0, 0, 4, 4], [1, 2, 3, 4]],
        [[0, 0, 0, 0]] * 2,
        [[5, 5, 6, 6], [0, 0, 0, 0]],
    ]
    assert pad_boxes([[], []], [[], []])["boxes"].shape == (2, 1, 4)
    Detection().check_labels(y, 3, "d: train")


@pytest.mark.parametrize(
    "boxes, labels, message",
    [
        ([[]], [], "boxes of 1 images but labels of 0"),
        ([[[0, 0, 1, 1]]], [[0, 1]], r"image 0 .* \(1, 4\) and labels of shape \(2,\)"),
        ([[], [[0, 0, 1]]], [[], [0]], r"image 1 has boxes of shape \(1, 3\)"),
        ([[[0, 0, 1, 1]]], [[]], "image 0 has boxes"),
    ],
)
def test_bad_boxes(boxes, labels, message):
    with pytest.raises(ValueError, match=message):
        pad_boxes(boxes, labels)


def test_data_without_a_test_set_train_and_report_none():
    from small import blobs, net

    from kdtutor import evaluate, fit
    from kdtutor.methods import CrossEntropy

    full = blobs(n=80)
    data = Data("half", full.classes, full.train)
    assert len(data.test) == 0 and "0 test" in repr(data)
    history = fit(CrossEntropy(net(1)), data, 1, progress=False)
    assert not [k for k in history.result if k.startswith("test_")]
    with pytest.raises(ValueError, match="half has no test set"):
        evaluate(net(1), data)
