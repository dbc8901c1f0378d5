"""Boundary supporting samples (AAAI 2019): the walk, which images walk and where to, the annealed
terms.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import batch, close, foreign, learns, rand, small, taught, works_with_torchvision
from torch import nn

from kdtutor import Teacher
from kdtutor.methods import BSS
from kdtutor.methods.response.boundary_support import base_samples, boundary_samples, target_classes


def linear(seed=0, classes=3, inputs=4):
    torch.manual_seed(seed)
    return nn.Linear(inputs, classes).double()


def slow_walk(net, x, base, target, steps, step_size, overshoot, bounds=None):
    """One image: x + step_size * (gap + overshoot) * g / ||g||, g = d(z_target - z_base)/dx, until
    the answer is no longer base.
    """
    for _ in range(steps):
        x = x.detach().requires_grad_()
        z = net(x[None])[0]
        if z.argmax() != base:
            break
        (g,) = torch.autograd.grad(z[target] - z[base], x)
        x = x + step_size * (z[base] - z[target] + overshoot).detach() * g / g.norm()
        x = x if bounds is None else x.clamp(*bounds)
    return x.detach()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 8), st.sampled_from([None, (-0.5, 0.5)]))
def test_it_equals_the_slow_walk_of_each_image(seed, steps, bounds):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, base, target = rand(5, 4, seed=seed), torch.arange(5) % 3, (torch.arange(5) + 1) % 3
    got = boundary_samples(net, x, base, target, steps, 0.3, 1e-3, bounds)
    for i in range(5):
        assert torch.allclose(
            got[i], slow_walk(net, x[i], base[i], target[i], steps, 0.3, 1e-3, bounds)
        )
        assert torch.equal(got[i], x[i]) or net(x)[i].argmax() == base[i], (
            "what is not the base class does not walk"
        )


def test_a_linear_classifier_lands_just_across_its_boundary():
    net, x = linear(classes=2), rand(20, 4, scale=3)
    base = net(x).argmax(1)
    gap = lambda x: (
        net(x).gather(1, base[:, None])[:, 0] - net(x).gather(1, 1 - base[:, None])[:, 0]
    )
    length = (net.weight[0] - net.weight[1]).norm()
    got = boundary_samples(
        net, x, base, 1 - base, step_size=1 / length.item()
    )  # the step of this size is exact
    assert torch.allclose(gap(got), torch.full((20,), -1e-4, dtype=torch.float64), atol=1e-9)
    distance = gap(x) / length
    assert torch.allclose((got - x).norm(dim=1), distance + 1e-4 / length), (
        "straight to the nearest point"
    )


def test_each_step_shrinks_the_gap_geometrically_and_a_short_walk_stays_inside():
    net, x = linear(classes=2), rand(1, 4, scale=3)
    base = net(x).argmax(1)
    length = (net.weight[0] - net.weight[1]).norm().item()
    gap = lambda x: (net(x)[0, base] - net(x)[0, 1 - base]).item()
    got = boundary_samples(net, x, base, 1 - base, steps=3, overshoot=0.0)
    close(gap(got), gap(x) * (1 - 0.3 * length) ** 3, rel=1e-6)
    assert net(got).argmax(1) == base


def test_bounds_are_respected_and_the_input_is_left_alone():
    net, x = taught(), batch().x
    before = x.clone()
    y = net.eval()(x).argmax(1)
    got = boundary_samples(net, x, y, (y + 1) % 3, steps=20, step_size=1.0, bounds=(0.2, 0.8))
    assert torch.equal(x, before) and not got.requires_grad
    moved = (got != x).flatten(1).any(1)
    assert moved.any() and got[moved].min() >= 0.2 and got[moved].max() <= 0.8


def test_the_network_given_keeps_its_mode_its_gradients_and_its_weights():
    net, x = small(3).train(), batch().x
    state = {k: v.clone() for k, v in net.state_dict().items()}
    boundary_samples(net, x, 0, 1)
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in state.items())


def test_numbers_serve_as_classes_and_equal_classes_are_refused():
    net, x = linear(), rand(4, 4)
    assert torch.equal(
        boundary_samples(net, x, 0, 1),
        boundary_samples(net, x, torch.zeros(4).long(), torch.ones(4).long()),
    )
    with pytest.raises(ValueError, match="1 of 4"):
        boundary_samples(net, x, torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2]))
    with pytest.raises(ValueError, match="ensemble"):
        boundary_samples(Teacher([linear(), linear(1)]), x, 0, 1)


def test_a_flat_or_extreme_network_gives_finite_samples():
    flat, steep = linear(), linear()
    with torch.no_grad():
        flat.weight.zero_(), steep.weight.mul_(1e4)
    for net, x in (
        (flat, rand(4, 4)),
        (steep, rand(4, 4)),
        (linear(), 1e4 * rand(4, 4)),
        (linear(), 0 * rand(4, 4)),
    ):
        assert torch.isfinite(
            boundary_samples(net, x, net(x).argmax(1), (net(x).argmax(1) + 1) % 3)
        ).all()


def test_base_samples_are_those_that_both_get_right_and_where_wrong_answers_differ_most():
    y = torch.arange(12) % 3
    student, teacher = (3 * F.one_hot(y, 3) + rand(12, 3, seed=i) for i in (0, 1))
    student[4, y[4]] -= 20
    teacher[7, y[7]] -= 20
    right = [i for i in range(12) if student[i].argmax() == y[i] == teacher[i].argmax()]
    assert 4 not in right and 7 not in right and base_samples(student, teacher, y).tolist() == right
    ps, pt = student.softmax(1), teacher.softmax(1)
    difference = {
        i: sum((pt[i, k] - ps[i, k]).item() ** 2 for k in range(3) if k != y[i]) for i in right
    }
    assert set(base_samples(student, teacher, y, 3).tolist()) == set(
        sorted(right, key=difference.get)[-3:]
    )
    assert len(base_samples(student, teacher, (student.argmax(1) + 1) % 3)) == 0


def test_target_classes_follow_the_teachers_other_probabilities():
    probabilities = torch.tensor([0.1, 0.6, 0.05, 0.25])
    drawn = target_classes(probabilities.log().repeat(20000, 1), torch.Generator().manual_seed(0))
    share = drawn.bincount(minlength=4) / 20000
    assert share[1] == 0 and torch.allclose(
        share, torch.tensor([0.25, 0, 0.125, 0.625]), atol=0.015
    )
    assert set(target_classes(torch.tensor([[1e4, 0, -1e4]] * 50)).tolist()) <= {1, 2}, (
        "a certain teacher has other classes too"
    )


def slow_kl(p, q, t):
    p, q = (F.log_softmax(z.double() / t, 1) for z in (p, q))
    return (p.exp() * (p - q)).sum(1).mean()


@pytest.mark.parametrize(
    "progress, kd, bss", [(0.0, 4.0, 2.0), (0.3, 3.1, 1.2), (0.75, 1.75, 0.0), (1.0, 1.0, 0.0)]
)
def test_the_terms_and_how_their_weights_fall(monkeypatch, progress, kd, bss):
    teacher, student = taught(), taught().eval()
    with torch.no_grad():
        student.fc.bias.add_(torch.tensor([0.05, -0.05, 0.0]))
    some = batch()
    some = some._replace(y=teacher.eval()(some.x).argmax(1))
    monkeypatch.setattr(
        "kdtutor.methods.response.boundary_support.target_classes", lambda z: z.argmin(1)
    )
    distiller = BSS(student, teacher, steps=4, ce_weight=0.5).eval()
    distiller.progress = progress
    terms = distiller.terms(some)
    assert list(terms) == ["ce", "kd", "bss"]
    zs, zt = student(some.x), teacher(some.x)
    close(terms["ce"], 0.5 * F.cross_entropy(zs, some.y), rel=1e-5)
    close(terms["kd"], kd * slow_kl(zt, zs, 3), rel=1e-3)
    chosen = (zs.argmax(1) == some.y).nonzero()[:, 0]
    assert len(chosen)
    bounds = float(some.x.min()), float(some.x.max())
    x = boundary_samples(
        teacher, some.x[chosen], some.y[chosen], zt[chosen].argmin(1), 4, bounds=bounds
    )
    assert not torch.equal(x, some.x[chosen])
    close(terms["bss"], bss * slow_kl(teacher(x), student(x), 3), rel=2e-3)


def test_where_no_image_qualifies_the_term_is_zero_and_so_is_its_gradient():
    teacher, some = taught(), batch()
    wrong = some._replace(y=(teacher.eval()(some.x).argmax(1) + 1) % 3)
    student = small(2)
    terms = BSS(student, teacher).terms(wrong)
    terms["bss"].backward()
    assert terms["bss"] == 0 and all(
        p.grad is None or not p.grad.any() for p in student.parameters()
    )


@pytest.mark.parametrize("count", [1, 2])
def test_one_image_is_too_few_for_batch_normalisation(monkeypatch, count):
    monkeypatch.setattr(
        "kdtutor.methods.response.boundary_support.base_samples", lambda *_: torch.arange(count)
    )
    term = BSS(small(2), taught()).terms(batch(4, 4))["bss"]  # the last maps have one pixel
    assert torch.isfinite(term) and (term == 0) == (count == 1)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="ensemble"):
        BSS(small(), Teacher([taught(), taught()]))
    with pytest.raises(ValueError, match="temperature"):
        BSS(small(), taught(), temperature=0)
    with pytest.raises(ValueError, match="different numbers of classes"):
        BSS(small(), nn.Sequential(nn.Flatten(), nn.Linear(1024, 4)))


def test_a_short_training_improves():
    learns(lambda s, t: BSS(s, t, steps=3), "ce", lr=0.02)


def test_torchvisions_networks():
    works_with_torchvision(lambda s, t, x: BSS(s, t, steps=2), "ce", "kd", "bss")
    net, some = foreign("resnet18"), batch(4, 32, 3)
    answer = net.eval()(some.x).argmax(1)
    assert torch.isfinite(boundary_samples(net, some.x, answer, (answer + 1) % 3, steps=2)).all()


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(most=1), "most=1"),
        (dict(most=-1), "most=-1"),
        (dict(steps=-1), "steps=-1"),
        (dict(step_size=-1.0), "step_size=-1"),
        (dict(step_size=0), "step_size=0"),
        (dict(bounds="bach"), "'bach'"),
        (dict(bounds=(1, 0)), r"\(1, 0\)"),
        (dict(bounds=(0,)), r"\(0,\)"),
    ],
)
def test_bad_walks_are_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        BSS(small(), taught(), **kwargs)
    assert BSS(small(), taught(), bounds=None, steps=0).bounds is None


def test_a_class_that_does_not_exist_is_refused():
    for target in (7, -1):
        with pytest.raises(ValueError, match="class"):
            boundary_samples(taught(), batch().x, 0, target)
