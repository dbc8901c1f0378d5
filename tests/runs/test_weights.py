"""Weights are plain safetensors under the network's own names, in both directions."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import blobs, net, weights
from torch import nn

from kdtutor import fit
from kdtutor.methods import CrossEntropy
from kdtutor.runs import load_state, load_weights, save_state, save_weights


def test_a_run_leaves_weights_that_torch_loads_alone(tmp_path):
    student = net(0)
    history = fit(CrossEntropy(student), blobs(), 3, lr=0.05, run_dir=tmp_path, progress=False)
    fresh = net(9)
    fresh.load_state_dict(load_file(tmp_path / "student.safetensors"))
    assert torch.equal(weights(fresh), weights(student))
    best = net(9)
    best.load_state_dict(load_file(tmp_path / "student_best.safetensors"))
    with safe_open(tmp_path / "student_best.safetensors", "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about == {"epoch": history.best()["epoch"]}


def test_other_programs_files_are_loaded(tmp_path):
    given = net(1)
    save_file(given.state_dict(), tmp_path / "theirs.safetensors")  # no word of ours in the header
    assert torch.equal(
        weights(load_weights(net(2), tmp_path / "theirs.safetensors")), weights(given)
    )


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda n: torch.compile(n, backend="eager")])
def test_what_wraps_a_network_leaves_no_trace_in_its_names(tmp_path, wrap):
    given = net(1)
    save_weights(wrap(given), tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors").keys() == given.state_dict().keys()
    for other in (net(2), wrap(net(2))):
        loaded = load_weights(other, tmp_path / "w.safetensors")
        assert torch.equal(weights(loaded), weights(given))
    save_file(wrap(given).state_dict(), tmp_path / "wrapped.safetensors")
    assert torch.equal(
        weights(load_weights(net(3), tmp_path / "wrapped.safetensors")), weights(given)
    )


def test_a_network_whose_own_layer_is_called_module_keeps_the_name(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 1)

    own = Own()
    save_weights(own, tmp_path / "w")
    assert set(load_file(tmp_path / "w")) == {"module.weight", "module.bias"}
    load_weights(Own(), tmp_path / "w")


def test_tied_weights_and_channels_last_are_saved(tmp_path):
    tied = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)).to(
        memory_format=torch.channels_last
    )
    tied[1].weight = tied[0].weight
    save_weights(tied, tmp_path / "w")
    other = load_weights(nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)), tmp_path / "w")
    assert torch.equal(other[1].weight, tied[0].weight)


def test_a_state_beside_tensors_comes_back(tmp_path):
    class Counting(nn.Linear):
        seen = 0

        def get_extra_state(self):
            return {"seen": self.seen}

        def set_extra_state(self, state):
            self.seen = state["seen"]

    given = Counting(1, 1)
    given.seen = 7
    save_weights(given, tmp_path / "w")
    assert load_weights(Counting(1, 1), tmp_path / "w").seen == 7
    given.seen = object()
    with pytest.raises(ValueError, match="keeps _extra_state in its state, which is no tensor"):
        save_weights(given, tmp_path / "w")


def test_files_from_before_they_had_names_are_read(tmp_path):
    given = net(1)
    save_state(tmp_path / "old", {"weights": dict(given.state_dict()), "about": {}})
    assert torch.equal(weights(load_weights(net(2), tmp_path / "old")), weights(given))


def refused(tmp_path, make, *patterns):
    path, mine = tmp_path / "w.safetensors", net(2)
    make(path)
    before = weights(mine).clone()
    with pytest.raises(ValueError) as error:
        load_weights(mine, path)
    for pattern in patterns:
        assert pattern in str(error.value), error.value
    assert "elete it" not in str(error.value)
    assert torch.equal(weights(mine), before)


def test_what_cannot_be_loaded_is_told_with_its_true_reason(tmp_path):
    state = net(1).state_dict()
    named = lambda change: {change(k): v.clone() for k, v in state.items()}
    refused(
        tmp_path,
        lambda p: save_file(named(lambda k: "backbone." + k), p),
        "another architecture than",
        "it lacks fc.bias, fc.weight, fc1.bias and 1 more",
        "without the 'backbone.' before its names it would fit",
    )
    refused(
        tmp_path,
        lambda p: save_file(net(1, hidden=(5,)).state_dict(), p),
        "fc1.weight is (5, 16) there and (16, 16) in the network",
    )
    refused(
        tmp_path,
        lambda p: save_file({k: v for k, v in state.items() if k != "fc1.bias"}, p),
        "it lacks fc1.bias.",
    )
    refused(
        tmp_path,
        lambda p: save_file(state | {"more": torch.ones(1)}, p),
        "it holds more, which the network has not",
    )
    refused(tmp_path, lambda p: torch.save(state, p), "written by torch.save", "weights_only=True")
    refused(tmp_path, lambda p: p.write_bytes(b"hello"), "cannot be read as safetensors")

    def cut(path):
        save_weights(net(1), path)
        path.write_bytes(path.read_bytes()[:-9])

    refused(tmp_path, cut, "cannot be read as safetensors")

    def flipped(path):
        save_weights(net(1), path)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    refused(tmp_path, flipped, "is damaged", "do not match its checksum")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_weights(net(1), tmp_path / "none")


def test_weights_of_another_program_are_no_damaged_checkpoint(tmp_path):
    save_file(net(1).state_dict(), tmp_path / "theirs")
    with pytest.raises(ValueError, match="not the state of a run: load_weights") as error:
        load_state(tmp_path / "theirs")
    assert "elete" not in str(error.value)


def test_what_cannot_be_saved_or_loaded_says_why(tmp_path):
    line = nn.Linear(2, 1)
    with pytest.raises(OSError, match="there is no folder .*none. Make it first"):
        save_weights(line, tmp_path / "none" / "w.safetensors")
    save_weights(line, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="is a folder: say which file of it, as w.safetensors"):
        load_weights(line, tmp_path)
    unbuilt = {"run a batch": nn.LazyLinear(1), "empty": nn.Linear(2, 1, device="meta")}
    for way, bare in unbuilt.items():
        with pytest.raises(ValueError, match=f"have no memory yet: .*{way}"):
            save_weights(bare, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=f"have no memory yet: .*{way}"):
            load_weights(bare, tmp_path / "w.safetensors")
    with pytest.raises(TypeError, match="load_weights.net=3.*Expected net: the network"):
        load_weights(3, tmp_path / "w.safetensors")
