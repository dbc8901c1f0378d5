"""Settings of a training as people pass them, and what a run leaves behind."""

import copy
import shutil

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import StepLR

from kdtutor.methods import AttentionTransfer, CrossEntropy, FitNet, Hinton
from kdtutor.runs import load_weights
from tests.field.nets import (
    bert,
    conv,
    first,
    hf_vit,
    images,
    mobilenet,
    resnet,
    train,
    vgg,
    vit,
    words,
)

constant = lambda progress: 1.0


def test_05_the_rate_and_decay_of_a_class_are_those_that_were_stated():
    data = images()
    net = vgg()  # no batch norm: behind one a bias has no gradient, and Adam steps by its rounding
    by_hand = copy.deepcopy(net).train()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-5, weight_decay=0.3)
    settings = dict(optimizer=torch.optim.AdamW, lr=1e-5, weight_decay=0.3, batch_size=24)
    train(CrossEntropy(net), data, 3, schedule=constant, **settings)
    some = first(data, 24)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(by_hand(some.x), some.y).backward()
        optimizer.step()
    for (name, own), theirs in zip(net.named_parameters(), by_hand.parameters()):
        # Adam's steps have the size of its rate, whatever the gradient's: 3e-5 here, 3e-3 if not.
        assert torch.allclose(own, theirs, rtol=0, atol=2e-6), name


def test_29_an_optimiser_that_was_made_already_is_one_clear_error():
    net = conv()
    with pytest.raises(ValueError, match=r"fit makes the optimisers itself.*Pass a class"):
        train(CrossEntropy(net), images(), optimizer=torch.optim.Adam(net.parameters()), lr=0.1)


@pytest.mark.parametrize("schedule", [StepLR, "cosine", None])
def test_29_a_scheduler_that_is_no_schedule_is_one_clear_error(schedule):
    with pytest.raises((ValueError, TypeError), match=r"schedule is|per_epoch"):
        train(CrossEntropy(conv()), images(), schedule=schedule)


def test_29_schedulers_of_torch():
    from kdtutor.training import per_epoch

    steps = per_epoch(lambda optimizer: StepLR(optimizer, 2, gamma=0.1))
    history = train(CrossEntropy(conv()), images(), 4, lr=0.1, schedule=steps)
    assert [row["lr"] for row in history.rows] == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_29_a_student_with_nothing_to_train_is_one_clear_error():
    net = conv()
    net.requires_grad_(False)
    with pytest.raises(ValueError, match=r"no trainable parameter.*frozen"):
        train(CrossEntropy(net), images())


def test_29_a_student_frozen_below_its_hint_is_one_clear_error():
    net, x = conv(), torch.rand(2, 3, 32, 32)
    net[:2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"frozen|nothing|no trainable|trainable"):
        train(FitNet(net, conv(), layers="2", example=x), images(), 2)


def test_29_frozen_layers_stay_what_they_are():
    net = mobilenet()
    net.features.requires_grad_(False)
    before = [p.clone() for p in net.features.parameters()]
    train(Hinton(net, resnet()), images(), lr=0.1)
    assert all(map(torch.equal, before, net.features.parameters()))


# What a run leaves behind


def test_30_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """With drop path and dropout, whose random numbers go on where they stood."""
    torch.manual_seed(1)
    student = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=10,
        img_size=32,
        depth=2,
        embed_dim=24,
        num_heads=2,
        drop_path_rate=0.2,
        drop_rate=0.1,
    )
    teacher, ends = resnet(), []
    for path, stops in ((None, [2]), (tmp_path / "run", [1, 2])):
        for end in stops:
            net, epochs = copy.deepcopy(student), []
            stop = lambda epochs=epochs, end=end: epochs.append(0) or len(epochs) == end
            history = train(Hinton(net, teacher), images(), 2, run_dir=path, stop=stop)
        assert history.status == "finished"
        ends.append((net.state_dict(), [row["loss"] for row in history.rows]))
    (once, losses), (resumed, again) = ends
    assert losses == again and all(torch.equal(v, resumed[k]) for k, v in once.items())


@pytest.mark.parametrize("make, data", [(mobilenet, images), (hf_vit, images), (bert, words)])
def test_30_and_40_weights_stand_under_the_students_own_names(tmp_path, make, data):
    student, data = make(), data()
    train(Hinton(student, make()), data, run_dir=tmp_path / "run")
    found = load_file(tmp_path / "run" / "student.safetensors")
    assert found.keys() == student.state_dict().keys()
    fresh = make()
    fresh.load_state_dict(found)
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in student.state_dict().items())


def test_30_weights_that_another_tool_wrote(tmp_path):
    net, other = bert(), bert()
    net.save_pretrained(tmp_path)
    load_weights(other, tmp_path / "model.safetensors")
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_30_weights_that_do_not_fit_are_refused_for_the_true_reason(tmp_path):
    path, net = tmp_path / "other.safetensors", vit()
    save_file({k: v.contiguous() for k, v in mobilenet().state_dict().items()}, path)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"another architecture than VisionTransformer") as said:
        load_weights(net, path)
    assert "corrupted" not in str(said.value) and "elete" not in str(said.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_30_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "run"
    train(CrossEntropy(conv()), images(), run_dir=path)
    weights = path / "student.safetensors"
    shutil.copy(weights, path / "whole")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"student\.safetensors"):
        load_weights(conv(), weights)


def test_39_batches_keep_their_size_when_validation_came_between():
    """Features of the last validation batch must not stand beside the next training batch."""
    method = AttentionTransfer(resnet(), resnet(), example=torch.rand(2, 3, 32, 32))
    history = train(method, images(27), 2, batch_size=5, validation=0.3)
    assert history.status == "finished" and len(history.rows) == 2
    assert all("val_accuracy" in row for row in history.rows)
