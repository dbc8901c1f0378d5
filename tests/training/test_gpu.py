"""A run on a GPU: the same again from the same seed, to be interrupted and continued, and alone."""

import pytest
import torch
from small import blobs, net, weights
from stand_in import free_steps

from kdtutor import Teacher, evaluate, fit
from kdtutor.datasets import CropFlip
from kdtutor.methods import CrossEntropy, Hinton
from kdtutor.models import resnet8
from kdtutor.runs import RunDirectory

SETTINGS = dict(batch_size=30, lr=0.05, progress=False)


def student(seed=1):
    torch.manual_seed(seed)
    return resnet8(3, channels=1)


def distilled(gpu, epochs=3, cached=False, **settings):
    data = blobs(side=8, augment=CropFlip(1))
    teacher = Teacher(student(9))
    distiller = Hinton(student(), teacher.cached(data) if cached else teacher)
    history = fit(distiller, data, epochs, device=gpu, **SETTINGS | settings)
    return distiller, data, history


def test_the_same_seed_gives_the_same_run(gpu):
    """Up to rounding: kernels of convolutions may sum in another order each time."""
    (one, data, first), (two, _, second) = distilled(gpu), distilled(gpu)
    assert torch.allclose(weights(one.deploy()), weights(two.deploy()), atol=1e-3)
    assert first.rows[-1]["loss"] == pytest.approx(second.rows[-1]["loss"], rel=1e-2)
    assert next(one.deploy().parameters()).device == gpu
    assert evaluate(one.deploy(), data) == pytest.approx(evaluate(two.deploy(), data), abs=0.05)


@pytest.mark.parametrize("then", ["there", "on the CPU"])
def test_an_interrupted_run_continues(then, gpu, tmp_path, monkeypatch):
    whole, _, _ = distilled(gpu)

    class Killed(Exception):
        pass

    checkpoint = RunDirectory.checkpoint

    def once(self, state):
        checkpoint(self, state)
        if state["epoch"] == 2:
            raise Killed

    monkeypatch.setattr(RunDirectory, "checkpoint", once)
    with pytest.raises(Killed):
        distilled(gpu, run_dir=tmp_path)
    monkeypatch.undo()
    again, _, history = distilled(gpu if then == "there" else "cpu", run_dir=tmp_path)
    assert history.status == "finished" and len(history.rows) == 3
    assert torch.allclose(weights(whole.deploy()).cpu(), weights(again.deploy()).cpu(), atol=1e-3)


def test_the_global_random_numbers_stay(gpu):
    if gpu.type != "cuda":
        pytest.skip("the stand-in draws the CPU's numbers")
    before = torch.cuda.get_rng_state(gpu)
    distilled(gpu, 1)
    assert torch.equal(before, torch.cuda.get_rng_state(gpu))


def test_a_teacher_s_answers_from_the_cache_are_those_it_gives(gpu):
    (plain, _, first), (cached, _, second) = distilled(gpu), distilled(gpu, cached=True)
    assert torch.allclose(weights(plain.deploy()), weights(cached.deploy()), atol=1e-3)
    assert first.rows[-1]["kd"] == pytest.approx(second.rows[-1]["kd"], rel=1e-2)


def test_a_batch_that_does_not_fit_says_what_to_lower(gpu):
    if gpu.type != "cuda":
        pytest.skip("only a GPU has a memory of its own")
    data = blobs(n=4000, side=8)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.002, gpu)  # some 160 MiB of 80 GiB
    try:
        with pytest.raises(torch.OutOfMemoryError, match=r"lower batch_size \(it is 2000\)"):
            fit(
                CrossEntropy(net(hidden=(20_000, 2_000), side=8)),
                data,
                1,
                device=gpu,
                validation=0,
                **SETTINGS | {"batch_size": 2000},
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
        torch.cuda.empty_cache()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_the_way_of_a_batch_makes_nobody_wait(mode, cached, gpu, monkeypatch):
    """Cropped, flipped and normalised on the device; its answers looked up in the cache."""
    data = blobs(side=8, augment=CropFlip(1, mode=mode), mean=(0.5,), std=(0.2,))
    teacher = Teacher(student(9).to(gpu))
    teacher = teacher.cached(data, fill=True) if cached else teacher
    with free_steps(monkeypatch, gpu, per_epoch=6) as steps:
        fit(Hinton(student(), teacher), data, 2, device=gpu, validation=0, **SETTINGS)
    assert len(steps) == 12
