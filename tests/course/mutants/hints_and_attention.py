"""Wrong and right answers to the assignment hints_and_attention."""

import torch
import torch.nn.functional as F
from torch import nn

from kdtutor.methods.feature.attention_transfer import attention_loss, attention_map
from kdtutor.methods.feature.fitnet import Regressor, hint_loss

LIBRARY = {
    "my_hint_loss": hint_loss,
    "my_attention_map": attention_map,
    "my_attention_loss": attention_loss,
    "my_regressor": None,
}  # the library's Regressor has one argument more, the variant of public code


def hint(half=0.5, sum_images=False, square=True, swap=False, detach=True, per=lambda v: len(v)):
    """A hint loss, right by default, with a switch for each mistake."""

    def loss(guided, hint, variant="paper"):
        d = guided - (hint.detach() if detach else hint)
        d = d.square() if square else d.abs()
        if (variant == "code") != swap:
            return d.mean()
        return half * d.sum() / (1 if sum_images else per(guided))

    return loss


def hint_by_loop(guided, hint, variant="paper"):
    squares = [F.mse_loss(v, u.detach(), reduction="sum") for v, u in zip(guided, hint)]
    return sum(squares) / (guided.numel() if variant == "code" else 2 * len(squares))


def regressor(
    kernel=lambda n, m: max(n - m, 0) + 1, square=False, bias=True, act=True, always=False, **more
):
    """A regressor, right by default."""

    def build(guided, hint, activation):
        k = [kernel(n, m) for n, m in zip(guided[1:], hint[1:])]
        first = nn.Conv2d(guided[0], hint[0], k[0] if square else k, bias=bias, **more)
        last = nn.ReLU() if always else activation if act else None
        return first if last is None else nn.Sequential(first, last)

    return build


class Written(nn.Module):
    """A right regressor that is a module of its own."""

    def __init__(self, guided, hint, activation):
        super().__init__()
        (c, h, w), (d, i, j) = guided, hint
        self.bias, self.weight = (
            nn.Parameter(torch.zeros(d)),
            nn.Parameter(torch.randn(d, c, max(h - i + 1, 1), max(w - j + 1, 1))),
        )
        self.activation = activation or nn.Identity()

    def forward(self, x):
        return self.activation(F.conv2d(x, self.weight, self.bias))


def connected(guided, hint, activation):
    size = [min(a, b) for a, b in zip(guided[1:], hint[1:])]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(guided[0] * guided[1] * guided[2], hint[0] * size[0] * size[1]),
        nn.Unflatten(1, (hint[0], *size)),
        activation or nn.Identity(),
    )


def pooled(guided, hint, activation):
    size = [min(a, b) for a, b in zip(guided[1:], hint[1:])]
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(size), nn.Conv2d(guided[0], hint[0], 1), activation or nn.Identity()
    )


def transposed(guided, hint, activation):
    return regressor()((guided[0], guided[2], guided[1]), (hint[0], hint[2], hint[1]), activation)


def attention(
    early=True,
    bars=True,
    root=False,
    power=lambda p: p,
    dim=1,
    swap=False,
    mean=False,
    before=False,
):
    """An attention map, right by default."""

    def look(features, kind="sum", p=2):
        a = features.float() if early else features
        a = a.sum(1, keepdim=True) if before else a
        a = (a.abs() if bars else a).pow(power(p))
        m = a.amax(dim) if (kind == "max") != swap else a.mean(dim) if mean else a.sum(dim)
        return (m.pow(1 / p) if root else m).float()

    return look


def loss(
    pool_maps=False,
    divide=lambda m: F.normalize(m, dim=1),
    end=None,
    swap=False,
    detach=True,
    p=None,
    kind=None,
    squash=None,
):
    """An attention loss, right by default."""

    def run(student, teacher, p_=2, variant="paper", kind_="sum"):
        pair, used = (student, teacher.detach() if detach else teacher), (kind or kind_, p or p_)
        size = [min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:])]
        if pool_maps:
            maps = [F.adaptive_avg_pool2d(attention_map(x, *used), size) for x in pair]
        else:
            maps = [attention_map((squash or F.adaptive_avg_pool2d)(x, size), *used) for x in pair]
        d = divide(maps[0].flatten(1)) - divide(maps[1].flatten(1))
        if end:
            return end(d)
        return d.square().mean() if (variant == "code") != swap else d.norm(dim=1).mean()

    return run


def without_variants(student, teacher, p=2, variant="paper", kind="sum"):
    return attention_loss(student, teacher, p, "paper", kind)


