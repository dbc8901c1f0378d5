"""ResNet-20 teaches ResNet-8 on a subset of CIFAR-10, sized for twenty minutes on two cores: baseline and distillation.

    python benchmarks/cifar10.py --seeds 0 1 2        # continues where it stopped

One teacher, trained on the same subset; every student has its own seed for weights, order and views, the same for both methods,
so that gains are paired. Test accuracy of the last epoch, and of the epoch that was best on the validation split beside it.
Sarfraz et al. (ICPR 2020) report 87.64 alone and 88.80 distilled after 200 epochs on all 50,000 images: another budget.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from provenance import mean_std, write_csv

from kdtutor import Teacher, fit
from kdtutor.datasets import load
from kdtutor.methods import CrossEntropy, Hinton
from kdtutor.models import resnet8, resnet20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--runs", default="runs/cifar10")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    data, runs = load("cifar10", root=args.data).subset(args.images), Path(args.runs)

    def train(name, seed, distiller):
        return fit(distiller, data, args.epochs, lr=0.1, seed=seed, precision=args.precision, run_dir=runs / f"{name}_{seed}").result

    def student(seed):
        torch.manual_seed(1000 + seed)
        return resnet8()

    torch.manual_seed(999)
    net = resnet20()
    results = {("teacher ResNet-20", 0): train("teacher", 0, CrossEntropy(net))}
    for seed in args.seeds:
        results["ResNet-8 alone", seed] = train("baseline", seed, CrossEntropy(student(seed)))
        results["ResNet-8 distilled, T=4", seed] = train("hinton", seed, Hinton(student(seed), Teacher(net)))
    table = pd.DataFrame([{"model": model, "seed": seed, **{k: v for k, v in r.items() if k != "seconds"}, "seconds": round(r["seconds"])}
                          for (model, seed), r in results.items()])
    write_csv(table, f"{args.out}/cifar10_small.csv", f"subset of {args.images} training images, 10 % of them held out for validation; "
              f"{args.epochs} epochs, batch 64, SGD 0.1 Nesterov 0.9, cosine, weight decay 5e-4, pad-4 crop and flip, {args.precision}")
    for column in ("test_accuracy_last", "test_accuracy_best"):
        print(column, mean_std(table, ["model"], column).to_string(index=False), sep="\n")
    gain = table.pivot(index="seed", columns="model", values="test_accuracy_last")
    gain = (gain["ResNet-8 distilled, T=4"] - gain["ResNet-8 alone"]) * 100
    print(f"gain in points, paired over seeds: {gain.mean():.2f} ± {gain.std():.2f}; total {table['seconds'].sum() / 60:.0f} minutes")


if __name__ == "__main__":
    main()
