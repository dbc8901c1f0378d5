"""Born-Again Networks on a small DenseNet and a tenth of CIFAR-10: the columns of the paper's table
2, over seeds.

    python benchmarks/born_again.py --seeds 0 1 2        # continues where it stopped

Everything of one seed begins with a teacher of that seed, trained from the labels. BAN, BAN+L, CWTM
and DKPP learn from it; BAN-1, BAN-2 and BAN-3 are a chain of generations (BAN and BAN-1 are the
same procedure with different seeds, as in the paper). Ens*2 and Ens*3 are the mean predictions of
the chain's first two and three, the teacher not among them. As a control, the mean prediction of
two and of three teachers (of this seed and the next ones), trained from the labels alone. Same
schedule for all; nothing is tuned."""

import argparse
from pathlib import Path

import pandas as pd
import torch
from provenance import mean_std, write_csv

from kdtutor import Teacher, evaluate, fit
from kdtutor.datasets import load
from kdtutor.methods import CWTM, DKPP, BornAgain, CrossEntropy, generations
from kdtutor.models import densenet


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--runs", default="runs/born_again")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--growth", type=int, default=8)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    data, runs = load("cifar10", root=args.data).subset(args.images), Path(args.runs)

    def make(seed, member):
        torch.manual_seed(1000 + 100 * member + seed)
        return densenet(args.depth, args.growth)

    def train(name, seed, member, distiller):
        """Trains one network; its member number keeps the seeds of one table apart."""
        history = fit(
            distiller,
            data,
            args.epochs,
            lr=0.1,
            batch_size=args.batch,
            seed=100 * member + seed,
            precision=args.precision,
            run_dir=runs / f"{name}_{seed}",
        )
        results.append({"network": name, "seed": seed, **history.result})
        print(
            f"{name:8} seed {seed}: {history.result['test_accuracy_last']:.2%}, "
            f"{history.result['seconds']:.0f} s",
            flush=True,
        )
        return distiller.student

    def ensemble(name, seed, nets):
        results.append(
            {"network": name, "seed": seed, "test_accuracy_last": evaluate(Teacher(nets), data)}
        )

    results, teachers = [], {}
    for seed in args.seeds:
        teacher = train("Teacher", seed, 0, CrossEntropy(make(seed, 0)))
        members = iter(range(1, 4))
        chain = [
            train(f"BAN-{k}", seed, k, plan)
            for k, plan in enumerate(
                generations(lambda: make(seed, next(members)), count=3, teacher=teacher), start=1
            )
        ]
        for member, (name, method) in enumerate(
            [
                ("BAN", BornAgain),
                ("BAN+L", lambda s, t: BornAgain(s, t, labels=True)),
                ("CWTM", CWTM),
                ("DKPP", DKPP),
            ],
            start=4,
        ):
            train(name, seed, member, method(make(seed, member), teacher))
        teachers[seed] = teacher
        for size in (2, 3):
            ensemble(f"Ens*{size}", seed, chain[:size])
    ordered = list(teachers.values())
    for k, seed in enumerate(teachers):
        for size in range(2, min(3, len(ordered)) + 1):
            ensemble(
                f"{size} teachers", seed, [ordered[(k + i) % len(ordered)] for i in range(size)]
            )
    table = pd.DataFrame(results)
    base = table[table["network"] == "Teacher"].set_index("seed")["test_accuracy_last"]
    table["gain"] = [(r.test_accuracy_last - base[r.seed]) * 100 for r in table.itertuples()]
    table["seconds"] = table["seconds"].round()
    write_csv(
        table.round(4),
        f"{args.out}/born_again_cifar10.csv",
        f"DenseNet-{args.depth}-{args.growth}; {args.images} training images, 10 % of them held "
        f"out for validation; {args.epochs} "
        f"epochs, batch {args.batch}, SGD 0.1 Nesterov 0.9, cosine, weight decay 5e-4, pad-4 crop "
        f"and flip, {args.precision}. "
        "gain: points over the teacher of the same seed.",
    )
    print(mean_std(table, ["network"], "test_accuracy_last").to_string(index=False))


if __name__ == "__main__":
    main()
