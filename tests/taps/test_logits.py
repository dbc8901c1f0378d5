"""The logits in whatever a network returns."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

from kdtutor.taps import Taps, call, input_gradient, logits_of

z, other = torch.randn(2, 3), torch.randn(2, 5)


class ModelOutput(OrderedDict):
    """As transformers': a mapping whose entries are attributes."""

    __getattr__ = OrderedDict.__getitem__


@pytest.mark.parametrize(
    "output",
    [
        z,
        SimpleNamespace(loss=other, logits=z),
        ModelOutput(loss=other, logits=z),
        namedtuple("GoogLeNetOutputs", "aux logits")(other, z),
        {"hidden": other, "logits": z},
        {"aux": other, "out": z},
        {"out": other, "logits": z},
        {"scores": z, "name": "net"},
        (z, other),
        [z],
    ],
    ids=lambda output: type(output).__name__,
)
def test_logits_are_found(output):
    assert logits_of(output) is z


@pytest.mark.parametrize(
    "output, words",
    [
        (None, "NoneType"),
        ({}, "no entries"),
        ({"a": z, "b": other}, "'a': Tensor, 'b': Tensor"),
        ({"logits": [z], "out": z}, "'logits': list"),
        ((), r"tuple of \[\]"),
        (({"boxes": z}, z), r"tuple of \[dict, Tensor\]"),
        ([{"boxes": z}], r"list of \[dict\]"),
        (SimpleNamespace(logits=None), "SimpleNamespace whose .logits is a NoneType"),
    ],
)
def test_where_there_are_none_the_error_says_what_there_is(output, words):
    with pytest.raises(ValueError, match=f"network returned .*{words}.*[Ww]rap"):
        logits_of(output)


def test_torchvisions_own():
    torch.manual_seed(0)
    net = torchvision.models.googlenet(num_classes=3, init_weights=False, aux_logits=True).train()
    x = torch.rand(2, 3, 64, 64)
    output = net(x)
    assert logits_of(output) is output.logits
    net = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    assert logits_of(net(x)).shape == (2, 3, 64, 64)


class Named(nn.Module):
    """Takes names, answers with names."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, values, extra=None):
        return {"hidden": values, "logits": self.fc(values)}


def test_a_mapping_is_named_arguments():
    net, x = Named(), torch.rand(2, 4)
    assert torch.equal(call(net, {"values": x, "extra": x})["logits"], net.fc(x))
    assert torch.equal(call(net, x)["logits"], net.fc(x))
    assert torch.equal(Taps(net, ["fc"])({"values": x})[1]["fc"], net.fc(x))


def test_the_gradient_by_the_input_reads_logits_too():
    net, x = Named(), torch.rand(2, 4)
    gradient, logits, features = input_gradient(net, x, lambda z, _: z[:, 1], ["fc"])
    torch.testing.assert_close(gradient, net.fc.weight[1].detach().expand(2, 4))
    assert torch.equal(logits, features["fc"]) and not logits.requires_grad
