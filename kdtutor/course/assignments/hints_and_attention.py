"""Checks of the assignment hints_and_attention: the hint loss, its regressor, attention maps in
half precision, the attention loss.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks.verdict import Verdict, compare, explain, judge
from ...lessons.where_networks_look.checks import check_attention_map
from ...methods.feature.attention_transfer import attention_loss, attention_map
from ...methods.feature.fitnet import Regressor, hint_loss


def one_way(
    function: Callable, library: Callable, student: Tensor, teacher: Tensor, *more
) -> str | None:
    """None if the gradient of ``function(student, teacher, *more)`` is the library's for the
    student and nothing for the teacher.
    """
    both, reference = (
        [x.clone().requires_grad_() for x in (student, teacher)],
        student.clone().requires_grad_(),
    )
    loss = function(*both, *more)
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return (
            "no gradient reaches the student: stay with tensors, and detach the teacher's side "
            "only."
        )
    loss.backward()
    library(reference, teacher, *more).backward()
    if both[1].grad is not None and both[1].grad.any():
        return (
            "a gradient reaches the teacher, which would learn to be easy to copy: detach its side."
        )
    complaint = compare(both[0].grad, reference.grad, "the student's gradient", tolerance=1e-4)
    return (
        complaint
        and complaint
        + " The value is right: is a part of the formula cut off by detach, or by a 0 under a root?"
    )


def told(got, want, what: str, mistakes: dict, infinite: str) -> str | None:
    """``explain``, with a hint of its own for NaN and Inf, and without those mistakes that make no
    difference for this input.
    """
    if isinstance(got, Tensor) and not torch.isfinite(got).all():
        return f"{what}: your result holds NaN or Inf. {infinite}"
    return explain(
        got,
        want,
        what,
        {k: v for k, v in mistakes.items() if v.shape != want.shape or not torch.allclose(v, want)},
    )


def check_hint_loss(function: Callable) -> Verdict:
    """``function(guided, hint, variant)`` (B, ...) each -> a number, as ``hint_loss``."""
    g = torch.Generator().manual_seed(4)
    tiny = (
        torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 2.0]]),
        torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 2.0]]),
    )
    maps = torch.randn(3, 4, 2, 5, generator=g), torch.randn(3, 4, 2, 5, generator=g)

    def step(what, guided, hint, variant):
        want, squares, size = (
            hint_loss(guided, hint, variant),
            (guided - hint).square(),
            guided.numel(),
        )
        mistakes = {
            "the two variants are mixed up, or variant is not used.": hint_loss(
                guided, hint, "code" if variant == "paper" else "paper"
            ),
            "the factor 1/2 is missing.": squares.sum() / len(guided),
            "the paper sums the squares of an example and halves; the code takes the mean and does "
            "not halve.": squares.mean() / 2,
            "the squares of one example are summed: divide by B only.": squares.mean(),
            "it is summed over the batch: divide by B.": squares.sum() / 2,
            "these are absolute differences: square them.": (guided - hint).abs().sum()
            / (2 * len(guided) if variant == "paper" else size),
            "there is no root in the formula: the squared length.": squares.flatten(1)
            .sum(1)
            .sqrt()
            .mean()
            / 2,
            "the mean runs over channels too; only the examples are averaged.": squares.sum()
            / (2 * guided.shape[0] * guided.shape[1]),
        }
        return lambda f: told(
            f(guided.clone(), hint.clone(), variant),
            want,
            what,
            mistakes,
            "Divide by the batch, not by a difference.",
        )

    return judge(
        function,
        step("maps, 'paper'", *maps, "paper"),
        step("two examples by hand, 'paper' (2.25)", *tiny, "paper"),
        step("maps, variant 'code'", *maps, "code"),
        lambda f: one_way(f, hint_loss, *maps, "paper"),
        praise="a sum per example in one variant, a mean in the other, and only the student "
        "learns.",
    )


def regressor_fault(
    function: Callable, guided: tuple, hint: tuple, activation: nn.Module | None
) -> str | None:
    """None if ``function(guided, hint, activation)`` is ``Regressor(guided, hint, activation)`` but
    for its random weights.
    """
    what, (c, h, w), (d, i, j) = f"guided {guided}, hint {hint}", guided, hint
    try:
        module, right = function(guided, hint, activation), Regressor(guided, hint, activation)
    except RuntimeError as error:
        if isinstance(error, NotImplementedError):
            raise
        raise ValueError(f"{error}. A kernel has at least 1 row and column.") from error
    if not isinstance(module, nn.Module):
        return (
            f"{what}: your function returned a {type(module).__name__}, expected a module such "
            f"as nn.Sequential(...)."
        )
    x = torch.randn(2, *guided, generator=torch.Generator().manual_seed(c + h + w))
    try:
        shape = tuple(module(x).shape)
    except RuntimeError as error:
        return (
            f"{what}: your module cannot read maps of shape {tuple(x.shape)}: {error}. The "
            f"guided layer comes in."
        )
    want, kernel = tuple(right(x).shape), tuple(right[0].weight.shape[2:])
    if shape != want:
        hints = {
            (h, w): "The map does not shrink: no padding, and k = N_guided − N_hint + 1.",
            (i + 1, j + 1): "The kernel is one too small: k = N_guided − N_hint + 1.",
            (i, w - h + i): "A kernel need not be square.",
            (h - w + j, w - h + i): "Rows and columns are mixed up.",
            (h - abs(h - i), w - abs(w - j)): "k is never less than 1, and not |difference| + 1.",
        }
        return f"{what}: your module gives {shape}, expected {want}. " + hints.get(
            shape[2:], "No padding, stride 1, k = (rows, columns)."
        )
    weights, n = (
        sorted(module.parameters(), key=lambda p: -p.ndim),
        sum(p.numel() for p in module.parameters()),
    )
    if [p.shape for p in weights] != [right[0].weight.shape, right[0].bias.shape]:
        counts = {
            c * d * kernel[0] * kernel[1]: "The bias is missing.",
            9 * c * d + d: "A kernel of 3 x 3: choose it from the sizes.",
            c * h * w * d * i * j
            + d * i * j: "That is a fully connected layer: use one kernel at all places.",
            d * kernel[0] * kernel[1]
            + d: "Each channel of the hint must see all channels of the guided layer: groups=1.",
            c * d + d: "A 1 x 1 kernel and a pooling: let the kernel itself do the shrinking.",
        }
        return (
            f"{what}: {n} parameters, expected {(c * kernel[0] * kernel[1] + 1) * d}. "
            + counts.get(n, "One convolution with bias.")
        )
    with torch.no_grad():
        for mine, other in zip(weights, (right[0].weight, right[0].bias)):
            mine.copy_(other)
        mistakes = {
            "the hint's activation is missing behind the convolution.": right[0](x),
            "a ReLU although another activation, or none, was asked for.": right[0](x).relu(),
        }
        return told(
            module(x),
            right(x),
            f"{what}, activation {activation}, with the same weights",
            mistakes,
            "A division by 0?",
        )


def check_regressor(function: Callable) -> Verdict:
    """``function(guided, hint, activation)``, shapes (C, H, W) -> a module from guided maps to maps
    like the hint, as ``Regressor``.
    """
    cases = (
        ((4, 8, 8), (5, 6, 6), None),
        ((4, 8, 8), (5, 6, 6), nn.ReLU()),
        ((3, 9, 6), (7, 4, 5), nn.ReLU()),
        ((2, 5, 5), (6, 5, 5), nn.Tanh()),
        ((3, 7, 4), (2, 3, 6), None),
    )
    return judge(
        function,
        *[lambda f, case=case: regressor_fault(f, *case) for case in cases],
        praise="a convolution that shrinks the map to the hint's size, with the hint's own "
        "activation.",
    )


def check_half_attention_map(function: Callable) -> Verdict:
    """``function(features, kind, p)`` as ``attention_map``, also for features in float16, whose
    largest number is 65504.
    """
    g = torch.Generator().manual_seed(4)
    loud = (300 * torch.randn(2, 5, 3, 4, generator=g)).half()

    def step(kind, p):
        def run(f):
            complaint = told(
                f(loud.clone(), kind, p),
                attention_map(loud, kind, p),
                f"features in float16 around 300, {kind}, p = {p}",
                {},
                "float16 ends at 65504, and 300² is 90000.",
            )
            return (
                complaint
                and complaint
                + " Convert to float32 *before* the power: float16 keeps three digits only."
            )

        return run

    return check_attention_map(function) and judge(
        function,
        step("sum", 2),
        step("max", 2),
        step("sum", 1),
        praise="right for signed features, all powers, and half precision.",
    )


def check_full_attention_loss(function: Callable) -> Verdict:
    """``function(student, teacher, p, variant, kind)``, as ``attention_loss``: also two sizes, and
    maps of zeros.
    """
    g = torch.Generator().manual_seed(5)
    s, t, large = (
        torch.randn(shape, generator=g) for shape in ((3, 2, 3, 5), (3, 7, 3, 5), (3, 4, 6, 10))
    )
    hand = [torch.tensor(v).sqrt().view(1, 1, 1, 2) for v in ([3.0, 4.0], [4.0, 3.0])]
    dead = s * torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1)

    def step(what, a, b, p=2, variant="paper", kind="sum"):
        want, other = (
            attention_loss(a, b, p, variant, kind),
            "paper" if variant == "code" else "code",
        )
        small = [
            F.adaptive_avg_pool2d(v, (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])))
            for v in (a, b)
        ]
        flat = [attention_map(v, kind, p).flatten(1) for v in small]
        late = [
            F.adaptive_avg_pool2d(attention_map(v, kind, p), small[0].shape[2:]).flatten(1)
            for v in (a, b)
        ]
        end = (
            (lambda d: d.norm(dim=1).mean())
            if variant == "paper"
            else (lambda d: d.square().mean())
        )
        gap = lambda q, by: end(q[0] / by(q[0]).clamp_min(1e-12) - q[1] / by(q[1]).clamp_min(1e-12))
        lengths = (d := F.normalize(flat[0], dim=1) - F.normalize(flat[1], dim=1)).norm(dim=1)
        mistakes = {
            "the two variants are mixed up, or variant is not used.": attention_loss(
                a, b, p, other, kind
            ),
            "kind is not used, or 'sum' and 'max' are mixed up.": attention_loss(
                a, b, p, variant, "max" if kind == "sum" else "sum"
            ),
            "p is not used: that is the loss for p = 2.": attention_loss(a, b, 2, variant, kind),
            "the maps are not normalised: divide each by its own length.": end(flat[0] - flat[1]),
            "one length for the whole batch: each image's map has its own.": gap(
                flat, lambda m: m.norm()
            ),
            "the maps are divided by their sum: divide by their length.": gap(
                flat, lambda m: m.sum(1, keepdim=True)
            ),
            "the maps are divided by their maximum: divide by their length.": gap(
                flat, lambda m: m.amax(1, keepdim=True)
            ),
            "it is summed over the batch: take the mean over images.": lengths.sum(),
            "'paper' takes the length, with its root; 'code' divides the squares by B · H · "
            "W.": lengths.square().mean(),
            "one length over the whole batch: take it per image, then the mean.": d.norm(),
            "pool the features first; you pool the finished maps.": gap(
                late, lambda m: m.norm(dim=1, keepdim=True)
            ),
        }
        zeros = (
            "A map of zeros has length 0: it must stay 0, so guard the division (F.normalize does)."
        )
        return lambda f: told(
            f(a.clone(), b.clone(), p, variant, kind), want, what, mistakes, zeros
        )

    return judge(
        function,
        step("the maps (3, 4) and (4, 3), distance 0.283", *hand),
        step("2 and 7 channels", s, t),
        step("2 and 7 channels, variant 'code'", s, t, 2, "code"),
        step("p = 1, kind 'max'", s, t, 1, "paper", "max"),
        step("p = 3", s, t, 3),
        step("a teacher of 6 by 10 places, a student of 3 by 5", s, large),
        step("an image whose features are all 0", dead, t),
        lambda f: one_way(f, attention_loss, s, t, 2, "paper", "sum"),
        praise="both variants, any channels and sizes, and dead features do no harm.",
    )
