"""Checks of lesson 09: symmetric label noise with an exact count, the counts of unequal classes,
what a teacher says of wrong labels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...checks.verdict import Verdict, compare, explain, judge
from ...datasets.corruption import imbalanced_counts

MANY = 1_000_000  # classes: so many that a redrawn label is practically never the true one


def _noisy(f: Callable, y: Tensor, rate: float, classes: int, seed: int = 0) -> Tensor | str:
    """The learner's noisy labels, or the sentence that says why they are none."""
    mine = y.clone()
    got = f(mine, rate, classes, torch.Generator().manual_seed(seed))
    if got is None:
        return "your function returned None. Did you forget `return`?"
    if not torch.equal(mine, y):
        return (
            "your function changed `y` itself: work on `y.clone()`, the true labels are still "
            "needed."
        )
    if not isinstance(got, Tensor) or got.shape != y.shape or got.is_floating_point():
        return (
            f"expected whole-number labels of shape {tuple(y.shape)}, got "
            f"{got.dtype if isinstance(got, Tensor) else type(got).__name__}"
            + (f" of shape {tuple(got.shape)}." if isinstance(got, Tensor) else ".")
        )
    if len(got) and not 0 <= int(got.min()) <= int(got.max()) < classes:
        return (
            f"labels run from {int(got.min())} to {int(got.max())}, but {classes} classes are "
            f"numbered 0 to {classes - 1}."
        )
    return got


def check_symmetric_noise(function: Callable) -> Verdict:
    """``function(y, rate, classes, generator)`` -> labels of which exactly round(rate N) were
    redrawn uniformly over all classes.
    """

    def step(look):
        def run(f):
            return look(lambda *args, **kw: _noisy(f, *args, **kw))

        return run

    def none(noisy):
        y = torch.arange(50) % 10
        got = noisy(y, 0.0, 10)
        return (
            got
            if isinstance(got, str)
            else None
            if torch.equal(got, y)
            else "rate 0 must leave every label as it was."
        )

    def exact(noisy):
        for seed in range(3):
            y = torch.zeros(1000, dtype=torch.long)
            got = noisy(y, 0.4, MANY, seed=seed)
            if isinstance(got, str):
                return got
            at = got.nonzero().flatten()
            if len(at) == 0:
                return (
                    "with every true label 0 nothing changed: draw new labels over all "
                    "classes, do not shuffle the old ones."
                )
            if len(set(got[at].tolist())) < 0.9 * len(at):
                return "the redrawn images share one new label: draw one for each of them."
            if int(at.max()) < 400:
                return (
                    "only the first images are redrawn: choose them at random, with "
                    "`torch.randperm`."
                )
            if len(at) != 400:
                return (
                    f"{len(at)} of 1000 labels were redrawn at rate 0.4, expected exactly 400: "
                    "not each with probability 0.4, and no image "
                    "twice. The first round(rate * N) positions of a `torch.randperm` do it."
                )

    def inclusive(noisy):
        y = torch.arange(4000) % 4
        got = noisy(y, 1.0, 4)
        if isinstance(got, str):
            return got
        share = float((got != y).double().mean())
        if share == 1.0:
            return (
                "at rate 1 no label kept its class: the draw is over *all* classes, the true "
                "one included, so 1 in 4 stays."
            )
        if abs(share - 0.75) > 0.05:
            return (
                f"at rate 1 with 4 classes {share:.0%} of the labels are wrong, expected about "
                f"75%: draw uniformly over all classes."
            )
        counts = torch.bincount(got, minlength=4) / 1000
        if (counts - 1).abs().max() > 0.15:
            return (
                f"the classes are drawn {[int(1000 * c) for c in counts]} times: expected "
                f"about 1000 each, the last class too."
            )

    def seeded(noisy):
        y = torch.arange(500) % 10
        first, again, other = (noisy(y, 0.4, 10, seed=s) for s in (1, 1, 2))
        if any(isinstance(v, str) for v in (first, again, other)):
            return next(v for v in (first, again, other) if isinstance(v, str))
        if not torch.equal(first, again):
            return (
                "the same generator gave different labels: pass `generator=generator` to "
                "*every* random function."
            )
        if torch.equal(first, other):
            return "another seed gave the same labels: draw from `generator`."

    return judge(
        function,
        *map(step, (none, exact, inclusive, seeded)),
        praise="an exact number is redrawn, over all classes, and the same seed gives the same "
        "noise.",
    )


