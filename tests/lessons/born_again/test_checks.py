"""The checks of lesson 03 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdtutor.lessons.born_again.checks import check_ban_loss, check_ensemble, check_paired_gain
from kdtutor.softening import distillation_kl, ensemble_targets, soften


def unsolved(*args):
    raise NotImplementedError


def ban(s, t):
    return -(soften(t.detach()) * F.log_softmax(s, 1)).sum(1).mean()


@pytest.mark.parametrize(
    "right",
    [
        ban,
        lambda s, t: F.cross_entropy(s, t.detach().softmax(1)),
        lambda s, t: distillation_kl(s, t, 1.0),
        lambda s, t: F.kl_div(F.log_softmax(s, 1), soften(t.detach()), reduction="batchmean"),
    ],
)
def test_ban_loss_right(right):
    verdict = check_ban_loss(right)
    assert verdict and "(q − p) / B" in verdict.message


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda s, t: -ban(s, t), "minus sign"),
        (lambda s, t: ban(s, t) * len(s), "mean over the batch"),
        (lambda s, t: ban(s, t) / s.shape[1], "number of classes"),
        (lambda s, t: ban(t, s), "swapped"),
        (lambda s, t: distillation_kl(t, s, 1.0), "wrong way round"),
        (
            lambda s, t: F.kl_div(F.log_softmax(s, 1), soften(t), reduction="none").mean(),
            "batchmean",
        ),
        (lambda s, t: F.cross_entropy(s, t.argmax(1)), "that is a label"),
        (lambda s, t: F.cross_entropy(s, t), "no probabilities"),
        (lambda s, t: F.cross_entropy(soften(s), soften(t)), "taken twice"),
        (lambda s, t: F.mse_loss(soften(s), soften(t)), "squared distance"),
        (lambda s, t: ban(s / 4, t / 4), "T = 4"),
        (lambda s, t: ban(s, t).item(), "must be a tensor"),
        (lambda s, t: F.cross_entropy(s, soften(t)), "teacher would learn"),
        (lambda s, t: -(soften(t.detach()) * soften(s).log()).sum(1).mean(), "log_softmax"),
        (lambda s, t: -(soften(t.detach()) * F.log_softmax(s, 1)).sum(1), "shape"),
        (lambda s, t: 1.1 * ban(s, t), "off by"),
        (lambda s, t: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_ban_loss_wrong(wrong, word):
    verdict = check_ban_loss(wrong)
    assert not verdict and word in verdict.message


@pytest.mark.parametrize(
    "right",
    [
        ensemble_targets,
        lambda z: sum(m.softmax(1) for m in z) / len(z),
        lambda z: z.softmax(-1).mean(0).numpy(),
    ],
)
def test_ensemble_right(right):
    assert check_ensemble(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda z: soften(z.mean(0)), "geometric"),
        (lambda z: z.mean(0), "mean of the logits"),
        (lambda z: soften(z).sum(0), "divide by the number"),
        (lambda z: soften(soften(z).mean(0)), "second softmax"),
        (lambda z: z.softmax(0).mean(0), "over the members"),
        (lambda z: soften(z).amax(0), "most certain"),
        (lambda z: soften(z)[0], "first member"),
        (lambda z: F.one_hot(z.argmax(-1), z.shape[-1]).float().mean(0), "votes"),
        (lambda z: z.exp().mean(0) / z.exp().mean(0).sum(1, keepdim=True), "off by"),
        (lambda z: (z.exp() / z.exp().sum(-1, keepdim=True)).mean(0), "NaN"),
        (lambda z: soften(z).mean(1), "shape"),
        (lambda z: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_ensemble_wrong(wrong, word):
    verdict = check_ensemble(wrong)
    assert not verdict and word in verdict.message


def paired(teacher, student):
    d = teacher - student
    return d.mean(), d.std() / len(d) ** 0.5


def with_numpy(teacher, student):
    d = teacher.numpy() - student.numpy()
    return d.mean(), d.std(ddof=1) / np.sqrt(len(d))


@pytest.mark.parametrize(
    "right",
    [
        paired,
        with_numpy,
        lambda *a: torch.stack(paired(*a)),
        lambda *a: [float(v) for v in paired(*a)],
    ],
)
def test_paired_gain_right(right):
    assert check_paired_gain(right)


mean = lambda t, s: (t - s).mean()


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda t, s: paired(s, t), "sign"),
        (lambda t, s: (mean(t, s), (t - s).std()), "divide by √S"),
        (lambda t, s: (mean(t, s), (t - s).std() / len(t)), "not by S"),
        (lambda t, s: (mean(t, s), (t - s).var() / len(t)), "variance"),
        (lambda t, s: (mean(t, s), (t - s).numpy().std() / len(t) ** 0.5), "S − 1"),
        (lambda t, s: (mean(t, s), ((t.var() + s.var()) / len(t)).sqrt()), "strangers"),
        (lambda t, s: ((t - s).sum(), paired(t, s)[1]), "sum"),
        (lambda t, s: (((t - s) / t).mean(), paired(t, s)[1]), "relative"),
        (lambda t, s: paired(t, s)[::-1], "swapped"),
        (lambda t, s: mean(t, s), "one number"),
        (lambda t, s: (1, 2, 3), "returned 3"),
        (lambda t, s: t - s, "shape"),
        (lambda t, s: (mean(t, s), 5.0), "off by"),
        (lambda t, s: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_paired_gain_wrong(wrong, word):
    verdict = check_paired_gain(wrong)
    assert not verdict and word in verdict.message


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads((repo / "notebooks" / "03_born_again.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"torch": torch, "F": F, "soften": soften}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_ban_loss(scope["my_ban_loss"])
    assert check_ensemble(scope["my_ensemble"])
    assert check_paired_gain(scope["my_paired_gain"])
