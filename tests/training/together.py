"""What each process of ``test_processes`` runs: a user's script that says nothing of processes.

python -m torch.distributed.run --nproc-per-node 2 together.py WHAT FOLDER
"""

import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small import blobs, net

from kdtutor import Teacher, fit
from kdtutor.datasets import CropFlip
from kdtutor.methods import CRD, RKD, CrossEntropy, Hinton
from kdtutor.models import resnet8
from kdtutor.runs import save_state

torch.set_num_threads(1)
ME = int(os.environ.get("RANK", 0))
SETTINGS = {"batch_size": 64, "lr": 0.05, "progress": False, "seed": 4}


class Kept(nn.Module):
    """Buffers of all kinds, statistics of the inputs, and gradients of a few rows alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.fc = nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.bias = nn.Embedding(4, 3, sparse=True)
        least = torch.finfo(torch.float32).min
        for name, buffer in {
            "least": torch.full((2,), least),
            "mask": torch.full((2,), -torch.inf),
            "table": torch.rand(50),
            "short": torch.ones(2, dtype=torch.int16),
            "complex": torch.ones(2, dtype=torch.complex64),
            "empty": torch.zeros(0),
            "shared": torch.ones(1).expand(5),
        }.items():
            self.register_buffer(name, buffer)

    def forward(self, x):
        x = x.flatten(1)
        return self.fc(self.norm(x)) + self.bias((x[:, 0] > 0.5).long())


def kd(epochs=3, **settings):
    student = net(ME if "RANK" in os.environ else 0)  # other first weights in every process
    method = Hinton(student, Teacher(net(7, hidden=(32,))), temperature=4)
    history = fit(method, blobs(augment=CropFlip(1)), epochs, **SETTINGS | settings)
    return method, history


def main(what: str, folder: Path) -> None:
    if what == "kd":
        method, history = kd(run_dir=folder / "run")
    elif what == "uneven":
        method, history = kd(batch_size=25, drop_last=False, accumulate=2, clip_norm=0.5, ema=0.9)
    elif what == "killed":
        method = Hinton(net(0), Teacher(net(7)))
        if ME == 1 and not (folder / "again").exists():
            real = Hinton.losses

            def losses(self, outputs):
                if self.progress >= 0.5:
                    os._exit(9)
                return real(self, outputs)

            method.losses = losses.__get__(method)
        history = fit(method, blobs(), 4, run_dir=folder / "run", **SETTINGS)
    elif what == "crd":
        torch.manual_seed(0)
        method = CRD(net(0), net(7), blobs().train, negatives=8, layers=("fc:input", "fc:input"))
        history = fit(method, blobs(), 1, **SETTINGS | {"batch_size": 180, "validation": 0})
    elif what == "kept":
        method = CrossEntropy(Kept())
        sgd = lambda parameters: torch.optim.SGD(parameters, 0.05)
        settings = {k: v for k, v in SETTINGS.items() if k != "lr"}
        history = fit(method, blobs(), 2, optimizer=sgd, **settings)
    elif what == "crd_killed":

        class Killed(CRD):
            def losses(self, outputs):
                if ME == 1 and self.progress >= 0.5:
                    os._exit(9)
                return super().losses(outputs)

        method = Killed(net(0), net(7), negatives=8, layers=("fc:input", "fc:input"))
        history = fit(method, blobs(), 4, **SETTINGS)
    elif what == "logger":

        def broken(row):
            raise KeyError("the logger broke")

        try:
            fit(CrossEntropy(net(0)), blobs(), 4, on_epoch=broken, **SETTINGS)
        except KeyError:  # and goes on with something else: the other process must not wait for it
            other = folder / "ended"
            while not other.exists():
                time.sleep(0.05)
        finally:
            if ME == 1:
                (folder / "ended").write_text("")
        return
    elif what == "warned":
        torch.manual_seed(0)
        method = RKD(resnet8(3, channels=1), resnet8(3, channels=1))
        history = fit(method, blobs(), 1, **SETTINGS)
    elif what == "small":
        method, history = kd(batch_size=1)
    elif what == "last":
        method, history = kd(batch_size=179, drop_last=False, validation=0)
    elif what == "refused":
        method, history = kd(epochs=0)

    seen = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]
    result = {k: v for k, v in history.result.items() if k != "seconds"}
    save_state(
        folder / f"{what}_{ME}",
        {
            "state": dict(method.state_dict()),
            "rows": seen,
            "result": result,
            "status": history.status,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
