"""What the docstrings say is the default is what is computed: weights, temperatures, rates, shares,
margins and factors of every method, each against the pure function or the player's optimiser with
the numbers written out.
"""

import inspect
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from losses import batch, close, images, rand, small, taught

from kdtutor import methods
from kdtutor.methods import (
    BSS,
    CRD,
    CWTM,
    DKPP,
    DML,
    FSP,
    ONE,
    RKD,
    ActivationBoundary,
    AttentionTransfer,
    BornAgain,
    FitNet,
    FullActivationTransfer,
    GradientAttentionTransfer,
    Hinton,
    JacobianMatching,
    SimilarityPreserving,
)
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss
from kdtutor.methods.feature.attention_transfer import (
    attention_loss,
    attention_map,
    full_activation_loss,
)
from kdtutor.methods.feature.fitnet import hint_loss
from kdtutor.methods.feature.fsp import fsp_loss
from kdtutor.methods.feature.jacobian import strongest_attention
from kdtutor.methods.online.one import gated_logits
from kdtutor.methods.relation.rkd import angle_loss, distance_loss
from kdtutor.methods.relation.similarity import similarity_loss
from kdtutor.methods.response import boundary_support
from kdtutor.methods.self_distillation.born_again import cwtm_loss, dkpp_loss
from kdtutor.softening import distillation_kl
from kdtutor.taps import Taps

SOME = batch()
LAYERS = ["layer1", "layer2", "layer3"]


def kl(student, teacher, t):
    """KL(p_t^T || p_s^T), the mean over the batch, without T^2."""
    return distillation_kl(student, teacher, t) / t**2


def both(cls, layers=(), **settings):
    """A method with its defaults in eval mode, and what both networks answer and compute."""
    distiller = cls(small(2), taught(), **settings).eval()
    seen = [Taps(n, list(layers))(SOME.x) for n in (distiller.student, distiller.teacher.net)]
    return distiller, *((z.detach(), {k: v.detach() for k, v in f.items()}) for z, f in seen)


def at_pairs(loss, s, t, layers=LAYERS):
    return sum(loss(s[k], t[k]) for k in layers)


def ce(student_logits):
    return F.cross_entropy(student_logits, SOME.y)


def hinton(d, zs, s, zt, t):
    return {"ce": 0.1 * ce(zs), "kd": 0.9 * distillation_kl(zs, zt, 4.0)}


def fitnet(d, zs, s, zt, t):
    return {"ce": ce(zs), "kd": 4 * kl(zs, zt, 3.0)}


def fitnet_code(d, zs, s, zt, t):
    hint = hint_loss(d.regressor(s["layer2"]), t["layer2"], "code")
    return {"ce": ce(zs), "hint": 100 * hint}


def attention(d, zs, s, zt, t):
    return {"ce": ce(zs), "at": 12.8 / 2 * at_pairs(lambda a, b: attention_loss(a, b, 2), s, t)}


def attention_code(d, zs, s, zt, t):
    loss = lambda a, b: attention_loss(a, b, 2, "code", "sum")
    return {"ce": ce(zs), "at": 1000 * at_pairs(loss, s, t)}


def full(d, zs, s, zt, t):
    return {"ce": ce(zs), "full": 12.8 / 2 * at_pairs(full_activation_loss, s, t)}


def input_gradients(d, number):
    """Of one number per example, for both networks."""
    rows = []
    for net in (d.student, d.teacher.net):
        x = SOME.x.clone().requires_grad_()
        rows.append(torch.autograd.grad(number(net, x).sum(), x)[0])
    return rows


def gradient(d, zs, s, zt, t):
    number = lambda net, x: F.cross_entropy(net(x), SOME.y, reduction="none")
    a, b = input_gradients(d, number)
    return {"ce": ce(zs), "gradient": 1 / 2 * (a - b).square().flatten(1).sum(1).mean()}


def unit(x):
    return F.normalize(x.flatten(1).double(), dim=1)


