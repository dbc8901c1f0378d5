"""Relational distillation (CVPR 2019): distances and angles against loops, blocks against the
whole, memory, duplicates.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from losses import (
    batch,
    close,
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
from torch.utils._python_dispatch import TorchDispatchMode

from kdtutor.methods import RKD
from kdtutor.methods.relation import rkd
from kdtutor.methods.relation.rkd import angle_loss, distance_loss, triplet_angles
from kdtutor.taps import Taps

S, T = rand(5, 2, 2), rand(5, 3, seed=1)
both = pytest.mark.parametrize("loss", [distance_loss, angle_loss])


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def slow_distance(s, t):
    """The mean over ordered pairs of Huber(psi_t - psi_s), psi = ||x_i - x_j|| / mu, mu the mean
    distance of the batch's pairs.
    """
    b, psi = len(s), []
    for x in (s.reshape(b, -1), t.reshape(b, -1)):
        d = {(i, j): math.dist(x[i], x[j]) for i in range(b) for j in range(b) if i != j}
        mu = sum(d.values()) / len(d)
        psi.append({k: v / mu for k, v in d.items()})
    return sum(huber(psi[0][k] - psi[1][k]) for k in psi[0]) / len(psi[0])


def slow_angle(s, t):
    """The mean over triplets of distinct examples of Huber(cos_t - cos_s) at the vertex i."""
    b, total, count = len(s), 0.0, 0
    s, t = s.reshape(b, -1), t.reshape(b, -1)
    # Where two rows coincide there is no direction between them, and no angle: 0.
    cosine = lambda x, i, j, k: (
        (x[j] - x[i]) @ (x[k] - x[i]) / (math.dist(x[i], x[j]) * math.dist(x[i], x[k]) or 1)
    )
    for i in range(b):
        for j in range(b):
            for k in range(b):
                if len({i, j, k}) == 3:
                    total, count = total + huber(cosine(s, i, j, k) - cosine(t, i, j, k)), count + 1
    return total / count


@hypothesis_settings(max_examples=30)
@given(st.integers(3, 6), st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 10**6))
def test_distances_and_angles_equal_the_slow_references_at_any_scale_and_place(b, d, scale, seed):
    s, t = rand(b, d, seed=seed), rand(b, d + 1, seed=seed + 1)
    for loss, slow, share in (
        (distance_loss, slow_distance, (b - 1) / b),
        (angle_loss, slow_angle, (b - 1) * (b - 2) / b**2),
    ):
        expected = slow(s.numpy(), t.numpy())
        close(loss(scale * s + 3, t), expected, rel=1e-7)
        close(loss(s, t, "code"), share * expected, rel=1e-7)


@both
def test_what_every_loss_must_pass(loss):
    assert loss(S, S) == 0 and loss(T, -3 * T + 1).item() < 1e-15
    teaches_the_student_alone(loss, S, T)
    stays_finite(loss, S, T, sizes=(0.0, 1e4, 1e30, 1e-30))
    stays_finite(loss, T, T)
    names_both_shapes(loss, S, T[:4])
    names_both_devices(loss, S, T)
    with pytest.raises(ValueError, match="variant"):
        loss(S, T, "x")


@both
def test_a_rotation_changes_nothing_and_the_order_of_examples_does(loss):
    rotation, _ = np.linalg.qr(rand(3, 3, seed=4).numpy())
    assert loss(T, T @ T.new_tensor(rotation)).item() < 1e-15
    assert loss(T, T.flip(0)) > 1e-4


def test_too_few_examples_are_refused_with_the_shape():
    with pytest.raises(ValueError, match=r"\(1, 3\).*pairs"):
        distance_loss(T[:1], T[:1])
    with pytest.raises(ValueError, match=r"\(2, 3\).*triplets"):
        angle_loss(T[:2], T[:2])


@both
def test_duplicates_in_a_batch_have_a_moderate_gradient(loss):
    s = S.flatten(1).float()
    s[1] = s[0]
    for copies in (s, torch.zeros_like(s)):
        copies = copies.clone().requires_grad_()
        loss(copies, T.float()).backward()
        assert copies.grad.abs().max() < 1e3, copies.grad


@pytest.mark.parametrize("block", [2**22, 8])
def test_only_triplets_of_distinct_examples_count_where_rows_coincide(block, monkeypatch):
    """A duplicate has no angle with its original, also not one of an edge with itself."""
    monkeypatch.setattr("kdtutor.methods.relation.rkd.BLOCK", block)
    t = rand(6, 3, seed=1)
    duplicates, dead = rand(6, 3, seed=2), torch.zeros(6, 3, dtype=torch.float64)
    duplicates[3:] = duplicates[:3]
    for s in (duplicates, dead):
        for student, teacher in ((s, t), (t, s)):
            expected = slow_angle(student.numpy(), teacher.numpy())
            close(angle_loss(student, teacher), expected, rel=1e-9)
            leaf = student.clone().requires_grad_()
            angle_loss(leaf, teacher).backward()
            assert torch.isfinite(leaf.grad).all()
    # of dead students every cosine is 0: what is left is the teacher's own
    own = triplet_angles(t)
    own = own.masked_fill(torch.eye(6, dtype=torch.bool), 0)
    close(angle_loss(dead, t), sum(huber(c) for c in own.flatten().tolist()) / (6 * 5 * 4))


def test_angles_at_a_copy_of_the_vertex_are_zero():
    x = torch.tensor([[0.0, 0], [0, 0], [1, 0], [0, 2]])
    angles = triplet_angles(x)
    assert angles[0, 1].abs().sum() == 0 and angles[0, 0].abs().sum() == 0
    assert (
        angles[0, 2, 3] == 0
        and angles[2, 0, 3].item() == pytest.approx(1 / math.sqrt(5))
        and angles[0, 2, 2] == 1
    )


class Largest(TorchDispatchMode):
    """The largest tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.size = max(self.size, out.numel())
        return out


