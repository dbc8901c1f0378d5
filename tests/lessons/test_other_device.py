"""Lessons that train where ``fit`` chooses run on a device that is not the CPU: no cell mixes its
tensors with the CPU's."""

import os
import subprocess
import sys

import pytest
from conftest import REPO

RUN = """
import functools, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import torch
from stand_in import DEVICE, StandIn, There
from on_gpu import lesson
from kdtutor.ablation import teacher_cache
from kdtutor.training import loop

pick = lambda device=None: DEVICE if device is None else torch.device(device)
loop.pick_device = teacher_cache.pick_device = pick
adam = torch.optim.Adam  # a fused one asks for devices that torch knows
torch.optim.Adam = lambda *args, fused=None, **kwargs: adam(*args, **kwargs)
with StandIn():
    lesson.main(Path(sys.argv[1]))
    assert There.made > 1000, "nothing was computed on the other device"
"""
LESSONS = [
    "01_distilling_mnist",
    "05_what_layers_know",
    "08_learning_together",
    "10_explaining_distillation",
]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_runs_on_another_device(lesson, tmp_path):
    """In a folder of its own, because lesson 10 keeps its runs beside the notebooks."""
    (tmp_path / "notebooks").mkdir()
    paths = [REPO, REPO / "tests", REPO / "benchmarks"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(REPO / "notebooks" / f"{lesson}.ipynb")],
        cwd=tmp_path / "notebooks",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
