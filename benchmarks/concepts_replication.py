"""Does distillation give more, simultaneous and stable concepts here too? The CVPR 2020 paper's
comparison on small networks.

    python benchmarks/concepts_replication.py                  # continues where it stopped

As in the paper the student has the teacher's architecture, learns one layer's features by squared
error, and then, with that layer frozen, the layers above from labels; the baseline learns
everything from labels. Both begin at the same weights, see the same images and use the same
optimiser. Ours, not the paper's: small images, and a teacher that has seen more images instead of a
pretrained one. The checkpoints are those of the epochs in which the layer learns. Maps: to first
order at all checkpoints (exact Jacobians, no noise), and optimised ones at the last checkpoint
beside them: their cells hold 12 numbers here and 588 in the paper, and what noise the draws leave
in them would decide at which early checkpoint an image has most concepts."""

import argparse
import json
import warnings
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from provenance import write_csv

from kdtutor import Teacher, concepts, datasets, fit, methods, models
from kdtutor.distiller import Distiller, Player, Stage
from kdtutor.runs import replace_file
from kdtutor.taps import Taps
from kdtutor.taps.default_layers import parameters_before

LAYERS = {
    "fc1": "relu1",
    "fc2": "relu2",
}  # what is matched, and where it is analysed: after the ReLU, as in the authors' code
EPOCHS, HEAD = 30, 6
SNAPSHOTS = [0, 1, 2, 4, 7, 10, 18, 30]
STUDIES = {
    "scenes": dict(teacher_images=6000, images=2000, teacher_epochs=12),
    "cifar10": dict(teacher_images=20000, images=4000, teacher_epochs=15),
}


def adam(parameters):
    return torch.optim.Adam(parameters, 0.002)


class LayerMatching(Distiller):
    """Stage "match": the student up to one layer learns the teacher's features there, ||f_s -
    f_t||^2 over the features' variance. Stage "head": the layers above learn from labels; those
    below stay as they are.
    """

    def __init__(self, student, teacher, layer: str):
        super().__init__(student)
        self.teacher, self.layer, self._below = (
            Teacher(teacher),
            layer,
            parameters_before(student, [layer]),
        )

    def match(self, batch):
        wanted = self.teacher.features(batch, [self.layer], stop=True)[1][self.layer]
        got = Taps(self.student, [self.layer], stop=True)(batch.x)[1][self.layer]
        return {"match": F.mse_loss(got, wanted) / wanted.var()}

    def label(self, batch):
        return {"ce": F.cross_entropy(self.student(batch.x), batch.y)}

    def stages(self):
        below = set(map(id, self._below))
        above = [p for p in self.student.parameters() if id(p) not in below]
        return [
            Stage("match", EPOCHS, [Player("student", self.match, self._below)]),
            Stage("head", HEAD, [Player("head", self.label, above)]),
        ]


