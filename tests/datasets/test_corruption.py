"""Label noise and class imbalance: exact numbers, nothing else touched, test sets clean."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtutor.datasets import Data, Split, with_imbalance, with_label_noise
from kdtutor.datasets.corruption import imbalanced_counts


def toy(per_class=20, classes=5, seed=0):
    y = torch.arange(classes).repeat_interleave(per_class)[
        torch.randperm(per_class * classes, generator=torch.manual_seed(seed))
    ]
    x = torch.arange(len(y), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Data("toy", tuple("abcdefghij"[:classes]), Split(x, y), Split(x[:10], y[:10]))


@settings(max_examples=30)
@given(rate=st.floats(0, 1), seed=st.integers(0, 1000))
def test_noise_redraws_exactly_the_share_it_says(rate, seed):
    data = toy()
    noisy = with_label_noise(data, rate, seed)
    assert (noisy.train.y != data.train.y).sum() <= round(rate * 100)
    assert torch.equal(noisy.train.extra["clean_labels"], data.train.y)
    assert (
        noisy.train.x is data.train.x
        and noisy.test is data.test
        and noisy.train.index is data.train.index
    )
    assert noisy.train.source == data.train.source, (
        "the images are the same, a teacher's answers to them stay valid"
    )


def test_noise_is_inclusive_and_uniform():
    data = toy(per_class=4000, classes=5)
    noisy = with_label_noise(
        Data("many", data.classes, Split(torch.zeros(20_000, 1), data.train.y), data.test),
        0.5,
        seed=1,
    )
    wrong = (noisy.train.y != data.train.y).float().mean().item()
    assert abs(wrong - 0.5 * 4 / 5) < 0.01, (
        "redrawn labels may be the true class again: rate (C-1)/C are wrong"
    )
    changed = noisy.train.y[(noisy.train.y != data.train.y) & (data.train.y == 2)]
    shares = torch.bincount(changed, minlength=5) / len(changed)
    assert shares[2] == 0 and (shares[[0, 1, 3, 4]] - 0.25).abs().max() < 0.04


def test_noise_is_nested_repeatable_and_depends_on_the_seed():
    data = toy()
    little, much, again, other = (
        with_label_noise(data, r, s).train.y for r, s in ((0.2, 3), (0.4, 3), (0.4, 3), (0.4, 4))
    )
    hit = little != data.train.y
    assert hit.any() and torch.equal(little[hit], much[hit])
    assert torch.equal(much, again) and not torch.equal(much, other)


def test_noise_at_the_ends_and_names():
    data = toy()
    assert torch.equal(with_label_noise(data, 0, 0).train.y, data.train.y)
    assert 60 <= (with_label_noise(data, 1, 0).train.y != data.train.y).sum() <= 95
    assert with_label_noise(data, 0.4, 0).name == "toy-noise0.4"
    twice = with_label_noise(with_label_noise(data, 0.4, 0), 0.2, 1)
    assert torch.equal(twice.train.extra["clean_labels"], data.train.y)


@pytest.mark.parametrize("rate", [0.2, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_noise_strikes_training_and_validation_alike(rate, seed):
    n = 2000
    data = Data(
        "many",
        tuple("abcdefghij"),
        Split(torch.zeros(n, 1), torch.arange(n) % 10),
        Split(torch.zeros(10, 1), torch.arange(10)),
    )
    noisy = with_label_noise(data, rate, seed)
    for held_seed in range(4):
        for part in noisy.holdout(0.1, held_seed):
            wrong = float((part.y != part.extra["clean_labels"]).double().mean())
            assert abs(wrong - 0.9 * rate) < 4 * (0.25 / len(part)) ** 0.5, (
                held_seed,
                len(part),
                wrong,
            )


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_noise_rate_out_of_range(rate):
    with pytest.raises(
        ValueError, match="label noise rate .*: expected a share of the training labels, 0 to 1"
    ):
        with_label_noise(toy(), rate, 0)


PUBLISHED = {  # ten classes, 5000 down to 250: the study's CIFAR-10
    0.2: [5000, 858, 557, 439, 375, 333, 304, 282, 264, 250],
    0.6: [5000, 1166, 720, 539, 440, 376, 331, 297, 271, 250],
    1.0: [5000, 1607, 957, 682, 529, 433, 366, 317, 280, 250],
    2.0: [5000, 3173, 1972, 1289, 892, 648, 490, 382, 306, 250],
}


@pytest.mark.parametrize("gamma", PUBLISHED)
def test_published_counts(gamma):
    assert imbalanced_counts(10, gamma, 5000, 250) == PUBLISHED[gamma]


def test_the_defaults_are_the_study_s():
    y = torch.arange(10).repeat(5000)
    data = Data(
        "cifar",
        tuple("0123456789"),
        Split(torch.zeros(50_000, 1), y),
        Split(torch.zeros(10, 1), torch.arange(10)),
    )
    assert torch.bincount(with_imbalance(data, 0.2).train.y).tolist() == PUBLISHED[0.2]


@settings(max_examples=50)
@given(
    classes=st.integers(2, 50),
    gamma=st.floats(0.01, 50),
    n_max=st.integers(1, 5000),
    share=st.floats(0, 1),
)
def test_counts_fall_from_n_max_to_n_min(classes, gamma, n_max, share):
    n_min = max(1, round(n_max * share))
    counts = imbalanced_counts(classes, gamma, n_max, n_min)
    assert (
        counts[0] == n_max
        and counts[-1] == n_min
        and counts == sorted(counts, reverse=True)
        and len(counts) == classes
    )


def test_imbalance_keeps_the_first_or_a_seeded_choice():
    data = toy()
    first = with_imbalance(data, 1.0, n_max=20, n_min=2)
    counts = imbalanced_counts(5, 1.0, 20, 2)
    expected = [
        i for i, c in enumerate(data.train.y.tolist()) if (data.train.y[:i] == c).sum() < counts[c]
    ]
    assert (
        first.train.index.tolist() == expected
        and first.test is data.test
        and first.name == "toy-gamma1"
    )
    assert torch.equal(first.train.x, data.train.x[first.train.index]) and torch.equal(
        first.train.y, data.train.y[expected]
    )
    drawn = [with_imbalance(data, 1.0, seed=s, n_max=20, n_min=2).train for s in (0, 0, 1)]
    assert torch.equal(drawn[0].index, drawn[1].index) and not torch.equal(
        drawn[0].index, drawn[2].index
    )
    assert (
        all(torch.bincount(split.y).tolist() == counts for split in drawn)
        and drawn[0].index.tolist() != expected
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(gamma=0), "gamma is 0: expected an exponent above 0"),
        (dict(gamma=-1), "gamma is -1: expected"),
        (dict(gamma=float("nan")), "gamma is nan: expected"),
        (dict(gamma=float("inf")), "gamma is inf: expected"),
        (
            dict(gamma=1, n_max=2, n_min=3),
            "n_max=2 down to n_min=3 images: expected n_max >= n_min >= 1",
        ),
        (dict(gamma=1, n_min=0), "n_max >= n_min >= 1"),
        (
            dict(gamma=1, n_max=21),
            "class 'a' should keep 21 training images but has 20: choose a smaller n_max",
        ),
    ],
)
def test_bad_imbalance(arguments, message):
    with pytest.raises(ValueError, match=message):
        with_imbalance(toy(), **arguments)


def test_imbalance_of_one_class():
    with pytest.raises(ValueError, match="two classes or more, not 1"):
        imbalanced_counts(1, 1.0, 5, 1)