def jacobian(d, zs, s, zt, t):
    number = lambda net, x: strongest_attention(Taps(net, ["layer3"])(x)[1]["layer3"])
    a, b = input_gradients(d, number)
    return {
        "ce": ce(zs),
        "at": 12.8 / 2 * attention_loss(s["layer3"], t["layer3"]),
        "jacobian": 1 * (unit(a) - unit(b)).square().sum(1).mean(),
    }


def jacobian_code(d, zs, s, zt, t):
    a, b = input_gradients(d, lambda net, x: net(x).gather(1, SOME.y[:, None])[:, 0])
    return {"ce": ce(zs), "jacobian": 20 * (unit(a) - unit(b)).square().mean()}


def rkd(d, zs, s, zt, t):
    a, b = s["fc:input"], t["fc:input"]
    return {"ce": ce(zs), "distance": 25 * distance_loss(a, b), "angle": 50 * angle_loss(a, b)}


def similarity(d, zs, s, zt, t):
    return {"ce": ce(zs), "sp": 3000 * similarity_loss(s["layer3"], t["layer3"])}


CASES = {
    "Hinton": (Hinton, {}, hinton),
    "FitNet": (FitNet, {}, fitnet),
    "FitNet, code": (FitNet, {"variant": "code"}, fitnet_code),
    "FSP": (FSP, {}, lambda d, zs, *_: {"ce": ce(zs)}),
    "AB": (ActivationBoundary, {}, lambda d, zs, *_: {"ce": ce(zs)}),
    "AB, code": (
        ActivationBoundary,
        {"variant": "code"},
        lambda d, zs, s, zt, t: {"kd": kl(zs, zt, 3.0)},
    ),
    "AT": (AttentionTransfer, {}, attention),
    "AT, code": (AttentionTransfer, {"variant": "code"}, attention_code),
    "F-ActT": (FullActivationTransfer, {}, full),
    "AT-gradient": (GradientAttentionTransfer, {}, gradient),
    "Jacobian": (JacobianMatching, {}, jacobian),
    "Jacobian, code": (JacobianMatching, {"variant": "code"}, jacobian_code),
    "RKD": (RKD, {}, rkd),
    "SP": (SimilarityPreserving, {}, similarity),
    "BAN": (BornAgain, {}, lambda d, zs, s, zt, t: {"ban": kl(zs, zt, 1.0)}),
    "BAN+L": (
        BornAgain,
        {"labels": True},
        lambda d, zs, s, zt, t: {"ce": ce(zs), "ban": kl(zs, zt, 1.0)},
    ),
    "CWTM": (CWTM, {}, lambda d, zs, s, zt, t: {"cwtm": cwtm_loss(zs, zt, SOME.y)}),
}


@pytest.mark.parametrize("cls, settings, expected", CASES.values(), ids=CASES)
def test_the_terms_of_the_defaults(cls, settings, expected):
    distiller, (zs, s), (zt, t) = both(cls, [*LAYERS, "fc:input"], **settings)
    terms, wanted = distiller.terms(SOME), expected(distiller, zs, s, zt, t)
    assert list(terms) == list(wanted)
    for name, value in wanted.items():
        close(terms[name], value, rel=1e-3)


def test_fitnets_first_stage_has_rmsprop_at_0_005_half_the_epochs_and_a_weight_of_1():
    distiller, (_, s), (_, t) = both(FitNet, ["layer2"])
    hint, distil = distiller.stages()
    optimizer = hint.players[0].optimizer(hint.players[0].parameters)
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert [g["lr"] for g in optimizer.param_groups] == [0.005]
    assert hint.share == 0.5 == distil.share and distil.players[0].optimizer is None
    expected = 1 * hint_loss(distiller.regressor(s["layer2"]), t["layer2"])
    close(distiller.hint_terms(SOME)["hint"], expected, rel=1e-5)
    chosen = FitNet(small(2), taught(), hint_lr=0.02, hint_share=0.25)
    hint, distil = chosen.stages()
    assert hint.players[0].optimizer(hint.players[0].parameters).param_groups[0]["lr"] == 0.02
    assert (hint.share, distil.share) == (0.25, 0.75)


