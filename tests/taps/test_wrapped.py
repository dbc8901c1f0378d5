"""Layers of networks that something else runs: torch.compile, nn.DataParallel, an adapter. They
keep their paths, and what is read is what the network itself computes, whatever was called before.
"""

import pytest
import torch
from torch import nn

from kdtutor.models import adapt, resnet8
from kdtutor.taps import Taps, bare, cut, input_gradient, layers, shapes, unwrapped
from kdtutor.taps.default_layers import (
    before_relu,
    embedding,
    levels,
    nonlinearity,
    parameters_before,
)
from kdtutor.taps.examples import stated_shape
from kdtutor.taps.wrapped import is_compiled, module_at

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(seed=0):
    torch.manual_seed(seed)
    net = resnet8(3, channels=1)
    net.input_shape = (1, 8, 8)
    return net


def compiled(net):
    return torch.compile(net, backend="eager")


def in_place(net):
    net.compile(backend="eager")
    return net


def a_part(net):
    net.layer2 = compiled(net.layer2)
    return net


WRAPPERS = {
    "compiled": compiled,
    "compiled in place": in_place,
    "a compiled part": a_part,
    "parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "adapted": lambda net: adapt(net, size=8),
    "parallel and compiled": lambda net: compiled(nn.DataParallel(net)),
    "compiled and adapted": lambda net: adapt(compiled(net), size=8),
}
every = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def used(net):
    """What has run in both modes, with and without gradients, so that its code is compiled."""
    for mode in (True, False):
        with torch.no_grad():
            net.train(mode)(X)
        net(X)
    return net


@every
def test_what_is_read_is_what_the_network_computes(wrap):
    net = used(wrap(network()))
    own = network()
    own.load_state_dict(unwrapped_state(net))
    own.eval(), net.eval()
    paths = ["layer1", "layer2.0.relu2", "layer3:input", "fc:input"]
    right, features = Taps(own, paths)(X)
    for _ in range(2):
        output, found = Taps(net, paths)(X)
        assert torch.equal(output, right) and list(found) == paths
        assert all(torch.equal(found[path], features[path]) for path in paths)
    assert torch.equal(net(X), right), "and it runs as before"
    early = Taps(net, ["layer1"], stop=True)(X)
    assert early[0] is None and torch.equal(early[1]["layer1"], features["layer1"])


def unwrapped_state(net):
    """The state under the network's own names."""
    names = ("_orig_mod.", "module.", "net.")
    state = net.state_dict()
    for name in names * 2:
        state = {k.removeprefix(name).replace(f".{name}", "."): v for k, v in state.items()}
    return {k: v for k, v in state.items() if k != "n_averaged"}


@every
def test_default_layers(wrap):
    net, own = used(wrap(network())), network()
    own.load_state_dict(unwrapped_state(net))
    assert levels(net) == levels(own) and embedding(net, X) == embedding(own, X) == "fc:input"
    for path in levels(own):
        assert before_relu(net, path, X) == before_relu(own, path, X)
        assert repr(nonlinearity(net, path, X)) == repr(nonlinearity(own, path, X)) == "ReLU()"
    assert len(parameters_before(net, ["layer2"], X)) == len(parameters_before(own, ["layer2"], X))
    assert shapes(net, ["layer2"], X) == shapes(own, ["layer2"], X) == {"layer2": (32, 4, 4)}


@every
def test_gradients_by_the_pixels(wrap):
    net, own = used(wrap(network())), network()
    own.load_state_dict(unwrapped_state(net))
    score = lambda z, f: f["layer2"].flatten(1).sum(1) + z[:, 0]
    for found, right in zip(
        input_gradient(net, X, score, ["layer2"])[:2], input_gradient(own, X, score, ["layer2"])[:2]
    ):
        torch.testing.assert_close(found, right)


@every
def test_their_paths_are_the_networks_own(wrap):
    net = wrap(network())
    assert layers(net) == layers(network())
    assert type(unwrapped(net)) is type(network())
    with pytest.raises(ValueError, match="unknown layer path.*Did you mean 'layer"):
        Taps(net, ["layer9"])


@pytest.mark.parametrize(
    "wrap, prefix",
    [(compiled, "_orig_mod."), (nn.DataParallel, "module."), (WRAPPERS["adapted"], "net.")],
)
def test_paths_with_the_wrappers_name_are_the_same(wrap, prefix):
    net = wrap(network()).eval()
    assert module_at(net, f"{prefix}layer2.0") is module_at(net, "layer2.0") is not None
    found = Taps(net, [f"{prefix}layer2", "layer2"])(X)[1]
    assert torch.equal(found[f"{prefix}layer2"], found["layer2"])
    assert before_relu(net, f"{prefix}layer2", X) == before_relu(net, "layer2", X)


@pytest.mark.parametrize(
    "name", [n for n in WRAPPERS if n not in ("a compiled part", "compiled and adapted")]
)
def test_they_can_be_cut(name):
    net = WRAPPERS[name](network()).eval()
    lower, upper = cut(net, "layer2", X)
    assert torch.equal(upper(lower(X)), net(X))
    shared = {id(p) for half in (lower, upper) for p in half.parameters()}
    assert shared == {id(p) for p in net.parameters()}


def test_no_compiler_is_loaded_for_others():
    assert not is_compiled(network().modules())
    assert is_compiled(compiled(network()).modules()) and is_compiled(in_place(network()).modules())


def test_a_stated_shape_is_found_inside():
    assert stated_shape(nn.DataParallel(network())) == stated_shape(network()) == (1, 8, 8)
    assert stated_shape(compiled(network())) == (1, 8, 8)
    assert stated_shape(adapt(nn.Linear(2, 2))) is None
    assert stated_shape(adapt(nn.DataParallel(network()), size=4, channels=3)) == (3, 4, 4)


def test_what_only_runs_a_network_adds_no_names():
    own = list(network().state_dict())
    for wrap in ("compiled", "compiled in place", "parallel", "averaged", "parallel and compiled"):
        assert list(bare(WRAPPERS[wrap](network())).state_dict()) == own
    adapted = compiled(adapt(network(), size=8))
    assert list(bare(adapted).state_dict()) == [f"net.{name}" for name in own]
