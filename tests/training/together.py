"""What each process of ``test_processes`` runs: a user's script that says nothing of processes.

python -m torch.distributed.run --nproc-per-node 2 together.py WHAT FOLDER
"""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small import blobs, net

from kdtutor import Teacher, fit
from kdtutor.datasets import CropFlip
from kdtutor.methods import CRD, RKD, Hinton
from kdtutor.models import resnet8
from kdtutor.runs import save_state

torch.set_num_threads(1)
ME = int(os.environ.get("RANK", 0))
SETTINGS = {"batch_size": 64, "lr": 0.05, "progress": False, "seed": 4}


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
    elif what == "warned":
        torch.manual_seed(0)
        method = RKD(resnet8(3, channels=1), resnet8(3, channels=1))
        history = fit(method, blobs(), 1, **SETTINGS)
    elif what == "small":
        method, history = kd(batch_size=1)
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
