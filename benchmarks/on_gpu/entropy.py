"""Entropy maps: one image at a time, as public code makes them, over batches of images."""

import argparse
import tempfile
from pathlib import Path

import torch
from concepts import race

from kdtutor import datasets, fit, methods, models
from kdtutor.concepts import checkpoints

from .cells import Cell, Options

COLUMNS = ("network", "layer")
NOTE = (
    "3 x 32 x 32 robots, two checkpoints. ratio: seconds of a loop over images and checkpoints "
    "over those of a batch, paired by round; largest_difference and rank_correlation: of the maps."
)


def cells(options: Options):
    for network in options.pick(("alexnet", "vgg"), ("vgg",)):
        for layer in options.pick(("features", "fc2"), ("fc2",)):
            key = {"network": network, "layer": layer}
            yield Cell(key, 45, lambda k=key: run(**k, options=options))


def run(network: str, layer: str, options: Options) -> list[dict]:
    images = options.pick(8, 1)
    data = datasets.load("scenes", n_train=options.pick(1000, 64), n_test=images)
    torch.manual_seed(0)
    net = models.build(network, classes=8)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            methods.CrossEntropy(net),
            data,
            2,
            optimizer=adam,
            run_dir=Path(folder) / "run",
            snapshots=range(3),
            device=options.device,
            progress=False,
        )
        files = dict(list(checkpoints(Path(folder) / "run").items())[-options.pick(2, 1) :])
        asked = argparse.Namespace(
            noise=options.pick(96, 2),
            iterations=options.pick(80, 4),
            rounds=options.pick(2, 1),
            device=options.device,
        )
        return list(race(net, files, data.normalised(data.test.x).to(options.device), layer, asked))


def adam(parameters):
    return torch.optim.Adam(parameters, 1e-3)
