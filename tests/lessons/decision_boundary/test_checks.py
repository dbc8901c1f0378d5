"""The checks of lesson 04 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re

import pytest
import torch
import torch.nn.functional as F

from kdtutor.lessons.decision_boundary.checks import (
    check_base_samples,
    check_boundary_step,
    check_target_probabilities,
)
from kdtutor.methods.response.boundary_support import base_samples, boundary_samples
from kdtutor.models import mlp
from kdtutor.softening import soften


def unsolved(*args):
    raise NotImplementedError


# --- Exercise 1


def step(
    sign=1,
    power=2,
    use_bias=True,
    normal=lambda W, b, t: W[t] - W[b],
    gap=lambda z, b, t: z[b] - z[t],
    part=1.0,
    add=True,
    norm=2,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(x, weight, bias, base, target):
        z, g = weight @ x + (bias if use_bias else 0), normal(weight, base, target)
        move = sign * part * gap(z, base, target) * g / g.norm(p=norm) ** power
        return x + move if add else move

    return f


def by_autograd(x, weight, bias, base, target):
    x = x.clone().requires_grad_()
    gap = (weight @ x + bias)[base] - (weight @ x + bias)[target]
    (g,) = torch.autograd.grad(gap, x)
    return (x - gap * g / g.norm() ** 2).detach()


def by_library(x, weight, bias, base, target):
    net = mlp((), classes=2, inputs=len(x))  # of two classes, so that no third one stops the walk
    net.fc.weight.data, net.fc.bias.data = weight[[base, target]], bias[[base, target]]
    if net(x[None]).argmax() != 0:  # on the target's side already: walk from there
        net.fc.weight.data, net.fc.bias.data = net.fc.weight.data.flip(0), net.fc.bias.data.flip(0)
    return boundary_samples(
        net, x[None], 0, 1, 1, 1 / float((weight[base] - weight[target]).norm()), overshoot=0.0
    )[0]


def in_place(x, *args):
    x += step(add=False)(x, *args)
    return x


@pytest.mark.parametrize(
    "right", [step(), by_autograd, by_library, lambda x, W, b, c, t: step()(x, W, b, t, c)]
)
def test_boundary_step_right(right):
    assert check_boundary_step(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (step(sign=-1), "other way"),
        (step(power=1), "divided by the length once"),
        (step(power=0), "did not divide"),
        (step(use_bias=False), "bias"),
        (step(add=False), "add it to x"),
        (step(part=0.5), "half"),
        (step(normal=lambda W, b, t: W[t]), "target's weights alone"),
        (step(normal=lambda W, b, t: -W[b]), "base's weights alone"),
        (step(gap=lambda z, b, t: z[b]), "not z_base alone"),
        (step(norm=1), "L2 norm"),
        (step(part=0.3, power=1), "off by"),
        (in_place, "changes its input"),
        (lambda *a: step()(*a)[None], "shape"),
        (lambda *a: None, "None"),
        (lambda x: x, "TypeError"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_boundary_step_wrong(wrong, word):
    verdict = check_boundary_step(wrong)
    assert not verdict and word in verdict.message


# --- Exercise 2


def odds(z):
    return soften(z.scatter(1, z.argmax(1, keepdim=True), float("-inf")))


def others(z):
    return soften(z).scatter(1, z.argmax(1, keepdim=True), 0.0)


def by_rows(z):
    out = torch.zeros_like(z)
    for row, logits in zip(out, z):
        rest = [k for k in range(len(logits)) if k != logits.argmax()]
        row[rest] = torch.softmax(logits[rest], 0)
    return out


@pytest.mark.parametrize("right", [odds, by_rows])
def test_target_probabilities_right(right):
    assert check_target_probabilities(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (others, "do not sum to 1"),
        (soften, "must get 0"),
        (lambda z: others(z) / (1 - soften(z).amax(1, keepdim=True)), "very sure teacher"),
        (lambda z: soften(z.scatter(1, z.argmax(1, keepdim=True), 0.0)), "Set it to −∞"),
        (lambda z: others(z) / soften(z).amax(1, keepdim=True), "divided by max p"),
        (lambda z: (others(z) > 0) / (others(z) > 0).sum(1, keepdim=True), "not equally likely"),
        (lambda z: F.one_hot(others(z).argmax(1), z.shape[1]).float(), "second best"),
        (
            lambda z: soften(soften(z).scatter(1, z.argmax(1, keepdim=True), float("-inf"))),
            "second softmax",
        ),
        (lambda z: others(z) / others(z).sum(0), "over the batch"),
        (
            lambda z: (
                (q := (1 - soften(z)).scatter(1, z.argmax(1, keepdim=True), 0))
                / q.sum(1, keepdim=True)
            ),
            "stay unlikely",
        ),
        (lambda z: odds(z).argmax(1), "shape"),
        (lambda z: 1.1 * odds(z), "off by"),
        (lambda z: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_target_probabilities_wrong(wrong, word):
    verdict = check_target_probabilities(wrong)
    assert not verdict and word in verdict.message


# --- Exercise 3


def chooser(
    mask=lambda s, t, y: (s.argmax(1) == y) & (t.argmax(1) == y),
    score=lambda d: d.square(),
    space=soften,
    drop_true=True,
    sign=1,
    limit=True,
    local=False,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(s, t, y, most):
        chosen = mask(s, t, y).nonzero()[:, 0]
        keep = 1 - F.one_hot(y, s.shape[1]) if drop_true else 1
        value = sign * (score(space(t) - space(s)) * keep).sum(1)[chosen]
        best = value.topk(min(most, len(chosen)) if limit else len(chosen)).indices
        return best if local and len(chosen) > most else chosen[best]

    return f


@pytest.mark.parametrize("right", [base_samples, chooser(), lambda *a: chooser()(*a).tolist()])
def test_base_samples_right(right):
    assert check_base_samples(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (chooser(mask=lambda s, t, y: t.argmax(1) == y), "student must be right as well"),
        (chooser(mask=lambda s, t, y: s.argmax(1) == y), "teacher must be right as well"),
        (
            chooser(mask=lambda s, t, y: (s.argmax(1) == y) | (t.argmax(1) == y)),
            "both must be right",
        ),
        (chooser(mask=lambda s, t, y: ~((s.argmax(1) == y) & (t.argmax(1) == y))), "upside down"),
        (chooser(mask=lambda s, t, y: s.argmax(1) == t.argmax(1)), "to agree is not enough"),
        (chooser(sign=-1), "differ *least*"),
        (chooser(drop_true=False), "wrong classes only"),
        (chooser(space=lambda z: z), "compared logits"),
        (chooser(score=abs), "absolute"),
        (chooser(score=lambda d: d), "plain difference"),
        (chooser(limit=False), "at most 6"),
        (chooser(local=True), "among the qualifying"),
        (
            lambda s, t, y, m: ((s.argmax(1) == y) & (t.argmax(1) == y)).nonzero()[:m, 0],
            "the first ones",
        ),
        (lambda s, t, y, m: (s.argmax(1) == y) & (t.argmax(1) == y), "mask"),
        (lambda *a: chooser()(*a)[:, None], "shape"),
        (
            lambda s, t, y, m: (
                base_samples(s, t, y, m)
                if m == 60 or bool((s.argmax(1) == y).any())
                else torch.tensor([0])
            ),
            "nothing qualifies",
        ),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_base_samples_wrong(wrong, word):
    verdict = check_base_samples(wrong)
    assert not verdict and word in verdict.message


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads(
        (repo / "notebooks" / "04_decision_boundary.ipynb").read_text(encoding="utf-8")
    )["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"torch": torch, "F": F, "soften": soften}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_boundary_step(scope["my_step"])
    assert check_target_probabilities(scope["my_target_probabilities"])
    assert check_base_samples(scope["my_base_samples"])
