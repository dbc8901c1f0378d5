"""The code of README's part on one's own networks, data and settings runs, in its order."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdtutor.models import resnet8


class SummaryWriter:
    """The one method of TensorBoard's that is asked for."""

    def __init__(self):
        self.seen = []

    def add_scalar(self, name, value, step):
        self.seen.append((name, value, step))


def blocks(repo) -> list[str]:
    text = (repo / "README.md").read_text(encoding="utf-8")
    part = text[text.index("## Your own networks") : text.index("## The methods")]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


def stand_ins(folder) -> dict:
    """What a reader has at hand: images, tables, a folder, a loader, networks."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=draw, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            here = folder / "path" / "to" / "photos" / part / name
            here.mkdir(parents=True)
            Image.fromarray(np.zeros((70, 80, 3), np.uint8)).save(here / "0.png")
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 300))
    return {
        "images": images[:30],
        "labels": labels[:30],
        "test_images": images[30:],
        "test_labels": labels[30:],
        "x": np.random.default_rng(0).normal(size=(12, 4)),
        "y": np.array(["cat", "dog"] * 6),
        "x_test": np.zeros((2, 4)),
        "y_test": np.array(["cat", "dog"]),
        "dataset": TensorDataset(images[:30].float(), labels[:30]),
        "test_set": TensorDataset(images[30:].float(), labels[30:]),
        "network": network,
        "student": resnet8(2),
        "MEAN": (0.485, 0.456, 0.406),
        "STD": (0.229, 0.224, 0.225),
        "torch": torch,
        "DataLoader": DataLoader,
        "SummaryWriter": SummaryWriter,
    }


def test_it_runs_in_its_order(repo, elsewhere):
    names = stand_ins(elsewhere)
    data, training, export = blocks(repo)
    exec(data, names)
    assert names["table"].classes == ("cat", "dog") and names["photos"].train.x.shape[2:] == (
        64,
        64,
    )
    assert len(next(iter(names["stream"].batches(names["stream"].train, 64))).y) == 30
    exec(training, names)
    history = names["history"]
    assert history.status in ("finished", "early")
    seen = {name for name, _, _ in names["writer"].seen}
    assert {"loss", "kd", "val_accuracy", "last_step.val_accuracy"} <= seen
    assert (elsewhere / "runs" / "mine" / "student_best.safetensors").exists()
    if not find_spec("onnxscript"):
        export = export[: export.index("torch.onnx")]
    exec(export, names)
    again = torch.export.load("student.pt2").module()
    x = names["data"].normalised(names["data"].test.x)
    assert torch.allclose(again(x), names["net"](x), atol=1e-5)


def test_without_a_block_it_would_be_seen(repo):
    assert len(blocks(repo)) == 3
    with pytest.raises(NameError):
        exec(blocks(repo)[1], {})
