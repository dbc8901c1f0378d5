"""Similarity-preserving distillation (ICCV 2019): the matrix of similarities within a batch."""

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given
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

from kdtutor.methods import SimilarityPreserving
from kdtutor.methods.relation.similarity import similarity_loss, similarity_matrix
from kdtutor.taps import Taps

S, T = rand(4, 2, 3), rand(4, 5, seed=1)


def slow_matrix(f):
    f = f.reshape(len(f), -1)
    g = np.array([[sum(a * b) for b in f] for a in f])
    return np.array([row / np.sqrt(sum(row**2)) for row in g])


@given(st.integers(2, 6), st.integers(1, 5), st.floats(0.01, 100), st.integers(0, 10**6))
def test_it_equals_the_slow_reference_at_any_scale(b, d, scale, seed):
    s, t = rand(b, d, 2, seed=seed), rand(b, d + 1, seed=seed + 1)
    assert np.allclose(similarity_matrix(scale * s).numpy(), slow_matrix(s.numpy()))
    expected = np.sum((slow_matrix(s.numpy()) - slow_matrix(t.numpy())) ** 2) / b**2
    close(similarity_loss(scale * s, t), expected)
    assert 0 <= expected <= 4 / b


def test_what_every_loss_must_pass():
    assert similarity_loss(S, S) == 0 and similarity_loss(T, 5 * T).item() < 1e-20
    teaches_the_student_alone(similarity_loss, S, T)
    stays_finite(similarity_loss, S, T, sizes=(0.0, 1e4, 1e30, 1e-30))
    stays_finite(similarity_loss, T, T)
    names_both_shapes(similarity_loss, S, T[:2])
    names_both_devices(similarity_loss, S, T)


def test_a_rotation_of_the_features_changes_nothing_and_an_order_of_examples_does():
    rotation, _ = np.linalg.qr(rand(5, 5, seed=4).numpy())
    assert similarity_loss(T, T @ T.new_tensor(rotation)).item() < 1e-20
    assert similarity_loss(T, T.flip(0)) > 1e-3
    close(similarity_loss(S.flip(0), T.flip(0)), similarity_loss(S, T))


def test_a_dead_student_has_a_finite_gradient():
    for dead in (slice(None), slice(0, 1)):
        s = S.flatten(1).float()
        s[dead] = 0
        s.requires_grad_()
        similarity_loss(s, T.float()).backward()
        assert s.grad.abs().max() < 1e3


def test_one_example_has_no_relations():
    with pytest.raises(ValueError, match=r"\(1, 5\).*pairs"):
        similarity_loss(T[:1], T[:1])


def test_the_terms():
    teacher, some, layers = taught(), batch(), ["layer2", "layer3"]
    distiller = SimilarityPreserving(
        small(2), teacher, sp_weight=7.0, layers=layers, ce_weight=0.5
    ).eval()
    own, theirs = (
        {k: v.detach().double().numpy() for k, v in Taps(net, layers)(some.x)[1].items()}
        for net in (distiller.student, teacher)
    )
    total = sum(np.mean((slow_matrix(own[k]) - slow_matrix(theirs[k])) ** 2) for k in layers)
    terms = distiller.terms(some)
    assert list(terms) == ["ce", "sp"]
    close(terms["sp"], 7 * total, rel=1e-4)
    close(terms["ce"], 0.5 * F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)
    default = SimilarityPreserving(small(2), teacher)
    assert default.layers == (("layer3", "layer3"),) and default.sp_weight == 3000
    with pytest.raises(ValueError, match="sp_weight"):
        SimilarityPreserving(small(2), teacher, sp_weight=float("nan"))


def test_a_short_training_improves():
    learns(lambda s, t: SimilarityPreserving(s, t, sp_weight=100.0), "sp", "ce", lr=0.02)


def test_torchvisions_networks():
    works_with_torchvision(
        lambda s, t, x: SimilarityPreserving(s, t, layers=("features.6", "layer2"), example=x),
        "ce",
        "sp",
    )


def test_scale_drops_out_at_any_size():
    r = rand(4, 6).float()
    for scale in (1e-30, 1e-12, 1e-7, 1e7, 1e10, 1e30):
        assert similarity_loss(r * scale, r) < 1e-6, scale
