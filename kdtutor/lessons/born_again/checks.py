"""Checks of lesson 03: the Born-Again loss, an ensemble of predictions, a paired gain with its
standard error.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...checks.verdict import Verdict, compare, explain, judge
from ...softening import distillation_kl, ensemble_targets, soften


def check_ban_loss(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits)`` -> scalar: CE(p_t, p_s) at T = 1, batch mean.
    The KL passes too: same gradient.
    """
    g = torch.Generator().manual_seed(3)
    s, t = 2 * torch.randn(4, 5, generator=g), 3 * torch.randn(4, 5, generator=g)
    sure = torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])

    def cross_entropy(s, t):
        return F.cross_entropy(s, soften(t))

    def value(f):
        got, want, kl = f(s.clone(), t.clone()), cross_entropy(s, t), distillation_kl(s, t, 1.0)
        p, q = soften(t), soften(s)
        mistakes = {
            "the minus sign is missing: −Σ p log q.": -want,
            "it is B times too large: take the mean over the batch.": want * len(s),
            "it is too small by the number of classes: sum over the classes, the mean runs over "
            "the batch only.": want / s.shape[1],
            "teacher and student are swapped: the teacher's answers are the weights, the student's "
            "stand in the logarithm.": cross_entropy(t, s),
            "that is the KL the wrong way round: it is averaged over the teacher's answers, not "
            "the student's.": distillation_kl(t, s, 1.0),
            "that is the KL divided by the number of classes as well: reduction='batchmean' takes "
            "the mean over the batch only.": kl / s.shape[1],
            "only the teacher's first answer is used: that is a label. Use all its "
            "probabilities.": F.cross_entropy(s, t.argmax(1)),
            "the teacher's logits are no probabilities: take their softmax.": F.cross_entropy(s, t),
            "the student's softmax is taken twice: cross_entropy wants logits.": F.cross_entropy(
                q, p
            ),
            "that is the squared distance of the answers: use the cross-entropy.": ((q - p) ** 2)
            .sum(1)
            .mean(),
            "that is the squared distance of the answers: take the cross-entropy.": F.mse_loss(
                q, p
            ),
        } | {
            f"the answers are softened by T = {T}: here T = 1.": loss
            for T in (2, 4, 20)
            for loss in (F.cross_entropy(s / T, soften(t, T)),)
        }
        return (
            None
            if compare(got, kl, "the KL") is None
            else explain(got, want, "a batch of four", mistakes)
        )

    def gradient(f):
        a, b = s.clone().requires_grad_(), t.clone().requires_grad_()
        loss = f(a, b)
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return (
                "the result must be a tensor that depends on student_logits: no .item(), "
                ".detach() or NumPy on the student's side."
            )
        loss.backward()
        if b.grad is not None and bool(b.grad.abs().max() > 0):
            return "the teacher would learn too: use teacher_logits.detach()."
        return explain(
            a.grad, (soften(s) - soften(t)) / len(s), "the gradient by the student's logits", {}
        )

    def steady(f):
        got = f(*(v.clone() for v in sure))
        if (
            compare(got, distillation_kl(*sure, 1.0), "") is None
            or compare(got, cross_entropy(*sure), "") is None
        ):
            return None
        return (
            "a student that is quite sure, logits (200, 0, 0), must give a finite loss: "
            "log(softmax(z)) is log(0) there, "
            "F.log_softmax(z) is not."
        )

    return judge(
        function,
        value,
        gradient,
        steady,
        praise="the cross-entropy with the teacher's answers, up to a constant; the "
        "gradient is (q − p) / B and reaches the student only.",
    )


