"""What every offline method owes to whoever gives it something wrong, or something unusual."""

import inspect

import pytest
import torch
from losses import batch, foreign, small, taught
from torch import nn

from kdtutor import Teacher, fit
from kdtutor.datasets import Data, Split
from kdtutor.distiller import Offline
from kdtutor.methods import (
    AttentionTransfer,
    FitNet,
    GradientAttentionTransfer,
    Hinton,
    JacobianMatching,
    catalog,
    method,
)
from kdtutor.models import mlp, resnet8

ROWS = catalog()
OFFLINE = [row["name"] for _, row in ROWS.iterrows() if issubclass(row.distiller, Offline)]
FEATURES = ["FSP", "AB", "Jacobian", "AT", "F-ActT", "RKD-DA", "SP", "CRD"]
offline, features = (
    pytest.mark.parametrize("name", OFFLINE),
    pytest.mark.parametrize("name", FEATURES),
)


def make(name, student, teacher, **kwargs):
    row = method(name)
    return row.distiller(student, teacher, **row.settings | kwargs)


def first_terms(distiller, some):
    if hasattr(distiller, "memory_student") or hasattr(distiller, "prepare"):
        distiller.prepare(Split(torch.zeros(12, 1), torch.arange(12) % 3))
    return distiller.stages()[0].players[0].terms(some)


@offline
def test_a_student_cannot_be_its_own_teacher(name):
    net = small()
    with pytest.raises(ValueError, match="share parameters"):
        make(name, net, net)
    assert all(p.requires_grad for p in net.parameters()) and net.training, (
        "nothing is frozen by the refusal"
    )
    with pytest.raises(ValueError, match="share parameters"):
        make(name, net, Teacher([net]))


@offline
def test_devices_that_differ_are_both_named(name):
    for moved in ("teacher", "student", "batch", "labels"):
        distiller, some = make(name, small(), taught()), batch()
        if moved == "teacher":
            for net in distiller.teacher.nets:
                net.to("meta")
        if moved == "student":
            distiller.student.to("meta")
        if moved in ("batch", "labels"):
            some = some._replace(
                **{
                    "x" if moved == "batch" else "y": (some.x if moved == "batch" else some.y).to(
                        "meta"
                    )
                }
            )
        with pytest.raises(ValueError, match="meta") as error:
            distiller.prepare(Split(torch.zeros(12, 1), torch.arange(12) % 3))
            distiller.terms(some)
        assert "cpu" in str(error.value)


@pytest.mark.parametrize("name", ["FitNet", "FSP", "AB"])
@pytest.mark.parametrize("moved", ["x", "y"])
def test_first_stages_name_both_devices(name, moved):
    some = batch()
    with pytest.raises(ValueError, match="(?s)meta.*cpu"):
        first_terms(
            make(name, small(), taught()), some._replace(**{moved: getattr(some, moved).to("meta")})
        )


@offline
def test_a_teacher_without_weights_is_refused(name):
    with pytest.raises(ValueError, match="meta"):
        distiller = make(name, small(), taught().to("meta"))
        distiller.terms(batch())


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in OFFLINE
        if "ce_weight" in inspect.signature(method(n).distiller.__init__).parameters
    ],
)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_bad_label_weight_is_refused(name, value):
    with pytest.raises(ValueError, match="ce_weight"):
        make(name, small(), taught(), ce_weight=value)


@features
@pytest.mark.parametrize(
    "layers",
    [
        [],
        "",
        5,
        {"layer1": "layer2"},
        [("layer1",)],
        [("layer1", 2)],
        [("layer1", "layer1", "layer1")],
    ],
)
def test_layers_that_are_none_are_refused(name, layers):
    with pytest.raises(ValueError, match="layers="):
        make(name, small(), taught(), layers=layers)


@features
def test_features_need_no_common_classes(name):
    torch.manual_seed(3)
    teacher = resnet8(classes=7, channels=1)
    terms = first_terms(make(name, small(), teacher), batch())
    assert all(torch.isfinite(v) for v in terms.values())


@pytest.mark.parametrize("name", ["Hinton", "BSS", "BAN", "CWTM", "DKPP", "FitNet", "AT-gradient"])
def test_answers_need_common_classes(name):
    with pytest.raises(ValueError, match="different numbers of classes"):
        make(name, small(), resnet8(classes=7, channels=1))


