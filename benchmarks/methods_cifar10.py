"""Every method of the catalog on CIFAR-10 with a tenth of the labels: one ResNet-20 teaches
ResNet-8, all with their default settings.

    python benchmarks/methods_cifar10.py --seeds 0 1 2        # continues where it stopped

The setting is that of the activation-boundary paper's table 3: the teacher has learned from all
training images, the student sees 10 % of them. The teacher is one network for all; a student's seed
decides its weights, order and views and is the same for every method, so that gains are paired.
Nothing is tuned here: weights, layers and stages are the classes' defaults (two relations also run
with a tenth of theirs, to see why they lose). Test accuracy of the last epoch, and of the epoch
that was best on the validation split (10 % of the student's images) beside it."""

import argparse
from pathlib import Path

import pandas as pd
import torch
from provenance import mean_std, write_csv

from kdtutor import Teacher, fit
from kdtutor.datasets import load
from kdtutor.methods import (
    CRD,
    DML,
    ONE,
    RKD,
    AttentionTransfer,
    Composition,
    CrossEntropy,
    Hinton,
    SimilarityPreserving,
    catalog,
)
from kdtutor.models import resnet8, resnet20

COMPOSED = {"AT+KD": AttentionTransfer, "CRD+KD": CRD}
# A diagnosis of two that lose: the same with a tenth of their public weights.
WEAKER = {
    "RKD-DA x0.1": lambda s, t: RKD(s, t, distance_weight=2.5, angle_weight=5.0),
    "SP x0.1": lambda s, t: SimilarityPreserving(s, t, sp_weight=300.0),
}


def student(seed: int, member: int = 0) -> torch.nn.Module:
    torch.manual_seed(1000 + seed + 100 * member)
    return resnet8()


def build(name: str, row, seed: int, teacher: Teacher):
    """The method around a student with this seed; what a method adds is initialised from the same
    seed.
    """
    net = student(seed)
    if name in COMPOSED:
        return Composition(
            {
                name.removesuffix("+KD"): COMPOSED[name](net, teacher),
                "KD": Hinton(net, teacher, kd_weight=1.0),
            }
        )
    if name in WEAKER:
        return WEAKER[name](net, teacher)
    if row.distiller is CrossEntropy:
        return CrossEntropy(net)
    if row.distiller is DML:
        return DML([net, student(seed, member=1)])
    return ONE(net) if row.distiller is ONE else row.distiller(net, teacher, **row.settings)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--runs", default="runs/methods")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--methods",
        nargs="+",
        help="names of the catalog, AT+KD, CRD+KD, SP x0.1, RKD-DA x0.1 (default: all)",
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    whole, runs = load("cifar10", root=args.data), Path(args.runs)
    data, common = whole.subset(args.images), dict(lr=0.1, precision=args.precision)

    torch.manual_seed(999)
    net = resnet20()
    result = fit(
        CrossEntropy(net),
        whole,
        args.teacher_epochs,
        batch_size=128,
        seed=0,
        run_dir=runs / "teacher",
        **common,
    ).result
    print(f"teacher: {result['test_accuracy_last']:.2%} on the test set")
    teacher = Teacher(net).cached(data)
    rows = {row["name"]: row for _, row in catalog().iterrows()} | dict.fromkeys(
        [*COMPOSED, *WEAKER]
    )
    results = [{"method": "teacher", "seed": 0, **result}]
    for seed in args.seeds:
        for name in args.methods or rows:
            run = fit(
                build(name, rows[name], seed, teacher),
                data,
                args.epochs,
                seed=seed,
                run_dir=runs / f"{name}_{seed}",
                **common,
            )
            if run.status != "finished":
                return
            results.append({"method": name, "seed": seed, **run.result})
            print(
                f"{name:14} seed {seed}: {run.result['test_accuracy_last']:.2%}, "
                f"{run.result['seconds']:.0f} s",
                flush=True,
            )
    table = pd.DataFrame(results).assign(seconds=lambda t: t["seconds"].round())
    base = table[table["method"] == "CrossEntropy"].set_index("seed")["test_accuracy_last"]
    table["gain"] = [
        (r.test_accuracy_last - base.get(r.seed, float("nan"))) * 100
        if r.method != "teacher"
        else float("nan")
        for r in table.itertuples()
    ]
    write_csv(
        table.round(4),
        f"{args.out}/methods_cifar10.csv",
        f"teacher ResNet-20: all 50,000 training images, {args.teacher_epochs} epochs, batch 128; "
        f"students ResNet-8: {args.images} "
        f"images, {args.epochs} epochs, batch 64; both: 10 % of their images held out for "
        "validation, SGD 0.1 Nesterov 0.9, cosine, "
        f"weight decay 5e-4, pad-4 crop and flip, {args.precision}. gain: points over "
        "CrossEntropy of the same seed.",
    )
    print(
        mean_std(table, ["method"], "test_accuracy_last")
        .merge(
            mean_std(table, ["method"], "gain")[["method", "mean", "std"]],
            on="method",
            suffixes=("", "_gain"),
        )
        .to_string(index=False)
    )


if __name__ == "__main__":
    main()
