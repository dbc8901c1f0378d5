"""Which device a run takes, and what is said where a GPU is missing or too small."""

import pytest
import torch

from kdtutor import fit
from kdtutor.datasets import Data, Split
from kdtutor.methods import CrossEntropy
from kdtutor.models import mlp
from kdtutor.training import pick_device
from kdtutor.training.device import move


@pytest.fixture
def gpus(monkeypatch):
    """Makes torch believe that it sees so many GPUs, of which the second is current."""

    def seen(number):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: min(1, number - 1))

    return seen


def test_a_gpu_is_taken_where_there_is_one_and_comes_with_its_number(gpus):
    gpus(0)
    assert pick_device() == torch.device("cpu")
    gpus(2)
    assert pick_device() == pick_device("cuda") == torch.device("cuda:1")
    assert pick_device("cuda:0") == torch.device("cuda:0") and pick_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    "number, asked, said",
    [(0, "cuda", "no GPU here"), (1, "cuda:1", "1 GPU here"), (2, "cuda:5", "2 GPUs here")],
)
def test_a_gpu_that_is_not_there_is_one_clear_error(gpus, number, asked, said):
    gpus(number)
    with pytest.raises(ValueError, match=f"device={asked!r}.*{said}"):
        fit(CrossEntropy(mlp([4], inputs=64)), digits(), 1, device=asked, progress=False)


@pytest.mark.parametrize("asked", ["gpu", "cuda:x", 1.5, ["cpu"]])
def test_what_is_no_device_is_one_clear_error(asked):
    with pytest.raises(ValueError, match="no device of torch"):
        pick_device(asked)


def digits(n=40):
    x = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    return Data("blank", tuple("0123456789"), Split(x, torch.arange(n) % 10), None)


class TooLarge(CrossEntropy):
    """Its second epoch does not fit."""

    def terms(self, batch):
        if self.progress >= 0.5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nMore")
        return super().terms(batch)


def test_a_gpu_that_is_too_small_says_what_to_lower_and_loses_nothing(tmp_path):
    run = lambda kind, **kw: fit(
        kind(mlp([4], inputs=64)), digits(), 2, batch_size=20, progress=False, validation=0, **kw
    )
    with pytest.raises(torch.OutOfMemoryError) as error:
        run(TooLarge, run_dir=tmp_path / "run")
    said = str(error.value)
    for part in ("epoch 2", "batch_size (it is 20)", "bf16", str(tmp_path / "run"), "3.00 GiB"):
        assert part in said
    assert "More" not in said and "examples" not in said and "cache" not in said
    with pytest.raises(torch.OutOfMemoryError) as error:
        run(TooLarge, precision="bf16")
    assert "bf16" not in str(error.value) and "run_dir" not in str(error.value)


def test_what_takes_much_of_the_memory_is_named(monkeypatch):
    from kdtutor import Teacher
    from kdtutor.methods import Hinton
    from kdtutor.training import watch

    monkeypatch.setattr(watch, "GIB", 100)

    class Large(Hinton):
        def terms(self, batch):
            raise torch.OutOfMemoryError("out of memory")

    data = digits()
    teacher = Teacher(mlp([4], inputs=64)).cached(data)
    with pytest.raises(torch.OutOfMemoryError) as error:
        fit(Large(mlp([4], inputs=64), teacher), data, 1, progress=False, validation=0)
    assert "examples (those of blank take" in str(error.value)
    assert "teacher's cache" in str(error.value)


def test_the_training_images_are_sent_to_the_device_once(monkeypatch):
    """Not once an epoch: on a GPU that is a copy of the whole training set."""
    data, seen = digits(), []
    whole = Data.batches

    def watched(self, split, *args, **kwargs):
        seen.append(split)
        return whole(self, split, *args, **kwargs)

    monkeypatch.setattr(Data, "batches", watched)
    moved = Split.to
    monkeypatch.setattr(Split, "to", lambda self, device: moved(self.select(range(20)), device))
    fit(CrossEntropy(mlp([4], inputs=64)), data, 3, batch_size=5, progress=False, validation=0)
    epochs = [s for s in seen if len(s) == 20]
    assert len(epochs) == 3 and all(s is epochs[0] for s in epochs)


def test_kernels_of_images_and_volumes_lie_with_their_channels_last():
    net = torch.nn.Sequential(
        torch.nn.Conv1d(2, 3, 3), torch.nn.Conv2d(2, 3, 3), torch.nn.Conv3d(2, 3, 3)
    )
    before = [p.clone() for p in net.parameters()]
    move(net, torch.device("cpu"))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before))
    assert net[0].weight.is_contiguous()
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[2].weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_what_is_no_number_of_processes_starts_none(monkeypatch):
    from kdtutor.training.processes import STARTED, started

    for name in STARTED:
        monkeypatch.setenv(name, "1")
    for size, several in (("", False), ("one", False), ("1", False), ("2", True)):
        monkeypatch.setenv("WORLD_SIZE", size)
        assert started() is several
    monkeypatch.delenv("MASTER_PORT")
    assert not started()
