"""softening.py against slow NumPy references, its stated limits and its stated errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdtutor.softening import distillation_kl, ensemble_logits, ensemble_targets, soften

LOGITS = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-30, 30)
)
TEMPERATURES = st.floats(0.2, 50)


def slow_soften(z, T):
    out = np.zeros_like(z)
    for b, row in enumerate(z):
        e = [math.exp((v - max(row)) / T) for v in row]
        out[b] = [v / sum(e) for v in e]
    return out


def slow_kl(zs, zt, T):
    total = 0.0
    for p, q in zip(slow_soften(zt, T), slow_soften(zs, T)):
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q) if a > 0)
    return T * T * total / len(zs)


@given(LOGITS, TEMPERATURES)
def test_soften_equals_the_loop(z, T):
    np.testing.assert_allclose(soften(torch.tensor(z), T).numpy(), slow_soften(z, T), atol=1e-12)


@pytest.mark.parametrize(
    "T, printed",
    [
        (1, "[0.09003057 0.24472847 0.66524096]"),
        (5, "[0.2693075  0.32893292 0.40175958]"),
        (7, "[0.28700357 0.33107727 0.38191915]"),
        (10, "[0.30060961 0.33222499 0.3671654 ]"),
    ],
)
def test_the_articles_numbers_to_all_printed_digits(T, printed):
    got = str(soften(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), T).numpy())
    assert got.split() == printed.split()


@given(LOGITS, TEMPERATURES, st.integers(0, 2**31))
def test_kl_equals_the_loop(zt, T, seed):
    zs = np.random.default_rng(seed).normal(0, 5, zt.shape)
    got = distillation_kl(torch.tensor(zs), torch.tensor(zt), T).item()
    assert got == pytest.approx(slow_kl(zs, zt, T), rel=1e-8, abs=1e-9)
    assert got >= -1e-9


def test_kl_is_zero_at_equality_and_at_a_shift():
    z = torch.randn(6, 10, dtype=torch.float64)
    assert distillation_kl(z, z, 3.0).item() == 0
    assert distillation_kl(z + 5, z, 3.0).item() == pytest.approx(0, abs=1e-12)


def test_the_temperature_is_4_unless_stated():
    zs, zt = torch.randn(4, 5), torch.randn(4, 5)
    assert torch.equal(distillation_kl(zs, zt), distillation_kl(zs, zt, 4.0))
    assert torch.equal(soften(zs), soften(zs, 1.0)) and torch.equal(soften(zs), zs.softmax(-1))


def test_gradient_reaches_the_student_only():
    zs, zt = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    distillation_kl(zs, zt, 2.0).backward()
    assert zs.grad.abs().sum() > 0 and zt.grad is None


def test_the_value_changes_when_either_changes():
    torch.manual_seed(0)
    zs, zt, other = torch.randn(3, 4, 5)
    value = distillation_kl(zs, zt, 2.0)
    assert not torch.isclose(value, distillation_kl(other, zt, 2.0)) and not torch.isclose(
        value, distillation_kl(zs, other, 2.0)
    )


def test_batch_duplication_changes_nothing():
    zs, zt = torch.randn(2, 4, 5, dtype=torch.float64)
    once, twice = (
        distillation_kl(zs, zt, 2.0),
        distillation_kl(torch.cat([zs, zs]), torch.cat([zt, zt]), 2.0),
    )
    assert once.item() == pytest.approx(twice.item(), rel=1e-12)


def test_gradient_tends_to_logit_matching_at_high_temperature():
    torch.manual_seed(0)
    zs, zt = torch.randn(2, 8, 10, dtype=torch.float64)
    zs, zt = zs - zs.mean(1, keepdim=True), zt - zt.mean(1, keepdim=True)
    zs.requires_grad_()
    errors = []
    for T in (10.0, 100.0, 1000.0):
        (gradient,) = torch.autograd.grad(distillation_kl(zs, zt, T) * len(zs), zs)
        limit = (zs - zt) / 10
        errors.append(((gradient - limit).norm() / limit.norm()).item())
    assert (
        errors[2] < 1e-3 and errors[0] > 5 * errors[1] > 25 * errors[2]
    )  # a T^2 or reduction slip breaks this


@pytest.mark.parametrize("scale", [1e4, 1e20, 3e38])
def test_finite_at_extreme_logits(scale):
    zt = torch.tensor([[scale, -scale, 0.0], [0.0, 0.0, scale]])
    zs = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0]], requires_grad=True)
    loss = distillation_kl(zs, zt, 4.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(zs.grad).all()
    loss = distillation_kl(
        torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True), torch.tensor([[-1e4, 1e4, 0.0]]), 4.0
    )
    assert torch.isfinite(loss) and loss > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    zs, zt = torch.randn(2, 4, 5).to(dtype)
    assert (
        distillation_kl(zs, zt, 4.0).dtype == torch.float32
        and soften(zs, 4.0).dtype == torch.float32
    )
    assert distillation_kl(zs, zt, 4.0).item() == pytest.approx(
        distillation_kl(zs.float(), zt.float(), 4.0).item(), rel=1e-6
    )


@pytest.mark.parametrize("T", [0, -1.0, float("nan"), float("inf"), -0.0])
def test_bad_temperature(T):
    z = torch.randn(2, 3)
    for call in (
        lambda: soften(z, T),
        lambda: distillation_kl(z, z, T),
        lambda: ensemble_targets(z[None], T),
    ):
        with pytest.raises(ValueError, match="temperature.*finite and > 0"):
            call()


def test_shape_mismatch_names_both_shapes():
    with pytest.raises(ValueError, match=r"\(4, 10\).*\(4, 7\)"):
        distillation_kl(torch.randn(4, 10), torch.randn(4, 7))


@given(st.integers(1, 4), TEMPERATURES, st.integers(0, 2**31))
def test_ensembles_equal_the_loop(members, T, seed):
    z = np.random.default_rng(seed).normal(0, 4, (members, 3, 5))
    arithmetic = sum(slow_soften(m, T) for m in z) / members
    product = np.prod([slow_soften(m, T) for m in z], axis=0) ** (1 / members)
    geometric = product / product.sum(1, keepdims=True)
    np.testing.assert_allclose(
        ensemble_targets(torch.tensor(z), T, "arithmetic"), arithmetic, atol=1e-10
    )
    np.testing.assert_allclose(
        ensemble_targets(torch.tensor(z), T, "geometric"), geometric, atol=1e-10
    )


def test_ensemble_means_differ_and_one_member_is_itself():
    z = torch.tensor([[[4.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]]])
    a, g = ensemble_targets(z, 1.0, "arithmetic"), ensemble_targets(z, 1.0, "geometric")
    assert (a - g).abs().max() > 0.01
    for mean in ("arithmetic", "geometric"):
        torch.testing.assert_close(ensemble_targets(z[:1], 2.0, mean), soften(z[0], 2.0))
        agreed = torch.cat([z[:1]] * 3)
        torch.testing.assert_close(ensemble_targets(agreed, 2.0, mean), soften(z[0], 2.0))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_ensemble_logits_stand_in_for_a_single_teacher(mean):
    z = torch.randn(3, 4, 5, dtype=torch.float64) * 5
    torch.testing.assert_close(
        soften(ensemble_logits(z, 3.0, mean), 3.0), ensemble_targets(z, 3.0, mean)
    )


def test_ensemble_logits_are_t_times_the_logarithm_of_the_mean_and_t_is_1_unless_stated():
    z = torch.randn(3, 4, 5, dtype=torch.float64) * 5
    for stated, T in (((), 1.0), ((2.5,), 2.5)):
        mean = torch.softmax(z / T, -1).mean(0)
        torch.testing.assert_close(ensemble_targets(z, *stated), mean)
        torch.testing.assert_close(ensemble_logits(z, *stated), T * mean.log())


def test_ensemble_errors():
    with pytest.raises(ValueError, match=r"\(0, 3, 4\).*teachers, batch, classes"):
        ensemble_targets(torch.randn(0, 3, 4))
    with pytest.raises(ValueError, match="arithmetic"):
        ensemble_targets(torch.randn(2, 3, 4), 1.0, mean="aritmetic")
    with pytest.raises(ValueError, match=r"\(3, 4\).*teachers, batch, classes"):
        ensemble_targets(torch.randn(3, 4), 1.0)


def slow_places(zs, zt, T, axis, mask=None):
    """Place by place, in plain Python."""
    zs, zt = (np.moveaxis(z, axis, -1).reshape(-1, z.shape[axis]) for z in (zs, zt))
    counts = [True] * len(zs) if mask is None else list(mask.reshape(-1))
    kept = [i for i, c in enumerate(counts) if c]
    return slow_kl(zs[kept], zt[kept], T) if kept else 0.0


PLACES = [((4, 5), 1), ((4, 5), -1), ((2, 3, 4), -1), ((2, 3, 4), 1), ((2, 5, 3, 4), 1)]


@pytest.mark.parametrize("shape, axis", [*PLACES, ((3, 4, 2), 0), ((3, 4, 2), -2), ((3, 4, 2), -3)])
@pytest.mark.parametrize("masked", [False, True])
def test_kl_is_the_mean_over_all_places(shape, axis, masked):
    rng = np.random.default_rng(0)
    zs, zt = rng.normal(0, 3, (2, *shape))
    places = np.delete(shape, axis)
    mask = rng.random(places) < 0.5 if masked else None
    got = distillation_kl(
        torch.tensor(zs), torch.tensor(zt), 3.0, axis, None if mask is None else torch.tensor(mask)
    )
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(slow_places(zs, zt, 3.0, axis, mask), rel=1e-10)


def test_images_have_their_classes_on_axis_1_and_three_dimensions_must_say():
    zs, zt = torch.randn(2, 2, 5, 3, 4, dtype=torch.float64)
    assert distillation_kl(zs, zt) == distillation_kl(zs, zt, axis=1)
    with pytest.raises(ValueError, match=r"\(5, 3, 4\).*axis=-1.*axis=1"):
        distillation_kl(zs[0], zt[0])
    assert distillation_kl(zs[0], zt[0], axis=1) != distillation_kl(zs[0], zt[0], axis=-1)
    assert distillation_kl(zs[0, :, 0, 0], zt[0, :, 0, 0]) == distillation_kl(
        zs[:1, :, 0, 0], zt[:1, :, 0, 0]
    )
    for axis in (2, -3):
        with pytest.raises(ValueError, match=f"axis={axis}.*no such axis"):
            distillation_kl(zs[0, 0], zt[0, 0], axis=axis)


def test_what_the_mask_leaves_out_has_no_gradient_even_if_it_is_not_finite():
    zs, zt = torch.randn(2, 2, 3, 4)
    zs[0, 1], zt[1, 2] = float("inf"), float("nan")
    mask = zs.isfinite().all(-1) & zt.isfinite().all(-1)
    zs.requires_grad_()
    loss = distillation_kl(zs, zt, 2.0, -1, mask)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(zs.grad).all()
    assert (zs.grad.abs().sum(-1) > 0).equal(mask)


def test_a_mask_that_leaves_nothing_gives_zero_with_a_gradient():
    zs, zt = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    loss = distillation_kl(zs, zt, mask=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and torch.equal(zs.grad, torch.zeros(3, 4))


@pytest.mark.parametrize(
    "mask", [torch.ones(3), torch.ones(4, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool)]
)
def test_a_wrong_mask_is_named(mask):
    with pytest.raises(ValueError, match=r"mask is torch\.\w+ of shape .*expected.*\(3,\)"):
        distillation_kl(torch.randn(3, 4), torch.randn(3, 4), mask=mask)


def test_a_wrong_axis_is_an_error_and_never_a_number():
    wide, other = torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8)
    other[:, 0] = 5  # every pixel's class differs
    assert distillation_kl(wide, other).item() > 1, "not a softmax over the width, which gives 0"
    with pytest.raises(ValueError, match=r"\(2, 6, 4\).*axis=-1 for tokens"):
        distillation_kl(torch.zeros(2, 6, 4), torch.zeros(2, 6, 4))
    with pytest.raises(ValueError, match="axis=3.*no such axis"):
        distillation_kl(torch.zeros(2, 6, 4), torch.zeros(2, 6, 4), axis=3)


def exact_kl(zs, zt, T):
    """In 60 digits."""
    from decimal import Decimal, getcontext

    getcontext().prec = 60
    total = Decimal(0)
    for s, t in zip(zs.tolist(), zt.tolist()):
        u, v = ([Decimal(z) / Decimal(T) for z in row] for row in (t, s))
        p = [z.exp() for z in u]
        log_sums = [sum(z.exp() for z in row).ln() for row in (u, v)]
        total += sum(
            a / sum(p) * ((x - log_sums[0]) - (y - log_sums[1])) for a, x, y in zip(p, u, v)
        )
    return float(Decimal(T) ** 2 * total / len(zs))


@pytest.mark.parametrize("dtype, rel", [(torch.float32, 2e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("T", [0.5, 4.0, 50.0, 1e3, 1e4, 1e5])
def test_kl_keeps_its_digits_at_every_temperature(T, dtype, rel):
    g = torch.Generator().manual_seed(0)
    zs, zt = (3 * torch.randn(6, 10, generator=g, dtype=dtype) for _ in range(2))
    assert distillation_kl(zs, zt, T).item() == pytest.approx(exact_kl(zs, zt, T), rel=rel)
    leaf, double = zs.clone().requires_grad_(), zs.double().requires_grad_()
    distillation_kl(leaf, zt, T).backward()
    (T**2 / 6 * (zt.double() / T).softmax(1) * -(double / T).log_softmax(1)).sum().backward()
    if T < 1e3:  # beyond, the plain form has no digits left in float64 either
        assert torch.allclose(leaf.grad.double(), double.grad, rtol=1e-3, atol=1e-5)
    # to first order it is logit matching, whatever T
    matching = zs - zt - (zs - zt).mean(1, keepdim=True)
    if T >= 1e3:
        assert torch.allclose(leaf.grad, matching / 60, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0])
def test_kl_of_near_logits_is_right_and_never_negative(scale):
    g = torch.Generator().manual_seed(1)
    for _ in range(20):
        zt = 4 * torch.randn(3, 7, generator=g)
        zs = zt + scale * torch.randn(3, 7, generator=g)
        value = distillation_kl(zs, zt, 4.0).item()
        assert value >= 0
        assert value == pytest.approx(exact_kl(zs, zt, 4.0), rel=1e-4)


def test_kl_where_one_place_is_far_and_another_near():
    zt = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0], [9.0, 0.0, 0.0]])
    zs = torch.tensor([[500.0, 0.0, -500.0], [0.0, 1.0, 2.0001], [1.0, 1.0, 1.0]])
    leaf = zs.clone().requires_grad_()
    value = distillation_kl(leaf, zt, 1.0)
    value.backward()
    assert value.item() == pytest.approx(exact_kl(zs, zt, 1.0), rel=1e-5)
    expected = (zs.double().softmax(1) - zt.double().softmax(1)) / 3
    assert torch.allclose(leaf.grad.double(), expected, rtol=1e-3, atol=1e-7)


def test_kl_can_be_differentiated_again_and_mapped():
    g = torch.Generator().manual_seed(2)
    zs, zt = (torch.randn(2, 4, 3, generator=g, dtype=torch.float64) for _ in range(2))
    loss = lambda s, t: distillation_kl(s, t, 2.0)
    assert torch.autograd.gradgradcheck(lambda s: loss(s, zt[0]), zs[0].requires_grad_())
    zs = zs.detach()
    assert torch.allclose(
        torch.func.vmap(loss)(zs, zt), torch.stack([loss(s, t) for s, t in zip(zs, zt)])
    )
    plain = lambda s: (
        4
        * torch.nn.functional.kl_div(
            (s / 2).log_softmax(1), (zt[0] / 2).softmax(1), reduction="batchmean"
        )
    )
    assert torch.allclose(
        torch.func.hessian(lambda s: loss(s, zt[0]))(zs[0]), torch.func.hessian(plain)(zs[0])
    )