def test_fsps_first_stage_has_adam_at_0_001_a_ninth_of_the_epochs_and_a_weight_of_1():
    distiller, (_, s), (_, t) = both(FSP, ["layer1:input", *LAYERS])
    flow, task = distiller.stages()
    optimizer = flow.players[0].optimizer(flow.players[0].parameters)
    assert isinstance(optimizer, torch.optim.Adam)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3]
    assert flow.share == 1 / 9 and task.share == 8 / 9 and task.players[0].optimizer is None
    chain = ["layer1:input", *LAYERS]
    total = sum(fsp_loss((s[a], s[b]), (t[a], t[b])) for a, b in pairwise(chain))
    close(distiller.flow_terms(SOME)["fsp"], total, rel=1e-5)
    chosen = FSP(small(2), taught(), flow_lr=0.02, flow_share=0.25)
    flow, task = chosen.stages()
    assert flow.players[0].optimizer(flow.players[0].parameters).param_groups[0]["lr"] == 0.02
    assert (flow.share, task.share) == (0.25, 0.75)


def test_boundaries_have_a_margin_of_1_weights_from_3_in_1000_and_a_ninth_of_the_epochs():
    paths = [f"{name}.0.relu2:input" for name in LAYERS]
    distiller, (_, s), (_, t) = both(ActivationBoundary, paths)
    first, task = distiller.stages()
    assert first.share == 1 / 9 and task.share == 8 / 9
    assert first.players[0].optimizer is None is task.players[0].optimizer
    total = sum(
        factor * activation_boundary_loss(connect(s[p]), t[p], 1.0)
        for connect, p, factor in zip(distiller.connectors, paths, (1 / 4, 1 / 2, 1))
    )
    close(distiller.boundary_terms(SOME)["ab"], 3 / 1000 * total, rel=1e-5)


def test_crd_has_the_authors_numbers():
    data = images()
    distiller = CRD(small(2), taught(), data).eval()
    some = next(data.batches(data.train, 9))
    assert distiller.memory_student.shape == (len(data.train), 128)
    with torch.no_grad():
        terms = distiller.terms(some)
    close(terms["ce"], F.cross_entropy(distiller.student(some.x), some.y), rel=1e-5)
    # Every class leaves the same number of others, all of them negatives: nothing is random.
    n, others = len(data.train), len(data.train) - int(data.train.y.bincount().max())
    nets = (
        (distiller.student, distiller.embed_student),
        (distiller.teacher.net, distiller.embed_teacher),
    )
    own, theirs = (
        F.normalize(e(Taps(n, ["fc:input"])(some.x)[1]["fc:input"]), dim=1).detach().double()
        for n, e in nets
    )
    total, foreign = 0.0, data.train.y != some.y[:, None]
    for anchor, memory in ((own, distiller.memory_teacher), (theirs, distiller.memory_student)):
        score = (anchor @ memory.double().T / 0.07).exp()
        positive = score[torch.arange(9), some.index]  # mode "exact": the image itself
        p = score * 9 * (others + 1) / (positive.sum() + score[foreign].sum()) / n
        h = p / (p + others / n + 1e-7)
        rejected = -(1 - h).log().where(foreign, 0.0).sum(1)
        total += (rejected - h[torch.arange(9), some.index].log()).mean()
    close(terms["crd"], 0.8 * total, rel=1e-4)
    assert inspect.signature(CRD).parameters["negatives"].default == 16384, "more than there are"


def test_crds_memory_moves_half_way():
    data = images()
    distiller = CRD(small(2), taught(), data).train()
    distiller.student.eval()
    some = next(data.batches(data.train, 9))
    features = Taps(distiller.student, ["fc:input"])(some.x)[1]["fc:input"]
    new = F.normalize(distiller.embed_student(features), dim=1)
    expected = F.normalize((new + distiller.memory_student[some.index]) / 2, dim=1)
    distiller.terms(some)
    assert torch.allclose(distiller.memory_student[some.index], expected, atol=1e-5)


