"""A grid on data that are not in memory: made by a named function, in every process for itself."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from small import blobs
from torch.utils.data import DataLoader, TensorDataset

from kdtutor.ablation import Grid, run
from kdtutor.ablation.estimate import estimate
from kdtutor.datasets import GeneratedData, from_loaders
from kdtutor.tasks import Classification

DATA = blobs(n=120)


def made(shift=0, name="streamed"):
    rows = TensorDataset(DATA.train.x + shift, DATA.train.y)
    test = TensorDataset(DATA.test.x, DATA.test.y)
    return from_loaders(DataLoader(rows, 30, shuffle=True), test, test, classes=3, name=name)


def other():
    return made(shift=1)


def nothing():
    return 3


def grid(dataset=made, **settings):
    base = dict(teacher="mlp24", students=["mlp8"], methods=["CrossEntropy", "Hinton"], epochs=2)
    return Grid(dataset=dataset, seeds=(0, 1), **base | settings)


def keys(**settings):
    return [cell.key for cell in grid(**settings).cells()]


def test_a_grid_runs_here_and_in_other_processes_alike(tmp_path):
    here = run(grid(), tmp_path / "here", progress=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = run(grid(), tmp_path / "there", executor=pool, progress=False)
    frames = [r.frame().sort_values(["method", "seed"]) for r in (here, there)]
    assert len(frames[0]) == 4 and set(frames[0]["status"]) == {"finished"}
    for column in ("test_accuracy_last", "val_accuracy_best"):
        assert frames[0][column].tolist() == frames[1][column].tolist()
    assert set(frames[0]["dataset"]) == {"streamed"}


def test_its_key_is_what_the_function_makes():
    assert keys() == keys() == keys(dataset=made()) == keys(dataset=lambda: made())
    assert not set(keys()) & set(keys(dataset=other))


def test_what_it_takes_to_run_is_estimated():
    rows = estimate(grid().cells(), batches=2)
    assert all(row["seconds"] > 0 for row in rows)


def test_what_cannot_be_done_with_it():
    for settings in ({"images": 10}, {"label_noise": [0.2]}, {"imbalance": [2.0]}):
        with pytest.raises(ValueError, match="change data in memory, and streamed is a LoaderData"):
            grid(**settings).cells()
    with pytest.raises(ValueError, match="dataset='nothing' returned a int; expected data"):
        grid(nothing).cells()


def test_generated_data_show_their_size_by_a_batch():
    def make(generator, n, device):
        return torch.rand(n, 1, 4, 4, generator=generator), torch.arange(n) % 3

    data = GeneratedData("g", make, 2, ("a", "b", "c"), Classification())
    assert len(keys(dataset=data)) == 4
