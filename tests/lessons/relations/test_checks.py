"""The checks of lesson 07 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re

import pytest
import torch
import torch.nn.functional as F

from kdtutor.lessons.relations.checks import (
    check_contrast,
    check_pair_distances,
    check_similarity_loss,
)
from kdtutor.methods.relation.rkd import pair_distances
from kdtutor.methods.relation.similarity import similarity_loss
from kdtutor.workbook.notebooks import lessons


def unsolved(*args):
    raise NotImplementedError


def over_mean(d):
    return d * len(d) * (len(d) - 1) / d.sum()


def distances(x):
    return (x[:, None] - x[None]).square().sum(2).sqrt()


@pytest.mark.parametrize(
    "right",
    [pair_distances, lambda x: over_mean(distances(x)), lambda x: over_mean(distances(x)).tolist()],
)
def test_pair_distances_right(right):
    assert check_pair_distances(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (distances, "divide them by their mean"),
        (lambda x: distances(x) / distances(x).mean(), "diagonal"),
        (lambda x: over_mean(distances(x)) / 2, "twice too large"),
        (lambda x: distances(x) / (distances(x).triu().sum() / (len(x) * (len(x) - 1))), "half"),
        (lambda x: distances(x) / distances(x).sum(), "divide by the sum"),
        (lambda x: over_mean(distances(x) ** 2), "square root"),
        (lambda x: distances(x) ** 2, "squared"),
        (lambda x: over_mean(torch.cdist(x, x, p=1)), "absolute"),
        (lambda x: distances(x) / distances(x).max(), "largest"),
        (lambda x: distances(x) / distances(x).sum(1, keepdim=True) * (len(x) - 1), "its own mean"),
        (lambda x: distances(x)[torch.triu_indices(len(x), len(x), 1).unbind()], "shape"),
        (lambda x: None, "None"),
        (lambda x: over_mean(distances(x)).fill_diagonal_(1), "off by"),
        (unsolved, "nothing to check yet"),
        (lambda: 0, "TypeError"),
    ],
)
def test_pair_distances_wrong(wrong, word):
    verdict = check_pair_distances(wrong)
    assert not verdict and word in verdict.message, verdict


def sp(
    rows=lambda g: F.normalize(g, dim=1),
    features=lambda x: x.flatten(1),
    reduce=lambda d: d.square().mean(),
):
    """A solution, right by default, with a switch for each mistake."""

    def f(s, t):
        s, t = features(s), features(t)
        return reduce(rows(s @ s.T) - rows(t @ t.T))

    return f


@pytest.mark.parametrize("right", [similarity_loss, sp(), lambda s, t: sp()(s, t).item()])
def test_similarity_loss_right(right):
    assert check_similarity_loss(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (sp(reduce=lambda d: d.square().sum()), "division by B² is missing"),
        (sp(reduce=lambda d: d.square().sum() / len(d)), "not by B"),
        (sp(reduce=lambda d: d.norm() / len(d) ** 2), "squared"),
        (sp(reduce=lambda d: d.square().mean().sqrt()), "root"),
        (sp(rows=lambda g: g), "length 1"),
        (sp(rows=lambda g: g / g.norm()), "as a whole"),
        (
            sp(rows=lambda g: g, features=lambda x: F.normalize(x.flatten(1), dim=1)),
            "normalise the features",
        ),
        (sp(rows=lambda g: g / g.sum(1, keepdim=True)), "not its sum"),
        (sp(rows=lambda g: g.softmax(1)), "softmax"),
        (sp(reduce=lambda d: d.abs().mean()), "absolute"),
        (sp(features=lambda x: x), "RuntimeError"),
        (sp(reduce=lambda d: d.square()), "shape"),
        (lambda s, t: F.mse_loss(s, t), "RuntimeError"),
        (unsolved, "nothing to check yet"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_similarity_loss_wrong(wrong, word):
    verdict = check_similarity_loss(wrong)
    assert not verdict and word in verdict.message, verdict


def nce(
    noise=lambda k, n: k / n,
    own=1,
    others=1,
    reject=lambda h: (1 - h).log(),
    over=torch.sum,
    reduce=torch.mean,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(positive, negative, n):
        h = lambda p: p / (p + noise(negative.shape[1], n))
        return reduce(-own * h(positive).log() - others * over(reject(h(negative)), 1))

    return f


def by_softmax(positive, negative, n):
    return F.cross_entropy(
        torch.cat([positive[:, None], negative], 1).log(),
        torch.zeros(len(positive), dtype=torch.long),
    )


def test_contrast_right():
    assert check_contrast(nce()) and check_contrast(
        lambda p, q, n: nce()(p.double(), q.double(), n).item()
    )


@pytest.mark.parametrize(
    "wrong, word",
    [
        (nce(own=-1, others=-1), "sign"),
        (nce(others=0), "strangers are missing"),
        (nce(own=0), "image itself is missing"),
        (nce(over=torch.mean), "averaged"),
        (nce(reduce=torch.sum), "summed"),
        (nce(noise=lambda k, n: 1 / n), "not 1/n"),
        (nce(noise=lambda k, n: k), "not K:"),
        (nce(noise=lambda k, n: n / k), "upside down"),
        (nce(noise=lambda k, n: 1), "missing from the denominator"),
        (nce(reject=torch.log), "log(1 − h)"),
        (by_softmax, "InfoNCE"),
        (nce(reduce=lambda x: x), "shape"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_contrast_wrong(wrong, word):
    verdict = check_contrast(wrong)
    assert not verdict and word in verdict.message, verdict


def test_the_solutions_in_the_lesson_pass():
    (lesson,) = [path for path in lessons() if path.name.startswith("07")]
    text = "\n".join(
        "".join(c["source"])
        for c in json.loads(lesson.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    )
    solutions = re.findall(r"```python\n(def my_.*?)```", text, re.S)
    scope = {"torch": torch, "F": F}
    for source in solutions:
        exec(source, scope)
    assert len(solutions) == 3
    assert check_pair_distances(scope["my_pair_distances"])
    assert check_similarity_loss(scope["my_similarity_loss"]) and check_contrast(
        scope["my_contrast"]
    )
