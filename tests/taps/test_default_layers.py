"""Where to read a foreign network: stages, what enters a ReLU, the embedding, the parameters below
a layer.
"""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from losses import batch, foreign, small
from small import blobs, net
from torch import nn

from kdtutor.methods import RKD
from kdtutor.models import resnet14, wrn
from kdtutor.taps import Taps
from kdtutor.taps.default_layers import before_relu, embedding, levels, parameters_before


def names(student, parameters):
    known = {id(p): n for n, p in student.named_parameters()}
    return {known[id(p)].split(".")[0] for p in parameters}


def test_stages_of_networks_that_name_them_and_an_error_for_others():
    assert levels(small()) == ["layer1", "layer2", "layer3"]
    assert levels(foreign("resnet18")) == ["layer1", "layer2", "layer3", "layer4"]
    for other in (foreign("mobilenet_v2"), net()):
        with pytest.raises(ValueError, match="layers="):
            levels(other)


def test_the_embedding_is_what_enters_the_last_linear_layer():
    assert embedding(small()) == "fc:input" == embedding(foreign("resnet18"))
    assert embedding(foreign("mobilenet_v2")) == "classifier.1:input"
    several = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    assert embedding(several) == "4:input"
    with pytest.raises(ValueError, match="no linear layer"):
        embedding(nn.Sequential(nn.Conv2d(3, 3, 1)))


class HeadFirst(nn.Module):
    """Its classifier is defined before the layer that it reads."""

    def __init__(self, inputs=16):
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(inputs, 8)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)).relu())


def vit(**kwargs):
    return torchvision.models.VisionTransformer(16, 8, 1, 2, 12, 24, num_classes=3, **kwargs)


def test_the_classifier_is_the_linear_layer_that_runs_last_not_the_one_defined_last():
    x = torch.rand(2, 1, 4, 4)
    assert embedding(HeadFirst(), x) == "head:input"
    known = HeadFirst()
    known.input_shape = (1, 4, 4)
    assert embedding(known) == "head:input"
    soft = nn.Sequential(nn.Flatten(), HeadFirst(), nn.LogSoftmax(1))
    assert embedding(soft, x) == "1.head:input"
    assert embedding(vit(), torch.rand(2, 3, 16, 16)) == "heads.head:input"


def test_a_network_without_its_head_has_no_embedding():
    headless = vit()
    headless.heads = nn.Identity()
    with pytest.raises(ValueError, match=r"answers with \(2, 12\).*without its head.*layers="):
        embedding(headless, torch.rand(2, 3, 16, 16))


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_rkd_never_reads_an_inner_layer_for_the_embedding(which):
    """Whether it knows an input before, or the first batch shows it."""
    nets = {"student": plain(), "teacher": plain()} | {which: HeadFirst()}
    data = blobs()
    some = next(data.batches(data.train, 8))
    rkd = RKD(*nets.values())
    with pytest.raises(ValueError, match="reads 'head:input', not 'body:input'.*example="):
        rkd.terms(some)
    rkd = RKD(*nets.values(), example=some.x[:2])
    assert "head:input" in rkd.layers[0] and rkd.terms(some)["distance"] >= 0
    headless = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), Halves())
    with pytest.raises(ValueError, match="without its head"):
        RKD(*({"student": plain(), "teacher": plain()} | {which: headless}).values()).terms(some)


class Halves(nn.Module):
    """The mean of both halves: what a pooling without a classifier returns."""

    def forward(self, x):
        return x.unflatten(1, (2, -1)).mean(1)


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def reads(network, layer, x):
    """(what before_relu finds, the layer's own output)."""
    path = before_relu(network, layer, x)
    _, features = Taps(network.eval(), [path, layer])(x)
    return path, features[path], features[layer]


