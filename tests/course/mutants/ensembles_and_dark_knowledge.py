"""Wrong and right answers to the assignment ensembles_and_dark_knowledge."""

import math

import torch
import torch.nn.functional as F

from kdtutor.course.assignments.ensembles_and_dark_knowledge import disagreement, split_loss
from kdtutor.softening import distillation_kl, ensemble_logits, ensemble_targets, soften

LIBRARY = {
    "my_ensemble_targets": ensemble_targets,
    "my_ensemble_logits": ensemble_logits,
    "my_disagreement": None,
    "my_split_loss": None,
}  # analyses of this assignment: the library has neither


def entropy(p):
    return torch.special.entr(p).sum(-1)


def in_place(z, T, mean):
    z /= T
    return ensemble_targets(z, 1.0, mean)


def both(arithmetic, geometric=None):
    """A function of (z, T, mean) from one per mean; geometric is right unless given."""
    return lambda z, T, mean: (
        arithmetic(z, T)
        if mean == "arithmetic"
        else (geometric or (lambda z, T: z.mean(0) / T))(z, T)
    )


def targets(
    arithmetic=lambda z, T: soften(z, T).mean(0), geometric=lambda z, T: soften(z.mean(0), T)
):
    return both(arithmetic, geometric)


def logits(arithmetic=ensemble_logits, geometric=lambda z, T: z.mean(0)):
    return both(arithmetic, geometric)


def product_root(z, T):
    p = soften(z, T).log().mean(0).exp()
    return p / p.sum(-1, keepdim=True)


def by_products(z, T):
    p = soften(z, T).prod(0)
    return p / p.sum(-1, keepdim=True)


def jensen_shannon(kl, z, T, mean="arithmetic"):
    p = soften(z, T)
    return kl(p, ensemble_targets(z, T, mean))


def forward(p, mean):
    mean = mean.clamp_min(
        torch.finfo(mean.dtype).tiny
    )  # the mean of numbers above 0 may underflow to 0
    return (torch.xlogy(p, p) - torch.xlogy(p, mean)).sum(-1).mean(0)


def split(
    weight=lambda p, q: p,
    terms=2,
    student_T=True,
    factor=lambda T: T**2,
    swap=False,
    first=False,
    divide=len,
    detach=True,
):
    """A loss in two parts, right by default, with a switch for each mistake."""

    def parts(z, y):
        log_p = F.log_softmax(z, -1)
        own = F.one_hot(y, z.shape[-1]).bool()
        others = log_p[~own].view(len(z), -1)
        rest = others.logsumexp(-1, keepdim=True)
        return torch.cat([log_p[own][:, None], rest], -1), others - rest

    def loss(s, t, y, T):
        s, t = (t, s) if swap else (s, t.detach() if detach else t)
        y = t.argmax(1) if first else y
        (p, p_hat), (q, q_hat) = parts(t / T, y), parts(s / (T if student_T else 1), y)
        label = (p.exp() * (p - q))[:, :terms].sum()
        dark = (
            weight(p[:, 1].exp(), q[:, 1].exp()) * (p_hat.exp() * (p_hat - q_hat)).sum(-1)
        ).sum()
        return factor(T) * label / divide(s), factor(T) * dark / divide(s)

    return loss


def by_difference(s, t, y, T):
    """The dark part as what is left of the loss. Log-sums only, so that a sure teacher does no
    harm.
    """
    label, _ = split()(s, t, y, T)
    return label, distillation_kl(s, t, T) - label


def by_loop(s, t, y, T):
    label = dark = 0
    for a, b, c in zip(s.double() / T, t.detach().double() / T, y.tolist()):
        wrong = [i for i in range(len(a)) if i != c]
        log_p, log_q = b.log_softmax(0), a.log_softmax(0)
        rest_p, rest_q = log_p[wrong].logsumexp(0), log_q[wrong].logsumexp(0)
        label += log_p[c].exp() * (log_p[c] - log_q[c]) + rest_p.exp() * (rest_p - rest_q)
        p_hat, q_hat = b[wrong].log_softmax(0), a[wrong].log_softmax(0)
        dark += rest_p.exp() * (p_hat.exp() * (p_hat - q_hat)).sum()
    return T**2 * label / len(s), T**2 * dark / len(s)


