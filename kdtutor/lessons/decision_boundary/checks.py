"""Checks of lesson 04: one step to a linear boundary, the target class's probabilities, the samples
worth a walk.
"""

from collections.abc import Callable

import torch

from ...checks.verdict import Verdict, compare, explain, judge
from ...methods.response.boundary_support import base_samples
from ...softening import soften


def check_boundary_step(function: Callable) -> Verdict:
    """``function(x, weight, bias, base, target)`` -> (D,): the nearest point to x where z_base =
    z_target, z = weight @ x + bias.
    """
    g = torch.Generator().manual_seed(4)
    simple = (
        torch.tensor([2.0, 1.5]),
        torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
        torch.tensor([-2.0, 0.0]),
        0,
        1,
    )
    larger = (
        torch.randn(4, generator=g),
        torch.randn(3, 4, generator=g),
        torch.randn(3, generator=g),
        2,
        0,
    )

    def step(what, x, W, b, base, target):
        z, normal = W @ x + b, W[target] - W[base]
        gap, square, no_bias = z[base] - z[target], normal.square().sum(), W @ x
        want = x + gap / square * normal
        mistakes = {
            "you went the other way: the gap grows. Walk along the gradient of z_target − "
            "z_base.": x - gap / square * normal,
            "you divided by the length once, the authors' step of size 1. The full step divides by "
            "the length twice.": x + gap / square.sqrt() * normal,
            "you did not divide by the squared length of the gradient.": x + gap * normal,
            "the bias is missing: the gap is a difference of logits.": x
            + (no_bias[base] - no_bias[target]) / square * normal,
            "you returned the step alone: add it to x.": gap / square * normal,
            "that is half the way: one full step reaches the boundary.": x
            + gap / square * normal / 2,
            "you walked along the target's weights alone: the normal is weight[target] − "
            "weight[base].": x + gap / W[target].square().sum() * W[target],
            "you walked along the base's weights alone: the normal is weight[target] − "
            "weight[base].": x - gap / W[base].square().sum() * W[base],
            "the gap is z_base − z_target, not z_base alone.": x + z[base] / square * normal,
            "the length is the L2 norm, not the sum of absolute values.": x
            + gap / normal.abs().sum().square() * normal,
        }

        def run(f):
            given = x.clone()
            got = f(given, W.clone(), b.clone(), base, target)
            if not torch.equal(given, x):
                return f"{what}: your function changes its input x: make a new tensor, x + …"
            return explain(got, want, what, mistakes)

        return run

    return judge(
        function,
        step("three classes, four inputs", *larger),
        step("the example by hand, (2, 1.5) → (0.8, −0.1)", *simple),
        praise="one full step, and both classes are equally likely.",
    )


def check_target_probabilities(function: Callable) -> Verdict:
    """``function(teacher_logits)`` -> (B, C): p_k / (1 - max p) for every class but the teacher's
    answer, which gets 0.
    """
    tiny = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
    z = 2 * torch.randn(5, 4, generator=torch.Generator().manual_seed(5))
    sure = torch.tensor([[200.0, 2.0, 1.0, 0.0], [0.0, 3.0, 150.0, 3.0]])

    def right(logits):
        return soften(logits.scatter(1, logits.argmax(1, keepdim=True), float("-inf")))

    def step(what, logits):
        p, want, top = soften(logits), right(logits), logits.argmax(1, keepdim=True)
        others = p.scatter(1, top, 0)
        mistakes = {
            "the rows do not sum to 1: divide by 1 − max p.": others,
            "the teacher's answer is still in it: it is the base class and must get 0.": p,
            "you removed the answer's *logit* by setting it to 0: e⁰ is 1. Set it to −∞.": soften(
                logits.scatter(1, top, 0.0)
            ),
            "the other classes are not equally likely: the teacher's own doubts decide.": others.gt(
                0
            )
            / (others > 0).sum(1, keepdim=True).clamp_min(1),
            "always the second best: the class is *drawn*, so every other class keeps its "
            "share.": torch.zeros_like(p).scatter(1, others.argmax(1, keepdim=True), 1.0),
            "you divided by max p: divide by 1 − max p.": others / p.amax(1, keepdim=True),
            "a second softmax over probabilities: only divide by 1 − max p.": soften(
                p.scatter(1, top, float("-inf"))
            ),
            "the sum runs over the batch: each row is an image of its own.": others
            / others.sum(0, keepdim=True),
            "unlikely classes must stay unlikely: it is p, not 1 − p.": (1 - p).scatter(1, top, 0)
            / (1 - p).scatter(1, top, 0).sum(1, keepdim=True),
        }

        def run(f):
            got = f(logits.clone())
            if (
                logits is sure
                and isinstance(got, torch.Tensor)
                and got.shape == want.shape
                and compare(got, want, what)
            ):
                return (
                    f"{what}: 1 − max p is 0 in float32, and p / 0 is lost. Set the answer's "
                    "logit to −∞ and take the softmax of what "
                    "is left: the same formula, without the division."
                )
            return explain(got, want, what, mistakes)

        return run

    return judge(
        function,
        step("probabilities [0.7, 0.2, 0.1]: expected [0, 0.667, 0.333]", tiny),
        step("a batch of five rows", z),
        step("a very sure teacher", sure),
        praise="each row sums to 1, the answer is out, and a very sure teacher is no trouble.",
    )


