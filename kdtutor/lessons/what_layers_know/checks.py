"""Checks of lesson 05: the size of FitNet's regressor, the FSP matrix, the loss of activation
boundaries.
"""

from collections.abc import Callable

import torch

from ...checks.verdict import Verdict, compare, explain, judge
from ...methods.feature.activation_boundary import activation_boundary_loss
from ...methods.feature.fitnet import Regressor
from ...methods.feature.fsp import fsp_matrix


def check_regressor_size(function: Callable) -> Verdict:
    """``function(guided, hint)``: two shapes (C, H, W) -> how many parameters the convolution
    without padding has, with its biases.
    """

    def step(guided, hint):
        (c, h, w), (d, i, j) = guided, hint
        want = sum(p.numel() for p in Regressor(guided, hint, None).parameters())
        rows, columns = h - i + 1, w - j + 1
        mistakes = {
            "the biases are missing: one for each channel of the hint.": want - d,
            "one bias for each channel of the *hint*, not of the guided layer.": want - d + c,
            "the kernel is one too small on each side: k = N_guided − N_hint + 1.": (rows - 1)
            * (columns - 1)
            * c
            * d
            + d,
            "the kernel has two sides: rows times columns.": rows * c * d + d,
            "a kernel need not be square: width has its own k.": rows * rows * c * d + d,
            "that is the size of the guided map: the kernel only takes away what is too much, k = "
            "N_guided − N_hint + 1.": h * w * c * d + d,
            "every channel of the hint looks at *all* channels of the guided layer: multiply by "
            "both.": rows * columns * d + d,
            "that is a fully connected layer; a convolution uses one kernel at all places.": c
            * h
            * w
            * d
            * i
            * j
            + d * i * j,
            "those are the numbers of one channel: multiply by the channels of both layers.": rows
            * columns
            + 1,
        }
        return lambda f: explain(f(guided, hint), want, f"guided {guided}, hint {hint}", mistakes)

    return judge(
        function,
        step((4, 8, 8), (5, 6, 6)),
        step((32, 4, 4), (32, 4, 4)),
        step((4, 10, 8), (6, 3, 5)),
        praise="the same number as the library's regressor, for square and for other maps.",
    )


def check_fsp_matrix(function: Callable) -> Verdict:
    """``function(first, second)``: (B, m, H, W), (B, n, H, W) -> (B, m, n), G_ij = mean over places
    of first_i * second_j.
    """
    g = torch.Generator().manual_seed(5)
    one = (
        torch.randint(-2, 4, (1, 2, 2, 3), generator=g).float(),
        torch.randint(-2, 4, (1, 4, 2, 3), generator=g).float(),
    )
    large = torch.randn(3, 2, 4, 5, generator=g), torch.randn(3, 6, 4, 5, generator=g)

    def step(what, first, second):
        want, (height, width) = fsp_matrix(first, second), first.shape[2:]
        a, b = first.flatten(2), second.flatten(2)
        length = a.norm(dim=2)[:, :, None] * b.norm(dim=2)[:, None]
        mistakes = {
            "divide by the number of places, H · W.": want * height * width,
            "you divide by H only: the places are H · W.": want * width,
            "you divide by W only: the places are H · W.": want * height,
            "you divide by the number of channels: the mean runs over places.": want
            * height
            * width
            / second.shape[1],
            "multiply place by place first and sum then: a product of two means forgets "
            "where.": a.mean(2)[:, :, None] * b.mean(2)[:, None],
            "subtracting the means first gives a covariance: FSP takes the products as they "
            "are.": want - a.mean(2)[:, :, None] * b.mean(2)[:, None],
            "the channels are divided by their lengths (a cosine): FSP takes the products as they "
            "are.": want * height * width / length,
            "one matrix for *each* example: do not average over the batch.": want.mean(0),
            "rows are the first layer's channels, columns the second's: yours is "
            "transposed.": want.transpose(1, 2),
        }

        def run(f):
            got = f(first, second)
            if (
                isinstance(got, torch.Tensor) and got.shape != want.shape
            ):  # a wrong shape can still be a mistake with a name
                for sentence, value in mistakes.items():
                    if got.shape == value.shape and compare(got, value, what) is None:
                        return f"{what}: {sentence}"
            return explain(got, want, what, mistakes)

        return run

    return judge(
        function,
        step("one example, two channels and four, 2 by 3 places", *one),
        step("a batch of three, 4 by 5 places", *large),
        praise="equal to the library's, for maps that are not square and for negative features.",
    )


def check_boundary_loss(function: Callable) -> Verdict:
    """``function(student, teacher, margin)``: (B, N), (B, N) before the ReLU -> the AB loss, a
    number.
    """
    g = torch.Generator().manual_seed(6)
    few = torch.tensor([[0.5, -0.2, 3.0, -2.0]]), torch.tensor([[2.0, 1.0, -1.0, -0.5]])
    many = 2 * torch.randn(4, 7, generator=g), 3 * torch.randn(4, 7, generator=g)
    edge = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.0, 0.0]])

    def step(what, student, teacher, margin):
        want, side = (
            activation_boundary_loss(student, teacher, margin),
            torch.where(teacher > 0, 1.0, -1.0),
        )
        hinge = (margin - side * student).clamp(min=0)
        total = lambda each: each.sum() / len(student)
        mistakes = {
            "sum over the neurons, then take the mean over the batch: yours is the mean over "
            "everything.": hinge.square().mean(),
            "the sum over the batch must be divided by B.": hinge.square().sum(),
            "the square is missing.": total(hinge),
            "only neurons with a loss above 0 count: cut the hinge off at 0 before you square "
            "it.": total((margin - side * student).square()),
            "the two cases are swapped: a teacher that fires wants the student *above* "
            "+margin.": total((margin + side * student).clamp(min=0).square()),
            "the margin is missing: being on the right side is not enough.": total(
                (-side * student).clamp(min=0).square()
            ),
            "the margin has the wrong sign: it must push the student beyond 0.": total(
                (-margin - side * student).clamp(min=0).square()
            ),
            "only the firing neurons are counted: silent ones must be silent in the student, "
            "too.": total(hinge.square() * (teacher > 0)),
            "only the silent neurons are counted: firing ones must fire in the student, "
            "too.": total(hinge.square() * (teacher <= 0)),
            "a teacher's neuron at exactly 0 is silent, but torch.sign gives 0 there: use "
            "torch.where.": total((margin - teacher.sign() * student).clamp(min=0).square()),
            "how strongly the teacher fires must not matter: use only the sign of its "
            "value.": total((margin - teacher * student).clamp(min=0).square()),
            "that is the squared distance to the teacher's values, FitNet's idea: only the side "
            "counts here.": total((student - teacher).square()),
            "a teacher's neuron at exactly 0 does not fire (the condition is t > 0).": total(
                (margin - torch.where(teacher >= 0, 1.0, -1.0) * student).clamp(min=0).square()
            ),
        }
        return lambda f: explain(f(student, teacher, margin), want, what, mistakes)

    return judge(
        function,
        step("one example with four neurons, margin 1", *few, 1.0),
        step("a batch of four, margin 1", *many, 1.0),
        step("a batch of four, margin 0.5", *many, 0.5),
        step("a teacher's value of exactly 0", *edge, 1.0),
        praise="equal to the library's; only the teacher's decisions count, not its strength.",
    )
