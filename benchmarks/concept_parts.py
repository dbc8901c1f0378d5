"""Do concept cells lie on the parts that decide the class? Entropy maps against attribution
methods, on images that know their parts.

    python benchmarks/concept_parts.py --runs runs/concepts      # after concepts_replication.py,
    whose baselines it looks at

Robots of ``load("scenes")``: three parts decide the class; body, background and loose parts do not.
Precision and recall of the found cells against the cells of those parts. Maps: cells with H-bar -
H_i > b = 0.2, ranked by -H_i. Attributions (captum) of the true class's logit against an image of
the mean colour, absolute and summed over a cell; found are as many cells as in the optimised map of
the same network's logits. parts_precision: for as many cells as the image's parts have, whatever
the method. Chance: cells in random order."""

import argparse

import pandas as pd
import torch
from captum.attr import IntegratedGradients, Occlusion
from provenance import write_csv

from kdtutor import concepts, datasets, models
from kdtutor.concepts.cells import gather
from kdtutor.concepts.parts import average_precision, part_cells, precision_recall, top_cells
from kdtutor.runs import load_weights

LAYERS, GRID = ["features", "relu1", "relu2", "fc3"], 16


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", default="runs/concepts")
    parser.add_argument("--out", default="data/results")
    parser.add_argument("--networks", nargs="+", default=["alexnet", "vgg"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--noise", type=int, default=48)
    args = parser.parse_args()
    data = datasets.load("scenes", n_train=8, n_test=500)
    shown = data.test.select(range(args.images))
    x, parts = data.normalised(shown.x), part_cells(shown.extra["part_mask"], GRID).cells
    on = {
        name: concepts.foreground(shown.extra[f"{name}_mask"], GRID).cells
        for name in ("object", "distractor")
    }
    rows = []
    for arch in args.networks:
        for seed in args.seeds:
            weights = f"{args.runs}/scenes_{arch}/baseline_fc1_{seed}/student.safetensors"
            net = load_weights(models.build(arch, classes=8, width=16, hidden=128), weights)
            for method, layer, score, found in methods(
                net.eval(), x, shown.y, on["object"], args.noise
            ):
                precision, recall = precision_recall(found, parts)
                at_parts, _ = precision_recall(top_cells(score, parts.sum((1, 2))), parts)
                numbers = dict(
                    cells=found.sum((1, 2)).double(),
                    precision=precision,
                    recall=recall,
                    parts_precision=at_parts,
                    average_precision=average_precision(score, parts),
                    on_object=precision_recall(found, on["object"])[0],
                    on_loose_parts=precision_recall(found, on["distractor"])[0],
                )
                rows.append(
                    dict(network=arch, seed=seed, layer=layer, method=method, images=len(x))
                    | {k: v.nanmean().item() for k, v in numbers.items()}
                )
            print(f"{arch} seed {seed}: done", flush=True)
    frame = pd.DataFrame(rows).round(4)
    mean = lambda cells: f"{cells.sum((1, 2)).double().mean():.1f}"
    write_csv(
        frame,
        f"{args.out}/concept_parts.csv",
        f"{args.images} test images of scenes, noise {args.noise}, b = 0.2. Of the "
        f"{GRID**2} cells of an image {mean(parts)} are on parts that decide, "
        f"{mean(on['object'])} on the robot, "
        f"{mean(on['distractor'])} on loose parts. Networks: the baselines of "
        "concepts_replication.py.",
    )
    print(
        frame.groupby(["network", "layer", "method"], sort=False)
        .mean(numeric_only=True)
        .round(3)
        .to_string()
    )


def methods(net, x, y, foreground, noise: int):
    """(method, layer, score (N, g, g), found cells) of every method."""
    for layer in LAYERS:
        for name, maps in {
            "optimised": concepts.entropy_map(net, x, layer, GRID, noise=noise, progress=False),
            "first order": concepts.first_order_map(
                net, x, layer, GRID, kind="descent", progress=False
            ),
        }.items():
            found = concepts.concept_cells(maps.entropy, foreground)
            yield name, layer, -maps.entropy, found
            if name == "optimised":
                count = found.sum((1, 2))
    grey = x.mean((2, 3), keepdim=True).expand_as(x)
    attributions = {
        "integrated gradients": IntegratedGradients(net).attribute(
            x, grey, target=y, n_steps=32, internal_batch_size=256
        ),
        "occlusion": Occlusion(net).attribute(
            x, (3, 2, 2), strides=(3, 2, 2), baselines=grey, target=y
        ),
    }
    for name, attribution in attributions.items():
        score = gather(attribution.detach().abs().sum(1), GRID)
        yield name, "class logit", score, top_cells(score, count)
    random = torch.rand(len(x), GRID, GRID, generator=torch.Generator().manual_seed(0))
    yield "chance", "none", random, top_cells(random, count)


if __name__ == "__main__":
    main()
