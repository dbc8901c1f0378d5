"""Odd features, inputs and labels: a result, or one sentence of the package's own, not torch's."""

import copy
import traceback

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdtutor.datasets import Batch, Split
from kdtutor.methods import (
    CRD,
    FSP,
    RKD,
    ActivationBoundary,
    AttentionTransfer,
    FitNet,
    FullActivationTransfer,
    GradientAttentionTransfer,
    JacobianMatching,
    SimilarityPreserving,
)
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss
from kdtutor.methods.feature.attention_transfer import (
    attention_loss,
    attention_map,
    full_activation_loss,
    gradient_attention_loss,
)
from kdtutor.methods.feature.fitnet import hint_loss
from kdtutor.methods.feature.fsp import fsp_loss, fsp_matrix
from kdtutor.methods.feature.jacobian import jacobian_loss, strongest_attention
from kdtutor.methods.online.one import gated_logits
from kdtutor.methods.relation.rkd import angle_loss, distance_loss, pair_distances, triplet_angles
from kdtutor.methods.relation.similarity import similarity_loss, similarity_matrix
from kdtutor.tasks import MultiLabel

FORMULAS = {
    "attention": attention_loss,
    "full": full_activation_loss,
    "gradient": gradient_attention_loss,
    "boundaries": activation_boundary_loss,
    "hint": hint_loss,
    "flow": fsp_matrix,
    "flows": lambda a, b: fsp_loss((a, a), (b, b)),
    "jacobian": jacobian_loss,
    "similarity": similarity_loss,
    "distance": distance_loss,
    "angle": angle_loss,
    "gate": gated_logits,
    "map": lambda a, b: attention_map(a),
    "strongest": lambda a, b: strongest_attention(a),
    "similarities": lambda a, b: similarity_matrix(a),
    "distances": lambda a, b: pair_distances(a),
    "angles": lambda a, b: triplet_angles(a),
}
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.bool, torch.complex64, torch.uint8),
)


def ours(run):
    """Runs it; a ``ValueError`` or ``TypeError`` raised by the package itself is fine, too."""
    try:
        return run()
    except (ValueError, TypeError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        assert "kdtutor" in where, error
        return error


@st.composite
def anything(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=6))
    made = torch.ones(shape).to(draw(st.sampled_from(DTYPES)))
    form = draw(st.sampled_from(["tensor"] * 8 + ["none", "list", "numpy", "meta"]))
    return {
        "tensor": made,
        "none": None,
        "list": made.float().tolist(),
        "numpy": made.float().numpy(),
        "meta": made.to("meta"),
    }[form]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(FORMULAS)), anything(), anything(), st.booleans())
def test_a_formula_gives_a_tensor_or_says_why_not(name, a, b, same):
    made = ours(lambda: FORMULAS[name](a, a if same else b))
    assert isinstance(made, (torch.Tensor, Exception))


class Odd(nn.Module):
    """A classifier beside whose way a layer returns something odd."""

    class Layer(nn.Module):
        def __init__(self, make):
            super().__init__()
            self.make = make

        def forward(self, h):
            return self.make(h)

    def __init__(self, make):
        super().__init__()
        self.pre, self.odd, self.fc = nn.Linear(8, 8), self.Layer(make), nn.Linear(8, 3)

    def forward(self, x):
        h = self.pre(x)
        self.odd(h)
        return self.fc(h)


MAP = lambda h: h.reshape(-1, 2, 2, 2)
ODD = {
    "rows": lambda h: h,
    "one number": lambda h: h[:, 0],
    "no batch": lambda h: h.sum(),
    "whole": lambda h: h.long(),
    "bool": lambda h: h > 0,
    "complex": lambda h: torch.complex(h, h),
    "no places": lambda h: MAP(h)[..., :0],
    "no channels": lambda h: h[:, :0],
    "signal": lambda h: h.reshape(-1, 4, 2),
    "map": MAP,
    "volume": lambda h: h.reshape(-1, 2, 2, 2, 1),
    "six axes": lambda h: h.reshape(-1, 2, 2, 2, 1, 1),
    "half": lambda h: MAP(h).half(),
    "double": lambda h: MAP(h).double(),
    "none": lambda h: None,
    "mapping": lambda h: {"a": h},
    "empty tuple": lambda h: (),
    "one example": lambda h: MAP(h).mean(0, keepdim=True),
    "twice the batch": lambda h: MAP(torch.cat([h, h])),
    "constant": lambda h: torch.ones(len(h), 2, 2, 2),
}
METHODS = {
    "AT": AttentionTransfer,
    "F-ActT": FullActivationTransfer,
    "FitNet": FitNet,
    "FitNet, code": lambda s, t, **kw: FitNet(s, t, variant="code", **kw),
    "AB": ActivationBoundary,
    "Jacobian": JacobianMatching,
    "FSP": lambda s, t, layers, **kw: FSP(s, t, [layers, layers], **kw),
    "SP": SimilarityPreserving,
    "RKD": RKD,
    "CRD": lambda s, t, **kw: CRD(s, t, negatives=2, **kw),
}
X, Y = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3


