"""Checks of lesson 01: the distillation loss, the targets of an ensemble, the share of the gap that
a student closes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...checks.verdict import Verdict, explain, judge
from ...softening import distillation_kl, ensemble_targets, soften


def check_distillation_loss(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits, temperature)`` -> scalar, T² · (1/B) Σ_b KL(p_t^T
    ‖ p_s^T).
    """
    g = torch.Generator().manual_seed(1)
    s, t = 2 * torch.randn(4, 5, generator=g), 3 * torch.randn(4, 5, generator=g)

    def value(what, T):
        p, q, want = soften(t, T), soften(s, T), distillation_kl(s, t, T)
        mistakes = {
            "it is T² times too small: soft gradients shrink like 1/T², so multiply by T².": want
            / T**2,
            "it is too small by the number of classes: average over the batch only. torch's "
            "reduction='mean' divides by both.": want / s.shape[1],
            "T² is missing, and it is divided by the number of classes: use reduction='batchmean', "
            "then multiply by T².": want / T**2 / s.shape[1],
            "it is a sum over the batch: divide by the number of images.": want * len(s),
            "the divergence is reversed: the teacher comes first, KL(teacher ‖ "
            "student).": distillation_kl(t, s, T),
            "the teacher must be softened with T as well.": T**2
            * (soften(t) * (soften(t).log() - q.log())).sum(1).mean(),
            "the student must be softened with T as well.": T**2
            * (p * (p.log() - soften(s).log())).sum(1).mean(),
            "it is T²/T: the factor is T², not T.": want / T,
            "this is the cross-entropy. Subtract the teacher's entropy, so that equal answers cost "
            "0.": -(T**2) * (p * q.log()).sum(1).mean(),
            "F.kl_div wants the student's log-probabilities (log_softmax), not probabilities.": T**2
            * F.kl_div(q, p, reduction="batchmean"),
            "this is the squared difference of probabilities, not a KL divergence.": T**2
            * ((p - q) ** 2).sum(1).mean(),
        }
        return lambda f: explain(f(s, t, T), want, what, mistakes)

    def gradient(f):
        student, teacher = s.clone().requires_grad_(), t.clone().requires_grad_()
        loss = f(student, teacher, 2.0)
        if not (isinstance(loss, torch.Tensor) and loss.requires_grad):
            return (
                "no gradient reaches the student: stay in torch, without .item(), .detach() or "
                "NumPy on the student's side."
            )
        loss.backward()
        if student.grad is None or not student.grad.abs().sum():
            return "no gradient reaches the student's logits."
        if teacher.grad is not None and teacher.grad.abs().sum():
            return (
                "a gradient reaches the teacher, who must not learn: use teacher_logits.detach()."
            )
        return None

    def extreme(f):
        loss = f(
            torch.tensor([[1000.0, 0.0, -1000.0]]), torch.tensor([[-1000.0, 0.0, 1000.0]]), 1.0
        )
        return (
            None
            if torch.isfinite(torch.as_tensor(loss))
            else ("logits of ±1000 give NaN or Inf: use log_softmax, never the log of a softmax.")
        )

    return judge(
        function,
        value("T = 1", 1.0),
        value("T = 3", 3.0),
        gradient,
        extreme,
        praise="equal to the library's loss, the teacher stays put, and extreme logits are "
        "survived.",
    )


def check_ensemble_targets(function: Callable) -> Verdict:
    """``function(teacher_logits, temperature, mean)`` -> (B, C) for (M, B, C) logits; mean
    "arithmetic" or "geometric".
    """
    z = 2 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(4))
    z[2] -= 3  # a member's logits may be shifted as a whole: its answer stays the same

    def step(what, T, mean):
        want, p = ensemble_targets(z, T, mean), soften(z, T)
        other = ensemble_targets(z, T, "geometric" if mean == "arithmetic" else "arithmetic")
        product = p.prod(0)
        mistakes = {
            "the two means are swapped: averaging logits gives the geometric mean.": other,
            "it is not softened: divide by T first.": ensemble_targets(z, 1.0, mean),
            "it is softened twice.": soften(want, T),
            "you averaged over the batch: the teachers are the first axis.": p.mean(1),
            "a mean of logits is no distribution yet: a softmax is missing.": z.mean(0),
            "these are the mean logits over T: a softmax is missing.": z.mean(0) / T,
            "it must sum to 1 over the classes: divide by the sum.": product ** (1 / len(z)),
            "this is the product of the shares, not their geometric mean: take the M-th root "
            "before you normalise.": product / product.sum(-1, keepdim=True),
            "it is a sum over teachers: divide by their number.": p.sum(0),
        }
        return lambda f: explain(f(z, T, mean), want, what, mistakes)

    return judge(
        function,
        step("arithmetic, T = 1", 1.0, "arithmetic"),
        step("arithmetic, T = 3", 3.0, "arithmetic"),
        step("geometric, T = 1", 1.0, "geometric"),
        step("geometric, T = 3", 3.0, "geometric"),
        praise="both means are right, also after softening.",
    )


def check_gap_closed(function: Callable) -> Verdict:
    """``function(teacher, alone, distilled)`` -> the share of the errors between student and
    teacher that distillation removed.
    """

    def step(what, teacher, alone, distilled):
        want = torch.tensor((alone - distilled) / (alone - teacher))
        mistakes = {
            "this is the share that is left. How much was closed?": (distilled - teacher)
            / (alone - teacher),
            "divide by the gap between student and teacher, not by the student's errors.": (
                alone - distilled
            )
            / alone,
            "this is a difference of errors. What share of the gap is it?": float(
                alone - distilled
            ),
            "it is upside down.": (alone - teacher) / (alone - distilled)
            if alone != distilled
            else float("nan"),
            "return a share, such as 0.5, not per cent.": 100 * want,
            "the sign is flipped: fewer errors than alone is a positive share.": -want,
            "divide by the gap, which starts at the teacher's errors.": (alone - distilled)
            / teacher,
        }
        return lambda f: explain(f(teacher, alone, distilled), want, what, mistakes)

    return judge(
        function,
        step("teacher 67, alone 146, distilled 74 (the paper)", 67, 146, 74),
        step("nothing gained", 20, 40, 40),
        step("worse than alone", 20, 40, 50),
        step("better than the teacher", 20, 40, 15),
        praise=f"the paper's student closed {(146 - 74) / (146 - 67):.0%} of the gap.",
    )
