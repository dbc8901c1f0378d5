"""Label noise and class imbalance on CIFAR-10: what distillation buys where labels are wrong or
classes unequal.

    python benchmarks/beyond_compression.py --workers 2        # continues where it stopped

The study's questions (Sarfraz, Arani, Zonooz 2020, tables V and VI) in a budget for two cores:
ResNet-20 teaches ResNet-8. The study does not say whether its teachers saw the noisy labels, so
both are run: teachers of the "same" data as the student, and "clean" ones. SP and RKD-DA run with a
tenth of their public weights, which are made for longer training (see methods_cifar10.py), and
without noise with the public ones too."""

import argparse

import pandas as pd
from provenance import write_csv

from kdtutor.ablation import Grid, run

LIGHT = ["SP(sp_weight=300)", "RKD(distance_weight=2.5, angle_weight=5.0)"]
METHODS = {"same": ["CrossEntropy", "Hinton", *LIGHT, "DML"], "clean": ["CrossEntropy", "Hinton"]}
PUBLIC = ["SP", "RKD-DA"]
COLUMNS = [
    "net",
    "method",
    "label_noise",
    "imbalance",
    "teacher_sees",
    "seed",
    "test_accuracy_last",
    "test_accuracy_best",
    "teacher_accuracy",
    "seconds",
]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--store", default="runs/beyond")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--teacher-epochs", type=int, default=30)
    parser.add_argument(
        "--images",
        type=int,
        default=5000,
        help="of the noise grid; the imbalance grid begins with twice as many",
    )
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    common = dict(
        dataset="cifar10",
        root=args.data,
        teacher="resnet20",
        students=["resnet8"],
        seeds=args.seeds,
        epochs=args.epochs,
        teacher_epochs=args.teacher_epochs,
        fit={"lr": 0.1, "precision": "bf16"},
    )
    studies = {
        "label_noise": dict(images=args.images, label_noise=[0.0, 0.2, 0.4, 0.6]),
        "imbalance": dict(images=2 * args.images, imbalance=[0.2, 2.0]),
    }
    for name, study in studies.items():
        grids = [
            Grid(**common, **study, methods=methods, teacher_sees=[sees])
            for sees, methods in METHODS.items()
        ]
        if name == "label_noise":
            grids.append(
                Grid(**common, **study | {"label_noise": [0.0]}, methods=["CrossEntropy", *PUBLIC])
            )
        results = [run(grid, args.store, workers=args.workers) for grid in grids]
        frame = pd.concat([r.frame() for r in results]).drop_duplicates("key")
        if set(frame["status"]) - {"finished"}:
            raise SystemExit(
                f"not finished: {frame['status'].value_counts().to_dict()}. Run again to continue."
            )
        write_csv(
            frame[COLUMNS].round(4),
            f"{args.out}/{name}_cifar10.csv",
            f"ResNet-20 teaches ResNet-8; CIFAR-10, {study['images']} stratified training images, "
            f"then {name}; {args.epochs} epochs "
            f"(teacher {args.teacher_epochs}), batch 64, SGD 0.1 Nesterov 0.9, cosine, weight "
            "decay 5e-4, pad-4 crop and flip, bf16, "
            "10 % of the images held out. teacher_sees: the teacher's training data, the student's "
            "own or without corruption.",
        )
        for r in results:
            print(r.table().round(2).to_string())


if __name__ == "__main__":
    main()
