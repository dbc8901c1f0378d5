"""Label noise and class imbalance on CIFAR-10: what distillation buys where labels are wrong or classes unequal.

    python benchmarks/beyond_compression.py --workers 2        # continues where it stopped

The study's questions (Sarfraz, Arani, Zonooz 2020, tables V and VI) in a budget for two cores: ResNet-20 teaches ResNet-8. The study does
not say whether its teachers saw the noisy labels, so both are run: "same" labels as the student, or "clean" ones. SP and RKD-DA also
run with a tenth of their public weights, which are made for longer training (see methods_cifar10.py).
"""

import argparse

import pandas as pd
from provenance import write_csv

from kdtutor.ablation import Grid, run

METHODS = ["CrossEntropy", "Hinton", "SP", "SP(sp_weight=300)", "RKD-DA", "RKD(distance_weight=2.5, angle_weight=5.0)", "DML"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--store", default="runs/beyond")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, default=5000, help="of the noise grid; the imbalance grid takes twice as many")
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    common = dict(dataset="cifar10", root=args.data, teacher="resnet20", students=["resnet8"], methods=METHODS, seeds=args.seeds,
                  epochs=args.epochs, teacher_epochs=2 * args.epochs, teacher_sees=["same", "clean"],
                  fit={"lr": 0.1, "precision": "bf16"})
    grids = {"label_noise": Grid(**common, images=args.images, label_noise=[0.0, 0.2, 0.4, 0.6]),
             "imbalance": Grid(**common, images=2 * args.images, imbalance=[0.2, 2.0])}
    for name, grid in grids.items():
        results = run(grid, args.store, workers=args.workers)
        if set(results.frame()["status"]) - {"finished"}:
            return
        frame = results.frame()[["net", "method", "label_noise", "imbalance", "teacher_sees", "seed", "test_accuracy_last",
                                 "test_accuracy_best", "teacher_accuracy", "seconds"]]
        write_csv(pd.DataFrame(frame).round(4), f"{args.out}/{name}_cifar10.csv",
                  f"ResNet-20 teaches ResNet-8; CIFAR-10, {grid.images} stratified training images, then {name}; {args.epochs} epochs (teacher "
                  f"{grid.teacher_epochs}), batch 64, SGD 0.1 Nesterov 0.9, cosine, weight decay 5e-4, pad-4 crop and flip, bf16, 10 % held out.")
        print(results.table().round(2).to_string())


if __name__ == "__main__":
    main()
