"""Several methods at once: the sum by hand, one run of each network, labels once, stages in turn,
bad combinations.
"""

import pytest
import torch
import torch.nn.functional as F
from losses import batch, changed, close, foreign, images, learns, resumes, small, state_of, taught
from small import blobs, net, weights

from kdtutor import Teacher, fit
from kdtutor.methods import (
    BSS,
    CRD,
    DKPP,
    FSP,
    RKD,
    ActivationBoundary,
    AttentionTransfer,
    Composition,
    CrossEntropy,
    FitNet,
    GradientAttentionTransfer,
    Hinton,
    JacobianMatching,
    SimilarityPreserving,
)

ALL = {
    "AT": AttentionTransfer,
    "KD": Hinton,
    "SP": SimilarityPreserving,
    "RKD": RKD,
    "J": JacobianMatching,
    "G": GradientAttentionTransfer,
}


def counting(net):
    """How often a network has run."""
    runs = []
    net.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_the_sum_is_that_of_the_methods_alone_and_the_label_counts_once():
    teacher, student, some = taught(), small(2), batch()
    methods = {name: make(student, teacher) for name, make in ALL.items()}
    alone = {
        f"{n}.{k}": v
        for n, m in methods.items()
        for k, v in m.eval().terms(some).items()
        if k != "ce"
    }
    factors = {"AT": 0.5, "J": 2.0}
    together = Composition(methods, factors, ce_weight=0.3).eval()
    terms = together.terms(some)
    names = [
        "AT.at",
        "KD.kd",
        "SP.sp",
        "RKD.distance",
        "RKD.angle",
        "J.at",
        "J.jacobian",
        "G.gradient",
    ]
    assert list(terms) == ["ce", *alone] == ["ce", *names]
    for name, value in alone.items():
        close(terms[name], factors.get(name.split(".")[0], 1.0) * value, rel=1e-5)
    close(terms["ce"], 0.3 * F.cross_entropy(student(some.x), some.y), rel=1e-5)
    assert together.deploy() is student


def test_without_a_label_weight_there_is_no_label_term():
    student, teacher = small(2), taught()
    together = Composition(
        {"AT": AttentionTransfer(student, teacher), "KD": Hinton(student, teacher)}, ce_weight=0
    )
    assert list(together.terms(batch())) == ["AT.at", "KD.kd"]


def test_student_and_teacher_run_once_per_step():
    student, teacher = small(2), taught()
    methods = {
        n: m(student, teacher) for n, m in ALL.items() if n not in ("J", "G")
    }  # those differentiate the teacher again
    together = Composition(methods)
    together.terms(batch())  # the first time, layers are tried for operations in place
    own, theirs = counting(student), counting(teacher)
    together.terms(batch())
    assert len(own) == len(theirs) == 1


def test_the_gradient_is_the_sum_of_the_gradients():
    student, teacher, some = small(2).eval(), taught(), batch()
    methods = {
        "AT": AttentionTransfer(student, teacher, ce_weight=0),
        "SP": SimilarityPreserving(student, teacher, ce_weight=0),
    }
    total = 0
    for part in [*methods.values(), Composition(methods, ce_weight=0)]:
        student.zero_grad()
        sum(part.eval().terms(some).values()).backward()
        gradient = student.conv1.weight.grad.clone()
        total = total + gradient
    assert torch.allclose(
        total - gradient, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item()
    )


def test_teachers_may_differ_and_each_method_hears_its_own():
    student, one, two, some = small(2), taught(), small(5), batch()
    methods = {
        "A": Hinton(student, one),
        "B": Hinton(student, two),
        "E": Hinton(student, Teacher([one, two])),
        "G": Hinton(student, Teacher([one, two], mean="geometric")),
        "AT": AttentionTransfer(student, two),
    }
    with torch.no_grad():
        two.fc.weight.mul_(20)
    alone = {
        f"{n}.{k}": v
        for n, m in methods.items()
        for k, v in m.eval().terms(some).items()
        if k != "ce"
    }
    together = Composition(methods).eval()
    terms = together.terms(some)
    assert len({round(v.item(), 6) for v in alone.values()}) == 5
    for name, value in alone.items():
        close(terms[name], value, rel=1e-5)
    assert {id(n) for t in together.teachers() for n in t.nets} == {id(one), id(two)}