def check_ensemble(function: Callable) -> Verdict:
    """``function(member_logits)`` (M, B, C) -> (B, C): the mean of the members' softmaxes."""
    tiny = torch.log(torch.tensor([[[0.60, 0.39, 0.01]], [[0.01, 0.30, 0.69]]]))
    z = 3 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(4))
    large = z + 200

    def step(what, logits):
        p, want = soften(logits), ensemble_targets(logits)
        votes = F.one_hot(logits.argmax(-1), logits.shape[-1]).float().mean(0)
        product = p.prod(0)
        mistakes = {
            "you averaged the logits: that is the geometric mean. Take each member's softmax "
            "first, then the mean.": soften(logits.mean(0)),
            "you return the mean of the logits: members speak in probabilities.": logits.mean(0),
            "rows sum to M: divide by the number of members.": p.sum(0),
            "a second softmax follows the mean: a mean of probabilities is one already.": soften(
                p.mean(0)
            ),
            "the softmax runs over the members: the classes are the last "
            "dimension.": logits.softmax(0).mean(0),
            "the softmax runs over the batch: the classes are the last dimension.": logits.softmax(
                1
            ).mean(0),
            "that counts votes: a vote forgets how sure a member is.": votes,
            "you multiplied the answers: take their mean.": product / product.sum(-1, keepdim=True),
            "that is the most certain member of each class, not the mean.": p.amax(0),
            "only the first member answers.": p[0],
        }
        return lambda f: explain(f(logits.clone()), want, what, mistakes)

    return judge(
        function,
        step("members (0.60, 0.39, 0.01) and (0.01, 0.30, 0.69)", tiny),
        step("three members, four images", z),
        step("the same with 200 added to all logits (nothing should change)", large),
        praise="the mean of the predictions: rows sum to 1, and a doubtful member outvotes nobody.",
    )


def check_paired_gain(function: Callable) -> Verdict:
    """``function(teacher_errors, student_errors)`` (S,), (S,) -> (gain, standard error): mean and
    std/sqrt(S) of the differences.
    """
    cases = {
        "teachers 10, 12, 14 and students 9, 10, 13": ([10.0, 12.0, 14.0], [9.0, 10.0, 13.0]),
        "five pairs": ([5.1, 4.2, 6.0, 5.5, 4.9], [4.8, 4.3, 5.2, 5.5, 4.1]),
    }

    def step(what, before, after):
        before, after = torch.tensor(before), torch.tensor(after)
        d, n = before - after, len(before)
        pair = lambda gain, error: torch.stack([torch.as_tensor(gain), torch.as_tensor(error)])
        want = pair(d.mean(), d.std() / n**0.5)
        mistakes = {
            "the sign is flipped: a gain is positive where the student has *fewer* errors.": pair(
                -d.mean(), want[1]
            ),
            "that is the standard deviation of one pair: the mean of S pairs is surer, divide by "
            "√S.": pair(d.mean(), d.std()),
            "divide the standard deviation by √S, not by S.": pair(d.mean(), d.std() / n),
            "that is a variance: take the square root.": pair(d.mean(), d.var() / n),
            "the deviation divides by S: with few seeds divide by S − 1 (torch's std does, NumPy's "
            "needs ddof=1).": pair(d.mean(), d.std(correction=0) / n**0.5),
            "that treats the two as strangers: subtract seed by seed first, then take the standard "
            "deviation.": pair(d.mean(), ((before.var() + after.var()) / n).sqrt()),
            "the two deviations are subtracted: take the deviation of the differences.": pair(
                d.mean(), (before.std() - after.std()).abs() / n**0.5
            ),
            "that is the sum of the differences: take their mean.": pair(d.sum(), want[1]),
            "the gain is relative: give it in errors, not as a share.": pair(
                (d / before).mean(), want[1]
            ),
            "they are swapped: first the gain, then its standard error.": want.flip(0),
        }

        def run(f):
            got = f(before.clone(), after.clone())
            if isinstance(got, (tuple, list)):
                if len(got) != 2:
                    return (
                        f"{what}: return two numbers, gain and standard error; your function "
                        f"returned {len(got)}."
                    )
                got = torch.tensor([float(v) for v in got])
            elif isinstance(got, (int, float)) or (isinstance(got, torch.Tensor) and not got.ndim):
                return f"{what}: that is one number: return two, gain and standard error."
            return explain(got, want, what, mistakes)

        return run

    return judge(
        function,
        *(step(what, *case) for what, case in cases.items()),
        praise="mean and standard error of the differences, seed by seed.",
    )
