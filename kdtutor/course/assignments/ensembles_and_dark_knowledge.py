"""Checks of the assignment ensembles_and_dark_knowledge: an ensemble's logits, its disagreement,
the two parts of the loss.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks.verdict import Verdict, explain, judge
from ...softening import distillation_kl, ensemble_logits, ensemble_targets, soften


def disagreement(teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(M, B, C) logits -> (B,): the entropy of the members' mean answer minus the mean of their
    entropies, in nats, >= 0.
    """
    p = soften(teacher_logits, temperature)
    return torch.special.entr(p.mean(0)).sum(-1) - torch.special.entr(p).sum(-1).mean(0)


def split_loss(
    student_logits: Tensor, teacher_logits: Tensor, y: Tensor, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """(label part, dark part) of ``distillation_kl``: scalars that add up to it (Zhao et al. 2022).
    Logits (B, C), labels y (B,).
    """
    own = F.one_hot(y, student_logits.shape[-1]).bool()

    def parts(logits):
        log_p = F.log_softmax(logits / temperature, -1)
        others = log_p[~own].view(len(logits), -1)
        rest = others.logsumexp(-1, keepdim=True)
        return torch.cat([log_p[own][:, None], rest], -1), others - rest

    (p, p_hat), (q, q_hat) = parts(teacher_logits.detach()), parts(student_logits)
    label, dark = ((a.exp() * (a - b)).sum(-1) for a, b in ((p, q), (p_hat, q_hat)))
    return temperature**2 * label.mean(), temperature**2 * (p[:, 1].exp() * dark).mean()


def _centred(logits):
    # Logits that differ by a constant per row have the same softmax: only this much of them is
    # asked for.
    return (
        logits - logits.mean(-1, keepdim=True)
        if isinstance(logits, Tensor) and logits.ndim
        else logits
    )


def check_ensemble_logits(function: Callable) -> Verdict:
    """``function(teacher_logits, temperature, mean)`` -> (B, C) logits: their softmax at this
    temperature is the ensemble's answer.
    """
    z = 2 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(4))
    z[2] -= 3  # a member's logits may be shifted as a whole
    sure = torch.tensor([[[0.0, 300.0, 1000.0]], [[1000.0, 300.0, 0.0]]])

    def step(what, z, T, mean):
        want = ensemble_logits(z, T, mean)
        mistakes = {
            "these are probabilities: expected logits, T times their logarithms.": ensemble_targets(
                z, T, mean
            ),
            "a softmax at T will divide by T once more: multiply the logarithms by T.": want / T,
            "T is not used: the members are softened with T before the mean is "
            "taken.": ensemble_logits(z, 1.0, mean),
            "the members are not softened with T, only the result is multiplied by it.": T
            * ensemble_logits(z, 1.0, mean),
            "the two means are swapped: the mean of the logits is the geometric "
            "one.": ensemble_logits(z, T, "geometric" if mean == "arithmetic" else "arithmetic"),
            "a member whose logits are larger as a whole counts more: normalise each member first, "
            "with log_softmax.": T * (z / T).logsumexp(0),
        }
        values = {sentence: _centred(value) for sentence, value in mistakes.items()}
        return lambda f: explain(_centred(f(z.clone(), T, mean)), _centred(want), what, values)

    return judge(
        function,
        step("arithmetic, T = 1", z, 1.0, "arithmetic"),
        step("arithmetic, T = 3", z, 3.0, "arithmetic"),
        step("geometric, T = 3", z, 3.0, "geometric"),
        step(
            "sure members, logits such as [0, 300, 1000] (a share rounds to 0 there: take "
            "logarithms first, then logsumexp over the "
            "members; a constant inside the logarithm falsifies the value)",
            sure,
            1.0,
            "arithmetic",
        ),
        praise="one row of logits stands for the whole ensemble, at any T, and sure members do no "
        "harm.",
    )


def check_disagreement(function: Callable) -> Verdict:
    """``function(teacher_logits, temperature)`` (M, B, C) -> (B,): H(mean answer) - mean H(answer),
    in nats.
    """
    hand = torch.tensor([[[0.64, 0.32, 0.04]], [[0.04, 0.32, 0.64]]]).log()
    z = 2 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(6))
    sure = torch.tensor(
        [[[1000.0, 0.0, 0.0], [900.0, 0.0, 0.0]], [[0.0, 1000.0, 0.0], [1000.0, 0.0, 0.0]]]
    )
    entropy = lambda p: torch.special.entr(p).sum(-1)
    kl = lambda p, q: (p * (p / q).log()).sum(-1)

    def step(what, z, T):
        p, want = soften(z, T), disagreement(z, T)
        mean, product = p.mean(0), ensemble_targets(z, T, "geometric")
        mistakes = {
            "the sign is flipped: the mean answer is the more doubtful one.": -want,
            "these are bits: use the natural logarithm.": want / math.log(2),
            "that is only the entropy of the mean answer: subtract the members' own "
            "doubt.": entropy(mean),
            "that is only the members' own doubt: it is to be subtracted from the entropy of the "
            "mean answer.": entropy(p).mean(0),
            "it is M times too large: take the mean over the members.": want * len(p),
            "that is one number for the batch: return one per image, (B,).": want.mean(),
            "T is not used: soften every member with it.": disagreement(z, 1.0),
            "there is no factor T² here: it belongs to losses.": want * T**2,
            "this compares with the geometric mean: take the arithmetic one.": entropy(product)
            - entropy(p).mean(0),
            "this is measured from the geometric mean: take the arithmetic one.": kl(
                p, product
            ).mean(0),
            "the KL is the wrong way round: KL(member ‖ mean).": kl(mean, p).mean(0),
            "the softmax runs over the members: the classes are the last axis.": entropy(
                (z / T).softmax(0).mean(0)
            )
            - entropy((z / T).softmax(0)).mean(0),
        }
        return lambda f: explain(f(z.clone(), T), want, what, mistakes)

    return judge(
        function,
        step("the two members of the example", hand, 1.0),
        step("three members, T = 1", z, 1.0),
        step("three members, T = 3", z, 3.0),
        step(
            "two members, each quite sure (0 · log 0 counts as 0: see torch.special.entr)",
            sure,
            1.0,
        ),
        praise="0 where all members say the same, and finite where they are quite sure.",
    )


