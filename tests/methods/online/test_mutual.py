"""Deep mutual learning (CVPR 2018): the loss, and steps in turn against a hand-written loop, bit
for bit.
"""

import copy
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from losses import (
    batch,
    close,
    foreign,
    ignores_duplication,
    images,
    names_both_devices,
    names_both_shapes,
    rand,
    resumes,
    small,
    stays_finite,
    teaches_the_student_alone,
)
from small import net, weights

from kdtutor import fit
from kdtutor.ablation import Grid
from kdtutor.methods import DML
from kdtutor.methods.online.mutual import mutual_loss
from kdtutor.training.schedules import sgd

S, T = rand(4, 3), rand(4, 3, seed=1)


def slow_kl(p, q):
    """(1/B) sum_b sum_c p log(p / q)."""
    softmax = lambda row: [math.exp(v) / sum(math.exp(u) for u in row) for v in row]
    rows = [(softmax(a), softmax(b)) for a, b in zip(p.tolist(), q.tolist())]
    return sum(x * math.log(x / y) for a, b in rows for x, y in zip(a, b)) / len(rows)


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 3), st.integers(0, 10**6))
def test_it_equals_the_slow_reference(b, c, peers, seed):
    own, *others = (rand(b, c, seed=seed + i) for i in range(peers + 1))
    total = sum(slow_kl(peer, own) for peer in others)
    close(mutual_loss(own, others), total / peers)
    close(mutual_loss(own, others, "code"), total)


def test_what_every_loss_must_pass():
    loss = lambda s, t: mutual_loss(s, [t, t.flip(0)])
    assert mutual_loss(S, [S, S]) == 0
    teaches_the_student_alone(loss, S, T)
    ignores_duplication(lambda s, t: mutual_loss(s, [t]), S, T)
    stays_finite(loss, S, T, sizes=(0.0, 1e4, 1e30))
    names_both_shapes(loss, S, T[:, :2])
    names_both_devices(loss, S, T)
    with pytest.raises(ValueError, match="at least one peer"):
        mutual_loss(S, [])
    with pytest.raises(ValueError, match="variant"):
        mutual_loss(S, [T], "x")


def test_the_terms_and_whom_they_teach():
    nets, some = [small(i) for i in range(3)], batch()
    distiller = DML(nets, kd_weight=2.0).eval()
    for k, player in enumerate(distiller.stages()[0].players):
        assert player.name == f"net{k + 1}" and {id(p) for p in player.parameters} == {
            id(p) for p in nets[k].parameters()
        }
        terms = player.terms(some)
        z = [n(some.x).detach() for n in nets]
        assert list(terms) == ["ce", "kd"]
        close(terms["ce"], F.cross_entropy(z[k], some.y), rel=1e-5)
        close(terms["kd"], 2 * sum(slow_kl(z[j], z[k]) for j in range(3) if j != k) / 2, rel=1e-3)
        sum(terms.values()).backward()
        for j, other in enumerate(nets):
            assert all((p.grad is not None) == (j == k) for p in other.parameters()), (
                "peers get no gradient"
            )
        nets[k].zero_grad()
    assert distiller.deploy() is nets[0] and list(distiller.terms(some)) == ["ce", "kd"]


def by_hand(nets, data, epochs, lr, batch_size, weight=1.0):
    """Algorithm 1: update network 1, compute its answers again, update network 2, and so on; in the
    order that fit draws.
    """
    from kdtutor.softening import distillation_kl
    from kdtutor.training import cosine
    from kdtutor.training.epoch import mix as _mix

    optimizers = [
        torch.optim.SGD(n.parameters(), lr, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
        for n in nets
    ]
    answers, steps = [None] * len(nets), len(data.train) // batch_size
    for epoch in range(epochs):
        torch.manual_seed(_mix(0, epoch, "dropout"))
        order = torch.Generator().manual_seed(_mix(0, epoch, "order"))
        for step, some in enumerate(
            data.batches(data.train, batch_size, shuffle=order, drop_last=True)
        ):
            answers = [n(some.x) for n in nets]
            for k, (n, optimizer) in enumerate(zip(nets, optimizers)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * cosine((epoch + step / steps) / epochs)
                loss = F.cross_entropy(answers[k], some.y)
                peers = [answers[j].detach() for j in range(len(nets)) if j != k]
                # By the library's own formula, tested elsewhere: here the order of things is.
                far = [distillation_kl(answers[k], peer, 1.0) for peer in peers]
                loss = loss + weight * sum(far) / len(peers)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    answers[k] = n(some.x)


@pytest.mark.parametrize("count", [2, 3])
def test_training_equals_the_hand_written_algorithm_exactly(count):
    data = images(side=4)
    mine = [net(i, hidden=(8 + i,)) for i in range(count)]
    theirs = copy.deepcopy(mine)
    by_hand(theirs, data, 2, 0.05, 30)
    fit(DML(mine), data, 2, lr=0.05, batch_size=30, validation=0, test=False, progress=False)
    for a, b in zip(mine, theirs):
        # With three, the mean over peers may round differently.
        assert torch.allclose(weights(a), weights(b), rtol=0, atol=0 if count == 2 else 1e-6)


def test_answers_are_computed_again_after_every_update():
    """Whatever optimiser changes the weights: a peer's stale answer would be the one from before
    its step.
    """
    adam = functools.partial(torch.optim.Adam, lr=0.1)
    for make in (
        sgd(0.5),
        functools.partial(torch.optim.SGD, lr=0.5),
        adam,
        functools.partial(adam, fused=True),
    ):
        nets, some = [net(0), net(1)], batch(side=4)
        first, second = DML(nets).stages()[0].players
        optimizer = make(first.parameters)
        sum(first.terms(some).values()).backward(inputs=first.parameters)
        optimizer.step()
        close(second.terms(some)["kd"], slow_kl(nets[0](some.x), nets[1](some.x)), rel=1e-4)


def test_terms_may_be_asked_for_twice():
    distiller, some = DML([net(0), net(1)]), batch(side=4)
    gradients = []
    for _ in range(2):
        distiller.zero_grad()
        sum(distiller.terms(some).values()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in distiller.student.parameters()]))
    assert torch.equal(*gradients)