@pytest.mark.parametrize("name", [n for n in OFFLINE if n != "BSS"])
def test_double_precision_stays(name):
    terms = first_terms(
        make(name, small().double(), taught().double()), batch()._replace(x=batch().x.double())
    )
    assert all(torch.isfinite(v) for v in terms.values())
    if name not in ("CRD", "CWTM"):
        assert {v.dtype for v in terms.values()} <= {
            torch.float64,
            torch.float32,
        } and torch.float64 in {v.dtype for v in terms.values()}


@pytest.mark.parametrize(
    "make",
    [
        lambda s, t, x: GradientAttentionTransfer(s, t, at_weight=1e-3),
        lambda s, t, x: JacobianMatching(s, t, layers=[("features.3", "layer2")], example=x),
        lambda s, t, x: JacobianMatching(s, t, variant="code", example=x),
    ],
)
def test_derivatives_of_a_network_with_hard_sigmoids(make):
    x, y = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8), torch.arange(16) % 3
    data = Data("noise", ("a", "b", "c"), Split(x, y), Split(x[:4], y[:4]))
    student = foreign("mobilenet_v3_small", seed=1).train().requires_grad_(True)
    history = fit(
        make(student, foreign("resnet18"), torch.rand(2, 3, 32, 32)),
        data,
        1,
        batch_size=8,
        lr=1e-4,
        validation=0,
        test=False,
        progress=False,
    )
    assert history.status == "finished"


def test_tokens_are_refused_with_their_layers():
    class Tokens(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.embed, self.block, self.fc = (
                nn.Linear(4, width),
                nn.Linear(width, width),
                nn.Linear(width, 3),
            )

        def forward(self, x):
            return self.fc(self.block(self.embed(x)).mean(1))

    example = torch.rand(2, 5, 4)
    for name in ("FitNet", "AB"):
        with pytest.raises(ValueError, match=r"block.*tokens.*\(2, 5, 8\).*'block:tokens'"):
            make(name, Tokens(8), Tokens(6), layers="block", example=example)


def test_bytes_are_no_example():
    with pytest.raises(ValueError, match="uint8.*normalised"):
        AttentionTransfer(
            foreign("mobilenet_v2"),
            foreign("resnet18"),
            ("features.6", "layer2"),
            example=torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        )


def test_settings_hold_lists_too():
    from kdtutor.methods import BSS

    assert BSS(small(), taught(), bounds=[0, 1]).settings()["bounds"] == (0.0, 1.0)
    distiller = Hinton(small(), taught())
    distiller.some = [1, 2]
    assert distiller.settings()["some"] == [1, 2]


def test_ab_code_trains_on_answers_alone():
    distiller = make("AB", small(2), taught(), variant="code")
    assert list(distiller.terms(batch())) == ["kd"] and distiller.uses_logits
    assert distiller.stages()[0].name == "boundaries"


def test_a_jacobian_without_maps():
    terms = make("Jacobian", small(2), taught(), at_weight=0.0).terms(batch())
    assert set(terms) == {"ce", "jacobian"}


def test_only_the_papers_fitnet_needs_the_teachers_answers():
    torch.manual_seed(3)
    other = resnet8(classes=7, channels=1)
    assert set(FitNet(small(), other, variant="code").terms(batch())) == {"ce", "hint"}


@pytest.mark.parametrize(
    "make_distiller, only",
    [
        (Hinton, True),
        (FitNet, False),  # answers in its second stage, a layer in its first
        (AttentionTransfer, False),
        (GradientAttentionTransfer, False),
        (JacobianMatching, False),
        (lambda s, t: FitNet(s, t, variant="code"), False),
    ],
)
def test_answers_alone_are_all_that_may_be_stored(make_distiller, only):
    assert make_distiller(small(0), taught()).logits_only is only


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["Hinton", "BSS", "CRD", "RKD-DA", "BAN", "FitNet", "AB"])
def test_an_mlp_beside_a_network_that_takes_rows(name, turned):
    """An mlp states the shape of an image for its six numbers; the table has rows."""
    own = mlp((8,), inputs=6, classes=3)
    other = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    layers = {"layers": [("1", "relu1") if turned else ("relu1", "1")]}
    layers = layers if name in ("FitNet", "AB") else {}
    data = Data("table", 3, Split(torch.randn(12, 6), torch.arange(12) % 3))
    nets = (other, own) if turned else (own, other)
    assert fit(make(name, *nets, **layers), data, 2, batch_size=6, lr=1e-3, progress=False).rows


def test_a_table_of_other_classes_is_still_refused():
    other = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5))
    with pytest.raises(ValueError, match=r"\(2, 3\) against \(2, 5\)"):
        Hinton(mlp((8,), inputs=6, classes=3), other)
