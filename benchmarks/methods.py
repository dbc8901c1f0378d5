"""How much each method costs: its training step over the limit, its step and its loss over each
peer that has it, peak memory.

    python benchmarks/methods.py
    every method over the limit python benchmarks/methods.py --repdistiller PATH --mdistiller PATH
    --torchdistill PATH        and over the peers' checkouts

The limit is a bare loop: the student's step on the cross-entropy, and the teacher's forward pass.
All contenders of a row run the same networks on the same batch in turns, within one run; what a
method makes of logits and features differs, and the memory layout: ours is channels last, as in
``fit``, peers have the contiguous one that they are written for. All profit from ``fit``'s way to
keep freed memory. ``loss`` is the loss alone, forward and backward, on stored features (for CRD
with the drawing of its negatives). Peak memory: what one step holds at most beyond the networks, by
torch's profiler. Images are random and CIFAR-shaped, 100 classes; ResNet-56 teaches ResNet-20."""

import argparse
import copy
import os
import statistics

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter

import torch
import torch.nn.functional as F
from clock import peak, timed
from paired import compare, take_turns
from peers import N_DATA, Seen, losses
from provenance import write_csv
from training import calibrated, random_data

from kdtutor import Teacher, models
from kdtutor.datasets import Batch, Split
from kdtutor.methods import CRD, DML, ONE
from kdtutor.methods.feature.activation_boundary import activation_boundary_loss
from kdtutor.methods.feature.attention_transfer import attention_loss
from kdtutor.methods.feature.fitnet import hint_loss
from kdtutor.methods.feature.fsp import fsp_loss
from kdtutor.methods.relation.rkd import angle_loss, distance_loss
from kdtutor.methods.relation.similarity import similarity_loss
from kdtutor.methods.rows import ROWS
from kdtutor.softening import distillation_kl
from kdtutor.taps import Taps
from kdtutor.taps.default_layers import before_relu
from kdtutor.training import sgd
from kdtutor.training.memory import keep_freed_memory

CLASSES, MAPS = 100, ["layer1:input", "layer1", "layer2", "layer3"]
CHEAP = {
    "Hinton",
    "RKD-D",
    "RKD-A",
    "RKD-DA",
    "SP",
    "AT",
    "BAN",
    "BAN+L",
    "CWTM",
    "DKPP",
}  # response, relation and attention
FIRST_STAGE = {"FSP", "AB", "FitNet"}
LOSSES = {
    "Hinton": lambda s, t: distillation_kl(s.logits, t.logits, 4.0),
    "AT": lambda s, t: sum(attention_loss(a, b) for a, b in zip(s.maps[1:], t.maps[1:])),
    "FitNet": lambda s, t: hint_loss(s.maps[2], t.maps[2]),
    "FSP": lambda s, t: sum(
        fsp_loss(a, b) for a, b in zip(zip(s.maps, s.maps[1:]), zip(t.maps, t.maps[1:]))
    ),
    "AB": lambda s, t: sum(activation_boundary_loss(a, b) for a, b in zip(s.before, t.before)),
    "SP": lambda s, t: similarity_loss(s.maps[-1], t.maps[-1]),
    "RKD-DA": lambda s, t: (
        25 * distance_loss(s.embedding, t.embedding) + 50 * angle_loss(s.embedding, t.embedding)
    ),
}


def networks(device="cpu"):
    """(teacher, student), fresh."""
    torch.manual_seed(0)
    teacher, student = models.resnet56(CLASSES).to(device), models.resnet20(CLASSES).to(device)
    return calibrated(teacher, random_data(64)).to(memory_format=torch.channels_last), student.to(
        memory_format=torch.channels_last
    )


def build(row, student, teacher):
    """A method of the catalog around the student."""
    if row.distiller is DML:
        other = models.resnet20(CLASSES).to(next(student.parameters()).device)
        return DML([student, other.to(memory_format=torch.channels_last)])
    if row.distiller is ONE:
        return ONE(student)
    if row.distiller.__name__ == "CrossEntropy":
        return row.distiller(student)
    return row.distiller(student, teacher, **row.settings)


