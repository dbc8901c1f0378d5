"""FitNets (2015): the hint loss, the regressor's geometry, the two stages, the annealed weight."""

import numpy as np
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
    resumes,
    small,
    state_of,
    stays_finite,
    taught,
    teaches_the_student_alone,
    works_with_torchvision,
)
from small import weights

from kdtutor import fit
from kdtutor.methods import FitNet
from kdtutor.methods.feature.fitnet import Regressor, hint_loss
from kdtutor.taps import Taps

S, T = rand(3, 2, 4, 4), rand(3, 2, 4, 4, seed=1)


def slow_hint(v, u):
    """1/2 ||u_h - r(v_g)||^2, the mean over the batch."""
    return sum(
        0.5 * sum((a - b) ** 2 for a, b in zip(x.flatten(), y.flatten()))
        for x, y in zip(v.numpy(), u.numpy())
    ) / len(v)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_the_hint_loss_equals_the_slow_reference(b, c, h, seed):
    s, t = rand(b, c, h, 2, seed=seed), rand(b, c, h, 2, seed=seed + 1)
    close(hint_loss(s, t), slow_hint(s, t))
    close(hint_loss(s, t, "code"), slow_hint(s, t) * 2 / (c * h * 2))
    close(hint_loss(s, t, "code"), np.mean((s.numpy() - t.numpy()) ** 2))


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_what_every_loss_must_pass(variant):
    loss = lambda s, t: hint_loss(s, t, variant)
    assert loss(S, S) == 0
    teaches_the_student_alone(loss, S, T)
    ignores_duplication(loss, S, T)
    stays_finite(loss, S, T)
    names_both_shapes(loss, S, T[:, :1])
    names_both_devices(loss, S, T)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant"):
        hint_loss(S, T, "codes")
    with pytest.raises(ValueError, match="variant"):
        FitNet(small(), taught(), variant="codes")


def test_the_gradient_is_the_difference_over_the_batch():
    s = S.clone().requires_grad_()
    hint_loss(s, T).backward()
    assert torch.allclose(s.grad, (S - T) / 3)


@pytest.mark.parametrize(
    "guided, hint, kernel",
    [
        ((5, 8, 8), (7, 4, 4), (5, 5)),
        ((5, 4, 4), (7, 4, 4), (1, 1)),
        ((2, 8, 6), (3, 3, 5), (6, 2)),
        ((5, 2, 2), (7, 4, 4), (1, 1)),
    ],
)
def test_the_regressor_is_an_unpadded_convolution_that_gives_the_hints_size(guided, hint, kernel):
    net = Regressor(guided, hint, None)
    assert (
        net[0].kernel_size == kernel
        and net[0].padding == (0, 0)
        and net[0].stride == (1, 1)
        and len(net) == 1
    )
    out = net(torch.rand(2, *guided))
    assert out.shape == (2, hint[0], *(min(g, h) for g, h in zip(guided[1:], hint[1:])))


def test_the_regressor_ends_in_the_hints_non_linearity():
    kinds = lambda *args: [type(m).__name__ for m in Regressor(*args)]
    assert kinds((3, 4, 4), (5, 4, 4), torch.nn.Tanh()) == ["Conv2d", "Tanh"]
    assert kinds((3, 4, 4), (5, 4, 4), None, "code") == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds((3,), (5,), None) == ["Linear"] and kinds((3,), (5,), None, "code") == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
    ]
    for guided, hint in (((3, 4, 4), (5,)), ((3, 4), (5, 4, 4)), ((3,) + (2,) * 4,) * 2):
        with pytest.raises(ValueError, match=r"one layout, vectors.*signals \(C, L\)"):
            Regressor(guided, hint, None)
    assert isinstance(FitNet(small(), taught(), "layer2").regressor[-1], torch.nn.ReLU)
    assert isinstance(
        FitNet(small(), taught(), ("layer2", "layer2.0.bn2")).regressor[-1], torch.nn.Conv2d
    ), "signed: no ReLU"


@pytest.mark.parametrize("activation", ["Sigmoid", "Hardswish", "Softplus", "LeakyReLU", "Tanh"])
def test_the_regressor_ends_in_what_the_hint_ends_in(activation):
    def net():
        torch.manual_seed(3)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), getattr(torch.nn, activation)()),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 10),
        )

    x = torch.rand(2, 3, 8, 8)
    distiller = FitNet(net(), net(), "1", example=x)
    assert type(distiller.regressor[-1]).__name__ == activation
    assert isinstance(FitNet(net(), net(), "1.0", example=x).regressor[-1], torch.nn.Conv2d), (
        "before it: none"
    )


