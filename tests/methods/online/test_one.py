"""On-the-fly native ensemble (NeurIPS 2018): the gate, the branches, where a network can be cut,
what is deployed.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from losses import batch, close, foreign, images, rand, small
from small import weights
from torch import nn
from torchvision import models

from kdtutor import fit
from kdtutor.datasets import Batch
from kdtutor.methods import ONE
from kdtutor.methods.online.one import default_split, gated_logits
from kdtutor.models import alexnet, densenet, mlp, vgg, wrn
from kdtutor.taps import Taps
from kdtutor.tasks import MultiLabel, Segmentation


@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 5), st.integers(0, 10**6))
def test_the_ensemble_equals_the_slow_reference(m, b, c, seed):
    z, g = rand(m, b, c, seed=seed), rand(b, m, seed=seed + 1).softmax(1)
    expected = [
        [sum(g[n, i].item() * z[i, n, k].item() for i in range(m)) for k in range(c)]
        for n in range(b)
    ]
    assert torch.allclose(gated_logits(z, g), torch.tensor(expected, dtype=torch.float64))


def test_branches_that_agree_are_the_ensemble_and_shapes_are_named():
    z = rand(4, 3)
    assert torch.allclose(gated_logits(z.expand(3, 4, 3), rand(4, 3).softmax(1)), z)
    with pytest.raises(ValueError, match=r"\(3, 4, 3\).*\(3, 4\)"):
        gated_logits(z.expand(3, 4, 3), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="cpu.*meta"):
        gated_logits(z.expand(3, 4, 3), torch.zeros(4, 3, device="meta"))


def slow_kl(p, q, t):
    p, q = (F.log_softmax(z.double() / t, 1) for z in (p, q))
    return (p.exp() * (p - q)).sum(1).mean()


@pytest.mark.parametrize(
    "variant, progress, ramp",
    [
        ("paper", 0.0, 1),
        ("paper", 0.5, 1),
        ("code", 0.0, math.exp(-5)),
        ("code", 40 / 300, math.exp(-5 / 4)),
        ("code", 80 / 300, 1),
        ("code", 0.9, 1),
    ],
)
def test_the_terms(variant, progress, ramp):
    distiller, some = (
        ONE(small(2), branches=3, temperature=2.0, kd_weight=0.7, variant=variant).eval(),
        batch(),
    )
    distiller.progress = progress
    with torch.no_grad():
        for net in (distiller.student, *distiller.branches):
            net.fc.weight.mul_(20)  # answers that differ
        shared = Taps(distiller.student, ["layer2"])(some.x)[1]["layer2"]
        logits = [distiller.student(some.x), *(b(shared) for b in distiller.branches)]
        linear, norm, *_ = distiller.gate
        gate = F.softmax(F.relu(norm(linear(shared.mean((2, 3))))), 1)
        terms = distiller.terms(some)
    ensemble = sum(gate[:, i, None] * z for i, z in enumerate(logits))
    assert list(terms) == ["ce", "ce_ensemble", "kd"] and len(logits) == 3
    close(terms["ce"], sum(F.cross_entropy(z, some.y) for z in logits), rel=1e-5)
    close(terms["ce_ensemble"], F.cross_entropy(ensemble, some.y), rel=1e-5)
    close(terms["kd"], ramp * 0.7 * 4 * sum(slow_kl(ensemble, z, 2.0) for z in logits), rel=1e-3)


def test_the_distillation_term_does_not_move_the_ensemble():
    distiller = ONE(small(2))
    distiller.terms(batch())["kd"].backward()
    assert all(p.grad is None for p in distiller.gate.parameters())
    assert (
        distiller.student.fc.weight.grad.abs().sum() > 0
        and distiller.branches[0].fc.weight.grad.abs().sum() > 0
    )
    distiller.terms(batch())["ce_ensemble"].backward()
    assert distiller.gate[0].weight.grad.abs().sum() > 0


def test_the_deployed_network_is_the_plain_student():
    plain = small(2)
    count, state = (
        sum(p.numel() for p in plain.parameters()),
        {k: v.shape for k, v in plain.state_dict().items()},
    )
    before = weights(plain)
    distiller = ONE(plain, branches=4)
    deployed = distiller.deploy()
    assert deployed is plain and sum(p.numel() for p in deployed.parameters()) == count
    assert {k: v.shape for k, v in deployed.state_dict().items()} == state and torch.equal(
        before, weights(plain)
    )
    assert not any(m._forward_hooks for m in plain.modules())


def test_branches_differ_and_share_only_the_lower_half():
    distiller = ONE(small(2), branches=3)
    uppers = [
        [m for n, m in b.named_children() if n in ("layer3", "fc")]
        for b in (distiller.student, *distiller.branches)
    ]
    flat = [weights(nn.ModuleList(u)) for u in uppers]
    assert len({f.numel() for f in flat}) == 1
    assert all((flat[i] - flat[j]).abs().max() > 0.01 for i in range(3) for j in range(i))
    own = {n for n, _ in distiller.branches[0].named_parameters()}
    assert {n.split(".")[0] for n in own} == {"layer3", "fc"}, "no copy of the lower half"
    logits, gate = distiller.eval()(batch().x)
    assert (
        logits.shape == (3, 6, 3)
        and gate.shape == (6, 3)
        and torch.allclose(gate.sum(1), torch.ones(6))
    )
    assert distiller.split == "layer2" and torch.allclose(logits[0], distiller.student(batch().x))


def test_a_network_that_cannot_be_cut_there_says_where_it_can():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_shape, self.layer1, self.layer2, self.fc = (
                (4,),
                nn.Linear(4, 4),
                nn.Linear(4, 4),
                nn.Linear(4, 3),
            )

        def forward(self, x):
            return self.fc(x + self.layer2(self.layer1(x)))

    with pytest.raises(
        ValueError, match=r"Skip cannot be cut after 'layer1'.*\['layer1', 'layer2', 'fc'\]"
    ):
        ONE(Skip(), split="layer1")
    with pytest.raises(ValueError, match="cannot be cut after 'layer2.0.conv1'"):
        ONE(small(), split="layer2.0.conv1")
    with pytest.raises(ValueError, match="layer9"):
        ONE(small(), split="layer9")
    for bad in (dict(branches=1), dict(branches=2.5), dict(temperature=0), dict(variant="x")):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ONE(small(), **bad)
    with pytest.raises(ValueError, match="^kd_weight=-1"):
        ONE(small(), kd_weight=-1)
    with pytest.raises(
        ValueError, match=r"ResNet.*cannot run on inputs of float32 of shape \(2, 4\)"
    ):
        ONE(small(), example=torch.rand(2, 4))
    with pytest.raises(ValueError, match="larger batch_size"):
        ONE(small()).train().terms(batch(1))


def test_vectors_can_be_gated_too():
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    distiller = ONE(network, branches=2, split="2", example=batch(side=4).x)
    terms = distiller.terms(batch(side=4))
    assert (
        all(math.isfinite(v.item()) for v in terms.values()) and distiller.gate[0].in_features == 8
    )


def torchvisions(name):
    """One of torchvision's, small, and images that it takes."""
    torch.manual_seed(0)
    net = {
        "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=3, width_mult=0.25),
        "mobilenet_v3": lambda: models.mobilenet_v3_small(num_classes=3, width_mult=0.25),
        "vgg": lambda: models.VGG(
            models.vgg.make_layers([4, "M", 8, "M", 8, "M"]), num_classes=3, init_weights=False
        ),
        "vit": lambda: models.VisionTransformer(16, 8, 3, 2, 8, 16, num_classes=3),
        "densenet": lambda: models.DenseNet(4, (1, 1, 1), 8, num_classes=3),
        "swin": lambda: models.SwinTransformer(
            [4, 4], 8, [1, 1], [1, 2], [2, 2], stochastic_depth_prob=0, num_classes=3
        ),
    }[name]()
    if name == "vgg":  # its 4096 units are of no use here
        net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(8, 3))
    return net, batch(4, 16, 3)