@pytest.mark.parametrize(
    "make, layer, expected",
    [
        (small, "layer1", "layer1.0.relu2:input"),
        (small, "relu", "relu:input"),
        (small, "bn1", "relu:input"),
        (small, "conv1", "relu:input"),
        (lambda: resnet14(classes=3, channels=1), "layer2", "layer2.1.relu2:input"),
    ],
)
def test_the_paths_in_resnets(make, layer, expected):
    path, before, out = reads(make(), layer, batch().x)
    assert path == expected and before.min() < 0
    if layer not in ("bn1", "conv1"):
        assert torch.equal(before.relu(), out), (
            "what was found is the layer's output before its ReLU"
        )


@pytest.mark.parametrize("layer", ["layer1", "layer2.0", "layer4"])
def test_torchvisions_blocks_use_one_relu_twice(layer):
    network, some = foreign("resnet18"), batch(2, 32, 3)
    path, before, out = reads(network, layer, some.x)
    assert path.endswith("relu#2:input") and torch.equal(before.relu(), out) and before.min() < 0


def test_a_signed_sum_is_read_at_the_normalisation_that_follows_or_as_it_is():
    network, x = wrn(10, 1, classes=3), batch(2, 32, 3).x
    path, before, out = reads(network, "layer3", x)
    norm = next(
        m
        for n, m in network.named_modules()
        if isinstance(m, nn.BatchNorm2d) and m.num_features == 64 and "layer" not in n
    )
    assert torch.allclose(before, norm(out)) and path.endswith(":input")


def test_what_lies_behind_another_layer_is_not_the_layers_own_feature():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2)
    )
    assert before_relu(network, "0", torch.rand(2, 3, 8, 8)) == "0"
    assert before_relu(network, "1", torch.rand(2, 3, 8, 8)) == "2:input"
    path, before, out = reads(small(), "layer1.0.bn2", batch().x)
    assert torch.equal(before, out), (
        "the shortcut is added before the ReLU: the layer's own output is all there is"
    )
    path, before, out = reads(foreign("mobilenet_v2"), "features.4", batch(2, 32, 3).x)
    assert path == "features.4" and torch.equal(before, out)


def test_the_networks_are_left_as_they_were():
    network, x = small().train(), batch().x
    state = {k: v.clone() for k, v in network.state_dict().items()}
    before_relu(network, "layer2", x)
    parameters_before(network, ["layer2"], x)
    assert network.training and all(
        torch.equal(v, network.state_dict()[k]) for k, v in state.items()
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


def test_a_wrong_layer_lists_near_matches():
    with pytest.raises(ValueError, match="'layer1'"):
        before_relu(small(), "layerr1")


def test_parameters_before_a_layer():
    assert names(small(), []) == set()
    network = small()
    assert names(network, parameters_before(network, ["layer2"])) == {
        "conv1",
        "bn1",
        "layer1",
        "layer2",
    }
    assert names(network, parameters_before(network, ["layer1", "fc"])) == {
        "conv1",
        "bn1",
        "layer1",
        "layer2",
        "layer3",
        "fc",
    }
    assert names(network, parameters_before(network, ["layer1:input"])) == {"conv1", "bn1"}
    network.conv1.requires_grad_(False)
    assert names(network, parameters_before(network, ["layer1"])) == {"bn1", "layer1"}


def test_parameters_of_a_network_whose_order_of_definition_is_not_that_of_the_forward_pass():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.left, self.right, self.early = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x):
            x = F.relu(self.early(x))
            return self.late(self.left(x) + self.right(x))

    fork = Fork()
    assert names(fork, parameters_before(fork, ["left"], torch.rand(2, 4))) == {"early", "left"}
    assert names(fork, parameters_before(fork, ["late:input"], torch.rand(2, 4))) == {
        "early",
        "left",
        "right",
    }


def test_a_head_beside_the_one_that_answers():
    """Another linear layer that gives as many numbers, and runs later, is not the answer's."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.inner = nn.Linear(6, 8), nn.Linear(8, 5)
            self.head, self.aux = nn.Linear(8, 3), nn.Linear(5, 3)

        def forward(self, x):
            features = self.body(x)
            answer = self.head(features)
            self.beside = self.aux(self.inner(features))
            return answer

    assert embedding(Two(), torch.rand(2, 6)) == "head:input"
