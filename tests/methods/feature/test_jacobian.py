"""Jacobian matching (2018): the normalised loss and the derivative of the strongest attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from losses import (
    batch,
    close,
    ignores_duplication,
    learns,
    names_both_devices,
    names_both_shapes,
    rand,
    small,
    stays_finite,
    taught,
    teaches_the_student_alone,
    works_with_torchvision,
)

from kdtutor import Teacher
from kdtutor.methods import JacobianMatching
from kdtutor.methods.feature.jacobian import jacobian_loss, strongest_attention
from kdtutor.taps import Taps

S, T = rand(3, 1, 3, 2), rand(3, 1, 3, 2, seed=1)


def slow(s, t):
    """(1/B) sum_b || J_s/|J_s| - J_t/|J_t| ||^2."""
    rows = [(a.flatten(), b.flatten()) for a, b in zip(s.numpy(), t.numpy())]
    return np.mean([sum((a / np.sqrt(sum(a**2)) - b / np.sqrt(sum(b**2))) ** 2) for a, b in rows])


@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.01, 100), st.integers(0, 10**6))
def test_it_equals_the_slow_reference_at_any_scale(b, n, scale, seed):
    s, t = rand(b, n, seed=seed), rand(b, n, seed=seed + 1)
    close(jacobian_loss(scale * s, t), slow(s, t))
    assert 0 <= slow(s, t) <= 4 + 1e-9
    close(jacobian_loss(s, -scale * s), 4)


def test_what_every_loss_must_pass():
    assert jacobian_loss(S, S) == 0 and jacobian_loss(3 * S, S).item() < 1e-20
    teaches_the_student_alone(jacobian_loss, S, T)
    ignores_duplication(jacobian_loss, S, T)
    stays_finite(jacobian_loss, S, T, sizes=(0.0, 1e4, 1e30, 1e-30))
    names_both_shapes(jacobian_loss, S, T[:, :, :1])
    names_both_shapes(jacobian_loss, S, T[:2])
    names_both_devices(jacobian_loss, S, T)


def test_a_jacobian_of_zeros_has_a_small_gradient():
    s = torch.zeros(3, 1, 3, 2, requires_grad=True)
    jacobian_loss(s, T.float()).backward()
    assert torch.isfinite(s.grad).all() and s.grad.abs().max() < 1e3


def test_the_strongest_attention_is_the_maximum_of_the_summed_squares():
    f = rand(2, 3, 2, 2)
    expected = [
        max(sum(f[b, c, y, x].item() ** 2 for c in range(3)) for y in range(2) for x in range(2))
        for b in range(2)
    ]
    assert strongest_attention(f).tolist() == pytest.approx(expected)


def test_the_terms_are_those_of_one_image_at_a_time():
    teacher, some, layers = taught().eval(), batch(4), ["layer2", "layer3"]
    distiller = JacobianMatching(
        small(2), teacher, layers, jacobian_weight=3.0, at_weight=5.0, ce_weight=0.5
    ).eval()
    terms = distiller.terms(some)
    jacobian = attention = 0.0
    for layer in layers:
        rows, maps = [], []
        for net in (distiller.student, teacher):
            grads = []
            for x in some.x:
                one = x[None].clone().requires_grad_()
                strongest = Taps(net, [layer])(one)[1][layer].square().sum(1).max()
                grads.append(torch.autograd.grad(strongest, one)[0])
            rows.append(torch.cat(grads).double())
            maps.append(
                Taps(net, [layer])(some.x)[1][layer].detach().double().square().sum(1).flatten(1)
            )
        jacobian += slow(*rows)
        own, theirs = (m / m.norm(dim=1, keepdim=True) for m in maps)
        attention += (own - theirs).norm(dim=1).mean()
    assert list(terms) == ["ce", "at", "jacobian"]
    close(terms["jacobian"], 3 * jacobian, rel=1e-3)
    close(terms["at"], 2.5 * attention, rel=1e-3)
    close(terms["ce"], 0.5 * F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)


def test_double_backpropagation_reaches_the_weights_and_the_batch_keeps_no_gradient():
    some = batch()
    distiller = JacobianMatching(small(2), taught())
    assert distiller.layers == (("layer3", "layer3"),)
    distiller.terms(some)["jacobian"].backward()
    assert distiller.student.conv1.weight.grad.abs().sum() > 0
    assert not some.x.requires_grad and some.x.grad is None


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="ensemble"):
        JacobianMatching(small(), Teacher([taught(), taught()]))
    with pytest.raises(ValueError, match="jacobian_weight"):
        JacobianMatching(small(), taught(), jacobian_weight=-1.0)
    with pytest.raises(ValueError, match="maps"):
        JacobianMatching(small(), taught(), "fc")


def test_a_short_training_improves():
    learns(lambda s, t: JacobianMatching(s, t), "loss", "at", lr=0.02)


def test_torchvisions_networks():
    works_with_torchvision(
        lambda s, t, x: JacobianMatching(s, t, ("features.6", "layer2"), example=x),
        "ce",
        "at",
        "jacobian",
    )