def test_stages_come_first_one_after_the_other_and_the_sum_last():
    student, teacher = small(2), taught()
    together = Composition(
        {
            "FitNet": FitNet(student, teacher, hint_share=0.25),
            "FSP": FSP(student, teacher, ["layer1", "layer2"], 0.25),
            "AB": ActivationBoundary(student, teacher, boundary_share=0.25),
            "AT": AttentionTransfer(student, teacher),
        }
    )
    plan = together.stages()
    assert [s.name for s in plan] == ["FitNet hint", "FSP flow", "AB boundaries", "train"]
    assert [s.share for s in plan] == pytest.approx([0.25] * 4)
    assert {id(p) for p in plan[-1].players[0].parameters} == {id(p) for p in student.parameters()}
    before, first, terms = state_of(student), [], together.terms

    def spy(some):
        first.append(changed(before, student)) if not first else None
        return terms(some)

    together.terms = spy
    history = fit(together, images(), 4, batch_size=30, lr=0.01, progress=False)
    assert [r["stage"] for r in history.rows] == [s.name for s in plan]
    assert {"ce", "FitNet.kd", "AT.at"} <= set(history.rows[-1]) and not any(
        k.startswith(("AB", "FSP")) for k in history.rows[-1]
    )
    assert first == [{"conv1", "bn1", "layer1", "layer2", "layer3"}], (
        "not the classifier, which no first stage reaches"
    )


def test_progress_reaches_the_methods():
    student, teacher, some = small(2), taught(), batch()
    together = Composition(
        {"FitNet": FitNet(student, teacher), "BSS": BSS(student, teacher, steps=1)}
    ).eval()
    together.progress = 0.0
    early = together.terms(some)
    together.progress = 1.0
    late = together.terms(some)
    close(late["FitNet.kd"], early["FitNet.kd"] / 4, rel=1e-4)
    close(late["BSS.kd"], early["BSS.kd"] / 4, rel=1e-4)


def test_memories_are_prepared_and_resumed(tmp_path, monkeypatch):
    def make():
        student, teacher = small(2), taught()
        return Composition(
            {
                "CRD": CRD(student, teacher, negatives=20, dimensions=8),
                "KD": Hinton(student, teacher),
            }
        )

    resumes(make, tmp_path / "run", monkeypatch)
    together = make()
    params = {id(p) for p in together.stages()[0].players[0].parameters}
    assert (
        id(together.methods["CRD"].embed_teacher.weight) in params
        and together.settings()["methods"]["CRD"]["negatives"] == 20
    )


def test_a_short_training_improves():
    make = lambda s, t: Composition(
        {"AT": AttentionTransfer(s, t), "KD": Hinton(s, t), "SP": SimilarityPreserving(s, t, 100.0)}
    )
    learns(make, "AT.at", "SP.sp", "ce", lr=0.02)


def test_torchvisions_networks():
    student, teacher, some = (
        foreign("mobilenet_v2", seed=1).train().requires_grad_(True),
        foreign("resnet18"),
        batch(4, 32, 3),
    )
    together = Composition(
        {
            "AT": AttentionTransfer(student, teacher, ("features.6", "layer2"), example=some.x[:2]),
            "RKD": RKD(student, teacher, example=some.x[:2]),
            "DKPP": DKPP(student, teacher),
        }
    )
    sum(together.terms(some).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters())
    student.zero_grad()


def test_bad_combinations_are_refused():
    student, teacher = small(2), taught()
    kd = Hinton(student, teacher)
    with pytest.raises(ValueError, match="same student"):
        Composition({"A": kd, "B": Hinton(small(3), teacher)})
    with pytest.raises(ValueError, match=r"\['SP'\].*\['A'\]"):
        Composition({"A": kd}, {"SP": 1.0})
    for wrong in (
        {},
        {"A": CrossEntropy(student)},
        {"A": Composition({"B": kd})},
        {"a.b": kd},
        {"": kd},
        {"type": kd},
        {"forward": kd},
        [kd],
        kd,
    ):
        with pytest.raises(ValueError, match="Composition adds offline methods"):
            Composition(wrong)
    for factor in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weights"):
            Composition({"A": kd}, {"A": factor})
    assert torch.equal(weights(Composition({"A": kd}).student), weights(student))


def test_a_crd_memory_of_another_size_is_refused_inside_a_composition():
    data, other, teacher = blobs(seed=1), blobs(n=120), net(2)
    made = [
        Composition({"CRD": CRD(student, teacher, d, negatives=8), "KD": Hinton(student, teacher)})
        for student, d in ((net(1), data), (net(3), other))
    ]
    with pytest.raises(ValueError, match="180 training examples and this one 90"):
        made[1].load_state_dict(made[0].state_dict())


def test_all_teachers_are_named_so_that_each_can_be_moved():
    student, shared = net(1), net(2)
    first, second = Teacher(shared), Teacher(shared)
    both = Composition({"a": Hinton(student, first), "b": Hinton(student, second)})
    assert {id(t) for t in both.teachers()} == {id(first), id(second)}
