"""Checks of lesson 02: the gradient of the distillation loss, CWTM's weights, shuffled wrong
answers.
"""

from collections.abc import Callable

import torch

from ...checks.verdict import Verdict, compare, explain, judge
from ...methods.self_distillation.born_again import cwtm_weights
from ...softening import soften
from ...softening.gradients import distillation_gradient, label_gradient


def check_kd_gradient(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits, y, temperature, ce_weight, kd_weight)`` -> (B, C),
    d loss / d student_logits.
    """
    g = torch.Generator().manual_seed(2)
    s, t, y = (
        2 * torch.randn(4, 5, generator=g),
        3 * torch.randn(4, 5, generator=g),
        torch.tensor([0, 3, 1, 4]),
    )

    def want(T, ce, kd):
        return (ce * label_gradient(s, y) + kd * distillation_gradient(s, t, T)) / len(y)

    def step(what, T, ce, kd):
        gap, label = soften(s, T) - soften(t, T), label_gradient(s, y)
        mistakes = {
            "the sign is flipped: a gradient is student minus target.": -want(T, ce, kd),
            "it is B times too large: the loss is a mean over the batch, so divide by B.": want(
                T, ce, kd
            )
            * len(y),
            "it is too small by the number of classes: the mean runs over the batch only.": want(
                T, ce, kd
            )
            / s.shape[1],
            "the factor T² of the loss is missing: the soft part is T² · (1/T) · (q − p) = T · (q "
            "− p).": (ce * label + kd * gap / T) / len(y),
            "the inner derivative is missing: z/T stands in the exponent, so T² becomes T² · "
            "(1/T).": (ce * label + kd * T**2 * gap) / len(y),
            "both the factor T² and the inner derivative 1/T are missing: the soft part is T · (q "
            "− p).": (ce * label + kd * gap) / len(y),
            "the label part must use the student's plain softmax, at T = 1.": (
                ce * (soften(s, T) - soften(s) + label) + kd * T * gap
            )
            / len(y),
            "the teacher must be softened with the same T as the student.": (
                ce * label + kd * T * (soften(s, T) - soften(t))
            )
            / len(y),
            "the student must be softened with T in the soft part.": (
                ce * label + kd * T * (soften(s) - soften(t, T))
            )
            / len(y),
            "the two weights are swapped: ce_weight belongs to the label part.": want(T, kd, ce),
            "the weights are missing.": want(T, 1, 1),
        }
        return lambda f: explain(f(s, t, y, T, ce, kd), want(T, ce, kd), what, mistakes)

    return judge(
        function,
        step("labels alone (kd_weight = 0)", 3.0, 1.0, 0.0),
        step("teacher alone at T = 1", 1.0, 0.0, 1.0),
        step("teacher alone at T = 3", 3.0, 0.0, 1.0),
        step("0.3 label + 0.7 teacher, T = 3", 3.0, 0.3, 0.7),
        praise="equal to autograd's gradient of ce_weight · CE + kd_weight · T² · KL, for every "
        "mixture that was tried.",
    )


def check_cwtm_weights(function: Callable) -> Verdict:
    """``function(teacher_logits)`` -> (B,): w_s = max p_s / sum_u max p_u."""
    tiny = torch.log(torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]]))
    z = (
        2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
        + 5 * torch.arange(6)[:, None]
    )

    def step(what, logits):
        p, want = soften(logits), cwtm_weights(logits)
        top, over_batch = p.amax(1), logits.softmax(0).amax(1)
        mistakes = {
            "you return the confidences: divide them by their sum over the batch.": top,
            "the weights sum to B: divide by the sum of the confidences, not by their mean.": want
            * len(p),
            "the largest *logit* is not a confidence: take the softmax first.": logits.amax(1)
            / logits.amax(1).sum(),
            "the confidences are put through a second softmax: divide by their sum.": top.softmax(
                0
            ),
            "a softmax of the largest logits compares logits, not confidences: take each row's "
            "softmax first.": logits.amax(1).softmax(0),
            "the softmax runs over the batch: the classes are the last dimension.": over_batch
            / over_batch.sum(),
            "that is the smallest probability of each row: take the largest.": p.amin(1)
            / p.amin(1).sum(),
            "it is upside down: a sure teacher gives a *large* weight.": (1 - top)
            / (1 - top).sum(),
        }
        return lambda f: explain(f(logits), want, what, mistakes)

    return judge(
        function,
        step("a batch with confidences 0.9 and 0.5 (weights 0.643 and 0.357)", tiny),
        step("a batch of six rows", z),
        praise="positive, sum to 1, and a sure teacher gives a large weight.",
    )


def check_permute_dark_knowledge(function: Callable) -> Verdict:
    """``function(teacher_probs)`` (B, C) -> (B, C): in each row, all but the largest probability in
    random order.
    """
    rows = soften(2 * torch.randn(64, 6, generator=torch.Generator().manual_seed(4)))
    same = torch.tensor([0.05, 0.1, 0.5, 0.15, 0.2]).repeat(2000, 1)

    def keeps(f):
        given = rows.clone()
        out = f(given)
        out = out if out is None else torch.as_tensor(out)
        if not torch.equal(given, rows):
            return "your function changes its input: work on a copy, teacher_probs.clone()."
        shape = compare(out, rows, "the result") if out is None or out.shape != rows.shape else None
        if shape:
            return shape
        if torch.equal(out, rows):
            return "nothing was shuffled: the result equals the input."
        if not torch.allclose(out.sort(1).values, rows.sort(1).values):
            if torch.allclose(out.sort(0).values, rows.sort(0).values):
                return "you shuffled rows across the batch: shuffle classes inside each row."
            return "a row must keep its values, in another order: the sorted rows differ."
        top = rows.argmax(1, keepdim=True)
        if not torch.allclose(out.gather(1, top), rows.gather(1, top)):
            return "the teacher's first answer must keep its place: shuffle only the others."

    def shuffles(f):
        out = torch.as_tensor(f(same.clone()))
        if bool((out == out[0]).all()):
            return (
                "2000 equal rows all came out in the same order: draw a fresh shuffle for "
                "every row, at random."
            )
        if len(out.unique(dim=0)) < 24:
            return (
                f"of the 24 possible orders of four wrong answers only {len(out.unique(dim=0))} "
                "occurred in 2000 rows: "
                "shifting or swapping is not shuffling."
            )
        seen = torch.stack([(out == v).float().mean(0) for v in (0.05, 0.1, 0.15, 0.2)])[
            :, [0, 1, 3, 4]
        ]
        if (seen - 0.25).abs().max() > 0.06:
            return (
                "some places get some values too often: every order of the wrong answers must "
                "be equally likely."
            )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return judge(
            function,
            keeps,
            shuffles,
            praise="values and first answer survive, and every order of the others is equally "
            "likely.",
        )
