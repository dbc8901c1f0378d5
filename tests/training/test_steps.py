"""The settings of a step: clipping, accumulation, the last batch, parameter groups, torch's
schedulers, averaged weights.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from small import blobs, net, weights
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR

from kdtutor import fit
from kdtutor.methods import DML, CrossEntropy, Hinton
from kdtutor.runs import load_weights
from kdtutor.training import evaluate, per_epoch, per_step
from kdtutor.training.averaging import Averaged
from kdtutor.training.schedules import linear


def train(student=None, epochs=2, data=None, **settings):
    student = student or net(0)
    defaults = {"validation": 0, "progress": False, "batch_size": 30, "seed": 1}
    defaults |= {} if "optimizer" in settings else {"lr": 0.05}
    history = fit(CrossEntropy(student), data or blobs(), epochs, **defaults | settings)
    return student, history


def reference(student, order_of, epochs=1, size=30, parts=1, clip=None, lr=0.05, data=None):
    """The same training, written out: plain SGD on whole batches of size * parts rows."""
    data = data or blobs()
    optimizer = torch.optim.SGD(student.parameters(), lr, 0.9, weight_decay=5e-4, nesterov=True)
    for epoch in range(epochs):
        rows = order_of(epoch)
        for start in range(0, len(rows), size * parts):
            chosen = rows[start : start + size * parts]
            x = data.train.x[chosen].float() / 255
            optimizer.zero_grad()
            F.cross_entropy(student(x), data.train.y[chosen]).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(student.parameters(), clip)
            optimizer.step()
    return student


def order(epoch):
    from kdtutor.training.epoch import mix

    return torch.randperm(180, generator=torch.Generator().manual_seed(mix(1, epoch, "order")))


constant = lambda progress: 1.0


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_batches_whose_gradients_are_added_are_one_larger_batch(parts, clip):
    mine, _ = train(accumulate=parts, clip_norm=clip, epochs=2, schedule=constant)
    want = reference(net(0), order, epochs=2, parts=parts, clip=clip)
    assert torch.allclose(weights(mine), weights(want), atol=1e-6)
    other = reference(net(0), order, epochs=2, parts=parts + 1, clip=clip)
    assert not torch.allclose(weights(mine), weights(other), atol=1e-4)


def test_the_last_batches_of_an_epoch_are_a_step_of_their_own():
    # 6 batches of 30 by fours: 120 and 60 examples
    mine, _ = train(accumulate=4, epochs=1, schedule=constant)
    student = net(0)
    optimizer = torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True)
    data = blobs()
    for rows in (order(0)[:120], order(0)[120:]):
        optimizer.zero_grad()
        F.cross_entropy(student(data.train.x[rows].float() / 255), data.train.y[rows]).backward()
        optimizer.step()
    assert torch.allclose(weights(mine), weights(student), atol=1e-6)


def test_every_player_accumulates_its_own_gradients():
    def peers():
        return [net(0), net(5, hidden=(7,))]

    a, b = peers(), peers()
    for nets, settings in ((a, {"batch_size": 60}), (b, {"batch_size": 30, "accumulate": 2})):
        fit(
            DML(nets, kd_weight=0.0),
            blobs(),
            1,
            lr=0.05,
            validation=0,
            progress=False,
            schedule=constant,
            **settings,
        )
    for one, other in zip(a, b):
        assert torch.allclose(weights(one), weights(other), atol=1e-6)


def test_the_last_small_batch_is_left_out_or_not():
    def seen(**settings):
        rows = []

        class Counting(CrossEntropy):
            def terms(self, batch):
                rows.append(len(batch.y))
                return super().terms(batch)

        fit(Counting(net(0)), blobs(), 1, validation=0, progress=False, batch_size=50, **settings)
        return rows

    assert seen() == [50, 50, 50] and seen(drop_last=False) == [50, 50, 50, 30]


def test_a_batch_of_one_example_and_batch_norm_are_one_sentence():
    normal = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3)
    )
    with pytest.raises(ValueError, match="batch of one example.*drop_last=True"):
        train(normal, batch_size=179, drop_last=False)  # of 180
    train(normal, batch_size=179)


def test_what_a_scheduler_of_torch_sets_is_what_the_optimiser_uses():
    rates = lambda history: [row["lr"] for row in history.rows]
    _, plain = train(epochs=4, schedule=per_epoch(lambda o: StepLR(o, 2, gamma=0.1)))
    assert rates(plain) == pytest.approx([0.05, 0.05, 0.005, 0.005])
    _, ours = train(epochs=4, schedule=lambda p: 0.1 ** (p >= 0.5))
    assert [r["loss"] for r in plain.rows] == [r["loss"] for r in ours.rows]


def test_a_scheduler_may_step_with_every_batch():
    seen = []

    def watched(optimizer):
        factor = lambda step: seen.append(step) or 1 / (1 + step)
        return LambdaLR(optimizer, factor)

    mine, _ = train(epochs=2, schedule=per_step(watched))
    assert seen == list(range(2 * 6 + 1))
    student, data = net(0), blobs()
    optimizer = torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True)
    for step in range(12):
        rows = order(step // 6)[step % 6 * 30 :][:30]
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + step)
        optimizer.zero_grad()
        F.cross_entropy(student(data.train.x[rows].float() / 255), data.train.y[rows]).backward()
        optimizer.step()
    assert torch.allclose(weights(mine), weights(student), atol=1e-6)


def test_a_plateau_is_told_the_validation_metric():
    told = []

    class Watched(ReduceLROnPlateau):
        def step(self, metrics, epoch=None):
            told.append(metrics)
            super().step(metrics)

    _, history = train(
        epochs=3, validation=0.2, schedule=per_epoch(lambda o: Watched(o, "max", patience=0))
    )
    assert told == [row["val_accuracy"] for row in history.rows]


@pytest.mark.parametrize(
    "schedule",
    [
        per_epoch(lambda o: StepLR(o, 2)),
        per_step(lambda o: OneCycleLR(o, 0.1, total_steps=40)),
        per_epoch(lambda o: ReduceLROnPlateau(o, "max", patience=0)),
    ],
)
def test_a_killed_run_with_a_scheduler_averages_and_clipping_goes_on_bit_for_bit(
    tmp_path, schedule
):
    settings = {"schedule": schedule, "ema": 0.9, "clip_norm": 1.0, "accumulate": 2}
    settings |= {"validation": 0.2, "epochs": 5}
    want, wanted = train(**settings)
    for end in (1, 2):
        asked = iter([False] * (end - 1) + [True])
        train(**settings, run_dir=tmp_path, stop=lambda asked=asked: next(asked))
    mine, history = train(**settings, run_dir=tmp_path)
    clean = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert clean(history.rows) == clean(wanted.rows)
    assert torch.equal(weights(mine), weights(want))


@pytest.mark.parametrize(
    "schedule, message",
    [
        (StepLR, "schedule=StepLR: a scheduler of torch is made for an optimiser"),
        (lambda optimizer: StepLR(optimizer, 3), r"schedule\(0.0\) raised TypeError.*per_epoch"),
        (0.1, "schedule is a float; expected a function"),
        (lambda p: float("nan"), r"schedule\(0.0\) is nan"),
        (per_epoch(lambda optimizer: None), "returned a NoneType; expected one of torch.optim"),
        (
            per_epoch(lambda o: StepLR(torch.optim.SGD(net(3).parameters(), 0.1), 1)),
            "made for another optimiser",
        ),
        (
            per_step(lambda o: ReduceLROnPlateau(o)),
            "ReduceLROnPlateau waits for a metric.*per_epoch",
        ),
        (per_step(lambda o: OneCycleLR(o, 0.1, total_steps=11)), "the stage has 12 steps"),
        (per_epoch(lambda o: OneCycleLR(o, 0.1, total_steps=1)), "the stage has 2 epochs"),
    ],
)
def test_what_is_no_schedule_is_one_sentence(schedule, message):
    with pytest.raises(ValueError, match=message):
        train(schedule=schedule)


def test_a_scheduler_knows_the_steps_that_are_made_of_several_batches():
    student, _ = train(schedule=per_step(lambda o: OneCycleLR(o, 0.1, total_steps=4)), accumulate=4)
    assert not torch.equal(weights(student), weights(net(0)))
    with pytest.raises(ValueError, match="total_steps=3, and the stage has 4 steps"):
        train(schedule=per_step(lambda o: OneCycleLR(o, 0.1, total_steps=3)), accumulate=4)


def test_a_rate_that_is_a_tensor_is_a_number_in_the_history(tmp_path):
    def adam(parameters):
        return torch.optim.Adam(parameters, torch.tensor(0.01))

    whole, want = train(optimizer=adam, schedule=linear)
    train(optimizer=adam, schedule=linear, run_dir=tmp_path, stop=lambda: True)
    student, history = train(optimizer=adam, schedule=linear, run_dir=tmp_path)
    rates = [row["lr"] for row in history.rows]
    assert rates == [row["lr"] for row in want.rows] == pytest.approx([0.01 * 7 / 12, 0.01 / 12])
    assert torch.equal(weights(student), weights(whole))


def test_a_state_that_cannot_be_kept_is_one_sentence(tmp_path):
    class Factor:
        def __init__(self):
            self.inner = lambda epoch: 1.0

        def __call__(self, epoch):
            return self.inner(epoch)

    schedule = per_epoch(lambda optimizer: LambdaLR(optimizer, Factor()))
    with pytest.raises(ValueError, match="neither tensors nor plain data.*the scheduler"):
        train(schedule=schedule, run_dir=tmp_path)
    train(schedule=schedule)


def test_an_optimiser_finds_its_groups_by_the_networks_own_names():
    groups = {}

    def no_decay_for_biases(parameters):
        named = parameters.named()
        groups.update(names=[n for n, _ in named])
        biases = [p for n, p in named if n.endswith("bias")]
        others = [p for n, p in named if not n.endswith("bias")]
        return torch.optim.SGD(
            [{"params": others, "weight_decay": 0.5}, {"params": biases, "lr": 0.0}], lr=0.1
        )

    student = net(0)
    before = copy.deepcopy(student.state_dict())
    train(student, optimizer=no_decay_for_biases)
    assert groups["names"] == [n for n, _ in student.named_parameters()]
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]) == name.endswith("bias")


def test_what_an_optimisers_function_may_not_return():
    with pytest.raises(ValueError, match="returned a NoneType; expected a torch.optim.Optimizer"):
        train(optimizer=lambda parameters: None)
    with pytest.raises(ValueError, match="holds parameters that are not its own"):
        train(optimizer=lambda parameters: torch.optim.SGD(net(3).parameters(), 0.1))


def test_the_average_is_what_its_formula_says():
    line = torch.nn.Linear(1, 1, bias=False)
    line.weight.data.fill_(1.0)
    average, want = Averaged(line, 0.5), 1.0
    for step in range(1, 30):
        line.weight.data.fill_(float(step))
        decay = min(0.5, (1 + step) / (10 + step))
        want = decay * want + (1 - decay) * step
        average.step(line)
    assert average.net.weight.item() == pytest.approx(want)


def test_averaged_weights_are_measured_kept_and_left_in_the_student(tmp_path):
    data = blobs(seed=3)
    student, history = train(
        epochs=3, ema=0.9, validation=0.2, run_dir=tmp_path, snapshots=[3], data=data
    )
    result, row = history.result, history.rows[-1]
    assert {"val_accuracy", "last_step.val_accuracy"} <= row.keys()
    assert result["test_accuracy_last"] == evaluate(student, data)
    assert "last_step.test_accuracy_last" in result
    for name in ("student", "epoch_0003"):
        kept = load_weights(net(9), tmp_path / f"{name}.safetensors")
        assert torch.equal(weights(kept), weights(student))
    best = load_weights(net(9), tmp_path / "student_best.safetensors")
    assert evaluate(best, data) == result["test_accuracy_best"]
    plain, other = train(epochs=3, validation=0.2, data=data)
    assert not torch.equal(weights(plain), weights(student))
    assert [r["loss"] for r in other.rows] == [r["loss"] for r in history.rows]


def test_the_last_step_stands_beside_the_average():
    def size(net, batches):
        return float(net.fc.weight.abs().sum())

    student, history = train(epochs=2, ema=0.9, validation=0.2, metric=size)
    plain, other = train(epochs=2, validation=0.2, metric=size)
    result, last = history.result, "last_step.test_size_last"
    assert result["test_size_last"] == pytest.approx(size(student, []))
    assert result[last] == pytest.approx(size(plain, [])) != result["test_size_last"]
    shown = [row["last_step.val_size"] for row in history.rows]
    assert shown == [row["val_size"] for row in other.rows]


def test_an_average_of_a_copy_would_be_lost():
    class Copying(CrossEntropy):
        def deploy(self):
            return copy.deepcopy(self.student)

    class Wrapping(CrossEntropy):
        def deploy(self):
            return torch.nn.Sequential(self.student, torch.nn.Identity())

    settings = {"lr": 0.05, "ema": 0.9, "progress": False}
    with pytest.raises(ValueError, match="what Copying deploys is a copy"):
        fit(Copying(net(0)), blobs(), 1, **settings)
    method, data = Wrapping(net(0)), blobs()
    history = fit(method, data, 2, **settings)
    assert history.result["test_accuracy_last"] == evaluate(method.student, data)


def test_an_average_that_looks_back_not_at_all_is_the_last_step():
    student, history = train(ema=0.0, validation=0.2)
    plain, _ = train(validation=0.2)
    assert torch.equal(weights(student), weights(plain))
    assert history.rows[-1]["val_accuracy"] == history.rows[-1]["last_step.val_accuracy"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"ema": 1.0}, "ema=1.0: expected the decay"),
        ({"ema": True}, "ema=True"),
        ({"clip_norm": 0}, "clip_norm=0: expected the largest norm"),
        ({"clip_norm": float("nan")}, "clip_norm=nan"),
        ({"accumulate": 0}, "accumulate=0: expected a whole number of at least 1"),
        ({"accumulate": 1.5}, "accumulate=1.5"),
        ({"eval_batch_size": 0}, "eval_batch_size=0"),
        ({"patience": 0}, "patience=0"),
        ({"patience": 2}, "patience waits for a better validation metric"),
        ({"epochs": 0}, "epochs=0: expected a whole number of at least 1"),
        ({"epochs": "3"}, "epochs='3'"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"batch_size": 8.0}, "batch_size=8.0"),
        ({"seed": None}, "seed=None: expected a whole number"),
        ({"seed": "a"}, "seed='a'"),
        ({"stop": True}, "stop is a bool; expected a function"),
        ({"on_epoch": []}, r"on_epoch is a list; expected a function \(row\)"),
        ({"snapshots": 1}, "snapshots=1: expected a list of epochs"),
        ({"snapshots": ["a"]}, "snapshots="),
        ({"schedule": "cosine"}, "schedule is a str"),
        ({"schedule": None}, "schedule is a NoneType"),
        ({"lr": (0.1, 0.2)}, r"lr=\(0.1, 0.2\)"),
        ({"lr": -1.0}, "lr=-1.0: expected a finite number"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": "0.1"}, "lr='0.1'"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        train(**settings)


def test_players_with_several_steps_do_not_accumulate():
    class Twice(CrossEntropy):
        def stages(self):
            (stage,) = super().stages()
            stage.players[0].steps = 2
            return [stage]

    with pytest.raises(ValueError, match="accumulate=2, but student takes several steps"):
        fit(Twice(net(0)), blobs(), 1, accumulate=2, progress=False)


def test_a_distilled_student_is_measured_in_batches_of_any_size():
    results = [
        fit(
            Hinton(net(0), net(1)), blobs(), 1, progress=False, validation=0.2, eval_batch_size=size
        )
        for size in (7, 500)
    ]
    assert results[0].result["test_accuracy_last"] == results[1].result["test_accuracy_last"]


class Shared(torch.nn.Module):
    """Tied weights, a mask of -inf, a buffer whose elements share memory, and a state that is no
    tensor: what a moving average and a copy of the weights meet in other people's networks.
    """

    def __init__(self):
        super().__init__()
        self.first, self.second = (torch.nn.Linear(16, 16, bias=False) for _ in range(2))
        self.second.weight = self.first.weight
        self.head = torch.nn.Linear(16, 3)
        self.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
        self.register_buffer("scale", torch.ones(1).expand(3))
        self.seen = 1

    def forward(self, x):
        z = self.head(self.second(self.first(x.flatten(1)).relu()))
        return self.scale * (z @ self.mask.softmax(-1))

    def get_extra_state(self):
        return {"seen": self.seen}

    def set_extra_state(self, state):
        self.seen = state["seen"]


def test_tied_weights_are_averaged_once_in_a_step():
    torch.manual_seed(0)
    student = Shared()
    student.scale = torch.ones(3)
    average, want = Averaged(student, 0.5), student.first.weight.detach().clone()
    for step in range(1, 6):
        student.first.weight.data.add_(1.0)
        decay = min(0.5, (1 + step) / (10 + step))
        want = decay * want + (1 - decay) * student.first.weight.detach()
        average.step(student)
    assert torch.allclose(average.net.first.weight, want, atol=1e-5)
    assert average.net.second.weight is average.net.first.weight


@pytest.mark.parametrize("ema", [None, 0.9])
def test_whatever_a_network_keeps_in_its_state_is_measured_kept_and_goes_on(tmp_path, ema):
    def again(folder, **settings):
        torch.manual_seed(0)
        return train(Shared(), 3, validation=0.2, ema=ema, run_dir=folder, **settings)

    want, wanted = again(tmp_path / "whole")
    again(tmp_path / "parts", stop=lambda: True)
    student, history = again(tmp_path / "parts")
    assert [r["loss"] for r in history.rows] == [r["loss"] for r in wanted.rows]
    assert torch.equal(student.first.weight, want.first.weight)
    assert torch.equal(student.mask, Shared().mask) and torch.equal(student.scale, torch.ones(3))
    kept = load_weights(Shared(), tmp_path / "whole" / "student_best.safetensors")
    assert evaluate(kept, blobs()) == wanted.result["test_accuracy_best"]


def test_what_the_optimiser_leaves_out_is_no_part_of_the_gradients_norm():
    head = lambda student: student.fc.parameters()
    student = net(0)
    train(
        student,
        optimizer=lambda p: torch.optim.SGD([v for n, v in p.named() if n[:3] == "fc."], 0.05),
        clip_norm=0.5,
        schedule=constant,
    )
    want, data = net(0), blobs()
    optimizer = torch.optim.SGD(head(want), 0.05)
    for epoch in range(2):
        for rows in order(epoch).split(30):
            optimizer.zero_grad()
            F.cross_entropy(want(data.train.x[rows].float() / 255), data.train.y[rows]).backward()
            torch.nn.utils.clip_grad_norm_(head(want), 0.5)
            optimizer.step()
    assert torch.allclose(weights(student), weights(want), atol=1e-6)
