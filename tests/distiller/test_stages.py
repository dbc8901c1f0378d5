"""The seam carries a two-stage method and an adversary; players touch only their own parameters."""

import warnings

import pytest
import torch
from small import Adversarial, TwoStage, blobs, net, weights

from kdtutor import fit
from kdtutor.methods import CrossEntropy, Distiller, Hinton, Player, Stage, catalog, find
from kdtutor.training.plan import share_epochs


def first_layer(student):
    return next(m for m in student.modules() if isinstance(m, torch.nn.Linear))


def hidden_layer(student):
    return next(n for n, m in student.named_modules() if isinstance(m, torch.nn.ReLU))


def test_a_two_stage_method_trains_its_parts_in_turn():
    student, teacher = net(1), net(2, hidden=(24,))
    distiller = TwoStage(student, teacher, hidden_layer(student))
    head = list(student.modules())[-1].weight
    before, seen = head.detach().clone(), {}

    original = distiller.label_terms

    def spy(batch):
        seen.setdefault("head at the start of stage 2", head.detach().clone())
        return original(batch)

    distiller.label_terms = spy
    history = fit(distiller, blobs(), 6, lr=0.1, progress=False)
    assert [r["stage"] for r in history.rows] == ["hint"] * 2 + ["labels"] * 4
    assert torch.equal(seen["head at the start of stage 2"], before) and not torch.equal(
        head, before
    )
    assert history.rows[1]["hint"] < history.rows[0]["hint"] and "hint" not in history.rows[2]
    assert history.rows[-1]["ce"] < history.rows[2]["ce"]
    assert distiller.deploy() is student


def test_two_players_each_learn_their_own_parameters():
    student = net(1)
    distiller = Adversarial(student, net(2))
    history = fit(distiller, blobs(), 5, lr=0.05, progress=False)
    assert {"critic.real", "critic.fake", "student.ce", "student.fool"} <= set(history.rows[0])
    assert history.rows[-1]["student.ce"] < history.rows[0]["student.ce"]


def test_a_players_step_leaves_the_others_alone():
    student = net(1)
    distiller = Adversarial(student, net(2))
    stage = distiller.stages()[0]
    frozen = weights(distiller.critic)

    class OnlyStudent(Distiller):
        def stages(self):
            return [
                Stage(
                    "game",
                    1,
                    [
                        stage.players[1],
                        Player(
                            "idle",
                            distiller.critic_terms,
                            list(distiller.critic.parameters()),
                            lambda ps: torch.optim.SGD(ps, lr=0.0),
                        ),
                    ],
                )
            ]

    only = OnlyStudent(student)
    only.add_module("critic", distiller.critic)
    before = weights(student)
    fit(only, blobs(), 1, progress=False)
    assert torch.equal(frozen, weights(distiller.critic)) and not torch.equal(
        before, weights(student)
    )


def test_progress_runs_from_zero_to_one_in_each_stage():
    student, seen = net(1), []

    class Annealed(TwoStage):
        def hint_terms(self, batch):
            seen.append(("hint", self.progress))
            return super().hint_terms(batch)

        def label_terms(self, batch):
            seen.append(("labels", self.progress))
            return super().label_terms(batch)

    fit(Annealed(student, net(2), hidden_layer(student)), blobs(), 6, progress=False)
    for stage in ("hint", "labels"):
        values = [p for s, p in seen if s == stage]
        assert values[0] == 0 and values == sorted(values) and 0.5 < values[-1] < 1


@pytest.mark.parametrize(
    "shares, epochs, want",
    [
        ([1], 5, [5]),
        ([1, 2], 6, [2, 4]),
        ([0.3, 0.7], 10, [3, 7]),
        ([0.01, 1], 3, [1, 2]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([9, 1], 2, [1, 1]),
    ],
)
def test_shares_become_epochs(shares, epochs, want):
    player = Player("p", lambda b: {}, [torch.nn.Parameter(torch.zeros(1))])
    plan = share_epochs([Stage(str(s), s, [player]) for s in shares], epochs)
    assert [n for _, _, n in plan] == want
    assert [first for _, first, _ in plan] == [sum(want[:i]) for i in range(len(want))]


def test_plan_errors():
    player = Player("p", lambda b: {}, [torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match="1 epochs for 2 stages"):
        share_epochs([Stage("a", 1, [player]), Stage("b", 1, [player])], 1)
    with pytest.raises(ValueError, match="share"):
        Stage("a", 0, [player])
    with pytest.raises(ValueError, match="no players"):
        Stage("a", 1, [])
    with pytest.raises(NotImplementedError, match="terms"):
        Distiller(net()).terms(None)


def test_a_stage_that_ends_worse_than_it_began_says_so():
    class Worse(CrossEntropy):
        def terms(self, batch):
            return {"ce": super().terms(batch)["ce"] * (1 + 50 * self.progress)}

    with pytest.warns(UserWarning, match="'train' ended worse"):
        fit(Worse(net(1)), blobs(), 4, lr=1e-4, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(CrossEntropy(net(1)), blobs(), 4, lr=0.05, progress=False)


def test_hinton_trains_and_its_terms_are_weighted():
    data = blobs()
    teacher = net(3, hidden=(32,))
    fit(CrossEntropy(teacher), data, 10, batch_size=16, progress=False)
    batch = next(data.batches(data.train, 16))
    one, two = (
        Hinton(net(1), teacher, temperature=3.0, ce_weight=a, kd_weight=b).terms(batch)
        for a, b in ((1, 1), (0.25, 4))
    )
    assert two["ce"].item() == pytest.approx(0.25 * one["ce"].item()) and two[
        "kd"
    ].item() == pytest.approx(4 * one["kd"].item())
    assert set(Hinton(net(1), teacher, ce_weight=0).terms(batch)) == {"kd"}
    history = fit(Hinton(net(1), teacher), data, 8, batch_size=16, progress=False)
    assert (
        history.rows[-1]["kd"] < 0.5 * history.rows[0]["kd"]
        and history.result["test_accuracy_last"] > 0.8
    )


@pytest.mark.parametrize("ce, kd", [(-1, 1), (0, 0), (float("nan"), 1), (1, float("inf"))])
def test_hinton_refuses_bad_weights(ce, kd):
    with pytest.raises(ValueError, match="ce_weight"):
        Hinton(net(1), net(2), ce_weight=ce, kd_weight=kd)


def test_the_catalog_lists_every_exported_distiller():
    import kdtutor.methods as methods

    table = catalog()
    exported = {
        n
        for n in methods.__all__
        if isinstance(getattr(methods, n), type) and issubclass(getattr(methods, n), Distiller)
    }
    assert {c.__name__ for c in table["distiller"]} == exported - {
        "Distiller",
        "Offline",
        "Composition",
    }
    assert table["name"].is_unique
    assert set(table["knowledge"]) <= {"none", "response", "feature", "relation"}
    assert set(table["scheme"]) <= {"none", "offline", "online", "self"}
    assert (
        find("hinton") is Hinton
        and find("SimilarityPreserving") is find("sp")
        and methods.method("rkd").name == "RKD-DA"
    )
    with pytest.raises(ValueError, match="'Hinton'"):
        find("Hintn")