def loss_by_loop(student, teacher, p=2, variant="paper", kind="sum"):
    size, total = [min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:])], 0
    for s, t in zip(student, teacher.detach()):
        q = [attention_map(F.adaptive_avg_pool2d(x[None], size), kind, p).flatten() for x in (s, t)]
        q = [v / v.norm() if v.norm() > 0 else v for v in q]
        square = (q[0] - q[1]).square().sum()
        total = total + (square / q[0].numel() if variant == "code" else square.sqrt())
    return total / len(student)


RIGHT = {
    "hint-loss-test": [hint_loss, hint(), hint_by_loop],
    "regressor-test": [Regressor, regressor(), Written],
    "attention-map-test": [
        attention_map,
        attention(),
        lambda a, kind="sum", p=2: attention()(a.double(), kind, p).float(),
    ],
    "attention-loss-test": [attention_loss, loss(), loss_by_loop],
}
WRONG = {
    "hint-loss-test": {
        "1/2 missing": hint(half=1),
        "1/2 in the code's variant too": lambda v, u, variant="paper": (
            hint()(v, u, variant) * (0.5 if variant == "code" else 1)
        ),
        "variants swapped": hint(swap=True),
        "variant not used": lambda v, u, variant="paper": hint()(v, u, "paper"),
        "always the mean": lambda v, u, variant="paper": hint()(v, u, "code"),
        "summed over the batch": hint(sum_images=True),
        "averaged over channels too": hint(per=lambda v: v.shape[0] * v.shape[1]),
        "absolute differences": hint(square=False),
        "a root": lambda v, u, variant="paper": (
            0.5 * (v - u.detach()).flatten(1).norm(dim=1).mean()
        ),
        "gradient reaches the teacher": hint(detach=False),
        "student detached": lambda v, u, variant="paper": hint(detach=False)(
            v.detach(), u, variant
        ),
    },
    "regressor-test": {
        "kernel one too small": regressor(kernel=lambda n, m: max(n - m, 1)),
        "a square kernel": regressor(square=True),
        "rows and columns swapped": transposed,
        "no bias": regressor(bias=False),
        "no activation": regressor(act=False),
        "always a ReLU": regressor(always=True),
        "1 x 1 and pooling": pooled,
        "fully connected": connected,
        "channels swapped": lambda v, u, a: regressor()((u[0], *v[1:]), (v[0], *u[1:]), a),
        "no smaller guided maps": regressor(kernel=lambda n, m: n - m + 1),
        "k is |difference| + 1": regressor(kernel=lambda n, m: abs(n - m) + 1),
        "a kernel of 3": regressor(kernel=lambda n, m: 3, padding=1),
    },
    "attention-map-test": {
        "no absolute value": attention(bars=False),
        "sum before the absolute value": attention(before=True),
        "kinds swapped": attention(swap=True),
        "p unused": attention(power=lambda p: 2),
        "p is a whole number": attention(power=int),
        "a root at the end": attention(root=True),
        "mean over channels": attention(mean=True),
        "over the batch": attention(dim=0),
        "float32 after the sum": attention(early=False),
        "half precision stays": lambda a, kind="sum", p=2: attention()(a, kind, p).to(a.dtype),
        "clamped to what float16 holds": lambda a, kind="sum", p=2: attention()(a, kind, p).clamp(
            max=65504
        ),
        "normalised": lambda a, kind="sum", p=2: F.normalize(
            attention()(a, kind, p).flatten(1), dim=1
        ).view(a[:, 0].shape),
    },
    "attention-loss-test": {
        "variant not used": without_variants,
        "variants swapped": loss(swap=True),
        "kind not used": loss(kind="sum"),
        "p not used": loss(p=2),
        "maps not normalised": loss(divide=lambda m: m),
        "zeros become NaN": loss(divide=lambda m: m / m.norm(dim=1, keepdim=True)),
        "one length for the batch": loss(divide=lambda m: m / m.norm()),
        "divided by the sum": loss(divide=lambda m: m / m.sum(1, keepdim=True).clamp_min(1e-12)),
        "divided by the maximum": loss(
            divide=lambda m: m / m.amax(1, keepdim=True).clamp_min(1e-12)
        ),
        "summed over the batch": loss(end=lambda d: d.norm(dim=1).sum()),
        "no root": loss(end=lambda d: d.square().sum(1).mean()),
        "one length over the batch": loss(end=lambda d: d.norm()),
        "maps pooled, not features": loss(pool_maps=True),
        "largest features kept instead of pooled": loss(squash=F.adaptive_max_pool2d),
        "gradient reaches the teacher": loss(detach=False),
        "student detached": lambda s, t, *more: loss()(s.detach(), t, *more),
    },
}
