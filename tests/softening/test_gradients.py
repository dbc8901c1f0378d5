"""The distillation loss's gradient taken apart: closed forms against autograd, limits, shares."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtutor.softening import distillation_kl, gradients

cases = st.tuples(st.integers(1, 6), st.integers(2, 8), st.integers(0, 10**6))


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@settings(deadline=None, max_examples=30)
@given(cases, st.floats(0.5, 30))
def test_the_closed_forms_equal_autograd(case, temperature):
    b, c, seed = case
    s, t, y = (
        logits(b, c, seed=seed).requires_grad_(),
        logits(b, c, seed=seed + 1),
        torch.arange(b) % c,
    )
    by = lambda loss: b * torch.autograd.grad(loss, s)[0]
    z = s.detach()
    assert torch.allclose(gradients.label_gradient(z, y), by(F.cross_entropy(s, y)))
    soft = distillation_kl(s, t, temperature)
    scaled = gradients.distillation_gradient(z, t, temperature)
    assert torch.allclose(scaled, by(soft), atol=1e-9)
    assert torch.allclose(
        gradients.distillation_gradient(z, t, temperature, scaled=False) * temperature**2, scaled
    )
    centre = lambda v: v - v.mean(1, keepdim=True)
    square = ((centre(s) - centre(t)) ** 2).sum() / (2 * c)
    assert torch.allclose(gradients.matching_gradient(z, t), torch.autograd.grad(square, s)[0])


@settings(deadline=None, max_examples=30)
@given(cases)
def test_the_distillation_gradient_tends_to_logit_matching(case):
    b, c, seed = case
    s, t = logits(b, c, seed=seed), logits(b, c, seed=seed + 1)
    limit = gradients.matching_gradient(s, t)
    error = [
        ((gradients.distillation_gradient(s, t, T) - limit).norm() / limit.norm()).item()
        for T in (1e3, 2e3, 1e5)
    ]
    # Two classes are special: the second-order term vanishes and the error falls with the square of
    # T.
    assert error[2] < 1e-3 and error[1] / error[0] == pytest.approx(
        0.25 if c == 2 else 0.5, rel=0.15
    )


@settings(deadline=None, max_examples=30)
@given(cases)
def test_the_two_parts_add_up_and_the_share_has_its_floor(case):
    b, c, seed = case
    y = torch.arange(b) % c
    g = gradients.distillation_gradient(logits(b, c, seed=seed), logits(b, c, seed=seed + 1), 2.0)
    label, wrong = gradients.split_gradient(g, y)
    assert torch.equal(label + wrong, g) and torch.equal(
        label.gather(1, y[:, None]), g.gather(1, y[:, None])
    )
    assert torch.allclose(g.sum(1), torch.zeros(b, dtype=torch.float64), atol=1e-9)
    assert 1 / c - 1e-9 <= gradients.wrong_share(g, y).item() <= 1
    even = torch.full((1, c), 1.0 / (c - 1)).index_fill(1, torch.tensor([0]), -1.0)
    assert gradients.wrong_share(even, torch.tensor([0])).item() == pytest.approx(1 / c)


def test_noise_to_signal_of_the_lesson_s_three_gradients():
    g = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert gradients.noise_to_signal(g).item() == pytest.approx(2 / 3)
    assert gradients.noise_to_signal(7 * g).item() == pytest.approx(2 / 3)
    assert gradients.noise_to_signal(torch.ones(5, 3)).item() == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        gradients.distillation_gradient(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature is 0"):
        gradients.distillation_gradient(torch.zeros(2, 3), torch.zeros(2, 3), 0)
    with pytest.raises(ValueError, match="must be equal"):
        gradients.matching_gradient(torch.zeros(2, 3), torch.zeros(3, 3))
    for of in (gradients.distillation_gradient, gradients.matching_gradient):
        with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\): expected \(B, C\)"):
            of(torch.zeros(2, 3, 4, 5), torch.ones(2, 3, 4, 5))
