"""Reading features: by path, before and after a ReLU, without a trace; and the errors."""

import pytest
import torch
import torchvision
from torch import nn

from kdtutor.models import resnet8
from kdtutor.taps import (
    Taps,
    check_same_features,
    example_input,
    layers,
    shapes,
    twice_differentiable,
)


def test_features_equal_a_hand_made_forward():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    out, features = Taps(net, ["0", "1", "1:input", "2"])(x)
    torch.testing.assert_close(features["0"], net[0](x))
    torch.testing.assert_close(features["1"], net[0](x).relu())
    torch.testing.assert_close(features["1:input"], net[0](x))
    torch.testing.assert_close(out, net(x))
    assert features["1"].requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_an_inplace_relu_does_not_corrupt_what_was_read():
    net = torchvision.models.resnet18(num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    _, features = Taps(net, ["bn1", "relu:input", "layer2.1"])(x)
    want = net.bn1(net.conv1(x))
    assert want.min() < 0
    torch.testing.assert_close(features["bn1"], want)
    assert features["layer2.1"].shape == (2, 128, 4, 4)


class Rectifier(nn.Module):
    """Rectifies in place by a function, which no module shows."""

    def __init__(self, overwrites=True):
        super().__init__()
        self.norm, self.overwrites = nn.BatchNorm1d(3), overwrites

    def forward(self, x):
        return nn.functional.relu(self.norm(x), inplace=self.overwrites).sum(1)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_function_that_works_in_place_does_not_corrupt_what_was_read(mode, context):
    net, x = Rectifier().train(mode), torch.randn(6, 3)
    with context():
        for _ in range(3):
            assert Taps(net, ["norm"])(x)[1]["norm"].min() < 0


def test_a_network_that_begins_to_overwrite_what_is_read_is_noticed():
    net, x = Rectifier(overwrites=False).eval(), torch.randn(6, 3)
    for _ in range(2):
        assert Taps(net, ["norm"])(x)[1]["norm"].min() < 0
    net.overwrites = True
    with pytest.raises(RuntimeError, match="in place.*again"):
        Taps(net, ["norm"])(x)
    assert Taps(net, ["norm"])(x)[1]["norm"].min() < 0


def test_features_that_nothing_overwrites_are_not_copied_and_trying_leaves_no_trace():
    net, x, seen = Rectifier(overwrites=False).train(), torch.randn(6, 3), []
    net.norm.register_forward_hook(lambda m, args, out: seen.append(out))
    feature = Taps(net, ["norm"])(x)[1]["norm"]
    assert (
        len(seen) == 2 and feature is seen[1] and net.training and net.norm.num_batches_tracked == 1
    )
    assert Taps(net, ["norm"])(x)[1]["norm"] is seen[2] and len(seen) == 3


@pytest.mark.parametrize("inplace", [True, False])
def test_hard_sigmoids_can_be_differentiated_twice(inplace):
    net, x = (
        nn.Sequential(nn.Linear(3, 3), nn.Hardsigmoid(inplace)),
        torch.randn(40, 3).mul(4).requires_grad_(),
    )
    plain = net(x)
    (slope,) = torch.autograd.grad(plain.square().sum(), x)
    with twice_differentiable(net):
        again = net(x)
    torch.testing.assert_close(again, plain)
    (twice,) = torch.autograd.grad(again.square().sum(), x, create_graph=True)
    torch.testing.assert_close(twice, slope)
    twice.square().sum().backward()
    assert x.grad.abs().sum() > 0 and not net[1]._forward_hooks and net[1].inplace == inplace


def test_wrong_path_lists_near_matches():
    with pytest.raises(ValueError, match="layer9.*'layer"):
        Taps(resnet8(), ["layer9"])
    with pytest.raises(ValueError, match="input.*output"):
        Taps(resnet8(), ["layer1:before"])


def test_shared_and_unused_modules_are_named():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu, self.unused = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)

        def forward(self, x):
            return self.relu(self.fc(self.relu(x)))

    with pytest.raises(ValueError, match="relu.*twice"):
        Taps(Shared(), ["relu"])(torch.randn(2, 3))
    with pytest.raises(ValueError, match="unused"):
        Taps(Shared(), ["unused"])(torch.randn(2, 3))


def test_hooks_are_gone_after_an_error():
    net = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError):
        Taps(net, ["0"])(torch.randn(2, 7))
    assert not net[0]._forward_hooks


def test_shapes_leave_no_trace():
    net = resnet8()
    net.train()
    net.layer1.eval()
    before = net.bn1.running_mean.clone()
    assert shapes(net, ["layer1", "layer3"]) == {"layer1": (16, 32, 32), "layer3": (64, 8, 8)}
    assert net.training and not net.layer1.training and net.bn1.training
    assert torch.equal(before, net.bn1.running_mean)
    assert "layer1.0" in layers(net)


def test_a_foreign_net_needs_an_example():
    net = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="input_shape"):
        example_input(net)
    assert shapes(net, ["0"], torch.zeros(1, 3)) == {"0": (4,)}


def test_feature_mismatch_names_both_layers_and_shapes():
    with pytest.raises(ValueError, match=r"'a'.*\(2, 16, 8, 8\).*'b'.*\(2, 32, 8, 8\)"):
        check_same_features("a", torch.zeros(2, 16, 8, 8), "b", torch.zeros(2, 32, 8, 8))