def player_step(distiller, batch):
    """One step of the first stage, as a function: every player in turn, as in ``fit``."""
    if isinstance(distiller, CRD):
        distiller.prepare(Split(torch.zeros(N_DATA, 1), torch.arange(N_DATA) % CLASSES))
    distiller.to(batch.x.device, memory_format=torch.channels_last).train()
    players = [(p, sgd(1e-4)(p.parameters)) for p in distiller.stages()[0].players]

    def step() -> None:
        for player, optimizer in players:
            loss = sum(player.terms(batch).values())
            optimizer.zero_grad()
            loss.backward(inputs=player.parameters if len(players) > 1 else None)
            optimizer.step()

    return step


def bare_step(student, teacher, batch, loss_of=None, before=(), theirs_before=()):
    """One step, as a function: the limit, or with ``loss_of`` a peer's loss on what both networks
    computed."""
    teacher.requires_grad_(False).eval()
    optimizer, paths = sgd(1e-4)(list(student.parameters())), MAPS + list(before) + ["fc:input"]
    theirs_paths = MAPS + list(theirs_before) + ["fc:input"]
    seen = lambda out, f, b=before: Seen(
        out, [f[p] for p in MAPS], [f[p] for p in b], f["fc:input"]
    )

    def step() -> None:
        if loss_of is None:
            with torch.no_grad():
                teacher(batch.x)
            loss = F.cross_entropy(student(batch.x), batch.y)
        else:
            with torch.no_grad():
                theirs = seen(*Taps(teacher, theirs_paths)(batch.x), theirs_before)
            own = seen(*Taps(student, paths)(batch.x))
            loss = (
                F.cross_entropy(own.logits, batch.y)
                + loss_of(own, theirs, batch.y, batch.index).sum()
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def loss_alone(make, own, theirs):
    """The loss and its gradient with respect to the student's features, as a function."""
    leaf = lambda t: t.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    student = Seen(
        leaf(own.logits),
        list(map(leaf, own.maps)),
        list(map(leaf, own.before)),
        leaf(own.embedding),
    )

    def step() -> None:
        for t in (student.logits, *student.maps, *student.before, student.embedding):
            t.grad = None
        make(student, theirs).sum().backward()

    return step


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for peer in ("repdistiller", "mdistiller", "torchdistill"):
        parser.add_argument(f"--{peer}", help=f"a checkout of {peer}")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument(
        "--rounds", type=int, default=5, help="for a batch of 64; larger ones get fewer, at least 3"
    )
    parser.add_argument("--methods", nargs="+", help="names of the catalog (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="folder for methods_speed.csv")
    args = parser.parse_args()
    import pandas as pd  # not for the functions above, which others use

    torch.set_num_threads(args.threads)
    keep_freed_memory()
    peers, rows = losses(args.repdistiller, args.mdistiller, args.torchdistill), []
    for size in args.batches:
        data = random_data(size)
        batch: Batch = next(data.batches(data.train, size))
        for entry in ROWS:
            name = entry.name
            if name == "CrossEntropy" or (args.methods and name not in args.methods):
                continue
            teacher, student = networks()
            before = [before_relu(student, p) for p in MAPS[1:]]
            theirs_before = [before_relu(teacher, p) for p in MAPS[1:]]
            contenders = {
                "limit": bare_step(student, teacher, batch),
                "ours": player_step(
                    build(entry, models.resnet20(CLASSES), Teacher(teacher)), batch
                ),
            }
            mine = dict(batch=size, method=name, stage="first" if name in FIRST_STAGE else "all")
            for peer, loss in peers.get(name, {}).items():
                nets = [
                    copy.deepcopy(net).to(memory_format=torch.contiguous_format)
                    for net in (student, teacher)
                ]
                contenders[peer] = bare_step(
                    *nets,
                    batch._replace(x=batch.x.contiguous()),
                    loss,
                    *((before, theirs_before) if name == "AB" else ()),
                )
            rounds = max(3, args.rounds * 64 // size)
            times = take_turns({who: timed(step) for who, step in contenders.items()}, rounds)
            ms = lambda who, times=times: round(1e3 * statistics.median(times[who]), 1)
            rows.append(
                {
                    **compare(
                        "step",
                        "the limit",
                        times["ours"],
                        times["limit"],
                        at_most=1.15 if name in CHEAP else None,
                    ),
                    **mine,
                    "ms": ms("ours"),
                    "other_ms": ms("limit"),
                    "peak_mib": peak(contenders["ours"]),
                    "other_peak_mib": peak(contenders["limit"]),
                }
            )
            rows += [
                {
                    **compare("step", peer, times[peer], times["ours"], at_least=1.0),
                    **mine,
                    "ms": ms("ours"),
                    "other_ms": ms(peer),
                    "peak_mib": rows[-1]["peak_mib"],
                    "other_peak_mib": peak(contenders[peer]),
                }
                for peer in peers.get(name, {})
            ]
            rows += [
                {**row, **mine}
                for row in loss_rows(
                    name,
                    peers.get(name, {}),
                    teacher,
                    student,
                    batch,
                    before,
                    theirs_before,
                    rounds,
                )
            ]
            print(
                pd.DataFrame(rows)[lambda t: (t.method == name) & (t.batch == size)].to_string(
                    index=False
                ),
                flush=True,
            )
            del contenders, times
            if args.out:
                write_csv(
                    pd.DataFrame(rows),
                    f"{args.out}/methods_speed.csv",
                    "ResNet-56 teaches ResNet-20, 100 classes, random images; float32, "
                    f"{args.threads} thread(s), median of "
                    f"{args.rounds} paired rounds (at least 3; fewer for larger batches) with the "
                    "smallest and largest; ratio over the "
                    "limit: ours / limit; over a peer: peer / ours. FSP, AB, FitNet: a step of "
                    "their first stage. Peers' steps share our "
                    "networks and taps.",
                )


def loss_rows(name, peers, teacher, student, batch, before, theirs_before, rounds) -> list[dict]:
    """The loss alone against each peer's."""
    paths = lambda b: MAPS + b + ["fc:input"]
    with torch.no_grad():
        read = [
            Taps(net, paths(b))(batch.x) for net, b in ((student, before), (teacher, theirs_before))
        ]
    own, theirs = (
        Seen(out, [f[p] for p in MAPS], [f[p] for p in b], f["fc:input"])
        for (out, f), b in zip(read, (before, theirs_before))
    )
    if not peers or (name != "CRD" and name not in LOSSES):
        return []
    if name == "CRD":
        crd = CRD(
            models.resnet20(CLASSES),
            teacher,
            Split(torch.zeros(N_DATA, 1), torch.arange(N_DATA) % CLASSES),
            ce_weight=0,
        ).train()
        ours = lambda s, t: crd.losses(_Given(batch, s, t))["crd"]
    else:
        ours = LOSSES[name]
    contenders = {"ours": loss_alone(ours, own, theirs)}
    plain = lambda seen: Seen(
        seen.logits,
        *([m.contiguous() for m in maps] for maps in (seen.maps, seen.before)),
        seen.embedding,
    )
    for peer, loss in peers.items():
        contenders[peer] = loss_alone(
            lambda s, t, loss=loss: loss(s, t, batch.y, batch.index), plain(own), plain(theirs)
        )
    times = take_turns({who: timed(step) for who, step in contenders.items()}, rounds)
    aims = {("CRD", "RepDistiller"): 10.0, ("FSP", "RepDistiller"): 20.0}
    return [
        {
            **compare(
                "loss", peer, times[peer], times["ours"], at_least=aims.get((name, peer), 1.0)
            ),
            "ms": round(1e3 * statistics.median(times["ours"]), 2),
            "other_ms": round(1e3 * statistics.median(times[peer]), 2),
            "peak_mib": peak(contenders["ours"]),
            "other_peak_mib": peak(contenders[peer]),
        }
        for peer in peers
    ]


class _Given:
    """A reading of stored features, for CRD's loss alone."""

    def __init__(self, batch, own, theirs):
        self.batch, self.student_logits = batch, own.logits
        self.student, self.teacher = {"fc:input": own.embedding}, {"fc:input": theirs.embedding}


if __name__ == "__main__":
    main()