def test_a_short_training_improves_every_network():
    nets = [small(1), small(2)]
    distiller = DML(nets)
    history = fit(distiller, images(), 5, batch_size=30, lr=0.02, validation=0, progress=False)
    for name in ("net1.ce", "net2.ce"):
        assert history.rows[-1][name] < 0.9 * history.rows[0][name]
    assert torch.equal(weights(copy.deepcopy(distiller)), weights(distiller)), (
        "it can be copied after training"
    )


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    resumes(lambda: DML([small(1), small(2)]), tmp_path / "run", monkeypatch)


def test_different_architectures_learn_together():
    nets, some = (
        [foreign("mobilenet_v2", seed=1), foreign("resnet18", seed=1).requires_grad_(True)],
        batch(4, 32, 3),
    )
    for player in DML(nets).train().stages()[0].players:
        sum(player.terms(some).values()).backward(inputs=player.parameters)
        assert all(torch.isfinite(p.grad).all() for p in player.parameters)
        for p in player.parameters:
            p.grad = None


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="at least two"):
        DML([net(0)])
    one = net(0)
    with pytest.raises(ValueError, match="share parameters"):
        DML([one, one])
    with pytest.raises(ValueError, match=r"\(6, 3\).*\(6, 4\)"):
        DML([net(0), net(1, classes=4)]).terms(batch(side=4))
    for bad in (dict(kd_weight=-1), dict(variant="x")):
        with pytest.raises(ValueError):
            DML([net(0), net(1)], **bad)


def test_a_weight_of_zero_trains_side_by_side_and_a_negative_one_is_refused():
    nets = [small(1), small(2)]
    terms = DML(nets, kd_weight=0).network_terms(0, batch())
    assert float(terms["kd"]) == 0
    with pytest.raises(ValueError, match="kd_weight=-1"):
        DML(nets, kd_weight=-1)


def test_networks_come_as_one_list():
    for wrong in (lambda: DML(small(1), small(2)), lambda: DML(small(1))):
        with pytest.raises(ValueError, match=r"DML\(\[net_a, net_b\]\)"):
            wrong()


def test_every_network_of_the_players_is_named_and_the_first_is_deployed():
    nets = [net(i) for i in range(3)]
    distiller = DML(nets)
    assert list(distiller.networks()) == ["net1", "net2", "net3"]
    assert list(distiller.networks().values()) == nets == list(distiller.peers)
    assert distiller.networks()["net1"] is distiller.deploy()


def test_the_peers_of_a_grid_begin_with_weights_of_their_own():
    """Equal networks would have nothing to tell each other."""
    settings = dict(
        dataset=images(side=4), teacher="mlp24", students=["mlp8"], seeds=(0, 1), epochs=1
    )
    first, second = Grid(**settings, methods=["DML(peers=3)"]).cells()
    seen = [weights(n) for c in (first, second) for n in c.distiller(c.data(), None).peers]
    assert len(seen) == 6
    for i, a in enumerate(seen):
        assert not any(torch.equal(a, b) for b in seen[:i]), i
    again = first.distiller(first.data(), None).peers
    assert all(torch.equal(weights(n), w) for n, w in zip(again, seen)), "its seed decides"
    alone, _ = Grid(**settings, methods=["CrossEntropy"]).cells()
    assert torch.equal(weights(alone.distiller(alone.data(), None).student), seen[0])


def test_devices_that_differ_are_both_named():
    some = batch()
    for wrong in (some._replace(x=some.x.to("meta")), some._replace(y=some.y.to("meta"))):
        with pytest.raises(ValueError, match="(?s)meta.*cpu"):
            DML([small(1), small(2)]).terms(wrong)