@pytest.mark.parametrize(
    "name, split, channels",
    [
        ("mobilenet_v2", "features.14", 40),
        ("mobilenet_v3", "features.8", 16),
        ("vgg", "features.5", 8),
        ("vit", "encoder.layers.encoder_layer_1", 8),
        ("densenet", "features.transition1", 6),
        ("swin", "features.1", 8),
    ],
)
def test_a_split_inside_torchvisions_networks(name, split, channels):
    student, some = torchvisions(name)
    distiller = ONE(student, branches=2, split=split, example=some.x[:2])
    assert distiller.gate[0].in_features == channels
    sum(distiller.train().terms(some).values()).backward()
    for part in (student, distiller.branches[0], distiller.gate):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    shared = Taps(student.eval(), [split])(some.x)[1][split].detach()
    axes = {"vit": 1, "swin": (1, 2)}.get(name, (2, 3))  # of places
    linear, norm, *_ = distiller.eval().gate
    want = F.softmax(F.relu(norm(linear(shared.mean(axes)))), 1)
    assert torch.allclose(distiller(some.x)[1], want, atol=1e-6)


def test_the_default_split_where_stages_are_known_and_candidates_where_not():
    assert ONE(small()).split == "layer2"
    assert default_split(torchvisions("vgg")[0]) == "features.5"
    for own, split in (
        (mlp((8, 8, 8)), "relu2"),
        (mlp(8), "relu1"),
        (vgg(width=2, hidden=4), "features.pool3"),
        (alexnet(width=2, hidden=4), "features.pool3"),
        (densenet(10, 4), "layer2"),
        (wrn(10, 1), "layer2"),
    ):
        assert ONE(own, branches=2).split == split
    for name, inside in (
        ("mobilenet_v2", r"\['features.0', 'features.1'"),
        ("vit", r"\['encoder.layers.encoder_layer_0'"),
    ):
        student, some = torchvisions(name)
        with pytest.raises(ValueError, match=f"pass split=.*{inside}"):
            ONE(student, example=some.x)
    with pytest.raises(ValueError, match="split='features.nine': unknown layer.*features.9"):
        ONE(torchvisions("mobilenet_v2")[0], split="features.nine", example=some.x)