def check_counts(function: Callable) -> Verdict:
    """``function(classes, gamma, n_max, n_min)`` -> list of n_c = round(a / (b + c^gamma)), c =
    1..C.
    """

    def value(classes, gamma, n_max, n_min):
        def step(f):
            got = f(classes, gamma, n_max, n_min)
            if got is None:
                return "your function returned None. Did you forget `return`?"
            got = torch.as_tensor(got).double()
            b = (n_min * classes**gamma - n_max) / (n_max - n_min)
            a, c = n_max * (1 + b), torch.arange(1, classes + 1, dtype=torch.float64)
            raw = torch.tensor(
                [a / (b + i**gamma) for i in range(1, classes + 1)], dtype=torch.float64
            )  # as Python rounds it
            want = torch.tensor(
                imbalanced_counts(classes, gamma, n_max, n_min), dtype=torch.float64
            )
            flat = (n_min * classes - n_max) / (n_max - n_min)
            mistakes = {
                "these are not whole images: round them.": raw,
                "these are cut off, not rounded: use `round`, not `int` or `//`.": raw.floor(),
                "classes count from 1 here, so c runs from 1 to C, not from 0.": (
                    a / (b + (c - 1) ** gamma)
                ).round(),
                "that is gamma times c: c is raised to the *power* gamma.": (
                    a / (b + gamma * c)
                ).round(),
                "gamma is missing in b: it has C to the power gamma.": (
                    n_max * (1 + flat) / (flat + c**gamma)
                ).round(),
                "a is n_max * (1 + b), so that the first class has n_max images.": (
                    n_max / (b + c**gamma)
                ).round(),
                "a is n_max * (1 + b), not n_max * b.": (n_max * b / (b + c**gamma)).round(),
                "the order is reversed: the first class has most images.": want.flip(0),
                "this falls by the same factor from class to class, another known recipe: here n_c "
                "= a / (b + c^gamma).": (
                    n_max * (n_min / n_max) ** ((c - 1) / (classes - 1))
                ).round(),
            }
            what = f"{classes} classes, gamma {gamma:g}, from {n_max} down to {n_min}"
            return explain(got, want, what, mistakes)

        return step

    return judge(
        function,
        value(4, 1.0, 100, 10),
        value(10, 0.2, 5000, 250),
        value(10, 2.0, 5000, 250),
        value(7, 0.6, 97, 5),
        praise="the first class has n_max images, the last n_min, and gamma bends the curve "
        "between them.",
    )


def wrong_label_answers(logits: Tensor, given: Tensor, clean: Tensor) -> tuple[float, float]:
    """The solution: of the images whose label is wrong, the shares that are answered with the true
    class and with the wrong label.
    """
    wrong, answer = given != clean, logits.argmax(1)
    return (
        float((answer == clean)[wrong].double().mean()),
        float((answer == given)[wrong].double().mean()),
    )


def check_wrong_label_answers(function: Callable) -> Verdict:
    """``function(logits, given, clean)`` -> (share answered truly, share answered as labelled), of
    the wrongly labelled images.
    """

    def value(what, n, classes, seed):
        g = torch.Generator().manual_seed(seed)
        clean = torch.randint(classes, (n,), generator=g)
        given = torch.where(torch.rand(n, generator=g) < 0.45, (clean + 1) % classes, clean)
        logits = torch.randn(n, classes, generator=g)
        logits[range(n), clean] += 1.6
        logits[range(n), given] += 0.6
        wrong, answer = given != clean, logits.argmax(1)
        true, lied = (answer == clean).double(), (answer == given).double()
        want = wrong_label_answers(logits, given, clean)
        share = lambda keep: torch.stack([true[keep].mean(), lied[keep].mean()])
        least = (-logits).argmax(1)
        mistakes = {
            "the two shares are swapped: first the true class, then the wrong label.": share(
                wrong
            ).flip(0),
            "these are shares of all images: look at those only where `given` and `clean` "
            "differ.": share(slice(None)),
            "these are the images whose label is *right*: keep those where `given != "
            "clean`.": share(~wrong),
            "these are counts: divide by the number of wrongly labelled images.": share(wrong)
            * wrong.sum(),
            "the numbers of hits are right, but divided by all images instead of the wrongly "
            "labelled ones.": share(wrong) * wrong.double().mean(),
            "these are percentages: return shares, 0 to 1.": share(wrong) * 100,
            "that is the *least* likely class: `argmax`, not `argmin`.": torch.stack(
                [(least == clean)[wrong].double().mean(), (least == given)[wrong].double().mean()]
            ),
        }

        def step(f):
            got = f(logits.clone(), given.clone(), clean.clone())
            if not isinstance(got, (tuple, list, Tensor)) or len(got) != 2:
                return (
                    compare(got, want, what)
                    if got is None
                    else f"{what}: expected two numbers, the true share and the lied share."
                )
            return explain(
                torch.stack([torch.as_tensor(v).double() for v in got]),
                torch.tensor(want).double(),
                what,
                mistakes,
            )

        return step

    return judge(
        function,
        value("40 images, 4 classes", 40, 4, 1),
        value("200 images, 10 classes", 200, 10, 2),
        praise="right: of the wrongly labelled images only, the true class first.",
    )
