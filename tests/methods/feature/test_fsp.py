"""FSP (2017): the flow matrices, the loss over them, the two stages."""

from itertools import pairwise

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
    foreign,
    images,
    learns,
    rand,
    small,
    state_of,
    stays_finite,
    taught,
    teaches_the_student_alone,
)

from kdtutor import fit
from kdtutor.methods import FSP
from kdtutor.methods.feature.fsp import fsp_loss, fsp_matrix
from kdtutor.taps import Taps

SECOND, THEIRS = rand(3, 4, 3, 2, seed=8), (rand(3, 2, 3, 2, seed=9), rand(3, 4, 3, 2, seed=10))
of_first = lambda s, t: fsp_loss((s, SECOND.to(s)), (t, THEIRS[1].to(t)))
S, T = rand(3, 2, 3, 2), rand(3, 2, 3, 2, seed=1)


def slow_matrix(first, second):
    """G_ij = sum over s, t of F1_sti * F2_stj / (h w)."""
    b, m, h, w = first.shape
    g = np.zeros((b, m, second.shape[1]))
    for n, i, j, y, x in np.ndindex(b, m, second.shape[1], h, w):
        g[n, i, j] += first[n, i, y, x] * second[n, j, y, x] / (h * w)
    return g


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_matrix_and_loss_equal_the_slow_reference(b, m, n, h, seed):
    a, c, d, e = (rand(b, k, h, 2, seed=seed + i) for i, k in enumerate((m, n, m, n)))
    assert np.allclose(fsp_matrix(a, c).numpy(), slow_matrix(a, c))
    squares = (slow_matrix(a, c) - slow_matrix(d, e)) ** 2
    close(fsp_loss((a, c), (d, e)), squares.sum() / b)
    close(fsp_loss((a, c), (d, e), "code"), squares.mean())
    close(fsp_loss((a, c), (d, e)), m * n * fsp_loss((a, c), (d, e), "code"))


def test_the_larger_map_is_average_pooled():
    big, little = rand(2, 3, 4, 4), rand(2, 5, 2, 2, seed=1)
    pooled = big.reshape(2, 3, 2, 2, 2, 2).mean((3, 5))
    assert torch.allclose(fsp_matrix(big, little), fsp_matrix(pooled, little))
    assert torch.allclose(fsp_matrix(little, big), fsp_matrix(little, pooled))


def test_what_every_loss_must_pass():
    assert of_first(T, T) > 0 and fsp_loss((S, SECOND), (S, SECOND)) == 0
    teaches_the_student_alone(of_first, S, T)
    teaches_the_student_alone(lambda s, t: fsp_loss((S.to(s), s), (T.to(t), t)), SECOND, THEIRS[1])
    stays_finite(of_first, S, T)
    stays_finite(lambda s, t: fsp_loss((s, s), (t, t), "code"), S, T)
    twice = lambda *pair: tuple(torch.cat([x, x]) for x in pair)
    close(fsp_loss(twice(S, SECOND), twice(*THEIRS)), fsp_loss((S, SECOND), THEIRS))


def test_matching_the_flow_is_not_matching_the_features():
    """Both maps moved by the same permutation of places: other features, the same flow."""
    moved = tuple(x.flip(2) for x in (S, SECOND))
    assert fsp_loss((S, SECOND), moved).item() < 1e-25


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(3, 2, 4\).*\(3, 1, 4\)"):
        fsp_loss((S, SECOND), (T[:, :1], THEIRS[1]))
    with pytest.raises(ValueError, match=r"\(3, 2, 4\).*\(2, 2, 4\)"):
        fsp_loss((S, SECOND), (T[:2], THEIRS[1][:2]))
    with pytest.raises(ValueError, match=r"\(3, 2, 3, 2\).*\(2, 4, 3, 2\)"):
        fsp_matrix(S, SECOND[:2])
    with pytest.raises(ValueError, match="cpu.*meta"):
        fsp_loss((S, SECOND), (T.to("meta"), THEIRS[1].to("meta")))
    with pytest.raises(ValueError, match="cpu.*meta"):
        fsp_matrix(S, SECOND.to("meta"))
    with pytest.raises(ValueError, match=r"second.*\(3, 4\)"):
        fsp_matrix(S, SECOND[..., 0, 0])
    with pytest.raises(ValueError, match="variant"):
        fsp_loss((S, SECOND), THEIRS, "official")


def test_the_chain_of_layers_and_its_terms():
    teacher, some = taught(), batch()
    distiller = FSP(small(2), teacher, fsp_weight=2.0).eval()
    chain = ["layer1:input", "layer1", "layer2", "layer3"]
    assert distiller.student_layers == distiller.teacher_layers == chain
    own, theirs = (
        {k: v.detach() for k, v in Taps(net, chain)(some.x)[1].items()}
        for net in (distiller.student, teacher)
    )
    expected = sum(fsp_loss((own[a], own[b]), (theirs[a], theirs[b])) for a, b in pairwise(chain))
    close(distiller.flow_terms(some)["fsp"], 2 * expected, rel=1e-5)
    assert list(distiller.terms(some)) == ["ce"]
    close(distiller.terms(some)["ce"], F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)


def test_channels_that_differ_are_refused_with_both_layers():
    with pytest.raises(ValueError, match=r"'layer1'.*\(16, 32, 32\).*'layer2'.*\(32, 16, 16\)"):
        FSP(small(), taught(), [("layer1", "layer2"), ("layer2", "layer3")])


@pytest.mark.parametrize(
    "bad",
    [
        dict(layers="layer1"),
        dict(flow_share=0),
        dict(flow_share=1),
        dict(flow_lr=0),
        dict(fsp_weight=0),
        dict(variant="x"),
        dict(layers=["layer1", "fc"]),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError):
        FSP(small(), taught(), **bad)


def test_the_first_stage_trains_the_student_up_to_its_last_layer():
    distiller = FSP(small(2), taught(), ["layer1", "layer2"], flow_share=0.5)
    before, first = state_of(distiller.student), []
    terms = distiller.terms

    def spy(some):
        if not first:
            first.append(changed(before, distiller.student))
        return terms(some)

    distiller.terms = spy
    history = fit(distiller, images(), 2, batch_size=30, progress=False)
    assert first == [{"conv1", "bn1", "layer1", "layer2"}]
    assert [(r["stage"], "fsp" in r, "ce" in r) for r in history.rows] == [
        ("flow", True, False),
        ("task", False, True),
    ]
    assert "fc" in changed(before, distiller.student)


def test_a_short_training_improves_both_stages():
    learns(lambda s, t: FSP(s, t, flow_share=0.5, flow_lr=3e-3), "fsp", "ce", epochs=8, lr=0.02)


@pytest.mark.parametrize(
    "name, layers",
    [
        ("resnet18", ["layer1", "layer2", "layer3"]),
        ("mobilenet_v2", ["features.2", "features.4", "features.8"]),
    ],
)
def test_torchvisions_networks(name, layers):
    some = batch(4, 32, 3)
    student = foreign(name, seed=1).train().requires_grad_(True)
    distiller = FSP(student, foreign(name), layers, example=some.x[:2])
    distiller.flow_terms(some)["fsp"].backward()
    distiller.terms(some)["ce"].backward()
    assert all(p.grad is None for p in distiller.teacher.net.parameters())
    assert all(p.grad is not None for p in student.parameters())
    student.zero_grad()
