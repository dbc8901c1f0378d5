"""What all tests share: the smoke budget, quiet and repeatable training on one thread, and places to work in."""

import os
from pathlib import Path

# Before torch, matplotlib or a notebook's kernel start: kernels and subprocesses inherit it.
os.environ.update(KDTUTOR_BUDGET="smoke", KDTUTOR_PROGRESS="0", MPLBACKEND="Agg", OMP_NUM_THREADS="1")

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# The same examples in every run, and no deadline: how long one takes says more about a busy machine than about the code.
hypothesis.settings.register_profile("kdtutor", deadline=None, derandomize=True)
hypothesis.settings.load_profile("kdtutor")

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout, wherever pytest was started."""
    return REPO


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty working directory: what is written by accident lands here, and nothing of the checkout is found by accident."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def repeatable():
    """Every test starts from the same global seed."""
    torch.manual_seed(0)
