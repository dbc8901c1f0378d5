"""Checks of the assignment born_again: a chain of generations, CWTM's loss, a shuffle that can be
repeated, DKPP's loss.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...checks.verdict import Verdict, compare, explain, judge
from ...lessons.why_soft_targets_work.checks import check_permute_dark_knowledge
from ...methods.self_distillation.born_again import (
    cwtm_loss,
    cwtm_weights,
    dkpp_loss,
    permute_dark_knowledge,
)
from ...softening import soften

PLAIN = (
    "the result must be a tensor that depends on student_logits: no .item(), .detach() or "
    "NumPy on the student's side."
)


class Stand:
    """In a network's place: it only knows who taught it."""

    taught_by = None


def check_generations(function: Callable) -> Verdict:
    """``function(make_student, count, fit)`` -> [teacher, BAN-1, ..., BAN-count], each taught by
    the one before it.
    """

    def step(count):
        def run(f):
            made, fitted, what = [], [], f"{count} generation{'s' * (count > 1)}"

            def make_student():
                made.append(Stand())
                return made[-1]

            def fit(student, teacher):
                student.taught_by = teacher
                fitted.append(student)

            nets = f(make_student, count, fit)
            if nets is None:
                return f"{what}: your function returned None. Did you forget `return`?"
            if len(made) < len(fitted):
                return (
                    f"{what}: {len(made)} made, but {len(fitted)} trained. Every generation is "
                    f"a *new* network, trained once."
                )
            if len(made) == len(fitted) != len(set(fitted)):
                return (
                    f"{what}: one network was trained twice, another never. The student comes "
                    f"first: fit(student, teacher)."
                )
            if len(made) != count + 1 or set(fitted) != set(made):
                return (
                    f"{what}: {len(made)} made, {len(fitted)} trained; expected {count + 1} "
                    f"each: the teacher, and {count} after it."
                )
            if fitted[0].taught_by is not None:
                return (
                    f"{what}: the first network has no teacher: fit(student, None) trains it "
                    f"from the labels."
                )
            for k, (before, net) in enumerate(itertools.pairwise(fitted), 1):
                if net.taught_by is not before:
                    return f"{what}: generation {k} " + (
                        "learned from nobody. Remember the network trained last: fit returns "
                        "nothing."
                        if net.taught_by is None
                        else "was its own teacher. Note the teacher before you make a new student."
                        if net.taught_by is net
                        else "did not learn from the network that was trained just before it."
                    )
            if not isinstance(nets, (list, tuple)):
                return (
                    f"{what}: you returned one thing; expected the list of all {count + 1} "
                    f"networks, the teacher first."
                )
            if len(nets) != count + 1:
                return (
                    f"{what}: you returned {len(nets)} networks; expected all {count + 1}, the "
                    f"teacher first."
                )
            if any(a is not b for a, b in zip(nets, fitted)):
                return (
                    f"{what}: expected the networks in the order of their training, the "
                    f"teacher first."
                )

        return run

    return judge(
        function,
        step(1),
        step(3),
        praise="a new network each time, and each one taught by the one before it.",
    )