@pytest.mark.parametrize(
    "guided, hint, kind, kernel, stride",
    [
        ((3, 8, 8), (5, 4, 4), "Conv2d", (3, 3), (2, 2)),
        ((3, 4, 4), (5, 8, 8), "ConvTranspose2d", (4, 4), (2, 2)),
        ((3, 8, 8), (5, 6, 6), "Conv2d", (3, 3), (1, 1)),
        ((3, 8, 8), (5, 8, 8), "Conv2d", (1, 1), (1, 1)),
    ],
)
def test_the_codes_regressor(guided, hint, kind, kernel, stride):
    net = Regressor(guided, hint, None, "code")
    assert (
        type(net[0]).__name__ == kind and net[0].kernel_size == kernel and net[0].stride == stride
    )
    assert net(torch.rand(2, *guided)).shape == (2, *hint)


def test_the_middle_stage_is_the_default():
    assert FitNet(small(), taught()).layers == (("layer2", "layer2"),)


def test_hint_terms_are_the_loss_of_what_taps_read():
    teacher, some = taught(), batch()
    distiller = FitNet(small(2), teacher, ("layer2", "layer3"), hint_weight=3.0).eval()
    _, own = Taps(distiller.student, ["layer2"])(some.x)
    _, theirs = Taps(teacher, ["layer3"])(some.x)
    assert distiller.regressor[0].kernel_size == (9, 9), "16 - 8 + 1 at the networks' own 32x32"
    distiller = FitNet(
        small(2), teacher, ("layer2", "layer3"), hint_weight=3.0, example=some.x
    ).eval()
    expected = 3 * slow_hint(distiller.regressor(own["layer2"]).detach(), theirs["layer3"].detach())
    close(distiller.hint_terms(some)["hint"], expected, rel=1e-5)


@pytest.mark.parametrize("progress, weight", [(0.0, 4.0), (0.5, 2.5), (1.0, 1.0)])
def test_the_distillation_weight_falls_from_4_to_1_without_t_squared(progress, weight):
    teacher, some = taught(), batch()
    distiller = FitNet(small(2), teacher, temperature=3.0, ce_weight=0.5).eval()
    distiller.progress = progress
    terms = distiller.terms(some)
    student, theirs = (
        torch.log_softmax(net(some.x).double() / 3, 1) for net in (distiller.student, teacher)
    )
    close(terms["kd"], weight * (theirs.exp() * (theirs - student)).sum(1).mean(), rel=1e-4)
    close(terms["ce"], 0.5 * F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)
    assert list(terms) == ["ce", "kd"]


def test_the_code_variant_is_one_stage_with_mean_squares_times_100():
    teacher, some = taught(), batch()
    distiller = FitNet(small(2), teacher, variant="code").eval()
    assert [s.name for s in distiller.stages()] == ["train"]
    terms = distiller.terms(some)
    own, theirs = (
        Taps(net, ["layer2"])(some.x)[1]["layer2"] for net in (distiller.student, teacher)
    )
    assert list(terms) == ["ce", "hint"]
    close(terms["hint"], 100 * F.mse_loss(distiller.regressor(own), theirs), rel=1e-5)


def test_the_first_stage_trains_the_lower_half_and_the_regressor_only():
    distiller = FitNet(small(2), taught(), hint_share=0.5)
    student, first = distiller.student, []
    before, regressor, terms = state_of(student), weights(distiller.regressor), distiller.terms

    def spy(some):
        if not first:
            first.extend([changed(before, student), weights(distiller.regressor)])
        return terms(some)

    distiller.terms = spy
    history = fit(distiller, images(), 2, batch_size=30, progress=False)
    assert first[0] == {"conv1", "bn1", "layer1", "layer2"} and not torch.equal(first[1], regressor)
    assert torch.equal(first[1], weights(distiller.regressor)), (
        "the second stage does not touch the regressor"
    )
    assert "fc" in changed(before, student) and distiller.deploy() is student
    assert [r["stage"] for r in history.rows] == ["hint", "distil"]
    first, _ = distiller.stages()
    assert isinstance(first.players[0].optimizer(first.players[0].parameters), torch.optim.RMSprop)


def test_a_short_training_improves_both_stages():
    learns(lambda s, t: FitNet(s, t), "hint", "ce", epochs=6)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    resumes(lambda: FitNet(small(2), taught()), tmp_path / "run", monkeypatch)


def test_torchvisions_networks():
    distiller = works_with_torchvision(
        lambda s, t, x: FitNet(s, t, ("features.6", "layer2"), example=x), "ce", "kd"
    )
    distiller.hint_terms(batch(4, 32, 3))["hint"].backward()


@pytest.mark.parametrize(
    "bad",
    [
        dict(layers=["layer1", "layer2"]),
        dict(hint_share=0.0),
        dict(hint_share=1.0),
        dict(hint_lr=0.0),
        dict(hint_weight=0.0),
        dict(hint_weight=-1.0),
        dict(temperature=0.0),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError):
        FitNet(small(), taught(), **bad)