def step(method, student, teacher, known):
    distiller = METHODS[method](
        Odd(ODD[student]), Odd(ODD[teacher]), layers="odd", example=X[:2] if known else None
    )
    if method == "CRD":
        distiller.prepare(Split(X, Y))
    for stage in distiller.stages():
        terms = stage.players[0].terms(Batch(X, Y, torch.arange(4)))
        sum(terms.values()).backward()
    return "trained"


# A loss without any gradient is told by ``fit`` (``check_terms``); alone it is torch's to say.
WITHOUT = {("FitNet", "constant"), ("AB", "constant"), ("FSP", "constant")}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_trained_or_refused(method):
    trained = set()
    for student in ODD:
        for teacher in (student, "map", "rows"):
            if (method, student) in WITHOUT:
                continue
            for known in (True, False):
                made = ours(lambda s=student, t=teacher, k=known: step(method, s, t, k))
                if made == "trained":
                    trained.add(student)
    refused = {"one number", "no batch", "whole", "bool", "complex", "no places", "no channels"}
    refused |= {"none", "mapping", "empty tuple", "one example", "twice the batch"}
    assert not trained & refused and "map" in trained and "double" in trained


def test_networks_of_two_precisions_contrast_in_the_finer_one():
    for pair in (("double", "map"), ("map", "double")):
        nets = (Odd(ODD[name]) for name in pair)
        distiller = CRD(*nets, negatives=2, layers="odd", example=X[:2])
        distiller.prepare(Split(X, Y))
        terms = distiller.terms(Batch(X, Y, torch.arange(4)))
        assert terms["crd"].dtype == torch.float64
        assert distiller.memory_student.dtype == distiller.memory_teacher.dtype == torch.float64


def test_what_has_no_slope_is_said():
    words = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 3))
    ids = torch.arange(12).reshape(4, 3) % 5
    at = GradientAttentionTransfer(words, copy.deepcopy(words))
    for x, given_ in ((ids, "a tensor of torch.int64"), ({"input": ids}, "a mapping")):
        with pytest.raises(ValueError, match=f"floating-point numbers, not {given_}"):
            at.terms(Batch(x, Y))
    constant = Odd(ODD["constant"])
    with pytest.raises(ValueError, match="has no gradient by its inputs"):
        JacobianMatching(Odd(MAP), constant, layers="odd", example=X[:2]).terms(Batch(X, Y))


def test_gradients_of_labels_without_a_softmax_are_refused():
    nets = [nn.Linear(8, 3), nn.Linear(8, 3)]
    at = GradientAttentionTransfer(*nets, example=X)
    at.task = MultiLabel()
    with pytest.raises(ValueError, match="no softmax"):
        at.terms(Batch(X, torch.ones(4, 3)))
    with pytest.raises(ValueError, match="different numbers of classes"):
        GradientAttentionTransfer(nn.Linear(8, 3), nn.Linear(8, 4), example=X)
    one = JacobianMatching(*nets, variant="code", example=X)
    one.task = MultiLabel()
    with pytest.raises(
        ValueError, match=r"one class index per example.*labels are float32 of shape \(4, 3\)"
    ):
        one.terms(Batch(X, torch.ones(4, 3)))


def test_an_example_of_another_shape_is_named():
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()) for _ in range(2)]
    with pytest.raises(
        ValueError, match=r"Sequential.*inputs of float32 of shape \(2, 5\).*example="
    ):
        AttentionTransfer(*nets, layers="0", example=torch.zeros(2, 5))


def test_a_flow_may_begin_with_the_inputs():
    nets = [nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3)) for _ in range(2)]
    x = torch.randn(2, 2, 8, 8)
    fsp = FSP(*nets, layers=["0:input", "0"], example=x)
    lower = fsp.stages()[0].players[0].parameters
    assert [p.shape for p in lower] == [p.shape for p in nets[0][0].parameters()]
    assert np.isfinite(fsp.flow_terms(Batch(x, Y[:2]))["fsp"].item())
