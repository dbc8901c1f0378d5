"""Checks of lesson 08: the mutual loss of K peers, gated logits, and which tensors must be
constants in ONE's loss.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks.verdict import Verdict, compare, explain, judge
from ...methods.online.mutual import mutual_loss
from ...methods.online.one import gated_logits
from ...softening import distillation_kl, soften


def _gradients(value, *inputs: Tensor) -> list[Tensor]:
    """The gradient of a scalar by each input; zeros where none arrives."""
    if not (isinstance(value, Tensor) and value.requires_grad):
        return [torch.zeros_like(x) for x in inputs]
    return [
        torch.zeros_like(x) if g is None else g
        for x, g in zip(inputs, torch.autograd.grad(value.sum(), inputs, allow_unused=True))
    ]


def _kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(target || logits), with a gradient to both."""
    p, q = (z.div(temperature).log_softmax(-1) for z in (target, logits))
    return temperature**2 * (p.exp() * (p - q)).sum(-1).mean()


def check_mutual_loss(function: Callable) -> Verdict:
    """``function(logits, peers)`` -> scalar, 1/(K-1) sum of KL(p_peer || p); logits (B, C), peers:
    list of (B, C), constants.
    """
    g = torch.Generator().manual_seed(8)
    z = 2 * torch.randn(5, 4, 6, generator=g)

    def value(what, peers):
        def step(f):
            n, want = len(peers), mutual_loss(z[0], peers)
            p, q = [soften(t) for t in peers], z[0].log_softmax(1)
            mistakes = {
                "it is K-1 times too large: divide by the number of peers.": n * want,
                "divide by the number of *peers*, K-1, not by the number of networks, K.": want
                * n
                / (n + 1),
                "the two sides are swapped: KL(peer || own) weighs the log ratios with the "
                "*peer's* probabilities.": sum(_kl(z[0], t) for t in peers) / n,
                "this is the cross-entropy: subtract the peer's entropy (log p of the peer is "
                "missing).": -sum((t * q).sum(1).mean() for t in p) / n,
                "it is too small by the number of classes: take the mean over the batch only.": want
                / 6,
                "it is a sum over the batch: take the mean.": want * 4,
                "only one peer is asked: sum over all of them.": mutual_loss(z[0], peers[:1]),
                "this is KL to the *mean* of the peers: the same gradient, but another number. "
                "Take the mean of the KLs.": distillation_kl(z[0], (sum(p) / n).log(), 1.0),
                "you averaged the peers' logits: take a KL for each peer, then the "
                "mean.": distillation_kl(z[0], sum(peers) / n, 1.0),
                "the sign is flipped: a KL is never negative.": -want,
            }
            return explain(f(z[0].clone(), [t.clone() for t in peers]), want, what, mistakes)

        return step

    def constants(f):
        own, peers = z[0].clone().requires_grad_(), [t.clone().requires_grad_() for t in z[1:4]]
        value = f(own, peers)
        mine, *theirs = _gradients(value, own, *peers)
        if not mine.abs().sum():
            return "no gradient reaches `logits`: detach the peers, not the network that learns."
        if any(t.abs().sum() for t in theirs):
            return (
                "the value is right, but its gradient reaches the peers: their answers are "
                "constants, so detach them."
            )
        return compare(mine, _gradients(mutual_loss(own, peers), own)[0], "the gradient by logits")

    return judge(
        function,
        value("two networks (one peer)", list(z[1:2])),
        value("four networks (three peers)", list(z[1:4])),
        constants,
        praise="right for one peer and for three, and only the network that learns is moved.",
    )