def test_bss_walks_ten_steps_of_0_3_for_at_most_64_images(monkeypatch):
    seen = {}

    def spy(name, real):
        def run(*args, **kwargs):
            given = inspect.signature(real).bind(*args, **kwargs)
            given.apply_defaults()
            seen[name] = given.arguments
            return real(*args, **kwargs)

        return run

    for name in ("base_samples", "boundary_samples"):
        monkeypatch.setattr(boundary_support, name, spy(name, getattr(boundary_support, name)))
    teacher, some = taught(), batch(8)
    some = some._replace(y=teacher.eval()(some.x).argmax(1))
    distiller = BSS(taught(), teacher).eval()
    with torch.no_grad():
        distiller.student.fc.bias.add_(torch.tensor([0.1, -0.1, 0.0]))
    terms = distiller.terms(some)
    assert seen["base_samples"]["most"] == 64
    walk = seen["boundary_samples"]
    assert (walk["steps"], walk["step_size"], walk["overshoot"]) == (10, 0.3, 1e-4)
    assert walk["bounds"] == (float(some.x.min()), float(some.x.max()))
    zs, zt = distiller.student(some.x), teacher(some.x)
    close(terms["ce"], F.cross_entropy(zs, some.y), rel=1e-5)
    close(terms["kd"], 4 * kl(zs, zt, 3.0), rel=1e-3)


def test_one_has_three_branches_a_temperature_of_3_and_weights_of_1():
    distiller = ONE(small(2)).eval()
    branches, gate = distiller(SOME.x)
    ensemble, terms = gated_logits(branches, gate), distiller.terms(SOME)
    assert len(branches) == 3
    close(terms["ce"], sum(map(ce, branches)), rel=1e-5)
    close(terms["ce_ensemble"], ce(ensemble), rel=1e-5)
    close(terms["kd"], sum(9 * kl(z, ensemble, 3.0) for z in branches), rel=1e-4)


def test_dml_has_weights_of_1_and_a_temperature_of_1():
    nets = [small(1), small(2)]
    terms = DML(nets).eval().terms(SOME)
    mine, other = (n(SOME.x).detach() for n in nets)
    close(terms["ce"], ce(mine), rel=1e-5)
    close(terms["kd"], kl(mine, other, 1.0), rel=1e-4)


def test_dkpp_draws_a_fresh_shuffle_with_the_seed_of_torch():
    distiller, (zs, _), (zt, _) = both(DKPP)
    torch.manual_seed(5)
    value = distiller.terms(SOME)["dkpp"]
    torch.manual_seed(5)
    close(value, dkpp_loss(zs, zt), rel=1e-5)
    kept = DKPP(small(2), taught(), persistent=True).eval()
    given = DKPP(small(2), taught(), persistent=True, seed=0).eval()
    close(kept.terms(SOME)["dkpp"], given.terms(SOME)["dkpp"])


def test_defaults_of_the_pure_functions():
    s, t = rand(3, 2, 3, 2), rand(3, 2, 3, 2, seed=1)
    close(activation_boundary_loss(s, t), activation_boundary_loss(s, t, 1.0, "paper"))
    close(attention_loss(s, t), attention_loss(s, t, 2, "paper", "sum"))
    assert torch.allclose(attention_map(s), s.square().sum(1))
    count = len([*methods.generations(lambda: torch.nn.Linear(2, 2))])
    assert count == 1 + 3, "the teacher and three generations"


def test_the_ramp_of_ones_code_is_that_of_80_in_300_epochs():
    distiller = ONE(small(2), variant="code").eval()
    plain = ONE(small(2)).eval()
    plain.load_state_dict(distiller.state_dict())
    whole = plain.terms(SOME)["kd"]
    for progress in (0.0, 0.1, 80 / 300, 0.9):
        distiller.progress = progress
        ramp = math.exp(-5 * (1 - min(progress * 300 / 80, 1)) ** 2)
        close(distiller.terms(SOME)["kd"], ramp * whole, rel=1e-5)