def test_a_classifier_without_bias_has_branches():
    student = small(2)
    student.fc = nn.Linear(student.fc.in_features, 3, bias=False)
    distiller = ONE(student, branches=3)
    heads = [b.fc.weight for b in (student, *distiller.branches)]
    assert all(not torch.equal(heads[i], heads[j]) for i in range(3) for j in range(i))
    assert torch.isfinite(sum(distiller.terms(batch()).values()))


def test_branches_begin_with_attention_of_their_own():
    student, some = torchvisions("vit")
    distiller = ONE(student, split="encoder.layers.encoder_layer_1", example=some.x)
    path = "encoder.layers.encoder_layer_2.self_attention"
    drawn = [n.get_submodule(path).in_proj_weight for n in (student, *distiller.branches)]
    assert all(not torch.equal(drawn[i], drawn[j]) for i in range(3) for j in range(i))


class Dense(nn.Module):
    """Answers at every place, in a mapping."""

    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return {"out": self.layer2(self.layer1(x).relu())}


def test_answers_at_every_place_are_weighed_by_the_example_s_gate():
    distiller, some = ONE(Dense(), branches=2, split="layer1", example=batch().x).eval(), batch()
    distiller.task = Segmentation()
    some = some._replace(y=torch.arange(6 * 64).reshape(6, 8, 8) % 3)
    logits, gate = distiller(some.x)
    assert logits.shape == (2, 6, 3, 8, 8)
    z = sum(gate[:, i, None, None, None] * logits[i] for i in range(2))
    close(distiller.terms(some)["ce_ensemble"], F.cross_entropy(z, some.y), rel=1e-5)
    distiller.task = MultiLabel()
    with pytest.raises(ValueError, match="no softmax"):
        distiller.terms(some._replace(y=torch.ones(6, 3, 8, 8)))


@pytest.mark.parametrize("axis, split", [(1, "0"), (2, "0")])
def test_the_gate_finds_the_channels_of_signals_and_tokens(axis, split):
    x = torch.rand(4, *((2, 8) if axis == 1 else (8, 2)))
    first = nn.Conv1d(2, 5, 3) if axis == 1 else nn.Linear(2, 5)
    student = nn.Sequential(first, nn.Flatten(), nn.LazyLinear(3))
    student(x)
    distiller = ONE(student, 2, split, example=x)
    assert distiller.gate[0].in_features == 5
    assert torch.isfinite(sum(distiller.terms(Batch(x, torch.arange(4) % 3)).values()))


def test_a_short_training_improves():
    history = fit(
        ONE(small(2), branches=2), images(), 4, batch_size=30, lr=0.02, validation=0, progress=False
    )
    for name in ("ce", "ce_ensemble"):
        assert history.rows[-1][name] < 0.9 * history.rows[0][name]


@pytest.mark.parametrize("name, split", [("resnet18", "layer3"), ("mobilenet_v2", "features")])
def test_torchvisions_networks(name, split):
    some, student = batch(4, 32, 3), foreign(name, seed=1).train().requires_grad_(True)
    distiller = ONE(student, branches=2, split=split, example=some.x[:2]).train()
    sum(distiller.terms(some).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in distiller.parameters())
    student.zero_grad()
    inner = {"resnet18": "layer1.0", "mobilenet_v2": "features.5"}[name]  # inside a child
    deep = ONE(student, branches=2, split=inner, example=some.x[:2]).train()
    assert deep(some.x)[0].shape == (2, 4, 3)
    within = {"resnet18": "layer1.0.conv1", "mobilenet_v2": "features.3.conv.0"}[name]
    with pytest.raises(ValueError, match="cannot be cut"):
        ONE(student, split=within, example=some.x[:2])


def test_a_split_with_nothing_above_it_is_refused():
    with pytest.raises(ValueError, match="'fc'.*nothing above.*earlier"):
        ONE(small(), split="fc")


def test_devices_that_differ_are_both_named():
    some = batch()
    for wrong in (some._replace(x=some.x.to("meta")), some._replace(y=some.y.to("meta"))):
        with pytest.raises(ValueError, match="(?s)meta.*cpu"):
            ONE(small()).terms(wrong)


def test_a_network_of_one_layer_has_nothing_to_part_behind():
    with pytest.raises(ValueError, match="Linear has no layers inside"):
        ONE(torch.nn.Linear(6, 3), example=torch.rand(2, 6))
