"""Several methods at once: the sum by hand, one run of each network, labels once, stages in turn,
bad combinations.
"""

import pytest
import torch
import torch.nn.functional as F
from losses import batch, changed, close, foreign, images, learns, resumes, small, state_of, taught
from small import blobs, net, weights

from kdtutor import Teacher, fit
from kdtutor.distiller import Distiller, Player, Stage
from kdtutor.methods import (
    BSS,
    CRD,
    DKPP,
    DML,
    FSP,
    ONE,
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


# --- with methods of several players


def counted(net):
    """How often a network runs."""
    runs = []
    net.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_dml_and_at_train_the_shared_student_as_one_player_and_the_peer_as_another():
    student, peer, teacher = small(2), small(3), taught()
    both = Composition(
        {"DML": DML([student, peer]), "AT": AttentionTransfer(student, teacher)}, {"AT": 2.0}
    )
    players = both.stages()[0].players
    assert [p.name for p in players] == ["net1", "net2"]
    assert set(map(id, players[0].parameters)) == set(map(id, student.parameters()))
    assert set(map(id, players[1].parameters)) == set(map(id, peer.parameters()))
    assert list(both.networks()) == ["student", "net2"] and both.deploy() is student

    some, alone = batch(), DML([student, peer]).train()
    both.train()
    torch.manual_seed(0)
    terms = players[0].terms(some)
    assert set(terms) == {"ce", "DML.kd", "AT.at"}
    want = alone.network_terms(0, some) | AttentionTransfer(student, teacher).terms(some)
    close(terms["DML.kd"], want["kd"], rel=1e-5)
    close(terms["AT.at"], 2 * want["at"], rel=1e-5)
    assert set(players[1].terms(some)) == {"DML.ce", "DML.kd"}

    history = fit(both, images(), 3, batch_size=30, lr=0.02, progress=False)
    row = history.rows[-1]
    assert {"net1.ce", "net1.AT.at", "net1.DML.kd", "net2.DML.ce", "net2.lr"} <= set(row)
    assert {"val_accuracy", "net2.val_accuracy"} <= set(row)
    assert row["net1.AT.at"] < history.rows[0]["net1.AT.at"]


def test_a_composition_runs_each_network_once_for_a_step_of_its_player():
    student, peer, teacher = small(2), small(3), taught()
    both = Composition(
        {
            "DML": DML([student, peer]),
            "AT": AttentionTransfer(student, teacher),
            "KD": Hinton(student, teacher),
        }
    ).train()
    some = batch()
    first = both.stages()[0].players[0]
    first.terms(some)  # Taps look once for layers that are overwritten in place
    runs = {"student": counted(student), "peer": counted(peer), "teacher": counted(teacher)}
    first.terms(batch(seed=1))
    assert {k: len(v) for k, v in runs.items()} == {"student": 1, "peer": 1, "teacher": 1}


def test_one_and_kd_add_up_and_the_labels_are_those_of_one():
    student, teacher = small(2), taught()
    one = ONE(student, branches=2)
    both = Composition({"ONE": one, "KD": Hinton(student, teacher)}).train()
    (player,) = both.stages()[0].players
    assert set(map(id, player.parameters)) == set(map(id, one.parameters()))
    terms = player.terms(batch())
    assert set(terms) == {"ce", "ONE.ce_ensemble", "ONE.kd", "KD.kd"}
    close(terms["ce"], one.terms(batch())["ce"], rel=1e-5)


def test_what_cannot_be_added_is_refused_with_words():
    student, peer = small(2), small(3)

    class Joint(Distiller):
        """Trains both networks as one player, where DML has two."""

        def __init__(self, student, peer):
            super().__init__(student)
            self.peer = peer

    joint = Composition({"DML": DML([student, peer]), "Joint": Joint(student, peer)})
    with pytest.raises(ValueError, match="shares parameters with several players"):
        joint.stages()

    class Own(Distiller):
        def stages(self):
            adam = torch.optim.Adam
            return [Stage("s", 1, [Player("p", self.terms, list(self.parameters()), adam)])]

    twice = Composition({"A": Own(student), "B": Own(student)})
    with pytest.raises(ValueError, match="A and B both bring optimizer of their own"):
        twice.stages()


def test_a_method_with_two_optimisers_for_the_student_takes_others_beside_it():
    from tests.distiller.eight import Rivals, seeded

    for order in (("AFD", "KD"), ("KD", "AFD")):
        student = seeded(lambda: small(2))
        methods = {"AFD": Rivals(student), "KD": Hinton(student, taught())}
        both = Composition({name: methods[name] for name in order})
        players = both.stages()[0].players
        names = ["net0", "forger0", "critic0", "net1", "forger1", "critic1"]
        assert sorted(p.name for p in players) == sorted(names)
        first = next(p for p in players if p.name == "net0")
        assert first.optimizer is None
        assert next(p for p in players if p.name == "forger0").optimizer is not None
        assert set(first.terms(batch())) == {"ce", "AFD.kd", "KD.kd"}
        history = fit(both, images(), 2, batch_size=30, lr=0.02, progress=False)
        assert {"net0.KD.kd", "forger0.AFD.forge", "net1.AFD.ce"} <= set(history.rows[-1])