def run(dataset: str, arch: str, seed: int, args) -> list[dict]:
    """One seed of one architecture: baseline and distilled, both layers; a row per metric."""
    study = STUDIES[dataset]
    options = (
        dict(n_train=study["teacher_images"], n_test=500)
        if dataset == "scenes"
        else dict(root=args.data)
    )
    full = datasets.load(dataset, **options).augmented(None)
    many, few = full.subset(study["teacher_images"], seed=0), full.subset(study["images"], seed=0)
    folder = Path(args.runs) / f"{dataset}_{arch}"

    def new(seed):
        torch.manual_seed(seed)
        return models.build(arch, classes=len(full.classes), channels=3, width=16, hidden=128)

    def train(distiller, data, epochs, name, **kw):
        return distiller.deploy(), fit(
            distiller, data, epochs, optimizer=adam, run_dir=folder / name, progress=False, **kw
        )

    teacher, taught = train(
        methods.CrossEntropy(new(100)), many, study["teacher_epochs"], "teacher", seed=100
    )
    shown = full.test.select(range(args.analysed))
    x, grid = full.normalised(shown.x), 16
    fg = (
        concepts.foreground(shown, grid)
        if "object_mask" in shown.extra
        else concepts.central_box(len(shown), grid)
    )
    rows = []
    warnings.filterwarnings(
        "ignore", message="a single checkpoint"
    )  # the optimised maps: N_fg, N_bg and lambda only
    for layer, analysed in LAYERS.items():
        nets = {
            "baseline": train(
                methods.CrossEntropy(new(seed)),
                few,
                EPOCHS,
                f"baseline_{layer}_{seed}",
                seed=seed,
                snapshots=SNAPSHOTS,
                weight_path=layer,
            ),
            "distilled": train(
                LayerMatching(new(seed), teacher, layer),
                few,
                EPOCHS + HEAD,
                f"distilled_{layer}_{seed}",
                seed=seed,
                snapshots=SNAPSHOTS,
                weight_path=layer,
            ),
        }
        for network, (net, history) in nets.items():
            where = folder / f"{network}_{layer}_{seed}"
            files = {e: f for e, f in concepts.checkpoints(where).items() if e in SNAPSHOTS}
            for kind, epochs, settings in [
                (
                    "first order",
                    SNAPSHOTS,
                    dict(make=concepts.first_order_map, kind="descent", projections=256),
                ),
                ("optimised", SNAPSHOTS[-1:], dict(make=concepts.entropy_map, noise=args.noise)),
            ]:
                course = concepts.trajectory(
                    net, {e: files[e] for e in epochs}, x, analysed, progress=False, **settings
                )
                for variant in ("paper", "code"):
                    way = concepts.weight_distance(history, course.epochs, variant)
                    report = concepts.concept_metrics(
                        course.maps, fg, epochs=course.epochs, distance=way, variant=variant
                    )
                    about = dict(
                        dataset=dataset,
                        network=arch,
                        layer=layer,
                        model=network,
                        seed=seed,
                        map=kind,
                        variant=variant,
                        images=len(report.per_image["image"]),
                        masks=report.mask_source,
                        effective=int(concepts.effective_images(course.maps, fg).sum()),
                        agreement=round(
                            float(torch.stack([m.agreement for m in course.maps]).mean()), 4
                        ),
                        test_accuracy=history.result["test_accuracy_last"],
                        teacher_accuracy=taught.result["test_accuracy_last"],
                    )
                    rows += [
                        about
                        | dict(
                            metric=k,
                            value=v,
                            low=report.intervals[k][0],
                            high=report.intervals[k][1],
                        )
                        for k, v in report.values.items()
                    ]
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="folder that holds CIFAR-10")
    parser.add_argument("--runs", default="runs/concepts")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--datasets", nargs="+", default=list(STUDIES))
    parser.add_argument("--networks", nargs="+", default=["alexnet", "vgg"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--analysed", type=int, default=48, help="test images whose maps are drawn")
    parser.add_argument("--noise", type=int, default=96)
    parser.add_argument("--quick", action="store_true", help="only shows that it runs")
    args = parser.parse_args()
    if args.quick:
        small = dict(teacher_images=24, images=24, teacher_epochs=1)
        globals().update(
            EPOCHS=2, HEAD=1, SNAPSHOTS=[0, 1, 2], STUDIES={name: small for name in STUDIES}
        )
    rows = []
    for seed in args.seeds:
        for dataset in args.datasets:
            for arch in args.networks:
                done = Path(args.runs) / f"{dataset}_{arch}_{seed}.json"
                if not done.exists():
                    done.parent.mkdir(parents=True, exist_ok=True)
                    found = run(dataset, arch, seed, args)
                    replace_file(done, lambda t: t.write_text(json.dumps(found)))
                    print(f"{dataset} {arch} seed {seed}: done", flush=True)
                rows += json.loads(done.read_text())
    write_csv(
        pd.DataFrame(rows).round(5),
        f"{args.out}/concepts_replication.csv",
        f"Student = teacher's architecture (width 16, hidden 128); {EPOCHS} epochs of Adam 0.002, "
        "cosine, batch 64, no augmentation, "
        f"10 % held out; distilled: then {HEAD} epochs of the layers above. Checkpoints after "
        f"epochs {SNAPSHOTS}. "
        f"{STUDIES}. {args.analysed} test images, 16 x 16 cells, noise {args.noise}, b = 0.2, "
        "target -2.8.",
    )


if __name__ == "__main__":
    main()
