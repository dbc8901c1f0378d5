"""RepDistiller's own training loop and data pipeline, unchanged, from a checkout:
https://github.com/HobbitLong/RepDistiller.

It runs in a process of its own, so that neither side sees the other's modules or memory allocator.
Its ``train_distill``, its networks, its loss and its CIFAR-100 loader (PIL transforms per sample,
torch's DataLoader) are imported from the checkout; what is ours is a CIFAR-100 directory of random
images in the published layout, and the clock."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path


class Peer:
    """A running RepDistiller: ``peer(student, teacher, workers)`` trains for one epoch of its data
    and returns its answer, {"seconds", "student", "teacher"} with the numbers of parameters. Names
    are its own: resnet20, wrn_16_2.
    """

    def __init__(
        self,
        checkout: str | Path,
        images: int,
        threads: int,
        batch_size: int = 64,
        device: str = "cpu",
        tf32: bool = True,
    ):
        self._process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                str(Path(checkout).resolve()),
                str(images),
                str(threads),
                str(batch_size),
                device,
                str(int(tf32)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )

    def __call__(self, student: str, teacher: str, workers: int) -> dict:
        self._process.stdin.write(json.dumps([student, teacher, workers]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("RepDistiller stopped; its own message is above.")
        return json.loads(answer)

    @staticmethod
    def there(checkout: str) -> bool:
        return (Path(checkout) / "helper" / "loops.py").is_file()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._process.stdin.close()
        self._process.wait()


class _FromFirstBatch:
    """A loader whose clock starts when the workers have delivered their first batch: starting them,
    which a long epoch hides, is not held against the peer.
    """

    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.began = time.perf_counter()
        batches = iter(self.loader)
        if self.loader.num_workers:
            first = next(batches)
            self.began = time.perf_counter()
            yield first
        yield from batches


def _fake_cifar100(folder: Path, images: int) -> None:
    import numpy as np

    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in (("train", images), ("test", 2)):
        part = {
            "data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": random.integers(0, 100, count).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(part))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(c) for c in range(100)]}))


def _serve(
    checkout: str, images: int, threads: int, batch_size: int, device: str, tf32: int
) -> None:
    import torch
    import torchvision.datasets.cifar as cifar

    torch.set_num_threads(threads)
    for place in (torch.backends.cudnn.conv, torch.backends.cuda.matmul):
        place.fp32_precision = "tf32" if tf32 else "ieee"
    warnings.filterwarnings("ignore")
    cifar.check_integrity = lambda *args, **kwargs: (
        True
    )  # the images are random: their checksums cannot be the published ones
    sys.path.insert(0, checkout)
    from dataset.cifar100 import get_cifar100_dataloaders
    from distiller_zoo import DistillKL
    from helper.loops import train_distill
    from models import model_dict

    options = types.SimpleNamespace(
        distill="kd", gamma=0.1, alpha=0.9, beta=0, print_freq=100
    )  # as its scripts/run_cifar_distill.sh
    answers = sys.stdout
    with (
        tempfile.TemporaryDirectory() as home,
        contextlib.redirect_stdout(sys.stderr if "-v" in sys.argv else open(os.devnull, "w")),
    ):
        os.chdir(home)
        _fake_cifar100(Path("data/cifar-100-python"), images)
        built, loaders = {}, {}
        for line in sys.stdin:
            student, teacher, workers = json.loads(line)
            if (student, teacher) not in built:
                nets = torch.nn.ModuleList(
                    [model_dict[name](num_classes=100) for name in (student, teacher)]
                ).to(device)
                losses = torch.nn.ModuleList(
                    [torch.nn.CrossEntropyLoss(), DistillKL(4), DistillKL(4)]
                )
                built[student, teacher] = (
                    nets,
                    losses,
                    torch.optim.SGD(nets[0].parameters(), 0.01, momentum=0.9, weight_decay=5e-4),
                )
            if workers not in loaders:
                loaders[workers] = get_cifar100_dataloaders(batch_size, workers, is_instance=True)[
                    0
                ]
            (nets, losses, optimizer), loader = (
                built[student, teacher],
                _FromFirstBatch(loaders[workers]),
            )
            train_distill(1, loader, nets, losses, optimizer, options)
            if device != "cpu":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - loader.began
            sizes = [sum(p.numel() for p in net.parameters()) for net in nets]
            print(
                json.dumps({"seconds": seconds, "student": sizes[0], "teacher": sizes[1]}),
                file=answers,
                flush=True,
            )


if __name__ == "__main__":
    _serve(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5], int(sys.argv[6]))
