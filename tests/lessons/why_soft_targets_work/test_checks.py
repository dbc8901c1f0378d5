"""The checks of lesson 02 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdtutor.lessons.why_soft_targets_work.checks import (
    check_cwtm_weights,
    check_kd_gradient,
    check_permute_dark_knowledge,
)
from kdtutor.methods.self_distillation.born_again import cwtm_weights, permute_dark_knowledge
from kdtutor.softening import distillation_kl, soften


def unsolved(*args):
    raise NotImplementedError


def onehot(y, z):
    return F.one_hot(y, z.shape[-1])


def kd(
    sign=1,
    divide=4,
    factor=lambda T: T,
    label_T=lambda T: 1,
    teacher_T=lambda T: T,
    student_T=lambda T: T,
    swap=False,
    weights=True,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(s, t, y, T, ce, kd):
        ce, kd = (kd, ce) if swap else (ce, kd) if weights else (1, 1)
        label = soften(s, label_T(T)) - onehot(y, s)
        return (
            sign
            * (ce * label + kd * factor(T) * (soften(s, student_T(T)) - soften(t, teacher_T(T))))
            / divide
        )

    return f


def by_autograd(s, t, y, T, ce, kd):
    s = s.clone().requires_grad_()
    (ce * F.cross_entropy(s, y) + kd * distillation_kl(s, t, T)).backward()
    return s.grad


@pytest.mark.parametrize("right", [kd(), by_autograd, lambda *a: kd()(*a).numpy()])
def test_kd_gradient_right(right):
    verdict = check_kd_gradient(right)
    assert verdict and "autograd" in verdict.message


@pytest.mark.parametrize(
    "wrong, word",
    [
        (kd(sign=-1), "sign"),
        (kd(divide=1), "divide by B"),
        (kd(divide=20), "number of classes"),
        (kd(factor=lambda T: 1 / T), "factor T²"),
        (kd(factor=lambda T: T**2), "inner derivative"),
        (kd(factor=lambda T: 1), "both"),
        (kd(label_T=lambda T: T), "plain softmax"),
        (kd(teacher_T=lambda T: 1), "teacher must be softened"),
        (kd(student_T=lambda T: 1), "student must be softened"),
        (kd(swap=True), "swapped"),
        (kd(weights=False), "weights are missing"),
        (lambda *a: kd()(*a).sum(), "shape"),
        (lambda *a: None, "None"),
        (lambda *a: 1.1 * kd()(*a), "off by"),
        (lambda *a: kd()(*a) * float("nan"), "NaN"),
        (unsolved, "nothing to check yet"),
        (lambda s, t: s, "TypeError"),
    ],
)
def test_kd_gradient_wrong(wrong, word):
    verdict = check_kd_gradient(wrong)
    assert not verdict and word in verdict.message


def test_cwtm_weights_right():
    loop = lambda z: torch.tensor(
        [c / sum(cs) for cs in [[float(torch.softmax(r, 0).max()) for r in z]] for c in cs]
    )
    assert check_cwtm_weights(cwtm_weights) and check_cwtm_weights(loop)


top = lambda z: z.softmax(1).amax(1)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (top, "divide them by their sum"),
        (lambda z: top(z) / top(z).mean(), "sum to B"),
        (lambda z: z.amax(1) / z.amax(1).sum(), "largest *logit*"),
        (lambda z: z.amax(1).softmax(0), "compares logits"),
        (lambda z: top(z).softmax(0), "second softmax"),
        (lambda z: (w := z.softmax(0).amax(1)) / w.sum(), "over the batch"),
        (lambda z: (w := z.softmax(1).amin(1)) / w.sum(), "smallest"),
        (lambda z: (w := 1 - top(z)) / w.sum(), "upside down"),
        (lambda z: cwtm_weights(z)[:, None], "shape"),
        (lambda z: None, "None"),
        (lambda z: torch.full((len(z),), 1 / len(z)), "off by"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_cwtm_weights_wrong(wrong, word):
    verdict = check_cwtm_weights(wrong)
    assert not verdict and word in verdict.message


def by_loop(probs):
    out = probs.clone()
    for row in out:
        others = torch.tensor([i for i in range(len(row)) if i != row.argmax()])
        row[others] = row[others[torch.randperm(len(others))]]
    return out


def with_numpy(probs):
    out, rng = probs.numpy().copy(), np.random.default_rng()
    for row in out:
        others = np.delete(np.arange(len(row)), row.argmax())
        row[others] = rng.permutation(row[others])
    return out


def moved(order):
    """Each row's wrong answers rearranged by a function of their number."""

    def f(probs):
        out = probs.clone()
        for row in out:
            others = torch.tensor([i for i in range(len(row)) if i != row.argmax()])
            row[others] = row[others][order(len(others))]
        return out

    return f


def in_place(probs):
    probs.copy_(permute_dark_knowledge(probs))
    return probs


def one_for_all(probs):
    order = torch.randperm(probs.shape[1] - 1)
    return moved(lambda n: order)(probs)


@pytest.mark.parametrize("right", [permute_dark_knowledge, by_loop, with_numpy])
def test_permute_right(right):
    assert check_permute_dark_knowledge(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda p: p.clone(), "nothing was shuffled"),
        (lambda p: p[torch.randperm(len(p))], "rows across the batch"),
        (lambda p: p[:, torch.randperm(p.shape[1])], "must keep its place"),
        (lambda p: permute_dark_knowledge(p) * 1.01, "keep its values"),
        (lambda p: torch.rand_like(p).softmax(1), "keep its values"),
        (one_for_all, "fresh shuffle"),
        (moved(lambda n: torch.arange(n).flip(0)), "fresh shuffle"),
        (moved(lambda n: torch.arange(n).roll(int(torch.randint(n, ())))), "not shuffling"),
        (
            moved(lambda n: torch.randperm(n) if torch.rand(()) < 0.5 else torch.arange(n)),
            "too often",
        ),
        (in_place, "changes its input"),
        (lambda p: p[:, 1:], "shape"),
        (lambda p: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_permute_wrong(wrong, word):
    verdict = check_permute_dark_knowledge(wrong)
    assert not verdict and word in verdict.message


def test_the_check_of_a_shuffle_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    check_permute_dark_knowledge(permute_dark_knowledge)
    assert torch.equal(state, torch.get_rng_state())


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads(
        (repo / "notebooks" / "02_why_soft_targets_work.ipynb").read_text(encoding="utf-8")
    )["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"torch": torch, "F": F, "soften": soften}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_kd_gradient(scope["my_kd_gradient"])
    assert check_cwtm_weights(scope["my_cwtm_weights"])
    assert check_permute_dark_knowledge(scope["my_shuffle"])