def dividing(s, t, y, T):
    """Shares divided by 1 - p_y: NaN for a sure teacher."""
    p, q, own = soften(t, T), soften(s, T), F.one_hot(y, s.shape[1]).bool()
    py, qy = p[own], q[own]
    p_hat, q_hat = (
        p[~own].view(len(s), -1) / (1 - py)[:, None],
        q[~own].view(len(s), -1) / (1 - qy)[:, None],
    )
    label = py * (py / qy).log() + (1 - py) * ((1 - py) / (1 - qy)).log()
    dark = (1 - py) * (p_hat * (p_hat / q_hat).log()).sum(1)
    return T**2 * label.mean(), T**2 * dark.mean()


def cut(s, t, y, T):
    """The KL's own terms, sorted into two boxes."""
    terms, own = (
        soften(t, T) * (F.log_softmax(t / T, -1) - F.log_softmax(s / T, -1)),
        F.one_hot(y, s.shape[1]).bool(),
    )
    return T**2 * terms[own].mean(), T**2 * terms[~own].sum() / len(s)


RIGHT = {
    "ensemble-targets-test": [
        ensemble_targets,
        targets(),
        targets(geometric=lambda z, T: soften(F.log_softmax(z / T, -1).mean(0))),
    ],
    "ensemble-logits-test": [
        ensemble_logits,
        logits(
            arithmetic=lambda z, T: T * F.log_softmax(z / T, -1).logsumexp(0)
        ),  # up to a constant
        logits(geometric=lambda z, T: T * F.log_softmax(z / T, -1).mean(0)),
    ],
    "disagreement-test": [
        disagreement,
        lambda z, T: jensen_shannon(forward, z, T),
        lambda z, T: disagreement(z.double(), T),
    ],
    "split-loss-test": [split_loss, split(), by_loop, by_difference],
}
WRONG = {
    "ensemble-targets-test": {
        "the two means swapped": lambda z, T, mean: ensemble_targets(
            z, T, "geometric" if mean == "arithmetic" else "arithmetic"
        ),
        "always arithmetic": lambda z, T, mean: ensemble_targets(z, T),
        "always geometric": lambda z, T, mean: ensemble_targets(z, T, "geometric"),
        "mean over the batch": targets(arithmetic=lambda z, T: soften(z, T).mean(1)),
        "T forgotten in the geometric mean": targets(geometric=lambda z, T: soften(z.mean(0))),
        "softened after the mean": targets(
            arithmetic=lambda z, T: soften(soften(z).mean(0).log(), T)
        ),
        "a second softmax": targets(arithmetic=lambda z, T: soften(soften(z, T).mean(0))),
        "a product without the root": targets(geometric=by_products),
        "a geometric mean that does not sum to 1": targets(
            geometric=lambda z, T: soften(z, T).log().mean(0).exp()
        ),
        "root of a product of shares that became 0": targets(geometric=product_root),
        "logarithm of a share that became 0": targets(
            geometric=lambda z, T: soften(soften(z, T).log().mean(0))
        ),
        "sum over the members": targets(arithmetic=lambda z, T: soften(z, T).sum(0)),
        "right for three members only": targets(arithmetic=lambda z, T: soften(z, T).sum(0) / 3),
        "the most certain member": targets(arithmetic=lambda z, T: soften(z, T).amax(0)),
        "changes its input": in_place,
    },
    "ensemble-logits-test": {
        "the mean of the logits for both": lambda z, T, mean: z.mean(0),
        "probabilities": lambda z, T, mean: ensemble_targets(z, T, mean),
        "logarithms not multiplied by T": lambda z, T, mean: ensemble_logits(z, T, mean) / T,
        "T unused": lambda z, T, mean: ensemble_logits(z, 1.0, mean),
        "members not softened by T": logits(arithmetic=lambda z, T: T * ensemble_logits(z, 1.0)),
        "members not normalised": logits(arithmetic=lambda z, T: T * (z / T).logsumexp(0)),
        "logarithm of the mean share": logits(
            arithmetic=lambda z, T: T * soften(z, T).mean(0).log()
        ),
        "a small constant inside the logarithm": logits(
            arithmetic=lambda z, T: T * (soften(z, T).mean(0) + 1e-9).log()
        ),
        "shares clamped": logits(
            arithmetic=lambda z, T: T * soften(z, T).mean(0).clamp(min=1e-30).log()
        ),
        "geometric divided by T": logits(geometric=lambda z, T: z.mean(0) / T),
        "the most certain member": logits(
            arithmetic=lambda z, T: T * F.log_softmax(z / T, -1).amax(0)
        ),
        "changes its input": lambda z, T, mean: ensemble_logits(
            z.sub_(z.amax(-1, keepdim=True)), T, mean
        ),
    },
    "disagreement-test": {
        "sign flipped": lambda z, T: -disagreement(z, T),
        "bits": lambda z, T: disagreement(z, T) / math.log(2),
        "entropy of the mean alone": lambda z, T: entropy(soften(z, T).mean(0)),
        "members' entropy alone": lambda z, T: entropy(soften(z, T)).mean(0),
        "entropies summed over the members": lambda z, T: (
            entropy(soften(z, T).mean(0)) - entropy(soften(z, T)).sum(0)
        ),
        "one number for the batch": lambda z, T: disagreement(z, T).mean(),
        "T unused": lambda z, T: disagreement(z, 1.0),
        "with T²": lambda z, T: T**2 * disagreement(z, T),
        "geometric mean": lambda z, T: (
            entropy(ensemble_targets(z, T, "geometric")) - entropy(soften(z, T)).mean(0)
        ),
        "distance from the geometric mean": lambda z, T: jensen_shannon(forward, z, T, "geometric"),
        "KL the wrong way round": lambda z, T: jensen_shannon(lambda p, m: forward(m, p), z, T),
        "p log p by hand, NaN at 0": lambda z, T: (
            -(p := soften(z, T)).mean(0).mul(p.mean(0).log()).sum(-1)
            + (p * p.log()).sum(-1).mean(0)
        ),
        "a constant inside the logarithm": lambda z, T: (
            -((m := (p := soften(z, T)).mean(0)) * (m + 1e-2).log()).sum(-1)
            + (p * (p + 1e-2).log()).sum(-1).mean(0)
        ),
        "variance of the shares": lambda z, T: soften(z, T).var(0).sum(-1),
        "share of first answers that differ": lambda z, T: (
            (z.argmax(-1) != z.mean(0).argmax(-1)).float().mean(0)
        ),
    },
    "split-loss-test": {
        "parts swapped": lambda *a: split()(*a)[::-1],
        "dark part without its weight": split(weight=lambda p, q: 1),
        "dark part weighted by the student": split(weight=lambda p, q: q),
        "dark part weighted by p_y": split(weight=lambda p, q: 1 - p),
        "label part of one term": split(terms=1),
        "terms of the KL sorted into two boxes": cut,
        "T² missing": split(factor=lambda T: 1),
        "T instead of T²": split(factor=lambda T: T),
        "student not softened": split(student_T=False),
        "KL the wrong way round": split(swap=True),
        "the teacher's first answer in the label's place": split(first=True),
        "sum over the batch": split(divide=lambda s: 1),
        "mean over classes too": split(divide=lambda s: s.numel()),
        "divides by 1 - p_y, NaN for a sure teacher": dividing,
        "gradient reaches the teacher": split(detach=False),
        "numbers without a gradient": lambda *a: tuple(part.detach() for part in split()(*a)),
        "dark part is the whole loss": lambda s, t, y, T: (
            split()(s, t, y, T)[0],
            distillation_kl(s, t, T),
        ),
    },
}