def check_gated_logits(function: Callable) -> Verdict:
    """``function(branch_logits, gate)``: (M, B, C), (B, M) -> (B, C), z_e = sum_i g_i z_i for every
    image.
    """
    tiny = torch.tensor([[[4.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([[0.75, 0.25]])

    def example(branches, batch, seed):
        g = torch.Generator().manual_seed(seed)
        return 2 * torch.randn(branches, batch, 5, generator=g), soften(
            2 * torch.randn(batch, branches, generator=g)
        )

    def step(what, z, g):
        want, weigh = gated_logits(z, g), lambda w: torch.einsum("bm,mbc->bc", w, z)
        count = len(z)
        mistakes = {
            "this is the plain mean of the branches: the gate is not used.": z.mean(0),
            "this is the plain sum of the branches: the gate is not used.": z.sum(0),
            "divided by the number of branches, but the gate's rows already sum to 1.": want
            / count,
            "the gate is softmaxed once more: its rows already sum to 1.": weigh(soften(g)),
            "the branches' *probabilities* are mixed: the ensemble mixes logits.": torch.einsum(
                "bm,mbc->bc", g, soften(z)
            ),
            "these are probabilities: return the logits, without a softmax.": soften(want),
            "only the branch with the largest weight counts: weigh all of them.": weigh(
                F.one_hot(g.argmax(1), count).float()
            ),
            "every image gets the same weights: use the gate's own row for each.": weigh(
                g.mean(0).expand_as(g)
            ),
            "the gate's numbers are given to the wrong images: (B, M) must be *transposed* to (M, "
            "B), not reshaped.": (g.reshape(count, -1)[..., None] * z).sum(0),
        }
        return lambda f: explain(f(z.clone(), g.clone()), want, what, mistakes)

    return judge(
        function,
        step("the tiny example, z = (4, 0) and (0, 2), g = (0.75, 0.25)", *tiny),
        step("3 branches, 4 images", *example(3, 4, 1)),
        step("3 branches, 3 images", *example(3, 3, 2)),
        praise="every image mixes the branches with its own weights.",
    )


def one_loss(branch_logits: Tensor, gate: Tensor, y: Tensor, temperature: float) -> Tensor:
    """The solution: sum_i CE(z_i) + CE(z_e) + T^2 sum_i KL(p_e || p_i), where p_e is a constant in
    the last term only.
    """
    ensemble = gated_logits(branch_logits, gate)
    return (
        sum(F.cross_entropy(z, y) for z in branch_logits)
        + F.cross_entropy(ensemble, y)
        + sum(distillation_kl(z, ensemble, temperature) for z in branch_logits)
    )


def check_one_loss(function: Callable) -> Verdict:
    """``function(branch_logits, gate, y, temperature)`` -> scalar: ONE's loss, its value and where
    its gradient goes.
    """
    g = torch.Generator().manual_seed(9)
    z, gate, y = (
        2 * torch.randn(3, 4, 5, generator=g),
        soften(torch.randn(4, 3, generator=g)),
        torch.tensor([0, 3, 1, 4]),
    )

    def value(what, T):
        ensemble, want = gated_logits(z, gate), one_loss(z, gate, y, T)
        labels, own = sum(F.cross_entropy(b, y) for b in z), F.cross_entropy(ensemble, y)
        kd = sum(_kl(ensemble, b, T) for b in z)
        mistakes = {
            "the ensemble's own cross-entropy is missing: without it nobody trains the "
            "gate.": labels + kd,
            "the branches' own cross-entropies are missing.": own + kd,
            "the distillation term is missing.": labels + own,
            "the factor T² of the distillation term is missing.": labels + own + kd / T**2,
            "the sums over the branches must stay sums: do not divide by their number.": labels / 3
            + own
            + kd / 3,
            "the distillation term is a sum over the branches, not their mean.": labels
            + own
            + kd / 3,
            "the KL's sides are swapped: the ensemble is the teacher, KL(p_e || p_i).": labels
            + own
            + sum(_kl(b, ensemble, T) for b in z),
            "the ensemble is the plain mean here: mix with the gate.": one_loss(
                z, torch.full_like(gate, 1 / 3), y, T
            ),
        }
        return lambda f: explain(f(z.clone(), gate.clone(), y, T), want, what, mistakes)

    def gradient(f):
        by = lambda loss: _gradients(loss(*inputs), *inputs)
        inputs = z.clone().requires_grad_(), gate.clone().requires_grad_()
        (branches, weights), (want_branches, want_weights) = (
            by(lambda a, b: f(a, b, y, 3.0)),
            by(lambda a, b: one_loss(a, b, y, 3.0)),
        )
        if not branches.abs().sum():
            return (
                "no gradient reaches the branches: detach the ensemble in the distillation "
                "term only."
            )
        if not weights.abs().sum():
            return (
                "no gradient reaches the gate: in its own cross-entropy the ensemble must "
                "*not* be detached, or the gate never learns."
            )
        if compare(weights, want_weights, ""):
            return (
                "the value is right, but the distillation term moves the gate: there the ensemble "
                "is a constant teacher, so detach it in "
                "that term."
            )
        return compare(branches, want_branches, "the gate is right; the gradient by branch_logits")

    return judge(
        function,
        value("T = 1", 1.0),
        value("T = 3", 3.0),
        gradient,
        praise="the right value, and the ensemble is a constant exactly where it teaches.",
    )