def check_base_samples(function: Callable) -> Verdict:
    """``function(student_logits, teacher_logits, y, most)`` -> (K,) positions of the images worth a
    walk, in any order.
    """
    g = torch.Generator().manual_seed(6)
    y = torch.arange(60) % 4
    bias = 2.5 * torch.nn.functional.one_hot(y, 4)
    student, teacher = (
        2 * torch.randn(60, 4, generator=g) + bias,
        2 * torch.randn(60, 4, generator=g) + bias,
    )
    s, t = student.argmax(1) == y, teacher.argmax(1) == y
    where = lambda mask: mask.nonzero()[:, 0]
    both = where(s & t)

    def same(got, want):
        return sorted(got) == sorted(want.tolist())

    def read(f, *args):
        got = f(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args))
        if got is None:
            return None, "your function returned None. Did you forget `return`?"
        got = torch.as_tensor(got)
        if got.dtype == torch.bool:
            return (
                None,
                "you returned a mask of True and False: return positions, mask.nonzero()[:, 0].",
            )
        if got.ndim != 1:
            return (
                None,
                f"your result has shape {tuple(got.shape)}: return one row of positions, (K,).",
            )
        return got.tolist(), None

    def qualifying(f):
        got, problem = read(f, student, teacher, y, 60)
        for mask, words in (
            (t, "the teacher alone is right for these: the student must be right as well."),
            (s, "the student alone is right for these: the teacher must be right as well."),
            (s | t, "one of them is not enough: both must be right."),
            (~(s & t), "upside down: keep what both get right."),
            (
                student.argmax(1) == teacher.argmax(1),
                "to agree is not enough: both may be wrong alike. Compare with y.",
            ),
        ):
            if not problem and same(got, where(mask)):
                return words
        return problem or (
            None
            if same(got, both)
            else f"of 60 images, both get {len(both)} right; you chose {len(got)}, not the same "
            "ones."
        )

    def ranked(f):
        most = 6
        p, q = soften(teacher[both]), soften(student[both])
        wrong = torch.nn.functional.one_hot(y[both], 4) == 0
        best = lambda score, sign=1: both[(sign * score).topk(most).indices]
        got, problem = read(f, student, teacher, y, most)
        mistakes = {
            "these are the first ones: keep those that differ most.": both[:most],
            "these differ *least*: keep the largest differences.": best(
                ((p - q).square() * wrong).sum(1), -1
            ),
            "you counted the true class too: the difference is over the wrong classes only.": best(
                (p - q).square().sum(1)
            ),
            "you compared logits: compare probabilities.": best(
                ((teacher - student)[both].square() * wrong).sum(1)
            ),
            "you ranked by the absolute difference: square it.": best(
                ((p - q).abs() * wrong).sum(1)
            ),
            "you ranked by the plain difference: square it.": best(((p - q) * wrong).sum(1)),
        }
        if problem:
            return problem
        if len(got) != most:
            return (
                f"at most {most} images were asked for, {len(both)} qualify, and you chose "
                f"{len(got)}."
            )
        want = base_samples(student, teacher, y, most)
        for sentence, value in mistakes.items():
            if same(got, value) and not same(got, want):
                return sentence
        if not set(got) <= set(both.tolist()):
            offset = [int(both[i]) if i < len(both) else -1 for i in got]
            return (
                "these are positions among the qualifying images: translate them into positions in "
                "the batch."
                if same(offset, want)
                else "an image that one of the two gets wrong was chosen."
            )
        return (
            None
            if same(got, want)
            else "six qualifying images, but not those with the largest sum of squared differences."
        )

    def none(f):
        got, problem = read(f, -bias.float(), teacher, y, 6)
        return problem or (
            "where nothing qualifies, return an empty tensor of positions." if got else None
        )

    return judge(
        function,
        qualifying,
        ranked,
        none,
        praise="both right, those that differ most, and nothing where nothing qualifies.",
    )