@pytest.mark.parametrize("block", [1, 30, 60, 100])
def test_blocks_give_the_same_value_and_gradient_and_never_hold_all_cosines(monkeypatch, block):
    s, t = rand(7, 4, seed=2), rand(7, 3, seed=3)
    direct = s.clone().requires_grad_()
    whole = angle_loss(direct, t)
    whole.backward()
    monkeypatch.setattr(rkd, "BLOCK", block)
    blocked = s.clone().requires_grad_()
    with Largest() as largest:
        value = angle_loss(blocked, t)
        value.backward()
    close(value, whole)
    assert torch.allclose(blocked.grad, direct.grad, rtol=1e-9)
    assert largest.size <= max(block, 7 * 7) < 7**3


def test_the_graph_of_a_large_batch_keeps_no_cube(monkeypatch):
    monkeypatch.setattr(rkd, "BLOCK", 4 * 24 * 24)
    s, t, kept = rand(24, 4).requires_grad_(), rand(24, 4, seed=1), []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        angle_loss(s, t)
    assert sum(kept) < 24**3 / 2


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_terms(variant):
    teacher, some, layers = taught(), batch(), ["fc:input", "layer3"]
    distiller = RKD(small(2), teacher, 2.0, 3.0, layers, ce_weight=0.5, variant=variant).eval()
    own, theirs = (
        {k: v.detach() for k, v in Taps(net, layers)(some.x)[1].items()}
        for net in (distiller.student, teacher)
    )
    terms = distiller.terms(some)
    assert list(terms) == ["ce", "distance", "angle"]
    share = {"paper": (1, 1), "code": (5 / 6, 20 / 36)}[variant]
    sums = [
        sum(slow(own[k].double().numpy(), theirs[k].double().numpy()) for k in layers)
        for slow in (slow_distance, slow_angle)
    ]
    close(terms["distance"], 2 * share[0] * sums[0], rel=1e-4)
    close(terms["angle"], 3 * share[1] * sums[1], rel=1e-4)
    close(terms["ce"], 0.5 * F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)


def test_each_weight_may_be_zero_but_not_both():
    teacher = taught()
    assert list(RKD(small(), teacher, angle_weight=0).terms(batch())) == ["ce", "distance"]
    assert list(RKD(small(), teacher, distance_weight=0).terms(batch())) == ["ce", "angle"]
    assert RKD(small(), teacher).layers == (("fc:input", "fc:input"),)
    for bad in (
        dict(distance_weight=0, angle_weight=0),
        dict(angle_weight=-1),
        dict(distance_weight=float("inf")),
    ):
        with pytest.raises(ValueError, match="weight"):
            RKD(small(), teacher, **bad)


def test_a_short_training_improves():
    learns(lambda s, t: RKD(s, t, 5.0, 5.0), "distance", "angle", "ce", lr=0.02)


def test_torchvisions_networks():
    distiller = works_with_torchvision(
        lambda s, t, x: RKD(s, t, example=x), "ce", "distance", "angle"
    )
    assert distiller.layers == (("classifier.1:input", "fc:input"),)


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_scale_drops_out_at_any_size(loss):
    r = rand(4, 6).float()
    for scale in (1e-30, 1e-13, 1e-7, 1e7, 1e13, 1e30):
        assert loss(r * scale, r) < 1e-6, scale
