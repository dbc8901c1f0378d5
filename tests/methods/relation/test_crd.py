"""Contrastive representation distillation (ICLR 2020): the loss, the draws, the memory, Z, and what
a resumed run restores.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from losses import (
    batch,
    close,
    images,
    learns,
    rand,
    resumes,
    small,
    taught,
    works_with_torchvision,
)
from small import weights

from kdtutor.datasets import Split
from kdtutor.methods import CRD
from kdtutor.methods.relation.crd import contrast_loss, draw_negatives
from kdtutor.taps import Taps


def slow_nce(positive, negative, k, n):
    """-(1/B) sum_b [log P/(P + K/n) + sum_neg log (K/n)/(P_neg + K/n)]; negative: a list of K
    scores per example.
    """
    h = lambda p: p / (p + k / n + 1e-7)
    each = [
        math.log(h(p)) + sum(math.log((k / n) / (q + k / n + 1e-7)) for q in row)
        for p, row in zip(positive, negative)
    ]
    return -sum(each) / len(each)


@hypothesis_settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(5, 50),
    st.floats(0.1, 100),
    st.integers(0, 10**6),
)
def test_the_loss_equals_the_slow_reference(b, k, n, z, seed):
    g = torch.Generator().manual_seed(seed)
    positive, negative = rand(b, seed=seed).exp(), rand(b, k + 3, seed=seed + 1).exp()
    mask = torch.stack([torch.randperm(k + 3, generator=g) < k for _ in range(b)])
    rows = [[v / z for v in row[m].tolist()] for row, m in zip(negative, mask)]
    close(
        contrast_loss(positive, negative, mask, k, n, z),
        slow_nce([p / z for p in positive.tolist()], rows, k, n),
        rel=1e-6,
    )


@pytest.mark.parametrize("k, two_sides", [(16384, 21.41), (255, 13.09)])
def test_an_untrained_network_has_the_value_of_uniform_scores(k, two_sides):
    n = 50000
    one = contrast_loss(
        torch.full((2,), 1 / n), torch.full((2, k), 1 / n), torch.ones(2, k, dtype=torch.bool), k, n
    )
    assert 2 * one.item() == pytest.approx(two_sides, abs=0.012), (
        "up to the 1e-7 under the logarithm"
    )
    assert 2 * (math.log(1 + k) + k * math.log(1 + 1 / k)) == pytest.approx(two_sides, abs=0.005)


def test_gradients_of_the_loss_are_right_and_masked_scores_have_none():
    positive, negative = (rand(*s).exp().requires_grad_() for s in ((3,), (3, 5)))
    mask = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1]]).bool()
    loss = lambda p, q: contrast_loss(p, q, mask, 3, 20, 2.0)
    assert torch.autograd.gradcheck(loss, (positive, negative))
    loss(positive, negative).backward()
    assert (
        (positive.grad < 0).all()
        and (negative.grad[mask] > 0).all()
        and not negative.grad[~mask].any()
    )


@hypothesis_settings(max_examples=40)
@given(st.integers(2, 5), st.integers(4, 60), st.integers(1, 40), st.integers(0, 10**6))
def test_negatives_are_distinct_rows_of_other_classes(classes, n, k, seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (n,), generator=g)])
    fewest = len(labels) - int(labels.bincount().max())
    y = torch.arange(classes)
    if k > fewest:
        with pytest.raises(ValueError, match=f"leaves only {fewest}"):
            draw_negatives(labels, y, k, g)
        return
    rows, mask = draw_negatives(labels, y, k, g)
    for i in range(classes):
        mine = rows[mask[i]]
        assert len(mine) == k == len(mine.unique()) and (labels[mine] != y[i]).all()


def test_negatives_are_uniform():
    labels, counts = torch.tensor([0, 0, 0, 1, 1, 2]), torch.zeros(2, 6)
    g = torch.Generator().manual_seed(0)
    for _ in range(3000):
        rows, mask = draw_negatives(labels, torch.tensor([0, 1]), 2, g)
        for i in range(2):
            counts[i, rows[mask[i]]] += 1
    expected = torch.tensor([[0, 0, 0, 2 / 3, 2 / 3, 2 / 3], [0.5, 0.5, 0.5, 0, 0, 0.5]])
    assert torch.allclose(counts / 3000, expected, atol=0.04)


def prepared(seed=2, n=160, **kwargs):
    data = images(n=n)
    settings = {"negatives": 20, "dimensions": 16} | kwargs
    return CRD(small(seed), taught(), data, **settings), data


def some_of(data, rows):
    split = data.train.select(rows)
    return next(data.batches(split, len(rows)))


def test_the_first_total_is_near_that_of_uniform_scores():
    """Against the untrained memory every score is alike: 2 (log(1 + K) + K log(1 + 1/K)), times the
    weight.
    """
    distiller, data = prepared(dimensions=128, crd_weight=0.8, temperature=0.5, negatives=60)
    terms = distiller.terms(some_of(data, range(60)))
    assert list(terms) == ["ce", "crd"]
    assert terms["crd"].item() == pytest.approx(
        0.8 * 2 * (math.log(61) + 60 * math.log(1 + 1 / 60)), rel=0.05
    )


def test_the_terms_by_hand(monkeypatch):
    distiller, data = prepared(crd_weight=0.3, ce_weight=0.5, temperature=0.2, negatives=4)
    distiller.eval()
    some, n = some_of(data, [7, 3, 50]), len(data.train)
    chosen = torch.stack([(data.train.y != y).nonzero()[:4, 0] for y in some.y])
    rows = chosen.unique()
    mask = torch.stack([torch.isin(rows, c) for c in chosen])
    monkeypatch.setattr("kdtutor.methods.relation.crd.draw_negatives", lambda *a, **k: (rows, mask))
    terms = distiller.terms(some)
    nets = (
        (distiller.student, distiller.embed_student),
        (distiller.teacher.net, distiller.embed_teacher),
    )
    v = [
        F.normalize(embed(Taps(net, ["fc:input"])(some.x)[1]["fc:input"]), dim=1).detach().double()
        for net, embed in nets
    ]
    total = 0.0
    for anchor, memory in ((v[0], distiller.memory_teacher), (v[1], distiller.memory_student)):
        score = (anchor @ memory.double().T / 0.2).exp()
        positive, negative = (
            [score[i, r] for i, r in enumerate((7, 3, 50))],
            [score[i, c] for i, c in enumerate(chosen)],
        )
        z = sum(p + q.sum() for p, q in zip(positive, negative)) / 15 * n
        total += slow_nce([p / z for p in positive], [(q / z).tolist() for q in negative], 4, n)
    close(terms["crd"], 0.3 * total, rel=1e-4)
    close(terms["ce"], 0.5 * F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)


def test_z_is_fixed_by_the_first_batch():
    distiller, data = prepared()
    assert not distiller.z.any()
    distiller.terms(some_of(data, range(10)))
    first = distiller.z.clone()
    assert (first > 0).all()
    distiller.terms(some_of(data, range(10, 50)))
    assert torch.equal(distiller.z, first) and not distiller.z.requires_grad


def test_the_memory_moves_only_where_the_batch_was_and_by_its_momentum():
    distiller, data = prepared(momentum=0.25)
    before = distiller.memory_student.clone()
    assert distiller.memory_student.shape == (
        len(data.train),
        16,
    ) and before.abs().max() <= 1 / math.sqrt(16 / 3)
    some, rows = some_of(data, [5, 90]), torch.tensor([5, 90])
    x = F.normalize(
        distiller.embed_student(Taps(distiller.student, ["fc:input"])(some.x)[1]["fc:input"]), dim=1
    ).detach()
    distiller.terms(some)
    after, others = (
        distiller.memory_student,
        torch.ones(len(before)).bool().index_fill(0, rows, False),
    )
    assert torch.allclose(
        after[rows], F.normalize(0.25 * before[rows] + 0.75 * x, dim=1), atol=1e-5
    )
    assert torch.equal(after[others], before[others]) and not after.requires_grad
    state = weights(distiller.eval())
    distiller.terms(some)
    assert torch.equal(state, weights(distiller)), "in eval mode nothing moves"


def test_relaxed_positives_are_of_the_same_class_and_exact_ones_the_image_itself(monkeypatch):
    for mode in ("exact", "relax"):
        distiller, data = prepared(mode=mode)
        seen, side = [], distiller._side
        monkeypatch.setattr(
            distiller,
            "_side",
            lambda i, v, m, positives, *a: seen.append(positives) or side(i, v, m, positives, *a),
        )
        for _ in range(20):
            distiller.terms(some_of(data, range(9)))
        own = torch.arange(9)
        assert all((data.train.y[p] == data.train.y[own]).all() for p in seen)
        assert all(torch.equal(p, own) for p in seen) == (mode == "exact")
        if mode == "relax":
            assert len(torch.stack(seen)[:, 0].unique()) > 8, "any image of the class"


def test_fewer_negatives_where_a_class_leaves_fewer():
    distiller, data = prepared(negatives=16384)
    assert torch.isfinite(distiller.terms(some_of(data, range(9)))["crd"])


def test_a_subset_is_found_by_its_index_and_strangers_are_refused():
    data = images()
    part = data.train.select([100, 4, 61, 7, 8, 9])
    distiller = CRD(small(2), taught(), part, negatives=3)
    some = next(data.batches(part, 6))
    before = distiller.memory_teacher.clone()
    distiller.terms(some)
    assert (before != distiller.memory_teacher).any(1).all()
    for index in ([3], [10**6], [-1]):
        with pytest.raises(ValueError, match=rf"holds \[{index[0]},"):
            distiller.terms(some._replace(index=torch.tensor(index * 6)))
    with pytest.raises(ValueError, match="index"):
        distiller.terms(some._replace(index=None))
    with pytest.raises(ValueError, match="prepare"):
        CRD(small(2), taught()).terms(batch())


def test_another_number_of_images_is_refused_on_loading():
    saved = prepared()[0].state_dict()
    fresh = prepared()[0]
    fresh.load_state_dict(saved)
    with pytest.raises(ValueError, match="120.*90"):
        prepared(n=120)[0].load_state_dict(saved)


@pytest.mark.parametrize(
    "bad",
    [
        dict(mode="x"),
        dict(negatives=0),
        dict(dimensions=0),
        dict(momentum=1.0),
        dict(crd_weight=0),
        dict(temperature=0),
        dict(layers=["layer1", "layer2"]),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError):
        CRD(small(), taught(), **bad)
    x = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="two classes"):
        CRD(small(), taught(), Split(x, torch.zeros(4).long()))


def test_the_gradient_reaches_student_and_both_embeddings():
    distiller, data = prepared()
    distiller.terms(some_of(data, range(9)))["crd"].backward()
    for part in (distiller.student.conv1, distiller.embed_student, distiller.embed_teacher):
        assert part.weight.grad.abs().sum() > 0
    assert {id(p) for p in distiller.stages()[0].players[0].parameters} >= {
        id(distiller.embed_teacher.weight)
    }
    assert distiller.deploy() is distiller.student


def test_a_short_training_improves():
    learns(lambda s, t: CRD(s, t, negatives=40, dimensions=32), "crd", "ce", lr=0.02, factor=0.95)


def test_an_interrupted_run_restores_the_memory_and_ends_with_the_same_weights(
    tmp_path, monkeypatch
):
    resumes(
        lambda: CRD(small(2), taught(), negatives=40, dimensions=16, mode="relax"),
        tmp_path / "run",
        monkeypatch,
    )


def test_torchvisions_networks():
    split = Split(torch.zeros(12, 3, 32, 32, dtype=torch.uint8), torch.arange(12) % 3)
    works_with_torchvision(lambda s, t, x: CRD(s, t, split, negatives=5, example=x), "ce", "crd")


def test_a_temperature_that_overflows_is_refused():
    with pytest.raises(ValueError, match="temperature=0.01.*overflows"):
        prepared(temperature=0.01)


def test_an_index_that_is_none_is_refused():
    distiller, some = CRD(small(2), taught(), images(), negatives=20), batch()
    for index in (some.index.float(), some.index[:3], some.index[:, None]):
        with pytest.raises(ValueError, match=r"batch.index.*\(6,\) int64"):
            distiller.terms(some._replace(index=index))


def test_what_is_no_data_is_refused():
    with pytest.raises(ValueError, match="data is a str"):
        CRD(small(2), taught(), "digits")


def test_the_order_of_the_images_is_no_part_of_its_state():
    """It is made anew from the data; saved, it would only be as large as they are."""
    distiller = CRD(small(0), taught(), negatives=1)  # one negative is enough
    distiller.prepare(Split(torch.zeros(12, 1), torch.arange(12) % 3))
    assert len(distiller.by_class) == 12 and "by_class" not in distiller.state_dict()
