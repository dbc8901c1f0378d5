"""The checks of lesson 05 pass right solutions, and name the mistake of plausible wrong ones."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from kdtutor.lessons.what_layers_know.checks import (
    check_boundary_loss,
    check_fsp_matrix,
    check_regressor_size,
)
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss
from kdtutor.methods.feature.fsp import fsp_matrix

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "05_what_layers_know.ipynb"


def unsolved(*args):
    raise NotImplementedError


# --- The regressor's size


def size(
    k=lambda n, m: n - m + 1,
    bias=lambda c, d: d,
    rows_only=False,
    square=False,
    pairs=lambda c, d: c * d,
):
    """A solution, right by default, with a switch for each mistake."""

    def f(guided, hint):
        (c, h, w), (d, i, j) = guided, hint
        rows, columns = k(h, i), 1 if rows_only else k(h, i) if square else k(w, j)
        return rows * columns * pairs(c, d) + bias(c, d)

    return f


def by_torch(guided, hint):
    kernel = [g - h + 1 for g, h in zip(guided[1:], hint[1:])]
    return sum(p.numel() for p in torch.nn.Conv2d(guided[0], hint[0], kernel).parameters())


@pytest.mark.parametrize("right", [size(), by_torch, lambda g, h: torch.tensor(size()(g, h))])
def test_regressor_size_right(right):
    assert check_regressor_size(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (size(bias=lambda c, d: 0), "biases are missing"),
        (size(bias=lambda c, d: c), "channel of the *hint*"),
        (size(k=lambda n, m: n - m), "one too small"),
        (size(rows_only=True), "two sides"),
        (size(square=True), "need not be square"),
        (size(k=lambda n, m: n), "size of the guided map"),
        (size(pairs=lambda c, d: d), "multiply by both"),
        (lambda g, h: int(np.prod(g)) * int(np.prod(h)) + int(np.prod(h)), "fully connected"),
        (size(pairs=lambda c, d: 1, bias=lambda c, d: 1), "one channel"),
        (size(k=lambda n, m: m), "off by"),
        (lambda g, h: None, "None"),
        (lambda g, h: (3, 3), "shape"),
        (unsolved, "nothing to check yet"),
        (lambda g: 1, "TypeError"),
    ],
)
def test_regressor_size_wrong(wrong, word):
    verdict = check_regressor_size(wrong)
    assert not verdict and word in verdict.message


# --- The FSP matrix


def by_matmul(first, second):
    first, second = first.flatten(2), second.flatten(2)
    return first @ second.transpose(1, 2) / first.shape[2]


def by_loops(first, second):
    return np.array(
        [[[(a * b).mean().item() for b in two] for a in one] for one, two in zip(first, second)]
    )


@pytest.mark.parametrize("right", [fsp_matrix, by_matmul, by_loops])
def test_fsp_matrix_right(right):
    assert check_fsp_matrix(right)


raw = lambda a, b: torch.einsum("bmhw,bnhw->bmn", a, b)
mean = lambda a: a.mean((2, 3))


@pytest.mark.parametrize(
    "wrong, word",
    [
        (raw, "divide by the number of places"),
        (lambda a, b: raw(a, b) / a.shape[2], "H only"),
        (lambda a, b: raw(a, b) / a.shape[3], "W only"),
        (lambda a, b: raw(a, b) / b.shape[1], "number of channels"),
        (lambda a, b: mean(a)[:, :, None] * mean(b)[:, None], "product of two means"),
        (lambda a, b: fsp_matrix(a - a.mean((2, 3), keepdim=True), b), "covariance"),
        (
            lambda a, b: raw(
                a / a.norm(dim=(2, 3), keepdim=True), b / b.norm(dim=(2, 3), keepdim=True)
            ),
            "cosine",
        ),
        (lambda a, b: fsp_matrix(a, b).mean(0), "*each* example"),
        (lambda a, b: fsp_matrix(b, a), "transposed"),
        (lambda a, b: fsp_matrix(a, a), "shape"),
        (lambda a, b: 1.1 * fsp_matrix(a, b), "off by"),
        (lambda a, b: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda a, b: a @ b, "raised RuntimeError"),
    ],
)
def test_fsp_matrix_wrong(wrong, word):
    verdict = check_fsp_matrix(wrong)
    assert not verdict and word in verdict.message


# --- The loss of activation boundaries


def ab(
    side=lambda t: torch.where(t > 0, 1.0, -1.0),
    cut=True,
    square=True,
    keep=lambda t: 1,
    m=lambda margin: margin,
    mean=lambda e: e.sum() / len(e),
):
    """A solution, right by default, with a switch for each mistake."""

    def f(student, teacher, margin):
        hinge = m(margin) - side(teacher) * student
        hinge = hinge.clamp(min=0) if cut else hinge
        return mean((hinge.square() if square else hinge) * keep(teacher))

    return f


def by_rows(student, teacher, margin):
    return sum(
        max(0, margin - s if t > 0 else margin + s) ** 2
        for ss, ts in zip(student.tolist(), teacher.tolist())
        for s, t in zip(ss, ts)
    ) / len(student)


@pytest.mark.parametrize("right", [activation_boundary_loss, ab(), by_rows])
def test_boundary_loss_right(right):
    assert check_boundary_loss(right)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (ab(mean=lambda e: e.mean()), "mean over everything"),
        (ab(mean=lambda e: e.sum()), "divided by B"),
        (ab(square=False), "square is missing"),
        (ab(cut=False), "cut the hinge off"),
        (ab(side=lambda t: torch.where(t > 0, -1.0, 1.0)), "swapped"),
        (ab(m=lambda m: 0), "margin is missing"),
        (ab(m=lambda m: -m), "wrong sign"),
        (ab(keep=lambda t: t > 0), "only the firing"),
        (ab(keep=lambda t: t <= 0), "only the silent"),
        (ab(side=lambda t: t), "how strongly"),
        (lambda s, t, m: (s - t).square().sum() / len(s), "squared distance"),
        (ab(side=lambda t: torch.where(t >= 0, 1.0, -1.0)), "exactly 0"),
        (ab(m=lambda m: 1.0), "off by"),
        (ab(mean=lambda e: e.sum(1)), "shape"),
        (ab(side=torch.sign), "torch.sign"),
        (lambda *a: None, "None"),
        (unsolved, "nothing to check yet"),
        (lambda s, t: s, "TypeError"),
    ],
)
def test_boundary_loss_wrong(wrong, word):
    verdict = check_boundary_loss(wrong)
    assert not verdict and word in verdict.message


# --- The folded solutions


def test_the_notebook_s_own_solutions_pass():
    """What a learner finds folded under "Solution" is right, and bears the name that the check's
    cell uses.
    """
    text = "\n\n".join(
        "".join(c["source"])
        for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    )
    solutions = re.findall(r"<summary>Solution</summary>\s*```python\n(.*?)```", text, re.DOTALL)
    space = {"torch": torch, "np": np}
    for solution in solutions:
        exec(solution, space)
    assert len(solutions) == 3
    assert check_regressor_size(space["my_regressor_size"]) and check_fsp_matrix(
        space["my_fsp_matrix"]
    )
    assert check_boundary_loss(space["my_boundary_loss"])
