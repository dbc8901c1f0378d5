"""Attention transfer (2017): the maps, the losses in both variants, full activations, gradients,
the distillers' terms.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from losses import (
    batch,
    close,
    foreign,
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
from kdtutor.methods import AttentionTransfer, FullActivationTransfer, GradientAttentionTransfer
from kdtutor.methods.feature.attention_transfer import (
    attention_loss,
    attention_map,
    full_activation_loss,
    gradient_attention_loss,
)
from kdtutor.taps import Taps

S, T = rand(3, 2, 3, 2), rand(3, 4, 3, 2, seed=1)
SAME = rand(3, 2, 3, 2, seed=1)
variants = pytest.mark.parametrize("variant", ["paper", "code"])


def slow_map(f, kind, p):
    b, c, h, w = f.shape
    out = np.zeros((b, h, w))
    for n, y, x in np.ndindex(b, h, w):
        powers = [abs(f[n, i, y, x]) ** p for i in range(c)]
        out[n, y, x] = sum(powers) if kind == "sum" else max(powers)
    return out


def unit(row):
    return row.flatten() / math.sqrt(sum(v * v for v in row.flatten()))


def slow_loss(s, t, p=2, kind="sum"):
    """(1/B) sum_b || Q_s/||Q_s|| - Q_t/||Q_t|| ||_2, and the code's mean of squares."""
    gaps = [
        unit(a) - unit(b)
        for a, b in zip(slow_map(s.numpy(), kind, p), slow_map(t.numpy(), kind, p))
    ]
    return sum(math.sqrt(sum(g * g)) for g in gaps) / len(gaps), sum(sum(g * g) for g in gaps) / (
        len(gaps) * len(gaps[0])
    )


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(["sum", "max"]),
    st.sampled_from([1, 1.5, 2, 3, 4]),
    st.integers(0, 10**6),
)
def test_maps_and_losses_equal_the_slow_reference(b, c, kind, p, seed):
    s, t = rand(b, c, 3, 2, seed=seed), rand(b, c + 1, 3, 2, seed=seed + 1)
    assert np.allclose(attention_map(s, kind, p).numpy(), slow_map(s.numpy(), kind, p))
    paper, code = slow_loss(s, t, p, kind)
    close(attention_loss(s, t, p, kind=kind), paper)
    close(attention_loss(s, t, p, "code", kind), code)
    assert 0 <= paper <= math.sqrt(2)


def test_odd_powers_count_negative_features_like_positive_ones():
    assert (
        torch.equal(attention_map(S, p=3), attention_map(-S, p=3))
        and (attention_map(S, p=3) >= 0).all()
    )
    assert attention_loss(-S, S, p=3) == 0


def test_the_larger_map_is_average_pooled():
    big = rand(3, 2, 6, 4, seed=5)
    pooled = big.reshape(3, 2, 3, 2, 2, 2).mean((3, 5))
    close(attention_loss(big, T), attention_loss(pooled, T))
    close(attention_loss(T, big), attention_loss(T, pooled))


@variants
@pytest.mark.parametrize("kind, p", [("sum", 2), ("max", 2), ("sum", 1), ("sum", 3)])
def test_what_every_loss_must_pass(variant, kind, p):
    loss = lambda s, t: attention_loss(s, t, p, variant, kind)
    assert loss(S, S) == 0 and loss(S, 7 * S).item() < 1e-12
    teaches_the_student_alone(loss, S, T)
    ignores_duplication(loss, S, T)
    stays_finite(loss, S, T, sizes=(0.0, 1e4, 1e30, 1e-30))
    stays_finite(loss, S.relu(), S.relu().roll(1, 0))
    names_both_shapes(loss, S, T[:2])
    names_both_devices(loss, S, T)


@pytest.mark.parametrize("p", [0.5, 1, 2])
def test_features_of_a_dead_relu_have_a_finite_gradient(p):
    for s in (S.relu().float(), torch.zeros(3, 2, 3, 2)):
        s.requires_grad_()
        attention_loss(s, T.float(), p).backward()
        assert torch.isfinite(s.grad).all() and s.grad.abs().max() < 1e3


def test_one_huge_example_leaves_the_others_alone():
    s = S.float()
    s[0] *= 1e25
    close(attention_loss(s, T.float()), slow_loss(S, T)[0], rel=1e-5)


@pytest.mark.parametrize(
    "loss, scale_free", [(full_activation_loss, True), (gradient_attention_loss, False)]
)
def test_full_activations_and_gradients_pass_the_same(loss, scale_free):
    assert loss(S, S) == 0
    teaches_the_student_alone(loss, S, SAME)
    ignores_duplication(loss, S, SAME)
    stays_finite(loss, S, SAME, sizes=(0.0, 1e4, 1e30) if scale_free else (0.0, 1e4))
    names_both_shapes(loss, S, T)
    names_both_devices(loss, S, SAME)


