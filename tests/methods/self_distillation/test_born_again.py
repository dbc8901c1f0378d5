"""Born-Again Networks (2018), CWTM, DKPP: formulas against slow references, invariants, gradients,
extremes, training.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtutor import Teacher, fit
from kdtutor.datasets import Batch, Data, Split, load
from kdtutor.methods import CWTM, DKPP, BornAgain, CrossEntropy, catalog, find, generations
from kdtutor.methods.self_distillation.born_again import (
    cwtm_loss,
    cwtm_weights,
    dkpp_loss,
    permute_dark_knowledge,
    persistent_keys,
)
from kdtutor.models import mlp
from kdtutor.softening import soften
from kdtutor.tasks import MultiLabel, Regression


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


S, T, Y = logits(6, 5), logits(6, 5, seed=1), torch.tensor([0, 1, 2, 3, 4, 0])
generator = lambda seed=7: torch.Generator().manual_seed(seed)
dkpp = lambda s, t, y=None: dkpp_loss(s, t, generator())
cwtm = lambda s, t, y=Y: cwtm_loss(s, t, y)
both = pytest.mark.parametrize("loss", [cwtm, dkpp])
cases = st.tuples(st.integers(1, 8), st.integers(2, 7), st.integers(0, 10**6), st.floats(0.1, 20))


def probabilities(row):
    e = [math.exp(v - max(row)) for v in row]
    return [v / sum(e) for v in e]


def slow_cwtm(s, t, y):
    """Eq. 10 with loops."""
    sure = [max(probabilities(row)) for row in t.tolist()]
    return sum(
        w / sum(sure) * -math.log(probabilities(row)[label])
        for w, row, label in zip(sure, s.tolist(), y.tolist())
    )


@settings(deadline=None, max_examples=40)
@given(cases)
def test_cwtm_equals_the_slow_reference(case):
    b, c, seed, scale = case
    s, t, y = logits(b, c, seed=seed), logits(b, c, seed=seed + 1, scale=scale), torch.arange(b) % c
    assert cwtm_loss(s, t, y).item() == pytest.approx(slow_cwtm(s, t, y), rel=1e-9)
    assert cwtm_weights(t).sum().item() == pytest.approx(1) and bool((cwtm_weights(t) > 0).all())


def test_cwtm_has_the_gradient_of_equation_10():
    s = S.clone().requires_grad_()
    cwtm_loss(s, T, Y).backward()
    expected = cwtm_weights(T)[:, None] * (soften(S) - F.one_hot(Y, 5))
    assert torch.allclose(s.grad, expected)


@settings(deadline=None, max_examples=40)
@given(cases)
def test_cwtm_is_cross_entropy_when_the_teacher_is_equally_sure_everywhere(case):
    b, c, seed, scale = case
    s, y = logits(b, c, seed=seed), torch.arange(b) % c
    one = logits(c, seed=seed + 1, scale=scale)
    shuffled = torch.stack(
        [one[torch.randperm(c)] for _ in range(b)]
    )  # other answers, the same confidence
    for teacher in (torch.zeros(b, c, dtype=torch.float64), shuffled):
        assert cwtm_loss(s, teacher, y).item() == pytest.approx(
            F.cross_entropy(s, y).item(), rel=1e-9
        )


@settings(deadline=None, max_examples=60)
@given(cases)
def test_a_shuffle_keeps_sorted_rows_argmax_and_sum(case):
    b, c, seed, scale = case
    p = soften(logits(b, c, seed=seed, scale=scale))
    q = permute_dark_knowledge(p, generator(seed))
    top = p.argmax(1, keepdim=True)
    assert torch.equal(q.sort(1).values, p.sort(1).values)
    assert torch.equal(q.gather(1, top), p.gather(1, top))
    assert torch.allclose(q.sum(1), torch.ones(b, dtype=torch.float64))
    assert torch.equal(q, permute_dark_knowledge(p, generator(seed))), (
        "the same generator gives the same shuffle"
    )


def test_a_shuffle_is_fresh_per_row_uniform_and_leaves_its_input():
    p = torch.tensor([0.1, 0.2, 0.4, 0.3]).repeat(6000, 1)
    q = permute_dark_knowledge(p, generator())
    assert torch.equal(p, torch.tensor([0.1, 0.2, 0.4, 0.3]).repeat(6000, 1))
    orders, counts = q.unique(dim=0, return_counts=True)
    assert len(orders) == 6 and (counts - 1000).abs().max() < 150


def test_a_shuffle_of_tied_and_of_one_hot_rows():
    tied = torch.full((4, 5), 0.2)
    assert torch.equal(permute_dark_knowledge(tied), tied)
    assert torch.equal(permute_dark_knowledge(torch.eye(5)), torch.eye(5))


def test_dkpp_equals_the_slow_reference():
    """The permuted targets are read from the same generator; the soft cross-entropy is summed with
    NumPy loops.
    """
    q = permute_dark_knowledge(soften(T), generator()).numpy()
    slow = -np.mean(
        [
            sum(q[b, i] * math.log(probabilities(S[b].tolist())[i]) for i in range(5))
            for b in range(6)
        ]
    )
    assert dkpp_loss(S, T, generator()).item() == pytest.approx(slow, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_dkpp_of_two_classes_is_plain_soft_cross_entropy(b, seed):
    s, t = logits(b, 2, seed=seed), logits(b, 2, seed=seed + 1)
    assert dkpp_loss(s, t).item() == pytest.approx(F.cross_entropy(s, soften(t)).item(), rel=1e-9)


def test_the_stated_minima():
    # DKPP: the teacher's mean entropy, reached by the student that answers the permuted targets;
    # with C = 2 by the teacher itself.
    p = soften(T)
    entropy = -(p * p.log()).sum(1).mean()
    student = permute_dark_knowledge(p, generator()).log().requires_grad_()
    loss = dkpp_loss(student, T, generator())
    loss.backward()
    assert loss.item() == pytest.approx(entropy.item()) and student.grad.abs().max() < 1e-12
    assert dkpp_loss(S, T, generator()) > entropy
    t = logits(6, 2)
    assert dkpp_loss(t, t).item() == pytest.approx(
        -(soften(t) * soften(t).log()).sum(1).mean().item()
    )
    # CWTM has no teacher term: its minimum is 0, at certain and right answers, whatever the teacher
    # says.
    assert cwtm_loss(1e3 * F.one_hot(Y, 5).double(), T, Y).item() == 0
    assert cwtm_loss(T, T, Y) > 0


@both
def test_the_gradient_reaches_the_student_and_never_the_teacher(loss):
    s, t = S.clone().requires_grad_(), T.clone().requires_grad_()
    loss(s, t).backward()
    assert t.grad is None and s.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda z: loss(z, T), S.clone().requires_grad_())


@both
def test_the_value_changes_when_either_changes(loss):
    assert loss(S, T) != loss(S + logits(6, 5, seed=3), T)
    assert loss(S, T) != loss(S, T + logits(6, 5, seed=3))


def test_a_duplicated_batch_changes_nothing():
    twice = lambda z: torch.cat([z, z])
    assert cwtm_loss(twice(S), twice(T), twice(Y)).item() == pytest.approx(
        cwtm_loss(S, T, Y).item()
    )
    # DKPP draws a shuffle per row, so the copies must draw the same: three equal values leave one
    # possible result.
    flat = torch.full((6, 5), 0.1, dtype=torch.float64).scatter(1, Y[:, None], 0.6).log()
    assert dkpp_loss(twice(S), twice(flat)).item() == pytest.approx(dkpp_loss(S, flat).item())


@both
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_finite_at_extreme_logits(loss, size):
    extreme = torch.full((6, 5), -size).scatter(1, torch.arange(6)[:, None] % 4, size)
    for s, t in [(S.float(), extreme), (extreme, T.float()), (extreme, extreme)]:
        s = s.clone().requires_grad_()
        value = loss(s, t)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(s.grad).all()


@both
def test_half_precision_is_computed_in_float32(loss):
    assert loss(S.bfloat16(), T.bfloat16()).dtype == torch.float32


@both
def test_different_shapes_are_named(loss):
    with pytest.raises(ValueError, match=r"\(6, 5\).*\(6, 4\)"):
        loss(S, T[:, :4])


@pytest.mark.parametrize("method", [CWTM, DKPP])
def test_a_short_training_improves(method):
    data = load("digits").subset(300)
    teacher = mlp((64,), inputs=64)
    fit(find("CrossEntropy")(teacher), data, 10, batch_size=16, validation=0, progress=False)
    before = [p.clone() for p in teacher.parameters()]
    student = method(mlp((32,), inputs=64), teacher)
    history = fit(student, data, 8, batch_size=16, validation=0, progress=False)
    assert (
        history.rows[-1]["loss"] < 0.7 * history.rows[0]["loss"]
        and history.result["test_accuracy_last"] > 0.7
    )
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters())), (
        "the teacher never moves"
    )
    assert list(student.terms(next(data.batches(data.train, 4)))) == [method.__name__.lower()]


@pytest.mark.parametrize("method", [CWTM, DKPP])
def test_classes_that_differ_are_refused_before_training(method):
    with pytest.raises(ValueError, match="different numbers of classes"):
        method(mlp((8,), inputs=64), Teacher(mlp((8,), classes=7, inputs=64)))
    plain = method(
        torch.nn.Linear(4, 3), torch.nn.Linear(4, 2)
    )  # shapes unknown until the first batch
    with pytest.raises(ValueError, match="different numbers of classes"):
        plain.terms(Batch(torch.zeros(2, 4), torch.tensor([0, 1])))


def test_an_ensemble_can_teach():
    nets = [mlp((8,), inputs=64) for _ in range(2)]
    terms = DKPP(mlp((8,), inputs=64), Teacher(nets)).terms(
        Batch(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2]))
    )
    assert torch.isfinite(terms["dkpp"])


def test_the_catalog_lists_both():
    table = catalog().set_index("name")
    assert (
        table.loc[["CWTM", "DKPP"], "year"].tolist() == [2018, 2018]
        and find("dkpp") is DKPP
        and find("cwtm") is CWTM
    )


# --- the generations


def nets(*seeds, hidden=(8,)):
    made = []
    for seed in seeds:
        torch.manual_seed(seed)
        made.append(mlp(hidden, inputs=64))
    return made


SOME = Batch(
    torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.arange(5),
    torch.arange(5),
)


def test_ban_is_the_divergence_to_the_unsoftened_teacher_and_ban_l_adds_labels_with_weight_one():
    student, teacher = nets(0, 1)
    zs, zt = student(SOME.x), teacher(SOME.x)
    slow = np.mean(
        [
            sum(p * (math.log(p) - math.log(q)) for p, q in zip(probabilities(t), probabilities(s)))
            for s, t in zip(zs.tolist(), zt.tolist())
        ]
    )
    for labels, names in ((False, ["ban"]), (True, ["ce", "ban"])):
        terms = BornAgain(student, teacher, labels).terms(SOME)
        assert list(terms) == names and terms["ban"].item() == pytest.approx(slow, rel=1e-4)
    assert terms["ce"].item() == pytest.approx(F.cross_entropy(zs, SOME.y).item(), rel=1e-5)


def test_ban_has_the_gradient_of_the_papers_cross_entropy_and_is_zero_for_a_copy():
    student, teacher = nets(0, 1)
    gradients = []
    for loss in (
        BornAgain(student, teacher).terms(SOME)["ban"],
        F.cross_entropy(student(SOME.x), soften(teacher(SOME.x))),
    ):
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(student.parameters()))])
        )
    assert torch.allclose(*gradients, atol=1e-6)
    assert BornAgain(*nets(1, 1)).terms(SOME)["ban"] == 0
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("labels", [False, True])
def test_generations_hand_the_trained_student_on(labels):
    made, nets_seen, plans = iter(nets(0, 1, 2, hidden=(16,))), [], []
    data = load("digits").subset(200)
    for plan in generations(lambda: next(made), count=2, labels=labels):
        if plans:
            assert plan.teacher.net is nets_seen[-1] and not any(
                p.requires_grad for p in nets_seen[-1].parameters()
            )
            kept = torch.cat([p.flatten() for p in nets_seen[-1].parameters()])
        history = fit(plan, data, 4, batch_size=20, validation=0, progress=False)
        assert history.rows[-1]["loss"] < history.rows[0]["loss"] and ("ce" in history.rows[0]) == (
            labels or not plans
        )
        if plans:
            assert torch.equal(
                kept, torch.cat([p.flatten() for p in nets_seen[-1].parameters()])
            ), "the teacher never moves"
        nets_seen.append(plan.student)
        plans.append(plan)
    assert [type(p) for p in plans] == [CrossEntropy, BornAgain, BornAgain] and len(
        {id(n) for n in nets_seen}
    ) == 3
    assert Teacher(nets_seen[1:])(SOME).shape == (5, 10)


def test_generations_may_begin_with_a_trained_teacher():
    teacher, *students = nets(0, 1, 2)
    made = iter(students)
    plans = list(generations(lambda: next(made), count=2, teacher=teacher))
    assert [p.teacher.net for p in plans] == [teacher, students[0]] and [
        p.student for p in plans
    ] == students
    with pytest.raises(ValueError, match="count=0"):
        next(generations(lambda: teacher, count=0))


def test_a_persistent_shuffle_is_the_examples_own():
    keys = persistent_keys(torch.arange(3000), 4)
    assert keys.shape == (3000, 4) and keys.min() >= 0 and keys.max() < 1
    assert torch.equal(keys[[7, 5]], persistent_keys(torch.tensor([7, 5]), 4)), "whatever the batch"
    assert all(
        not torch.equal(keys, persistent_keys(torch.arange(3000), 4, seed))
        for seed in (1, 20240101, -1)
    )
    p = torch.tensor([0.1, 0.2, 0.4, 0.3]).repeat(3000, 1)
    orders, counts = permute_dark_knowledge(p, keys=keys).unique(dim=0, return_counts=True)
    assert len(orders) == 6 and (counts - 500).abs().max() < 120, "all shuffles are alike"


def test_persistent_dkpp_repeats_itself_and_the_other_does_not():
    student, teacher = nets(0, 1)
    with torch.no_grad():
        teacher.fc.weight.mul_(5)
    value = lambda method, some=SOME: method.terms(some)["dkpp"].item()
    fixed, fresh = DKPP(student, teacher, persistent=True), DKPP(student, teacher)
    assert value(fixed) == value(fixed) and value(fresh) != value(fresh)
    assert value(fixed) != value(DKPP(student, teacher, persistent=True, seed=1))
    assert value(fixed) != value(fixed, SOME._replace(index=SOME.index + 5))
    slow = dkpp_loss(student(SOME.x), teacher(SOME.x), keys=persistent_keys(SOME.index, 10))
    assert value(fixed) == pytest.approx(slow.item())
    with pytest.raises(ValueError, match="index"):
        fixed.terms(SOME._replace(index=None))


def test_confidence_weights_stay_finite_at_the_ends_of_float32():
    s = torch.tensor([[3e38, -3e38, 0.0], [-3e38, 3e38, 0.0]], requires_grad=True)
    value = cwtm_loss(s, torch.randn(2, 3), torch.tensor([1, 1]))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


def test_one_row_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\).*\(batch, classes\)"):
        permute_dark_knowledge(torch.tensor([0.2, 0.3, 0.5]))


@pytest.mark.parametrize("task", [MultiLabel(), Regression()])
def test_without_classes_nothing_can_be_shuffled(task):
    """A softmax over independent numbers would be trained on without a word."""
    y = torch.rand(12, 3).round() if isinstance(task, MultiLabel) else torch.rand(12, 3)
    data = Data(
        "mine", 3 if isinstance(task, MultiLabel) else (), Split(torch.rand(12, 4), y), task=task
    )
    two = [mlp((8,), inputs=4, classes=3) for _ in range(2)]
    with pytest.raises(ValueError, match="no softmax"):
        fit(DKPP(*two), data, 1, batch_size=6, progress=False)