def check_cwtm_loss(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits, y)`` -> scalar: sum_s w_s CE(student s, label
    s)."""
    g = torch.Generator().manual_seed(8)
    hand = (
        torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.15, 0.25]]).log(),
        torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]]).log(),
        torch.tensor([0, 2]),
    )
    batch = (
        2 * torch.randn(4, 5, generator=g),
        2 * torch.randn(4, 5, generator=g),
        torch.tensor([1, 4, 0, 2]),
    )

    def step(what, s, t, y):
        p, q, w, want = soften(t), soften(s), cwtm_weights(t), cwtm_loss(s, t, y)
        top, own, each = p.amax(1), p[range(len(y)), y], F.cross_entropy(s, y, reduction="none")
        mistakes = {
            "all images count alike: the weights are missing.": each.mean(),
            "the weights sum to 1, so their sum is a mean already: do not divide by B again.": want
            / len(y),
            "the weights must sum to 1 over the batch, not to B.": want * len(y),
            "the confidences are not divided by their sum.": (top * each).sum(),
            "the weight is the teacher's *largest* share, not the one of the label.": (
                own / own.sum() * each
            ).sum(),
            "these are the student's confidences: the teacher's count.": (
                cwtm_weights(s) * each
            ).sum(),
            "the labels are missing: you compare with the teacher's first answer.": cwtm_loss(
                s, t, t.argmax(1)
            ),
            "the labels are missing: you compare with the teacher's whole answer.": (
                w * F.cross_entropy(s, p, reduction="none")
            ).sum(),
            "it is upside down: a sure teacher gives a *large* weight.": (
                (1 - top) / (1 - top).sum() * each
            ).sum(),
            "the student's softmax is taken twice: cross_entropy wants logits.": cwtm_loss(q, t, y),
            "the confidences go through a softmax: divide them by their sum.": (
                top.softmax(0) * each
            ).sum(),
            "that is one number per image: add them up.": w * each,
        }
        return lambda f: explain(f(s.clone(), t.clone(), y), want, what, mistakes)

    def gradient(f):
        (s, t), y = (v.clone().requires_grad_() for v in batch[:2]), batch[2]
        loss = f(s, t, y)
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return PLAIN
        loss.backward()
        if t.grad is not None and t.grad.any():
            return "the teacher would learn too: use teacher_logits.detach() in the weights."
        return explain(
            s.grad,
            cwtm_weights(batch[1])[:, None] * (soften(batch[0]) - F.one_hot(y, 5)),
            "the student's gradient",
            {},
        )

    extreme = (
        torch.tensor([[0.0, 900.0], [3.0, 0.0]]),
        torch.tensor([[0.0, 900.0], [1.0, 0.0]]),
        torch.tensor([0, 0]),
    )
    return judge(
        function,
        step("the two images of the example", *hand),
        step("four images", *batch),
        gradient,
        step(
            "a student that is quite sure and wrong, logits [0, 900] (use log_softmax, or "
            "cross_entropy)",
            *extreme,
        ),
        praise="the labels, and nothing of the teacher but how sure it is.",
    )


def check_repeatable_shuffle(function: Callable) -> Verdict:
    """``function(teacher_probs, generator, keys)`` (B, C) -> (B, C): DKPP's shuffle, decided by
    keys, or by fresh random ones.
    """
    g = torch.Generator().manual_seed(9)
    hand = torch.tensor([[0.30, 0.60, 0.08, 0.02]]), torch.tensor([[0.7, 0.9, 0.2, 0.5]])
    batch = soften(2 * torch.randn(5, 6, generator=g)), torch.rand(5, 6, generator=g)

    def step(what, p, keys):
        top = p.argmax(1, keepdim=True)
        others, ordered = (
            k.scatter(1, top, 2.0).argsort(dim=1, stable=True)[:, :-1]
            for k in (torch.zeros_like(keys), keys)
        )
        mistakes = {
            "nothing was shuffled.": p,
            "the largest share takes part: it must keep its place.": p.gather(1, keys.argsort(1)),
            "the order runs from the smallest key to the largest.": permute_dark_knowledge(
                p, keys=-keys
            ),
            "it runs backwards: the class with the smallest key *gives* its share to the first "
            "free place.": p.scatter(1, ordered, p.gather(1, others)),
            "the *shares* are sorted: their order is that of the keys.": p.scatter(
                1, others, p.gather(1, others).sort(1).values
            ),
            "all rows are shuffled alike: every row has keys of its own.": permute_dark_knowledge(
                p, keys=keys[:1].expand_as(keys)
            ),
        }

        def run(f):
            given = p.clone()
            first, again = (f(given, None, keys.clone()) for _ in range(2))
            if not torch.equal(given, p):
                return "your function changes its input: work on a copy."
            if (
                isinstance(first, torch.Tensor)
                and isinstance(again, torch.Tensor)
                and not torch.equal(first, again)
            ):
                return (
                    "the same keys gave two different shuffles: where keys are given, they "
                    "alone decide."
                )
            return explain(first, permute_dark_knowledge(p, keys=keys), what, mistakes)

        return run

    def generators(f):
        a, b, c = (
            f(batch[0].clone(), torch.Generator().manual_seed(seed), None) for seed in (3, 3, 4)
        )
        if not torch.equal(a, b):
            return (
                "two generators with the same seed gave two different shuffles: draw the keys "
                "with torch.rand(..., generator=generator)."
            )
        if torch.equal(a, c):
            return (
                "generators with different seeds gave the same shuffle: draw from the "
                "generator that is given, with no seed of your own."
            )
        if torch.equal(f(batch[0].clone(), None, None), f(batch[0].clone(), None, None)):
            return (
                "without keys and without a generator two calls gave the same shuffle: it "
                "should be a fresh one."
            )

    verdict = judge(
        function,
        step("the example with keys (0.7, 0.9, 0.2, 0.5)", *hand),
        step("five rows with keys", *batch),
        generators,
        praise="the shuffle is fair, can be repeated, and can be kept for the whole training.",
    )
    fresh = torch.Generator().manual_seed(0)
    fair = check_permute_dark_knowledge(lambda p: function(p, fresh, None)) if verdict else verdict
    return verdict if fair else fair


def check_dkpp_loss(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits, generator, keys)`` -> scalar: CE with the
    teacher's shuffled answer, batch mean.
    """
    g = torch.Generator().manual_seed(10)
    s, t, keys = (
        2 * torch.randn(4, 5, generator=g),
        2 * torch.randn(4, 5, generator=g),
        torch.rand(4, 5, generator=g),
    )

    def value(f):
        p, want = soften(t), dkpp_loss(s, t, keys=keys)
        entropy = torch.special.entr(p).sum(1).mean()
        mistakes = {
            "nothing is shuffled: this is the Born-Again loss.": F.cross_entropy(s, p),
            "this is the KL: the teacher's entropy is missing. Return the cross-entropy, −Σ p log "
            "q.": want - entropy,
            "the minus sign is missing: −Σ p log q.": -want,
            "it is B times too large: take the mean over the batch.": want * len(s),
            "it is too small by the number of classes: sum over the classes, the mean runs over "
            "the batch only.": want / s.shape[1],
            "only the first answer is used, which no shuffle moves: use the whole "
            "row.": F.cross_entropy(s, t.argmax(1)),
            "the student's answer is shuffled: shuffle the teacher's.": F.cross_entropy(
                permute_dark_knowledge(s, keys=keys), p
            ),
            "teacher and student are swapped: the teacher's shares are the weights.": dkpp_loss(
                t, s, keys=keys
            ),
            "the teacher's logits are no shares: take their softmax.": F.cross_entropy(
                s, permute_dark_knowledge(t, keys=keys)
            ),
        }
        first, again = (f(s.clone(), t.clone(), None, keys.clone()) for _ in range(2))
        if (
            isinstance(first, torch.Tensor)
            and isinstance(again, torch.Tensor)
            and not torch.equal(first, again)
        ):
            return "the same keys gave two different losses: pass keys on to the shuffle."
        return explain(first, want, "four images with keys", mistakes)

    def generators(f):
        a, b, c = (
            torch.as_tensor(f(s.clone(), t.clone(), torch.Generator().manual_seed(seed), None))
            for seed in (3, 3, 4)
        )
        if not torch.equal(a, b):
            return (
                "two generators with the same seed gave two different losses: pass the "
                "generator on to the shuffle."
            )
        return (
            "generators with different seeds gave the same loss: is anything shuffled?"
            if torch.equal(a, c)
            else None
        )

    def gradient(f):
        a, b = s.clone().requires_grad_(), t.clone().requires_grad_()
        loss = f(a, b, None, keys)
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return PLAIN
        loss.backward()
        return (
            "the teacher would learn too: use teacher_logits.detach()."
            if b.grad is not None and b.grad.any()
            else None
        )

    def extreme(f):
        sure = (
            torch.tensor([[0.0, 500.0, 1.0]]),
            torch.tensor([[2.0, 0.0, 1.0]]),
            None,
            torch.tensor([[0.5, 0.1, 0.9]]),
        )
        complaint = compare(
            f(*sure), dkpp_loss(*sure), "a student that is quite sure, logits [0, 500, 1]"
        )
        return (
            complaint
            and complaint
            + " log(softmax(z)) is log(0) there: use F.log_softmax, or F.cross_entropy."
        )

    return judge(
        function,
        value,
        generators,
        gradient,
        extreme,
        praise="the teacher's own numbers, on shuffled classes.",
    )
