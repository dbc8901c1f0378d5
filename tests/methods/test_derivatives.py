"""Every loss of the package under torch's own differentiation: first and second derivatives against
finite differences, ``torch.func.grad``, ``jacrev`` and ``vmap`` over a stack of seeds.
"""

import pytest
import torch
import torch.nn.functional as F
from losses import rand

from kdtutor.distiller.autograd import directions, gram, squared_distance, unit_vectors
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss
from kdtutor.methods.feature.attention_transfer import (
    attention_loss,
    attention_map,
    full_activation_loss,
    gradient_attention_loss,
)
from kdtutor.methods.feature.fitnet import hint_loss
from kdtutor.methods.feature.fsp import fsp_loss, fsp_matrix
from kdtutor.methods.feature.jacobian import jacobian_loss, strongest_attention
from kdtutor.methods.online.mutual import mutual_loss
from kdtutor.methods.online.one import gated_logits
from kdtutor.methods.relation.crd import contrast_loss
from kdtutor.methods.relation.rkd import angle_loss, distance_loss, pair_distances, triplet_angles
from kdtutor.methods.relation.similarity import similarity_loss, similarity_matrix
from kdtutor.methods.self_distillation.born_again import cwtm_loss, dkpp_loss, persistent_keys
from kdtutor.softening import distillation_kl

MAPS, ROWS = (4, 2, 3, 2), (4, 5)
SIGNALS, VOLUMES = (4, 2, 5), (4, 2, 2, 3, 1)
Y, KEYS = torch.arange(4) % 5, persistent_keys(torch.arange(4), 5)
MASK = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).bool()
LOSSES = {
    "distillation_kl": (ROWS, lambda s, t: distillation_kl(s, t, 3.0)),
    "attention": (MAPS, attention_loss),
    "attention, code": (MAPS, lambda s, t: attention_loss(s, t, variant="code")),
    "attention, max": (MAPS, lambda s, t: attention_loss(s, t, kind="max")),
    "attention, p=1": (MAPS, lambda s, t: attention_loss(s, t, p=1)),
    "attention, p=3": (MAPS, lambda s, t: attention_loss(s, t, p=3)),
    "full activation": (MAPS, full_activation_loss),
    "gradient attention": (MAPS, gradient_attention_loss),
    "attention, signals": (SIGNALS, lambda s, t: attention_loss(s, t[..., :2])),
    "attention, volumes": (VOLUMES, lambda s, t: attention_loss(s, t[..., :1, :])),
    "full activation, signals": (SIGNALS, lambda s, t: full_activation_loss(s, t[..., :3])),
    "full activation, volumes": (VOLUMES, lambda s, t: full_activation_loss(s, t[:, :, :1])),
    "similarity": (MAPS, similarity_loss),
    "distance": (ROWS, distance_loss),
    "angle": (ROWS, angle_loss),
    "angle, code": (ROWS, lambda s, t: angle_loss(s, t, "code")),
    "fsp": (MAPS, lambda s, t: fsp_loss((s, s.flip(1)), (t, t))),
    "fsp, volumes": (VOLUMES, lambda s, t: fsp_loss((s, s[..., :2, :]), (t, t[..., :2, :]))),
    "activation boundary": (MAPS, activation_boundary_loss),
    "hint": (MAPS, hint_loss),
    "hint, code": (MAPS, lambda s, t: hint_loss(s, t, "code")),
    "cwtm": (ROWS, lambda s, t: cwtm_loss(s, t, Y)),
    "dkpp": (ROWS, lambda s, t: dkpp_loss(s, t, keys=KEYS)),
    "mutual": (ROWS, lambda s, t: mutual_loss(s, [t, t.flip(1)])),
    "contrast": (
        ROWS,
        lambda s, t: contrast_loss(s[:, 0].exp(), (s[:, :3] * t[:, :3]).exp(), MASK, 2, 20, 2.0),
    ),
    "jacobian": (MAPS, jacobian_loss),
    "ensemble": (
        ROWS,
        lambda s, t: F.cross_entropy(gated_logits(torch.stack([s, t]), s[:, :2].softmax(1)), Y),
    ),
}
PARTS = {
    "directions": (ROWS, directions),
    "unit vectors": (ROWS, unit_vectors),
    "gram": (ROWS, gram),
    "squared distance": (ROWS, lambda x: squared_distance(x, rand(*ROWS, seed=5))),
    "attention map": (MAPS, attention_map),
    "strongest attention": (MAPS, strongest_attention),
    "fsp matrix": (MAPS, lambda x: fsp_matrix(x, x.flip(1))),
    "similarity matrix": (MAPS, similarity_matrix),
    "pair distances": (ROWS, pair_distances),
    "triplet angles": (ROWS, triplet_angles),
}
loss_of = pytest.mark.parametrize("shape, loss", LOSSES.values(), ids=LOSSES)
part_of = pytest.mark.parametrize("shape, part", PARTS.values(), ids=PARTS)