def check_split_loss(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits, y, temperature)`` -> (label part, dark part),
    which add up to ``distillation_kl``.
    """
    g = torch.Generator().manual_seed(7)
    hand = (
        torch.tensor([[0.2, 0.4, 0.4]]).log(),
        torch.tensor([[0.6, 0.3, 0.1]]).log(),
        torch.tensor([0]),
    )
    batch = (
        2 * torch.randn(4, 5, generator=g),
        2 * torch.randn(4, 5, generator=g),
        torch.tensor([1, 4, 0, 2]),
    )
    pair = lambda *parts: torch.stack([torch.as_tensor(part) for part in parts])

    def step(what, s, t, y, T):
        want, total = pair(*split_loss(s, t, y, T)), distillation_kl(s, t, T)
        p, q, at = soften(t, T), soften(s, T), torch.arange(len(y))
        terms, (py, qy) = p * (p / q).log(), (p[at, y], q[at, y])
        bare = (terms.sum(1) - py * (py / qy).log() - (1 - py) * ((1 - py) / (1 - qy)).log()) / (
            1 - py
        )
        mistakes = {
            "they are swapped: first the label part, then the dark part.": want.flip(0),
            "the dark part lacks its weight: the teacher's share of all wrong answers, 1 − "
            "p_y.": pair(want[0], T**2 * bare.mean()),
            "the dark part is weighted by the student's 1 − q_y: the teacher's share counts.": pair(
                want[0], T**2 * ((1 - qy) * bare).mean()
            ),
            "the factor T² is missing.": want / T**2,
            "the label part has two terms: the right class, and all wrong ones together.": pair(
                T**2 * (py * (py / qy).log()).mean(), want[1]
            ),
            "you cut the sum of the KL in two: give the wrong classes shares of their own, which "
            "sum to 1.": pair(T**2 * terms[at, y].mean(), total - T**2 * terms[at, y].mean()),
            "the wrong classes' shares are not divided by 1 − p_y (teacher) and 1 − q_y "
            "(student).": pair(want[0], total - T**2 * terms[at, y].mean()),
            "the right class is the label y, not the teacher's first answer.": pair(
                *split_loss(s, t, t.argmax(1), T)
            ),
            "the KL is the wrong way round: the teacher's shares are the weights.": pair(
                *split_loss(t, s, y, T)
            ),
            "it is B times too large: take the mean over the batch.": want * len(y),
            "it is too small by the number of classes: the mean runs over the batch only.": want
            / s.shape[1],
            "T is not used inside the softmax.": T**2 * pair(*split_loss(s, t, y, 1.0)),
            "the dark part is the whole loss: subtract the label part.": pair(want[0], total),
        }

        def run(f):
            got = f(s.clone(), t.clone(), y, T)
            if got is not None and not (isinstance(got, (tuple, list)) and len(got) == 2):
                return f"{what}: return two scalars, `return label, dark`."
            return explain(got and pair(*got), want, what, mistakes)

        return run

    def gradient(f):
        s, t = (logits.clone().requires_grad_() for logits in batch[:2])
        sum(f(s, t, batch[2], 2.0)).backward()
        return (
            "a gradient reaches the teacher: use teacher_logits.detach()."
            if t.grad is not None and t.grad.any()
            else None
        )

    two = batch[0][:, :2], batch[1][:, :2], torch.tensor([0, 1, 1, 0])
    sure = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[500.0, 0.0, 3.0]]), torch.tensor([0])
    return judge(
        function,
        step("the example with shares (0.6, 0.3, 0.1)", *hand, 1.0),
        step("four images, T = 1", *batch, 1.0),
        step("four images, T = 3", *batch, 3.0),
        step("two classes (one wrong class alone holds no dark knowledge: 0)", *two, 2.0),
        step(
            "a sure teacher, logits [500, 0, 3] (1 − p_y rounds to 0 there: subtract logarithms, "
            "divide nothing)",
            *sure,
            1.0,
        ),
        gradient,
        praise="both parts are right, and add up to the distillation loss.",
    )
