"""What every distiller gets: logs, modes, teachers wherever they are; what a plan may not hide."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small import blobs, net, weights
from torch import nn

from kdtutor import Teacher, fit
from kdtutor.distiller import Distiller, Player, Stage
from kdtutor.methods import CrossEntropy
from kdtutor.models import resnet8

QUIET = dict(progress=False, validation=0, test=False)


class Labels(Distiller):
    def terms(self, batch):
        return {"ce": self.task.loss(self.logits(self.student, batch.x), batch.y)}


def convolutional(seed=0):
    torch.manual_seed(seed)
    return resnet8(classes=3, channels=1)


# --- logs


def test_what_is_logged_is_the_mean_over_the_epochs_steps_and_nobody_minimises_it():
    class Logs(Labels):
        def terms(self, batch):
            self.log("size", float(len(batch.y)))
            self.log("first", batch.y[0].float())
            return super().terms(batch)

    plain, logged = net(1), net(1)
    fit(Labels(plain), blobs(), 2, **QUIET)
    history = fit(Logs(logged), blobs(), 2, **QUIET)
    assert torch.equal(weights(plain), weights(logged))
    assert history.rows[0]["size"] == 64 and 0 <= history.rows[1]["first"] <= 2
    with pytest.raises(ValueError, match=r"log\('map', ...\) got a tensor of shape \(2, 2\)"):
        Labels(net(1)).log("map", torch.zeros(2, 2))


def test_after_step_is_called_once_a_step_without_gradients():
    class Counts(Labels):
        calls = 0

        def after_step(self, batch):
            assert not torch.is_grad_enabled()
            self.calls += 1

    distiller = Counts(net(1))
    fit(distiller, blobs(), 2, **QUIET)
    assert distiller.calls == 2 * (len(blobs().train) // 64)


# --- modes


def test_a_frozen_batch_norm_keeps_its_statistics_and_the_others_move():
    student = convolutional().train()
    frozen, free = student.layer1[0].bn1, student.layer3[0].bn1
    frozen.eval()
    before = frozen.running_mean.clone(), free.running_mean.clone()
    distiller = CrossEntropy(student)
    fit(distiller, blobs(side=8), 2, progress=False)
    assert torch.equal(frozen.running_mean, before[0]) and not frozen.training
    assert not torch.equal(free.running_mean, before[1]) and free.training
    distiller.eval()
    assert not free.training
    distiller.train()
    assert free.training and not frozen.training, "eval() and train() in turn forget nothing"


def test_a_network_that_was_only_measured_before_trains_again():
    student = convolutional().eval()
    before = student.layer1[0].bn1.running_mean.clone()
    fit(CrossEntropy(student), blobs(side=8), 1, **QUIET)
    assert not torch.equal(student.layer1[0].bn1.running_mean, before)


def test_a_helper_without_trainable_parameters_stays_in_eval_mode():
    class Follows(Labels):
        def __init__(self, student):
            super().__init__(student)
            self.ema = copy.deepcopy(student).eval().requires_grad_(False)

        def terms(self, batch):
            assert self.student.training and not self.ema.training
            assert not any(m.training for m in self.ema.modules())
            self.ema(batch.x)
            return super().terms(batch)

    distiller = Follows(convolutional())
    before = weights(distiller.ema)
    fit(distiller, blobs(side=8), 2, **QUIET)
    assert torch.equal(before, weights(distiller.ema))


# --- teachers, and networks that are none


def test_teachers_are_found_in_lists_dicts_and_helpers():
    class Many(Labels):
        def __init__(self, student, nets):
            super().__init__(student)
            self.teacher, self.more = (
                Teacher(nets[0]),
                [Teacher(nets[1]), {"deep": (Teacher(nets[2]),)}],
            )
            self.head = nn.Linear(3, 3)
            self.head.teacher = Teacher(nets[3])
            self.again = self.teacher

        def terms(self, batch):
            student = self.logits(self.student, batch.x)
            return super().terms(batch) | {
                "head": F.mse_loss(self.head(student), self.teacher(batch))
            }

    nets = [net(i) for i in range(4)]
    distiller = Many(net(9), nets)
    assert [t.net for t in distiller.teachers()] == nets
    before = [weights(n) for n in nets]
    history = fit(distiller, blobs(), 1, **QUIET)
    assert all(torch.equal(b, weights(n)) for b, n in zip(before, nets))
    assert len(history.spec["teachers"]) == 4


@pytest.mark.parametrize("holder", [lambda t: [t], lambda t: {"a": t}, lambda t: (1, [t])])
def test_a_network_in_a_plain_list_is_refused(holder):
    distiller = Labels(net(1))
    distiller.others = holder(net(2))
    with pytest.raises(
        ValueError, match=r"Labels.others holds a network in a plain .*Teacher\(net\)"
    ):
        fit(distiller, blobs(), 1, **QUIET)


def test_a_plain_teacher_is_no_secret_player():
    class Plain(Labels):
        def __init__(self, student, other, name):
            super().__init__(student)
            setattr(self, name, other)

    for name in ("teacher", "other"):
        with pytest.raises(
            ValueError, match=rf"Plain.{name} is a network beside the student.*Teacher\(net\)"
        ):
            fit(Plain(net(1), net(2), name), blobs(), 1, **QUIET)
    frozen = Plain(net(1), net(2).requires_grad_(False), "teacher")
    fit(frozen, blobs(), 1, **QUIET)
    helper = Plain(net(1), nn.Linear(3, 3), "regressor")
    fit(helper, blobs(), 1, **QUIET)


def test_a_network_that_no_player_trains_is_named():
    class Forgets(Labels):
        def __init__(self, student, other):
            super().__init__(student)
            self.critic = other

        def stages(self):
            return [
                Stage("only", 1.0, [Player("student", self.terms, list(self.student.parameters()))])
            ]

    with pytest.raises(ValueError, match="Forgets.critic has trainable parameters, and no player"):
        fit(Forgets(net(1), nn.Linear(3, 1)), blobs(), 1, **QUIET)


# --- terms


@pytest.mark.parametrize(
    "terms, message",
    [
        (None, "are NoneType"),
        ({}, "are empty"),
        (torch.zeros(()), "are Tensor"),
        ({"ce": torch.zeros(4, requires_grad=True)}, r"'ce' is a tensor of shape \(4,\)"),
        ({"ce": 0.5}, "'ce' is float"),
        ({3: torch.zeros((), requires_grad=True)}, "3 is no name"),
        ({"ce": torch.zeros(())}, "'ce', have no gradient"),
    ],
)
def test_terms_that_cannot_be_minimised_are_named_on_the_first_batch(terms, message):
    class Wrong(Labels):
        def terms(self, batch):
            return terms

    with pytest.raises(ValueError, match=message):
        fit(Wrong(net(1)), blobs(), 1, **QUIET)


# --- players


def test_a_player_has_its_own_schedule_and_takes_its_own_steps():
    student = net(1)
    asked = []

    class Twice(Labels):
        def stages(self):
            first, *rest = list(self.student.parameters())
            return [
                Stage(
                    "both",
                    1.0,
                    [
                        Player("slow", self.terms, [first], schedule=lambda p: 0.5),
                        Player("quick", self.counted, rest, steps=3),
                    ],
                )
            ]

        def counted(self, batch):
            asked.append(self.progress)
            return self.terms(batch)

    history = fit(Twice(student), blobs(), 2, lr=0.1, schedule=lambda p: 1.0, **QUIET)
    steps = len(blobs().train) // 64
    assert len(asked) == 3 * 2 * steps and asked == sorted(asked)
    row = history.rows[-1]
    assert row["slow.lr"] == 0.05 and row["quick.lr"] == 0.1
    assert row["loss"] == pytest.approx(row["slow.loss"] + row["quick.loss"])
    assert row["slow.ce"] == pytest.approx(row["slow.loss"])


def test_several_steps_on_one_batch_equal_a_loop_by_hand():
    class Thrice(Labels):
        def stages(self):
            sgd = lambda ps: torch.optim.SGD(ps, 0.1)
            return [Stage("s", 1, [Player("p", self.terms, list(self.parameters()), sgd, steps=3)])]

    data, ours, hand = blobs(), net(1), net(1)
    fit(Thrice(ours), data, 1, batch_size=len(data.train), schedule=lambda p: 1.0, **QUIET)
    batch = next(iter(data.batches(data.train, len(data.train))))
    optimizer = torch.optim.SGD(hand.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(hand(batch.x), batch.y).backward()
        optimizer.step()
    assert torch.allclose(weights(ours), weights(hand), atol=1e-6)


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_a_player_without_steps_is_refused(steps):
    with pytest.raises(ValueError, match="'p' has steps"):
        Player("p", dict, list(net(1).parameters()), steps=steps)


def test_two_players_of_one_name_are_refused():
    players = [Player("p", dict, list(net(i).parameters())) for i in range(2)]
    with pytest.raises(ValueError, match="each needs a name of its own"):
        Stage("s", 1, players)
