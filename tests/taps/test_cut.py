"""Cutting a network behind a layer: exact in both modes, shared or copied, and refused where it
cannot be.
"""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from losses import batch, foreign, small
from small import net, weights
from torch import nn

from kdtutor.models import densenet, wrn
from kdtutor.taps import cut


def vit():
    torch.manual_seed(0)
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=3, dropout=0.1)


def made(name):
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(num_classes=3)


def vgg():
    network = made("vgg11_bn")
    network.classifier = nn.Sequential(
        nn.Linear(512 * 49, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
    )
    return network


def deep_mlp():
    return net(hidden=(16, 8, 8), dropout=0.2)


CASES = [
    (small, "layer2", batch().x),
    (small, "layer2.0", batch().x),
    (small, "layer2.0.relu2", batch().x),
    (small, "conv1", batch().x),
    (small, "fc", batch().x),
    (deep_mlp, "relu1", batch(side=4).x),
    (deep_mlp, "dropout2", batch(side=4).x),
    (lambda: wrn(10, 1, classes=3), "layer2", batch(2, 32, 3).x),
    (lambda: wrn(10, 1, classes=3), "bn", batch(2, 32, 3).x),
    (lambda: densenet(10, 4, classes=3), "layer2.0", batch(2, 32, 3).x),
    (lambda: made("resnet18"), "layer1.0", batch(2, 32, 3).x),
    (lambda: made("resnet18"), "bn1", batch(2, 32, 3).x),
    (lambda: made("mobilenet_v2"), "features.5", batch(2, 32, 3).x),
    (lambda: made("mobilenet_v2"), "features.5.conv.0", batch(2, 32, 3).x),
    (vgg, "features.7", batch(2, 32, 3).x),
    (vgg, "classifier.1", batch(2, 32, 3).x),
    (lambda: made("densenet121"), "features.denseblock2", batch(2, 32, 3).x),
    (vit, "conv_proj", batch(2, 32, 3).x),
    (vit, "encoder.layers.encoder_layer_1", batch(2, 32, 3).x),
    (vit, "encoder.layers", batch(2, 32, 3).x),
]
SKIPS = {"features.5.conv.0": "'input'|the input", "conv_proj": "reads"}


def parts(module):
    return {name: p.data_ptr() for name, p in module.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize("make, layer, x", [c for c in CASES if c[1] not in SKIPS])
def test_the_halves_are_the_network(make, layer, x):
    network = make().train()
    lower, upper = cut(network, layer, example=x[:2])
    both, own = {**parts(lower), **parts(upper)}, parts(network)
    assert both == own and not parts(lower).keys() & parts(upper).keys()
    assert lower.training and upper.training
    for mode in (False, True):
        twin = copy.deepcopy(network).train(mode)
        lower.train(mode), upper.train(mode)
        torch.manual_seed(5)
        want = twin(x)
        torch.manual_seed(5)
        got = upper(lower(x))
        assert torch.equal(got, want)
        want.square().sum().backward()
        got.square().sum().backward()
        for (name, p), q in zip(network.named_parameters(), twin.parameters()):
            assert torch.equal(p.grad, q.grad), name
        assert torch.equal(weights(network), weights(twin)), "BatchNorm's statistics move alike"
        network.zero_grad()


@pytest.mark.parametrize("make, layer, x", [c for c in CASES if c[1] in SKIPS])
def test_a_cut_across_a_skip_connection_is_refused(make, layer, x):
    with pytest.raises(ValueError, match=f"cannot be cut after '{layer}': .*past the layer"):
        cut(make(), layer, example=x)


def test_copies_are_their_own():
    network = small()
    lower, upper = cut(network, "layer2", copy=True)
    before = weights(network)
    with torch.no_grad():
        for p in [*lower.parameters(), *upper.parameters()]:
            p.zero_()
    assert torch.equal(before, weights(network))
    lower.train()(batch().x)
    assert torch.equal(before, weights(network))


def test_halves_have_modes_of_their_own():
    network = small().train()
    lower, upper = cut(network, "layer2")
    upper.eval()
    still = [m.running_mean.clone() for m in upper.modules() if isinstance(m, nn.BatchNorm2d)]
    moving = network.bn1.running_mean.clone()
    upper(lower(batch().x))
    now = [m.running_mean for m in upper.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(map(torch.equal, still, now)) and not torch.equal(moving, network.bn1.running_mean)
    frozen = small().train()
    frozen.layer1.eval()
    lower, _ = cut(frozen, "layer2")
    assert lower.training and not lower.layer1.training and lower.layer2.training
    assert not any(half.training for half in cut(small().eval(), "layer2"))
    resnet = copy.deepcopy(foreign("resnet18")).train()
    resnet.layer2.training = False
    for half in cut(resnet, "layer2.0", example=batch(2, 32, 3).x):
        assert half.training and not half.layer2.training


def test_other_batch_and_image_sizes():
    network = small().eval()
    lower, upper = cut(network, "layer1")
    x = torch.rand(5, 1, 20, 12)
    assert torch.equal(upper(lower(x)), network(x))


def test_the_feature_stays_what_it_was_where_the_network_overwrites_it():
    network = foreign("resnet18").eval()
    lower, upper = cut(network, "bn1", example=batch(2, 32, 3).x)
    feature = lower(batch(2, 32, 3).x)
    kept = feature.clone()
    upper(feature)
    assert torch.equal(feature, kept) and kept.min() < 0


def test_a_student_runs_on_through_a_teachers_upper_half_while_both_train():
    student, teacher, some = small(1).train(), small(2).train(), batch()
    lower, _ = cut(student, "layer2")
    _, upper = cut(teacher, "layer2")
    optimizer = torch.optim.SGD([*lower.parameters(), *upper.parameters()], 0.1)
    before = {"s": weights(student.layer1), "t": weights(teacher.layer3)}
    still = {"s": weights(student.layer3), "t": weights(teacher.layer1)}
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(upper(lower(some.x)), some.y)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in (student.conv1.weight, teacher.fc.weight))
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(before["s"], weights(student.layer1))
    assert not torch.equal(before["t"], weights(teacher.layer3))
    assert torch.equal(still["s"], weights(student.layer3))
    assert torch.equal(still["t"], weights(teacher.layer1))


def test_halves_can_be_copied_and_pickled():
    network, x = vit().eval(), batch(2, 32, 3).x
    lower, upper = cut(network, "encoder.layers.encoder_layer_0", example=x)
    for again in (copy.deepcopy, lambda half: pickle.loads(pickle.dumps(half))):
        assert torch.equal(again(upper)(again(lower)(x)), network(x))


class Named(nn.Module):
    """Takes names, uses one weight on both sides, a token on either side, returns a mapping."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.token = nn.Parameter(torch.rand(1, 4))
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)

    def forward(self, values, more=None, shift=None):
        token = self.token * 2
        x = values if shift is None else values + shift
        x = self.first(x + token) if more is None else self.first(x * more)
        return {"logits": self.last(x) * self.scale + token, "hidden": (x, self.first.weight[:2])}


@pytest.mark.parametrize("names", [("values",), ("values", "shift"), ("values", "more", "shift")])
def test_names_tokens_tied_weights_and_any_answer(names):
    network, x = Named(), {name: torch.rand(3, 4) for name in names}
    lower, upper = cut(network, "first", example=x)
    want, got = network(**x), upper(lower(**x))
    assert torch.equal(got["logits"], want["logits"])
    assert all(map(torch.equal, got["hidden"], want["hidden"]))
    assert set(lower.state_dict()) == {"first.weight", "first.bias", "token"}
    assert set(upper.state_dict()) == {"last.weight", "last.bias", "token", "first.weight"}
    assert upper.first.weight is network.first.weight and upper.scale is network.scale
    with pytest.raises(ValueError, match="takes"):
        lower(wrong=x["values"])


class Odd(nn.Module):
    """One of several things that cannot be written down as steps."""

    def __init__(self, odd):
        super().__init__()
        self.fc1, self.fc2, self.odd = nn.Linear(4, 4), nn.Linear(4, 3), odd

    def forward(self, x):
        return self.fc2(self.odd(self, self.fc1(x)))


@pytest.mark.parametrize(
    "odd, words",
    [
        (lambda net, x: F.dropout(x, 0.5, net.training), "something else in training"),
        (lambda net, x: x if x.mean() > 0 else -x, "branches on the values"),
        (lambda net, x: x + torch.ones(4), "makes a tensor"),
        (lambda net, x: torch.stack([row * 2 for row in x]), "loops over"),
        (lambda net, x: x * int(x.shape[1]), "int"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(odd, words):
    network, x = Odd(odd), torch.rand(3, 4)
    keys, modes = set(vars(network)), [m.training for m in network.modules()]
    with pytest.raises(ValueError, match=f"Odd cannot be cut after 'fc1': .*{words}.*'fc2'"):
        cut(network, "fc1", example=x)
    assert set(vars(network)) == keys and [m.training for m in network.modules()] == modes
    assert not any(m._forward_hooks for m in network.modules())
    whole = nn.Sequential(network, nn.Linear(3, 2))  # inside of what is called as a whole, it may
    lower, upper = cut(whole.eval(), "0", example=x)
    assert torch.equal(upper(lower(x)), whole(x))


def test_branches_on_sizes_are_followed():
    network = Odd(lambda net, x: x.flatten(1) if x.dim() > 1 and x.shape[1] == 4 else x.sum())
    lower, upper = cut(network, "fc1", example=torch.rand(2, 4))
    x = torch.rand(5, 4)
    assert torch.equal(upper(lower(x)), network(x))


def test_wrong_layers():
    for layer, words in (
        ("layer9", "layer9"),
        ("layer1:input", "give its path"),
        ("layer1#1", "give its path"),
    ):
        with pytest.raises(ValueError, match=words):
            cut(small(), layer)
    with pytest.raises(ValueError, match="relu.*twice"):
        cut(foreign("resnet18"), "layer1.0.relu", example=batch(2, 32, 3).x)
    with pytest.raises(ValueError, match="input_shape"):
        cut(foreign("resnet18"), "layer1")
