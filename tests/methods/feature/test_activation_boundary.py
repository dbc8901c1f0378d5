"""Activation boundaries (AAAI 2019): the hinge, where it is 0, the weights of the layers, the two
stages.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from losses import (
    batch,
    changed,
    close,
    ignores_duplication,
    images,
    learns,
    names_both_devices,
    names_both_shapes,
    rand,
    small,
    state_of,
    stays_finite,
    taught,
    teaches_the_student_alone,
    works_with_torchvision,
)
from small import weights

from kdtutor import fit
from kdtutor.methods import ActivationBoundary
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss
from kdtutor.models import build
from kdtutor.taps import Taps

S, T = rand(3, 2, 2, 2), rand(3, 2, 2, 2, seed=1)


def slow(s, t, margin=1.0):
    """(s + m)^2 where s > -m and t <= 0; (s - m)^2 where s <= m and t > 0; 0 elsewhere; summed,
    divided by the batch.
    """
    total = 0.0
    for a, b in zip(s.flatten().tolist(), t.flatten().tolist()):
        if b > 0 and a <= margin:
            total += (a - margin) ** 2
        elif b <= 0 and a > -margin:
            total += (a + margin) ** 2
    return total / len(s)


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.1, 3), st.integers(0, 10**6))
def test_it_equals_the_slow_reference(b, n, margin, seed):
    s, t = rand(b, n, seed=seed, scale=2), rand(b, n, seed=seed + 1)
    close(activation_boundary_loss(s, t, margin), slow(s, t, margin))
    close(activation_boundary_loss(s, t, margin, "code"), 3 / 1000 * slow(s, t, margin))


def test_a_silent_teacher_neuron_is_one_at_exactly_zero():
    assert activation_boundary_loss(torch.tensor([[1.0]]), torch.tensor([[0.0]])) == 4
    assert activation_boundary_loss(torch.tensor([[-1.0]]), torch.tensor([[0.0]])) == 0


def test_only_the_side_of_the_boundary_counts():
    assert activation_boundary_loss(T, T) > 0, "neurons nearer than the margin"
    assert activation_boundary_loss(T.sign() * (1 + T.abs()), T) == 0
    assert activation_boundary_loss(S, T) == activation_boundary_loss(S, 100 * T)
    assert activation_boundary_loss(S, T) != activation_boundary_loss(S, -T)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_what_every_loss_must_pass(variant):
    loss = lambda s, t: activation_boundary_loss(s, t, 1.0, variant)
    teaches_the_student_alone(loss, S, T)
    ignores_duplication(loss, S, T)
    stays_finite(loss, S, T)
    names_both_shapes(loss, S, T[:, :1])
    names_both_devices(loss, S, T)


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_must_be_positive(margin):
    with pytest.raises(ValueError, match="margin"):
        activation_boundary_loss(S, T, margin)
    with pytest.raises(ValueError, match="margin"):
        ActivationBoundary(small(), taught(), margin=margin)


@pytest.mark.parametrize(
    "bad",
    [dict(boundary_share=0), dict(boundary_share=1), dict(ab_weight=0), dict(layers="layer7")],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError):
        ActivationBoundary(small(), taught(), **bad)
    with pytest.raises(ValueError, match="variant"):
        activation_boundary_loss(S, T, variant="x")


def test_the_terms_halve_with_every_layer_below_and_read_before_the_relu():
    teacher, some = taught(), batch()
    distiller = ActivationBoundary(small(2), teacher, ab_weight=0.01, margin=0.7).eval()
    paths = [f"layer{i}.0.relu2:input" for i in (1, 2, 3)]
    assert distiller.student_layers == paths == distiller.teacher_layers
    own, theirs = (Taps(net, paths)(some.x)[1] for net in (distiller.student, teacher))
    assert min(f.min() for f in theirs.values()) < 0
    total = sum(
        factor * slow(own[p].detach(), theirs[p].detach(), 0.7)
        for p, factor in zip(paths, (1 / 4, 1 / 2, 1))
    )
    close(distiller.boundary_terms(some)["ab"], 0.01 * total, rel=1e-4)
    assert list(distiller.terms(some)) == ["ce"]
    close(distiller.terms(some)["ce"], F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)
    assert not list(distiller.connectors.parameters()), "equal widths: nothing between"


def test_a_connector_stands_only_where_the_widths_differ():
    """Where they are equal the boundaries would be learned in the part that is thrown away."""
    wide = build("resnet8x2", classes=3, channels=1, stem=16)
    distiller = ActivationBoundary(wide, taught()).eval()
    paths, some = distiller.student_layers, batch()
    assert [
        [type(m).__name__ for m in c] == ["Conv2d", "BatchNorm2d"] and c[0].bias is None
        for c in distiller.connectors
    ] == [True] * 3
    deviations = [float(c[0].weight.std()) for c in distiller.connectors]
    expected = [math.sqrt(2 / n) for n in (16, 32, 64)]  # of the teacher's channels
    assert deviations == pytest.approx(expected, rel=0.15)
    own, theirs = (Taps(n, paths)(some.x)[1] for n in (wide, distiller.teacher.net))
    total = sum(
        factor * slow(connect(own[p]).detach(), theirs[p].detach(), 1.0)
        for connect, p, factor in zip(distiller.connectors, paths, (1 / 4, 1 / 2, 1))
    )
    close(distiller.boundary_terms(some)["ab"], 0.003 * total, rel=1e-4)


def test_the_first_stage_teaches_the_student_s_own_neurons():
    """With a needless connector they agree with the teacher's like a coin, and it is thrown away.

    Compared with the habit: for each neuron its more frequent decision."""
    teacher = taught().eval()
    student = small(2)
    distiller = ActivationBoundary(student, teacher, boundary_share=0.9)
    fit(distiller, images(), 20, batch_size=30, validation=0, test=False, progress=False)
    student, x = distiller.deploy().eval(), images().test.x.float() / 255
    paths = distiller.student_layers
    own, theirs = (Taps(n, paths)(x)[1] for n in (student, teacher))
    for path in paths:
        fires = theirs[path] > 0
        agree = ((own[path] > 0) == fires).float().mean()
        assert agree > 0.65, (path, float(agree))


def test_the_first_stage_trains_the_student_up_to_its_last_layer_and_the_connectors():
    wide = build("resnet8x2", classes=3, channels=1, stem=16)
    distiller = ActivationBoundary(wide, taught(), ["layer1", "layer2"], boundary_share=0.5)
    before, connectors, first, terms = (
        state_of(distiller.student),
        weights(distiller.connectors),
        [],
        distiller.terms,
    )

    def spy(some):
        if not first:
            first.extend([changed(before, distiller.student), weights(distiller.connectors)])
        return terms(some)

    distiller.terms = spy
    history = fit(distiller, images(), 2, batch_size=30, progress=False)
    assert first[0] == {"conv1", "bn1", "layer1", "layer2"} and not torch.equal(
        first[1], connectors
    )
    assert torch.equal(first[1], weights(distiller.connectors)) and "fc" in changed(
        before, distiller.student
    )
    assert [r["stage"] for r in history.rows] == ["boundaries", "task"]


def test_a_short_training_improves_both_stages():
    learns(lambda s, t: ActivationBoundary(s, t, boundary_share=0.5), "ab", "ce", epochs=8, lr=0.02)


def test_torchvisions_networks():
    pairs = [
        ("features.4.conv.0.1", "layer1.1.relu#2:input"),
        ("features.7", "layer2.1.relu#2:input"),
    ]
    distiller = works_with_torchvision(
        lambda s, t, x: ActivationBoundary(s, t, pairs, example=x), "ce"
    )
    distiller.boundary_terms(batch(4, 32, 3))["ab"].backward()
    assert distiller.connectors[0][0].weight.grad.abs().sum() > 0
