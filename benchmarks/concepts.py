"""How fast are entropy maps? Ours over a loop that does one image at a time, as the method's public
code does it.

    python benchmarks/concepts.py --out data/results

The loop, written here from the recipe: for every image and checkpoint load the weights, measure
sigma_f, then up to 80 steps of SGD on sigma with 96 noisy images each, the network's weights asking
for gradients too; at step 60 an image that has passed the target ends, the others get 1.5 times the
weight; of all iterates the one nearest the target is kept. Like it, ours draws 96 noisy images a
step. "same recipe": ``entropy_map(start="constant")``, which ends an image at the target; "to the
last step": it may not. Both draw the loop's noise, and their maps must be the loop's. "first-order
start" and "closed form" (64 projections): with their rank correlation to the loop's."""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from paired import compare, take_turns
from provenance import write_csv

from kdtutor import datasets, fit, methods, models
from kdtutor.concepts import checkpoints, entropy, first_order_map, rank_correlation, trajectory
from kdtutor.runs import load_weights
from kdtutor.taps import Taps

TARGET, RATE, WEIGHT, SIGMA_0 = -2.8, 1e-4, 7.0, 0.01


def loop(
    net, files, images, layer: str, noise: int, iterations: int, grid: int = 16
) -> torch.Tensor:
    """One image, one checkpoint at a time: sigma (checkpoints, images, grid, grid)."""
    size, maps = tuple(images.shape[2:]), []
    for x in images.split(1):
        for file in files:
            load_weights(net, file).eval()
            feature = lambda z: Taps(net, [layer], stop=True)(z)[1][layer].relu()
            generator = torch.Generator(x.device).manual_seed(0)
            draw = lambda: torch.randn(
                noise, *x.shape[1:], generator=generator, device=x.device, dtype=x.dtype
            )
            with torch.no_grad():
                clean = feature(x).expand(noise, *[-1] * (feature(x).ndim - 1))
                scale = F.mse_loss(feature(x + SIGMA_0 * draw()), clean)
            sigma = torch.full((1, 1, grid, grid), SIGMA_0).to(x).requires_grad_()
            optimizer, weight, iterates, levels = torch.optim.SGD([sigma], RATE), WEIGHT, [], []
            for step in range(iterations):
                sigma.data.clamp_(1e-3, 1)
                level = entropy(sigma).mean()
                iterates.append(sigma.detach().clone())
                levels.append(level.item())
                if step == iterations * 3 // 4:
                    if max(levels) > TARGET:
                        break
                    weight *= 1.5
                noisy = (
                    x
                    + F.interpolate(sigma.expand(noise, -1, -1, -1), size=size, mode="nearest")
                    * draw()
                )
                loss = F.mse_loss(feature(noisy), clean) / scale - weight * level
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            nearest = min(range(len(levels)), key=lambda i: abs(levels[i] - TARGET))
            maps.append(iterates[nearest][0, 0])
            net.zero_grad()
    return torch.stack(maps).unflatten(0, (len(images), len(files))).transpose(0, 1).cpu()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["alexnet", "vgg"])
    parser.add_argument("--layers", nargs="+", default=["features", "fc2"])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--checkpoints", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=5, help="of training; the last checkpoints are taken"
    )
    parser.add_argument("--noise", type=int, default=96)
    parser.add_argument("--iterations", type=int, default=80)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--float64", action="store_true", help="compare the maps without float32's rounding"
    )
    parser.add_argument("--out", help="folder for concepts_speed.csv")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = datasets.load("scenes", n_train=1000, n_test=max(8, args.images))
    dtype = torch.float64 if args.float64 else torch.float32
    images = data.normalised(data.test.x[: args.images]).to(args.device, dtype)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks:
            torch.manual_seed(0)
            net, run = models.build(name, classes=8), Path(folder) / name
            fit(
                methods.CrossEntropy(net),
                data,
                args.epochs,
                optimizer=lambda p: torch.optim.Adam(p, 1e-3),
                run_dir=run,
                snapshots=range(args.epochs + 1),
                device=args.device,
                progress=False,
            )
            net.to(dtype)
            files = dict(list(checkpoints(run).items())[-args.checkpoints :])
            for layer in args.layers:
                rows += [
                    {"network": name, "layer": layer} | row
                    for row in race(net, files, images, layer, args)
                ]
    import pandas as pd  # not for the functions above, which others use

    frame = pd.DataFrame(rows).assign(device=args.device, threads=args.threads)
    print(frame.to_string(index=False))
    if args.out:
        write_csv(
            frame,
            f"{args.out}/concepts_speed.csv",
            f"{args.images} images x {args.checkpoints} checkpoints of 3 x 32 x 32, "
            f"{args.noise} draws, {args.iterations} iterations, {args.rounds} rounds. ratio: the "
            "loop's time over ours. "
            "rank_correlation: mean over maps, with the loop's. per_minute: images x checkpoints, "
            "ours. "
            "peak_mib: of the process, so far.",
        )


def race(net, files, images, layer: str, args) -> list[dict]:
    ours = dict(relu=True, progress=False)
    descents = dict(ours, noise=args.noise, iterations=args.iterations)
    contenders = {
        "loop": lambda: loop(net, files.values(), images, layer, args.noise, args.iterations),
        "same recipe": lambda: trajectory(net, files, images, layer, start="constant", **descents),
        "to the last step": lambda: trajectory(
            net, files, images, layer, start="constant", early_stop=False, **descents
        ),
        "first-order start": lambda: trajectory(net, files, images, layer, **descents),
        "closed form": lambda: trajectory(
            net, files, images, layer, make=first_order_map, kind="descent", **ours
        ),
    }
    maps = {}

    def timed(name):
        began = time.perf_counter()
        found = contenders[name]()
        seconds = time.perf_counter() - began
        maps[name] = found if name == "loop" else torch.stack([m.sigma for m in found.maps])
        return seconds

    times = take_turns({name: (lambda name=name: timed(name)) for name in contenders}, args.rounds)
    aims = {
        "same recipe": 10 if args.device == "cuda" else 2,
        "to the last step": None,
        "first-order start": 8,
        "closed form": 100,
    }
    for name, aim in aims.items():
        alike = rank_correlation(
            maps[name].flatten(0, 1).flatten(1), maps["loop"].flatten(0, 1).flatten(1)
        ).mean()
        off = (maps[name] - maps["loop"]).abs().max()
        fastest = min(times[name])
        yield compare(
            name,
            "loop",
            times["loop"],
            times[name],
            at_least=aim,
            rank_correlation=round(float(alike), 4),
            largest_difference=f"{off:.1e}",
            per_minute=round(60 * len(images) * len(files) / fastest, 1),
            loop_per_minute=round(60 * len(images) * len(files) / min(times["loop"]), 1),
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )


if __name__ == "__main__":
    main()
