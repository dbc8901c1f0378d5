"""Two ways to spoil a training set on purpose: wrong labels and unequal classes. Test sets always
stay clean.

Both follow the study "Knowledge Distillation Beyond Model Compression" (Sarfraz, Arani, Zonooz
2020) as its authors' own evaluation code has it."""

from dataclasses import replace

import torch

from ..errors import explained
from .data import Data
from .split import class_indices

# Added to the seed of label noise. With the numbers that draw a validation split, that split would
# consist of redrawn labels.
STREAM = 10_000


@explained
def with_label_noise(data: Data, rate: float, seed: int = 0) -> Data:
    """The data with symmetric label noise: ``round(rate · N)`` training labels become a class drawn
    uniformly over all C.

    The draw is inclusive, it may give the true class again, so the share of labels that end up
    *wrong* is only ``rate · (C - 1) / C``: 0.9 · rate for ten classes. The study draws each label
    with probability ``rate``; here their number is exact, which has the same mean and no spread.
    Under one seed the noise is nested: what is wrong at 0.2 is wrong in the same way at 0.4.

    Args:
        data: Any data whose labels are class indices.
        rate: A share of the training labels, 0 to 1.
        seed: Decides which labels, and what becomes of them.

    Returns:
        The data, whose images and test set are the very same objects;
        ``train.extra["clean_labels"]`` keeps the labels as they were.

    Raises:
        ValueError: For a rate outside [0, 1], or labels that are not class indices.

    Source:
        Sarfraz, Arani, Zonooz, "Knowledge Distillation Beyond Model Compression" (2020), as its
        authors' own evaluation code has it.

    Example:
        >>> from kdtutor.datasets import load
        >>> noisy = with_label_noise(load("digits"), 0.5).train
        >>> bool((noisy.y == noisy.extra["clean_labels"]).all())
        False
    """
    if not 0 <= rate <= 1:
        raise ValueError(
            f"label noise rate {rate}: expected a share of the training labels, 0 to 1."
        )
    g = torch.Generator().manual_seed(STREAM + seed)
    clean, n = class_indices(data.train, "label noise"), len(data.train)
    order = torch.randperm(n, generator=g)
    # Drawn for every example, whatever the rate: that makes it nested.
    drawn = torch.randint(len(data.classes), (n,), generator=g)
    y, hit = clean.clone(), order[: round(rate * n)]
    y[hit] = drawn[hit]
    # Already noisy data keeps its first, truly clean labels.
    extra = {"clean_labels": clean, **data.train.extra}
    return replace(
        data, name=f"{data.name}-noise{rate:g}", train=replace(data.train, y=y, extra=extra)
    )


@explained
def imbalanced_counts(classes: int, gamma: float, n_max: int, n_min: int) -> list[int]:
    """How many images each class keeps: n_c = round(a / (b + c^gamma)) for c = 1..C.

    n_1 = n_max and n_C = n_min, with b = (n_min · C^gamma - n_max) / (n_max - n_min) and
    a = n_max · (1 + b). The smaller gamma, the steeper the fall after the first class.

    Args:
        classes: C, two or more.
        gamma: Above 0 and up to 50 (try 0.2 to 2).
        n_max: Images of the first class.
        n_min: Images of the last class, 1 to n_max.

    Returns:
        C numbers, the largest first.

    Raises:
        ValueError: Unless 0 < gamma <= 50, there are two classes or more and n_max >= n_min >= 1.

    Source:
        Sarfraz, Arani, Zonooz, "Knowledge Distillation Beyond Model Compression" (2020), as its
        authors' own evaluation code has it.

    Example:
        >>> imbalanced_counts(4, 1.0, 100, 10)
        [100, 25, 14, 10]
    """
    if not 0 < gamma <= 50:
        raise ValueError(
            f"imbalance gamma is {gamma}: expected an exponent above 0 and up to 50 (try 0.2 to 2)."
        )
    if classes < 2:
        raise ValueError(f"imbalance needs two classes or more, not {classes}.")
    if not 1 <= n_min <= n_max:
        raise ValueError(
            f"imbalance from n_max={n_max} down to n_min={n_min} images: expected n_max >= n_min "
            ">= 1."
        )
    if n_max == n_min:
        return [n_max] * classes
    b = (n_min * classes**gamma - n_max) / (n_max - n_min)
    return [round(n_max * (1 + b) / (b + c**gamma)) for c in range(1, classes + 1)]


@explained
def with_imbalance(
    data: Data,
    gamma: float,
    seed: int | None = None,
    n_max: int | None = None,
    n_min: int | None = None,
) -> Data:
    """The data whose training set keeps ``imbalanced_counts`` images of each class.

    The first class keeps most, the last fewest.

    Args:
        data: Any data whose labels are class indices.
        gamma: How steeply the numbers fall, above 0 and up to 50.
        seed: None keeps the *first* images of a class, in the training set's own order, as the
            study does; a number draws them at random.
        n_max: Images of the first class. Default: as many as the smallest class has.
        n_min: Images of the last class. Default: a twentieth of n_max, at least 1.

    Returns:
        The data, whose test set is the very same object.

    Raises:
        ValueError: As ``imbalanced_counts`` does, for a class that has fewer images than it should
            keep, and for labels that are not class indices.

    Source:
        Sarfraz, Arani, Zonooz, "Knowledge Distillation Beyond Model Compression" (2020), as its
        authors' own evaluation code has it.

    Example:
        >>> from kdtutor.datasets import load
        >>> with_imbalance(load("digits"), 1.0, n_max=60, n_min=6).train.y.bincount()[[0, 9]]
        tensor([60,  6])
    """
    y = class_indices(data.train, "imbalance")
    have = torch.bincount(y, minlength=len(data.classes)).tolist()
    n_max = min(have) if n_max is None else n_max
    counts = imbalanced_counts(
        len(data.classes), gamma, n_max, max(1, round(n_max / 20)) if n_min is None else n_min
    )
    g = None if seed is None else torch.Generator().manual_seed(seed)
    kept = []
    for c, n in enumerate(counts):
        if n > have[c]:
            raise ValueError(
                f"class {data.classes[c]!r} should keep {n} training images but has {have[c]}: "
                "choose a smaller n_max."
            )
        mine = (y == c).nonzero().flatten()
        kept.append(mine[:n] if g is None else mine[torch.randperm(len(mine), generator=g)[:n]])
    return replace(
        data,
        name=f"{data.name}-gamma{gamma:g}",
        train=data.train.select(torch.cat(kept).sort().values),
    )
