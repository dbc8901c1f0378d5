"""The checks of lesson 08 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re

import pytest
import torch
import torch.nn.functional as F

from kdtutor.lessons.learning_together.checks import (
    check_gated_logits,
    check_mutual_loss,
    check_one_loss,
    one_loss,
)
from kdtutor.methods.online.mutual import mutual_loss
from kdtutor.methods.online.one import gated_logits
from kdtutor.softening import distillation_kl, soften


def unsolved(*args):
    raise NotImplementedError


def kl(target, logits, T=1.0):
    """T² KL(target || logits) with a gradient to both sides."""
    p, q = (target / T).log_softmax(1), (logits / T).log_softmax(1)
    return T**2 * (p.exp() * (p - q)).sum(1).mean()


def by_torch(logits, peers):
    log = lambda z: z.detach().log_softmax(1)
    return torch.stack(
        [
            F.kl_div(logits.log_softmax(1), log(p), reduction="batchmean", log_target=True)
            for p in peers
        ]
    ).mean()


@pytest.mark.parametrize(
    "right",
    [mutual_loss, by_torch, lambda z, peers: sum(kl(p.detach(), z) for p in peers) / len(peers)],
)
def test_mutual_loss_right(right):
    verdict = check_mutual_loss(right)
    assert verdict and "only the network that learns" in verdict.message


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda z, ps: sum(kl(p.detach(), z) for p in ps), "K-1 times too large"),
        (lambda z, ps: sum(kl(p.detach(), z) for p in ps) / (len(ps) + 1), "number of *peers*"),
        (lambda z, ps: sum(kl(z, p.detach()) for p in ps) / len(ps), "swapped"),
        (lambda z, ps: sum(F.cross_entropy(z, soften(p)) for p in ps) / len(ps), "cross-entropy"),
        (
            lambda z, ps: (
                sum(F.kl_div(z.log_softmax(1), soften(p), reduction="none").mean() for p in ps)
                / len(ps)
            ),
            "number of classes",
        ),
        (lambda z, ps: 4 * mutual_loss(z, ps), "sum over the batch"),
        (lambda z, ps: mutual_loss(z, ps[:1]), "only one peer"),
        (
            lambda z, ps: distillation_kl(z, (sum(map(soften, ps)) / len(ps)).log(), 1.0),
            "the *mean* of the peers",
        ),
        (lambda z, ps: distillation_kl(z, sum(ps) / len(ps), 1.0), "peers' logits"),
        (lambda z, ps: -mutual_loss(z, ps), "sign"),
        (lambda z, ps: sum(kl(p, z) for p in ps) / len(ps), "reaches the peers"),
        (lambda z, ps: mutual_loss(z.detach(), ps), "no gradient reaches"),
        (lambda z, ps: mutual_loss(z, ps).item(), "no gradient reaches"),
        (lambda z, ps: 1.1 * mutual_loss(z, ps), "off by"),
        (lambda z, ps: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda z: z, "TypeError"),
    ],
)
def test_mutual_loss_wrong(wrong, word):
    verdict = check_mutual_loss(wrong)
    assert not verdict and word in verdict.message


@pytest.mark.parametrize(
    "right",
    [
        gated_logits,
        lambda z, g: torch.einsum("bm,mbc->bc", g, z),
        lambda z, g: (g.T.unsqueeze(-1) * z).sum(0),
    ],
)
def test_gated_logits_right(right):
    assert check_gated_logits(right)


def weigh(w, z):
    return torch.einsum("bm,mbc->bc", w, z)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda z, g: z.mean(0), "plain mean"),
        (lambda z, g: z.sum(0), "plain sum"),
        (lambda z, g: weigh(g, z) / len(z), "already sum to 1"),
        (lambda z, g: weigh(soften(g), z), "softmaxed once more"),
        (lambda z, g: weigh(g, soften(z)), "probabilities* are mixed"),
        (lambda z, g: soften(weigh(g, z)), "without a softmax"),
        (lambda z, g: weigh(F.one_hot(g.argmax(1), g.shape[1]).float(), z), "largest weight"),
        (lambda z, g: weigh(g.mean(0).expand_as(g), z), "same weights"),
        (lambda z, g: (g.reshape(len(z), -1, 1) * z).sum(0), "transposed"),
        (lambda z, g: (g[..., None] * z).sum(0), "shape"),
        (lambda z, g: weigh(g, z).T, "shape"),
        (lambda z, g: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_gated_logits_wrong(wrong, word):
    verdict = check_gated_logits(wrong)
    assert not verdict and word in verdict.message


def one(
    mean=False,
    detach_kd=True,
    detach_ce=False,
    branches=True,
    own=True,
    kd=True,
    square=True,
    swap=False,
    share=1.0,
    kd_share=1.0,
    detach_all=False,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(z, gate, y, T):
        z, gate = (z.detach(), gate.detach()) if detach_all else (z, gate)
        ensemble = z.mean(0) if mean else gated_logits(z, gate)
        teacher = ensemble.detach() if detach_kd else ensemble
        total = branches * share * sum(F.cross_entropy(b, y) for b in z)
        total = total + own * F.cross_entropy(ensemble.detach() if detach_ce else ensemble, y)
        pair = (lambda b: kl(b, teacher, T)) if swap else (lambda b: kl(teacher, b, T))
        return total + kd * kd_share * sum(map(pair, z)) / (1 if square else T**2)

    return f


@pytest.mark.parametrize("right", [one_loss, one()])
def test_one_loss_right(right):
    verdict = check_one_loss(right)
    assert verdict and "exactly where it teaches" in verdict.message


@pytest.mark.parametrize(
    "wrong, word",
    [
        (one(own=False), "nobody trains the gate"),
        (one(branches=False), "branches' own"),
        (one(kd=False), "distillation term is missing"),
        (one(square=False), "factor T²"),
        (one(share=1 / 3, kd_share=1 / 3), "must stay sums"),
        (one(kd_share=1 / 3), "not their mean"),
        (one(swap=True), "sides are swapped"),
        (one(mean=True), "mix with the gate"),
        (one(detach_kd=False), "moves the gate"),
        (one(detach_ce=True), "gate never learns"),
        (one(detach_all=True), "no gradient reaches the branches"),
        (lambda *a: 1.1 * one()(*a), "off by"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
    ],
)
def test_one_loss_wrong(wrong, word):
    verdict = check_one_loss(wrong)
    assert not verdict and word in verdict.message


def test_the_folded_solutions_of_the_notebook_pass(repo):
    cells = json.loads(
        (repo / "notebooks" / "08_learning_together.ipynb").read_text(encoding="utf-8")
    )["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    scope = {"torch": torch, "F": F, "gated_logits": gated_logits, "plain_kl": kl}
    for solution in re.findall(r"<summary>Solution</summary>\s+```python\n(.*?)```", text, re.S):
        exec(solution, scope)
    assert check_mutual_loss(scope["my_mutual_loss"])
    assert check_gated_logits(scope["my_gated_logits"])
    assert check_one_loss(scope["my_one_loss"])
