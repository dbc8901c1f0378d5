"""The losses of three public libraries, as they are, from checkouts: nothing of theirs is kept
here.

RepDistiller (HobbitLong), mdistiller (megvii-research) and torchdistill (yoshitomo-matsubara).
``losses(...)`` gives, by method and peer, a function of what one step has read: ``Seen``. Peers
that cannot run a method on this machine are left out with the reason."""

import importlib
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

N_DATA, NEGATIVES = 50_000, 16_384  # CRD's memory and negatives, as published for CIFAR-100


class Seen(NamedTuple):
    """Logits (B, C), features of the stem and the three stages, pre-activation features, embeddings
    (B, D); labels, index.
    """

    logits: Tensor
    maps: list[Tensor]
    before: list[Tensor]
    embedding: Tensor


def losses(repdistiller=None, mdistiller=None, torchdistill=None) -> dict[str, dict[str, object]]:
    """{method: {peer: make(student Seen, teacher Seen) -> module or None, loss(student, teacher, y,
    index)}}.
    """
    found: dict[str, dict] = {}
    for name, path, load in (
        ("RepDistiller", repdistiller, _repdistiller),
        ("mdistiller", mdistiller, _mdistiller),
        ("torchdistill", torchdistill, _torchdistill),
    ):
        if path:
            for method, loss in load(Path(path).resolve()).items():
                found.setdefault(method, {})[name] = loss
    return found


def _repdistiller(path: Path) -> dict:
    sys.path.insert(0, str(path))
    from crd import memory
    from crd.criterion import CRDLoss
    from distiller_zoo import FSP, ABLoss, Attention, DistillKL, HintLoss, RKDLoss, Similarity

    memory.AliasMethod.cuda = lambda self: None  # the only thing in the way of a CPU
    labels = np.arange(N_DATA) % 100
    others = [np.flatnonzero(labels != c) for c in range(100)]
    kl, hint, attention, similarity, rkd, ab = (
        DistillKL(4),
        HintLoss(),
        Attention(),
        Similarity(),
        RKDLoss(),
        ABLoss(3),
    )
    made = {}

    def crd(s, t, y, index):
        if "crd" not in made:
            made["crd"] = CRDLoss(
                types.SimpleNamespace(
                    s_dim=s.embedding.shape[1],
                    t_dim=t.embedding.shape[1],
                    feat_dim=128,
                    nce_k=NEGATIVES,
                    nce_t=0.07,
                    nce_m=0.5,
                    n_data=N_DATA,
                )
            )
        # The sampling that its CIFAR-100 dataset does for each image, here without its worker
        # processes.
        drawn = [
            np.hstack((i, np.random.choice(others[c], NEGATIVES, replace=False)))
            for i, c in zip(index.numpy(), y.numpy())
        ]
        return made["crd"](s.embedding, t.embedding, index, torch.from_numpy(np.stack(drawn)))

    def fsp(s, t, y, index):
        made.setdefault("fsp", FSP([m.shape for m in s.maps], [m.shape for m in t.maps]))
        return sum(made["fsp"](s.maps, t.maps))

    return {
        "Hinton": lambda s, t, y, i: kl(s.logits, t.logits),
        "FitNet": lambda s, t, y, i: hint(s.maps[2], t.maps[2]),
        "AT": lambda s, t, y, i: sum(attention(s.maps[1:], t.maps[1:])),
        "SP": lambda s, t, y, i: sum(similarity(s.maps[-1:], t.maps[-1:])),
        "RKD-DA": lambda s, t, y, i: rkd(s.embedding, t.embedding),
        "CRD": crd,
        "FSP": fsp,
        "AB": lambda s, t, y, i: sum(ab(s.before, t.before)),
    }


def _mdistiller(path: Path) -> dict:
    # Its package imports configuration and training code; the losses' own folder is enough.
    package = types.ModuleType("mdistiller_losses")
    package.__path__ = [str(path / "mdistiller" / "distillers")]
    sys.modules["mdistiller_losses"] = package
    module = lambda name: importlib.import_module(f"mdistiller_losses.{name}")
    kd, at, sp, rkd = (
        module("KD").kd_loss,
        module("AT").at_loss,
        module("SP").sp_loss,
        module("RKD").rkd_loss,
    )
    mse = nn.MSELoss()  # its FitNet
    return {
        "Hinton": lambda s, t, y, i: kd(s.logits, t.logits, 4),
        "AT": lambda s, t, y, i: at(s.maps[1:], t.maps[1:], 2),
        "FitNet": lambda s, t, y, i: mse(s.maps[2], t.maps[2]),
        "SP": lambda s, t, y, i: sp(s.maps[-1:], t.maps[-1:]),
        "RKD-DA": lambda s, t, y, i: rkd(s.embedding, t.embedding),
    }


def _torchdistill(path: Path) -> dict:
    sys.path.insert(0, str(path))
    from torchdistill.losses.mid_level import AltActTransferLoss, ATLoss, FSPLoss, RKDLoss, SPKDLoss

    at_path = lambda k: {"io": "output", "path": f"map{k}"}
    pair = lambda k: {"student": at_path(k), "teacher": at_path(k)}
    named = lambda seen: (
        {f"map{k}": {"output": m} for k, m in enumerate(seen.maps)}
        | {"embedding": {"output": seen.embedding}}
        | {f"before{k}": {"output": m} for k, m in enumerate(seen.before)}
    )
    at = ATLoss({str(k): {**pair(k), "weight": 1} for k in (1, 2, 3)}, mode="paper")
    at_factor = {"AT": at}
    sp, rkd = (
        SPKDLoss("map3", "map3", "batchmean"),
        RKDLoss("embedding", "embedding", 25, 50, "mean"),
    )
    fsp = FSPLoss(
        {
            str(k): {
                "student_first": at_path(k),
                "student_second": at_path(k + 1),
                "teacher_first": at_path(k),
                "teacher_second": at_path(k + 1),
                "weight": 1,
                "factor": 1,
            }
            for k in (0, 1, 2)
        }
    )
    before = lambda k: {"io": "output", "path": f"before{k}"}
    ab = AltActTransferLoss(
        {
            str(k): {"student": before(k), "teacher": before(k), "weight": 1, "factor": 1}
            for k in (0, 1, 2)
        },
        1.0,
        "mean",
    )
    return {
        name: (lambda s, t, y, i, loss=loss: loss(named(s), named(t)))
        for name, loss in {**at_factor, "SP": sp, "RKD-DA": rkd, "FSP": fsp, "AB": ab}.items()
    }