def leaf(*shape, seed=0):
    return rand(*shape, seed=seed).requires_grad_()


def backward(loss, s, t):
    s = s.clone().requires_grad_()
    loss(s, t).backward()
    return s.grad


@loss_of
def test_first_and_second_derivatives_are_right(shape, loss):
    t = rand(*shape, seed=1)
    assert torch.autograd.gradcheck(lambda s: loss(s, t), leaf(*shape))
    assert torch.autograd.gradgradcheck(lambda s: loss(s, t), leaf(*shape))


@part_of
def test_the_parts_have_right_derivatives(shape, part):
    assert torch.autograd.gradcheck(part, leaf(*shape))
    assert torch.autograd.gradgradcheck(part, leaf(*shape))


@loss_of
def test_func_grad_equals_backward(shape, loss):
    s, t = rand(*shape), rand(*shape, seed=1)
    assert torch.allclose(torch.func.grad(loss)(s, t), backward(loss, s, t), rtol=1e-9)
    assert torch.allclose(torch.func.jacrev(loss)(s, t), backward(loss, s, t), rtol=1e-9)


@loss_of
def test_func_grad_does_not_reach_the_teacher(shape, loss):
    if loss in (LOSSES["contrast"][1], LOSSES["ensemble"][1]):
        return  # both of their sides learn
    assert not torch.func.grad(loss, argnums=1)(rand(*shape), rand(*shape, seed=1)).any()


@loss_of
@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0)])
def test_vmap_over_seeds_equals_a_loop(shape, loss, in_dims):
    s, t = (torch.stack([rand(*shape, seed=10 * k + i) for i in range(3)]) for k in (0, 1))
    pick = lambda x, dim, i: x[0] if dim is None else x[i]
    rows = [(pick(s, in_dims[0], i), pick(t, in_dims[1], i)) for i in range(3)]
    given = [x[0] if d is None else x.movedim(0, d) for x, d in zip((s, t), in_dims)]
    values = torch.vmap(loss, in_dims)(*given)
    gradients = torch.vmap(torch.func.grad(loss), in_dims)(*given)
    assert torch.allclose(values, torch.stack([loss(*row) for row in rows]), rtol=1e-9)
    expected = torch.stack([backward(loss, *row) for row in rows])
    assert torch.allclose(gradients, expected, rtol=1e-9, atol=1e-12)


@loss_of
def test_the_gradient_of_a_vmap_equals_a_loop(shape, loss):
    s, t = (torch.stack([rand(*shape, seed=10 * k + i) for i in range(3)]) for k in (0, 1))
    total = lambda s, t: torch.vmap(loss)(s, t).sum()
    expected = torch.stack([backward(loss, *row) for row in zip(s, t)])
    assert torch.allclose(torch.func.grad(total)(s, t), expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(backward(total, s, t), expected, rtol=1e-9, atol=1e-12)


@part_of
def test_the_jacobians_of_the_parts_are_those_of_autograd(shape, part):
    x = rand(*shape)
    ours, torchs = torch.func.jacrev(part)(x), torch.autograd.functional.jacobian(part, x)
    for a, b in zip(*(j if isinstance(j, tuple) else (j,) for j in (ours, torchs))):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@loss_of
def test_second_derivatives_stay_finite_at_duplicates_and_zeros(shape, loss):
    """Of the kind that a dead ReLU and a repeated image make."""
    s, t = rand(*shape), rand(*shape, seed=1)
    s[1], s[2] = s[0], 0.0
    s.requires_grad_()
    (first,) = torch.autograd.grad(loss(s, t), s, create_graph=True)
    (second,) = torch.autograd.grad((first * rand(*shape, seed=2)).sum(), s)
    assert torch.isfinite(first).all() and torch.isfinite(second).all()


def test_a_shuffle_of_its_own_for_every_seed_needs_vmaps_randomness():
    s, t = rand(3, *ROWS), rand(3, *ROWS, seed=1)
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(dkpp_loss)(s, t)
    assert torch.isfinite(torch.vmap(dkpp_loss, randomness="different")(s, t)).all()


def test_a_gradient_with_a_graph_is_the_same_gradient():
    for shape, loss in LOSSES.values():
        s, t = leaf(*shape), rand(*shape, seed=1)
        (plain,) = torch.autograd.grad(loss(s, t), s)
        (again,) = torch.autograd.grad(loss(s, t), s, create_graph=True)
        assert torch.allclose(plain, again, rtol=1e-9, atol=1e-14)
