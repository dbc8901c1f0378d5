"""A network cut behind a layer: the halves give what the whole gives, hold disjoint parts of it,
and train it; cutting leaves no trace."""

import copy

import pytest
import torch
import torchvision
from small import weights
from torch import nn

from kdtutor import models
from kdtutor.taps import cut

CASES = {
    "resnet8 layer1": (lambda: models.resnet8(classes=3, channels=1), "layer1", (1, 8, 8)),
    "resnet8 layer2.0": (lambda: models.resnet8(classes=3, channels=1), "layer2.0", (1, 8, 8)),
    "wrn": (lambda: models.wrn(10, 1, classes=3), "layer2", (3, 16, 16)),
    "densenet": (lambda: models.densenet(16, 8, classes=3), "layer1", (3, 16, 16)),
    "mlp": (lambda: models.mlp([8, 8], inputs=16, classes=3), "fc1", (1, 4, 4)),
    "vgg": (lambda: torchvision.models.vgg11(num_classes=3), "features.7", (3, 32, 32)),
    "mobilenet": (
        lambda: torchvision.models.mobilenet_v2(num_classes=3), "features.5", (3, 32, 32)
    ),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=3), "layer2.0", (3, 32, 32)),
    "vit": (
        lambda: torchvision.models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=3),
        "encoder.layers.encoder_layer_0", (3, 16, 16),
    ),
}  # fmt: skip
every = pytest.mark.parametrize("name", CASES)


def made(name):
    torch.manual_seed(0)
    make, layer, shape = CASES[name]
    return make(), layer, torch.rand(3, *shape)


@every
def test_the_halves_are_the_network(name):
    net, layer, x = made(name)
    before = weights(net)
    lower, upper = cut(net.train(), layer, x)
    assert torch.equal(weights(net), before), "statistics did not move"
    assert all(m.training for m in [*net.modules(), *lower.modules(), *upper.modules()])
    net.eval(), lower.eval(), upper.eval()
    with torch.no_grad():
        assert torch.equal(upper(lower(x)), net(x))
    ids = [{id(p) for p in half.parameters()} for half in (lower, upper)]
    assert not ids[0] & ids[1] and ids[0] | ids[1] <= {id(p) for p in net.parameters()}
    assert len(ids[0]) > 0 and len(ids[1]) > 0
    if name != "vit":  # whose class token and positions enter before the first layer, as attributes
        assert ids[0] | ids[1] == {id(p) for p in net.parameters()}


@every
def test_training_the_halves_trains_the_network_and_training_copies_does_not(name):
    net, layer, x = made(name)
    for shared in (True, False):
        before = weights(net)
        lower, upper = cut(net.train(), layer, x, copy=not shared)
        both = [*lower.parameters(), *upper.parameters()]
        optimizer = torch.optim.SGD(both, 0.1)
        (upper(lower(x)) - 1).square().mean().backward()  # ViTs begin with heads of zeros
        assert all(p.grad is not None for p in both)
        optimizer.step()
        assert torch.equal(weights(net), before) != shared
        net.zero_grad()


@every
def test_state_names_stay_those_of_the_network(name):
    net, layer, x = made(name)
    lower, upper = cut(net, layer, x)
    assert {*lower.state_dict(), *upper.state_dict()} <= set(net.state_dict())


def test_batch_norm_moves_in_the_network_when_a_half_runs():
    net, layer, x = made("resnet8 layer1")
    lower, upper = cut(net.train(), layer, x)
    before = net.bn1.running_mean.clone(), net.layer3[0].bn1.running_mean.clone()
    feature = lower(x)
    assert not torch.equal(net.bn1.running_mean, before[0])
    assert torch.equal(net.layer3[0].bn1.running_mean, before[1]), "the upper half did not run"
    lower.eval()
    assert not net.bn1.training and net.layer3[0].bn1.training
    upper(feature)
    assert not torch.equal(net.layer3[0].bn1.running_mean, before[1])


def test_one_network_runs_on_through_another_while_both_train():
    (plain, layer, x), (other, _, _) = made("resnet8 layer1"), made("resnet8 layer1")
    other = copy.deepcopy(other)
    lower, upper = cut(plain, layer, x)[0], cut(other, layer, x)[1]
    upper(lower(x)).sum().backward()
    assert plain.layer1[0].conv1.weight.grad.abs().sum() > 0 and plain.fc.weight.grad is None
    assert other.fc.weight.grad.abs().sum() > 0 and other.conv1.weight.grad is None


def test_copies_can_be_copied_and_moved():
    net, layer, x = made("mlp")
    lower, upper = cut(net, layer, x, copy=True)
    again = copy.deepcopy(lower)
    assert torch.equal(again(x), lower(x))
    with torch.no_grad():
        next(again.parameters()).zero_()
    assert not torch.equal(again(x), lower(x)), "a copy of a half reads its own weights"
    assert upper.double()(lower.double()(x.double())).dtype == torch.float64


class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(x + self.b(self.a(x)))


def test_what_cannot_be_cut_is_said():
    x = torch.rand(2, 4)
    with pytest.raises(
        ValueError, match="Skips cannot be cut after 'a'.*reads the input past the layer"
    ):
        cut(Skips(), "a", x)
    with pytest.raises(ValueError, match="unknown layer path"):
        cut(Skips(), "d", x)
    with pytest.raises(ValueError, match="example="):
        cut(Skips(), "a")
    google = torchvision.models.googlenet(num_classes=3, init_weights=False)
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(google, "inception4a", torch.rand(2, 3, 64, 64))