@given(st.integers(1, 4), st.integers(0, 10**6))
def test_full_activations_and_gradients_equal_the_slow_reference(b, seed):
    s, t = rand(b, 2, 3, 2, seed=seed), rand(b, 2, 3, 2, seed=seed + 1)
    close(
        full_activation_loss(s, t),
        np.mean([np.linalg.norm(unit(x) - unit(y)) for x, y in zip(s.numpy(), t.numpy())]),
    )
    close(
        gradient_attention_loss(s, t),
        np.mean([sum((x - y).flatten() ** 2) for x, y in zip(s.numpy(), t.numpy())]),
    )


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="max"):
        attention_map(S, "maximum")
    with pytest.raises(ValueError, match="variant"):
        attention_loss(S, T, variant="x")
    for p in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="p="):
            attention_map(S, p=p)
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        attention_loss(S[..., 0, 0], T)
    with pytest.raises(ValueError, match=r"student.*\(2, 3\)"):
        AttentionTransfer(small(), taught(), "fc")
    with pytest.raises(ValueError, match="ensemble"):
        GradientAttentionTransfer(small(), Teacher([taught(), taught()]))
    with pytest.raises(ValueError, match="at_weight"):
        AttentionTransfer(small(), taught(), at_weight=0.0)


@pytest.mark.parametrize("variant, weight", [("paper", 12.8 / 2), ("code", 1000.0)])
def test_the_terms_of_attention_transfer(variant, weight):
    teacher, some, stages = taught(), batch(), ["layer1", "layer2", "layer3"]
    distiller = AttentionTransfer(small(2), teacher, variant=variant, ce_weight=0.5).eval()
    terms = distiller.terms(some)
    own, theirs = (Taps(net, stages)(some.x)[1] for net in (distiller.student, teacher))
    total = sum(slow_loss(own[k].detach(), theirs[k].detach())[variant == "code"] for k in stages)
    assert list(terms) == ["ce", "at"]
    close(terms["at"], weight * total, rel=1e-4)
    close(terms["ce"], 0.5 * F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)


def test_the_terms_of_full_activation_transfer():
    teacher, some = taught(), batch()
    distiller = FullActivationTransfer(
        small(2), teacher, [("layer2", "layer2"), ("layer2", "layer3")], at_weight=3.0
    ).eval()
    own, theirs = (
        Taps(net, ["layer2", "layer3"])(some.x)[1] for net in (distiller.student, teacher)
    )
    same, wider = distiller.connectors
    assert isinstance(same, torch.nn.Identity) and wider.weight.shape == (64, 32, 1, 1)
    total = full_activation_loss(own["layer2"], theirs["layer2"]) + full_activation_loss(
        wider(own["layer2"]), theirs["layer3"]
    )
    close(distiller.terms(some)["full"], 1.5 * total, rel=1e-5)
    assert any(p is wider.weight for p in distiller.stages()[0].players[0].parameters)


def test_the_terms_of_gradient_transfer_are_of_each_examples_own_loss():
    teacher, some = taught().eval(), batch()
    distiller = GradientAttentionTransfer(small(2), teacher, at_weight=3.0).eval()
    total = 0.0
    for x, y in zip(some.x, some.y):
        rows = []
        for net in (distiller.student, teacher):
            one = x[None].clone().requires_grad_()
            rows.append(torch.autograd.grad(F.cross_entropy(net(one), y[None]), one)[0])
        total += float((rows[0] - rows[1]).square().sum()) / len(some.x)
    close(distiller.terms(some)["gradient"], 1.5 * total, rel=1e-3)


def test_double_backpropagation_reaches_the_weights():
    distiller = GradientAttentionTransfer(small(2), taught())
    distiller.terms(batch())["gradient"].backward()
    assert distiller.student.conv1.weight.grad.abs().sum() > 0


def test_short_trainings_improve():
    learns(lambda s, t: AttentionTransfer(s, t), "at", "ce", lr=0.02)
    learns(lambda s, t: FullActivationTransfer(s, t), "full", "ce", lr=0.02, factor=0.97)
    learns(lambda s, t: GradientAttentionTransfer(s, t), "loss", lr=0.02)


def test_torchvisions_networks():
    pairs = [("features.3", "layer1"), ("features.6", "layer2")]
    works_with_torchvision(lambda s, t, x: AttentionTransfer(s, t, pairs, example=x), "ce", "at")
    works_with_torchvision(
        lambda s, t, x: FullActivationTransfer(s, t, pairs, example=x), "ce", "full"
    )
    works_with_torchvision(lambda s, t, x: GradientAttentionTransfer(s, t), "ce", "gradient")
    with pytest.raises(ValueError, match="layers="):
        AttentionTransfer(foreign("mobilenet_v2", seed=1), foreign("resnet18"))
