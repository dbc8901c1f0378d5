"""Checks of lesson 07: normalised distances, the similarity loss, CRD's contrast."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...checks.verdict import Verdict, compare, explain, judge
from ...methods.relation.crd import contrast_loss
from ...methods.relation.rkd import pair_distances
from ...methods.relation.similarity import similarity_loss


def check_pair_distances(function: Callable) -> Verdict:
    """``function(x)`` (B, D) -> (B, B): Euclidean distances over the mean of the B(B-1) distances
    of different examples.
    """
    triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    cloud = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(5)) + 1

    def step(what, x):
        d, b = torch.cdist(x, x), len(x)
        squares, flat, off = d**2, (x[:, None] - x[None]).abs().sum(2), b * (b - 1)
        mistakes = {
            "you return the plain distances: divide them by their mean.": d,
            "the mean runs over all B² entries, and the B zeros of the diagonal pull it down: "
            "divide the sum by B(B−1).": d / d.mean(),
            "the mean is twice too large: the sum holds each pair twice, so divide it by B(B−1).": d
            * off
            / (2 * d.sum()),
            "the sum runs over half of the pairs and is divided by B(B−1): both must count the "
            "same pairs.": 2 * d * off / d.sum(),
            "you divide by the sum: the mean is the sum / (B(B−1)).": d / d.sum(),
            "those are squared distances: take the square root before the mean.": squares
            * off
            / squares.sum(),
            "those are plain squared distances: the root and the mean are missing.": squares,
            "that is the sum of absolute differences: RKD takes the Euclidean distance.": flat
            * off
            / flat.sum(),
            "you divide by the largest distance: RKD divides by the mean.": d / d.max(),
            "each row is divided by its own mean: take one mean for the whole batch.": d
            / (d.sum(1, keepdim=True) / (b - 1)),
            "you normalise the examples to length 1 first: the distances of x itself are "
            "wanted.": pair_distances(F.normalize(x, dim=1)),
        }
        return lambda f: explain(f(x), pair_distances(x), what, mistakes)

    return judge(
        function,
        step("the corners of the 3-4-5 triangle (0.75, 1, 1.25)", triangle),
        step("six random points", cloud),
        step("the same points, 100 times larger", 100 * cloud),
        praise="0 on the diagonal, 1 on average elsewhere, and no unit.",
    )


def check_similarity_loss(function: Callable) -> Verdict:
    """``function(student, teacher)`` (B, ...) -> scalar: ||G_s - G_t||_F^2 / B^2 with rows of G = F
    F^T of length 1.
    """
    g = torch.Generator().manual_seed(6)
    vectors = torch.randn(5, 3, generator=g) + 0.5, torch.randn(5, 7, generator=g) + 0.5
    maps = torch.rand(4, 2, 3, 3, generator=g), torch.rand(4, 5, 2, 2, generator=g)

    def step(what, student, teacher):
        s, t, b = student.flatten(1), teacher.flatten(1), len(student)
        gram, want = (lambda x: x @ x.T), similarity_loss(student, teacher)
        gap = lambda make: (make(s) - make(t)).square().sum() / b**2
        mistakes = {
            "the division by B² is missing.": want * b**2,
            "divide by B², not by B.": want * b,
            "the norm must be squared: ||·||².": (want * b**2).sqrt() / b**2,
            "that is the root of the mean square: do not take the root.": want.sqrt(),
            "the rows of G must have length 1: F.normalize(G, dim=1).": gap(gram),
            "G as a whole is scaled to length 1: each row of its own must be.": gap(
                lambda x: gram(x) / gram(x).norm()
            ),
            "you normalise the features, not the rows of G: first G = F Fᵀ, then F.normalize(G, "
            "dim=1).": gap(lambda x: gram(F.normalize(x, dim=1))),
            "a row's *length* must be 1, not its sum: F.normalize(G, dim=1).": gap(
                lambda x: gram(x) / gram(x).sum(1, keepdim=True)
            ),
            "the rows went through a softmax: divide them by their length.": gap(
                lambda x: gram(x).softmax(1)
            ),
            "absolute differences: SP squares them.": (
                F.normalize(gram(s), dim=1) - F.normalize(gram(t), dim=1)
            )
            .abs()
            .mean(),
        }
        return lambda f: explain(f(student, teacher), want, what, mistakes)

    return judge(
        function,
        step("student (5, 3), teacher (5, 7)", *vectors),
        step("maps (4, 2, 3, 3) and (4, 5, 2, 2), to be flattened", *maps),
        step("the teacher's features doubled", vectors[0], 2 * vectors[1]),
        praise="any widths, any shapes, no unit.",
    )


def check_contrast(function: Callable) -> Verdict:
    """``function(positive, negative, n)``, (B,), (B, K) -> scalar, the batch mean of -log h(P+) -
    sum log(1 - h(P-)), h = P / (P + K/n).
    """
    g = torch.Generator().manual_seed(7)
    scores = 10 * torch.rand(4, generator=g) / 50, torch.rand(4, 6, generator=g) / 50, 50

    def library(positive, negative, n):
        return contrast_loss(
            positive, negative, torch.ones_like(negative, dtype=torch.bool), negative.shape[1], n
        )

    def step(what, positive, negative, n):
        k, want = negative.shape[1], library(positive, negative, n)

        def loss(noise, own=1.0, others=1.0, reduce=torch.mean, over=torch.sum):
            h = lambda p: p / (p + noise)
            return reduce(-own * h(positive).log() - others * over((1 - h(negative)).log(), 1))

        h = lambda p: p / (p + k / n)
        rows = torch.cat([positive[:, None], negative], 1)
        mistakes = {
            "the sign is flipped: a loss is −log, so that a better score gives a smaller "
            "number.": -want,
            "the strangers are missing: subtract log(1 − h) of every negative.": loss(
                k / n, others=0.0
            ),
            "the image itself is missing: subtract log h of the positive.": loss(k / n, own=0.0),
            "the strangers are averaged: the formula sums over the K negatives.": loss(
                k / n, over=torch.mean
            ),
            "the batch is summed: take its mean.": want * len(positive),
            "the noise is K/n, not 1/n: there are K chances for a stranger.": loss(1 / n),
            "the noise is K/n, not K: a stranger is drawn with probability 1/n.": loss(float(k)),
            "the noise is K/n, not n/K: it is upside down.": loss(n / k),
            "h = P / (P + K/n): the noise K/n is missing from the denominator.": loss(1.0),
            "for a stranger it is log(1 − h), not log h.": (
                -h(positive).log() - h(negative).log().sum(1)
            ).mean(),
            "that is a softmax over all candidates (InfoNCE): CRD judges every candidate alone.": -(
                positive.log() - rows.sum(1).log()
            ).mean(),
        }
        return lambda f: explain(f(positive, negative, n), want, what, mistakes)

    def quiet(f):
        chance = torch.full((2,), 0.01), torch.full((2, 16), 0.01), 100
        return compare(
            f(*chance),
            library(*chance),
            "K = 16 at chance, P = 1/n everywhere (3.80)",
            tolerance=1e-4,
        )

    return judge(
        function,
        step("four images, six strangers each, n = 50", *scores),
        quiet,
        praise="and at chance it is log(1 + K) + K log(1 + 1/K), as it must be.",
    )
