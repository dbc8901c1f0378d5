"""Maps that hold their channels last, as Swin transformers' do: seen, said, and read on request."""

import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, resnet18

from kdtutor.datasets import Batch
from kdtutor.methods import (
    CRD,
    FSP,
    RKD,
    ActivationBoundary,
    AttentionTransfer,
    FitNet,
    FullActivationTransfer,
    JacobianMatching,
    SimilarityPreserving,
)
from kdtutor.models import resnet8
from kdtutor.taps import Taps
from kdtutor.taps.layout import channels_last

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def swin():
    torch.manual_seed(0)
    return SwinTransformer(
        [4, 4], 8, depths=[1, 1], num_heads=[1, 2], window_size=[4, 4], num_classes=3
    )


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 32)])
def test_a_swin_s_maps_are_seen_and_others_are_not(size):
    x = torch.rand(2, 3, *size)
    maps = ["features.1", "features.2", "features.3", "norm"]
    assert channels_last(swin(), [*maps, "permute"], x) == maps
    net = resnet18(num_classes=3)
    assert channels_last(net, ["layer1", "layer2.0.relu#2", "layer4", "fc"], x) == []
    assert channels_last(swin(), [f"{m}:channels_last" for m in maps], x) == []


class OneSize(nn.Module):
    """Takes images of one size, and has maps of as many rows as channels."""

    def __init__(self, last):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.mix, self.head, self.last = nn.Linear(8, 8), nn.Linear(8 * 64, 3), last

    def forward(self, x):
        if x.shape[2:] != (32, 32):
            raise AssertionError("one size only")
        x = self.conv(x)
        if self.last:
            return self.head(self.mix(self.norm(x.permute(0, 2, 3, 1))).flatten(1))
        return self.head(x.flatten(1))


def test_a_network_of_one_size_says_it_by_the_kind_of_its_layers():
    assert channels_last(OneSize(True), ["conv", "norm", "mix", "head"], X) == ["norm", "mix"]
    assert channels_last(OneSize(False), ["conv", "head"], X) == []
    assert channels_last(resnet8(3), ["layer1"], X) == []
    assert channels_last(resnet8(3), ["layer1"], torch.rand(2, 5)) == []  # no images


PAIRS = [("layer1", "features.1"), ("layer2", "features.3")]
METHODS = {
    "AT": AttentionTransfer,
    "FitNet": lambda s, t, layers, **kw: FitNet(s, t, layers[-1], **kw),
    "F-ActT": FullActivationTransfer,
    "AB": ActivationBoundary,
    "Jacobian": lambda s, t, layers, **kw: JacobianMatching(s, t, layers=layers, **kw),
    "FSP": lambda s, t, layers, **kw: FSP(s, t, layers, **kw),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_height_is_never_taken_for_channels(method):
    with pytest.raises(ValueError, match=r"the teacher's layer 'features.*:channels_last'"):
        METHODS[method](resnet8(3), swin(), PAIRS, example=X)


@pytest.mark.parametrize("method", ["AT", "FitNet", "F-ActT", "AB"])
def test_read_as_they_are_they_teach(method):
    pairs = [(s, f"{t}:channels_last") for s, t in PAIRS]
    teacher, student = swin(), resnet8(3)
    distiller = METHODS[method](student, teacher, pairs, example=X)
    batch = Batch(X, torch.arange(4) % 3)
    stage = distiller.stages()[0]
    terms = stage.players[0].terms(batch)
    sum(terms.values()).backward()
    assert all(torch.isfinite(v) for v in terms.values())
    assert student.conv1.weight.grad.abs().sum() > 0


class Turned(nn.Module):
    """A Swin whose first maps pass a module as (B, C, H, W), too."""

    def __init__(self):
        super().__init__()
        self.net, self.turned = swin(), nn.Identity()
        self.net.features[1].register_forward_hook(
            lambda module, args, out: (self.turned(out.permute(0, 3, 1, 2)), None)[1]
        )

    def forward(self, x):
        return self.net(x)


def test_the_value_is_that_of_the_permuted_maps():
    batch, values = Batch(X, torch.arange(4) % 3), []
    for path in ("net.features.1:channels_last", "turned"):
        student = resnet8(3, channels=3)
        torch.manual_seed(1)
        for p in student.parameters():
            nn.init.normal_(p, std=0.1)
        at = AttentionTransfer(student, Turned().eval(), [("layer1", path)], example=X).eval()
        values.append(at.terms(batch)["at"].item())
    assert values[0] == values[1] > 0


def test_relations_of_rows_do_not_mind():
    pairs = [("layer1", "features.1")]
    for make in (SimilarityPreserving, RKD):
        assert make(resnet8(3), swin(), layers=pairs, example=X).layers
    assert CRD(resnet8(3), swin(), layers=pairs, example=X).layers


def test_only_maps_can_be_channels_last():
    with pytest.raises(ValueError, match=r"'fc:channels_last' gives \(4, 3\): only maps"):
        Taps(resnet8(3), ["fc:channels_last"])(X)
    with pytest.raises(ValueError, match="after the colon comes 'input'.*'channels_last'"):
        Taps(resnet8(3), ["fc:nhwc"])
