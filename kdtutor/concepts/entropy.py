"""Cheng, Rao, Chen, Zhang: Explaining Knowledge Distillation by Quantifying the Knowledge (CVPR
2020, arXiv 2003.03622): the maps.

How much noise can each part of an image take before a layer notices? x' = x + sigma * eps, one
sigma per cell; the map is the sigma that carries the most entropy for the change that it makes in
the feature. Low entropy: what the layer still knows."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..display.progress import bar
from ..errors import explained, unknown
from ..training.memory import keep_freed_memory
from .cells import check_grid, gather, spread
from .features import Layer, check_features, check_settings, clean_features, ready, still
from .first_order import BOUNDS, descent, duration_until, optimum, sensitivity
from .maps import EntropyMaps, entropy, rank_correlation, report

# Images that share one drawing of the noise; the memory for it is that of ``noise`` images.
GROUP = 64
REFINE = 10  # real steps that a first-order start leaves before the target
LOOK = 4  # steps between two looks at who has passed the target, on a GPU: a look makes it wait


@explained
def entropy_map(
    net: nn.Module,
    images: Tensor,
    layer: str,
    grid: int = 16,
    *,
    target: float | None = -2.8,
    start: str = "first order",
    iterations: int = 80,
    noise: int = 96,
    lr: float | None = None,
    weight: float = 7.0,
    sigma_0: float = 0.01,
    bounds: tuple[float, float] = BOUNDS,
    early_stop: bool = True,
    relu: bool = False,
    projections: int = 128,
    seed: int = 0,
    chunk: int = 192,
    progress: bool = True,
) -> EntropyMaps:
    """How much each cell of each image may vary before a layer notices: sigma and its entropy.

    H_i = log sigma_i + 1/2 log 2 pi e is the entropy of cell i. Image by image, and all images at
    once, it descends on

        L(sigma) = E_eps ||f(x + sigma * eps) - f(x)||^2 / ||...||^2 at sigma_0
                   - weight * mean_i H_i

    (paper: a sum over cells, so lambda = weight / grid^2) with plain SGD on sigma and ``noise``
    fresh draws in each step, and keeps of all iterates the one whose mean entropy is nearest
    ``target``: only maps of equal total discarding may be compared. Three quarters through, images
    still below the target get 1.5 times the weight. Maps that end elsewhere say so (``reached``,
    and a warning). Images whose feature does not answer (sigma_f = 0) are counted in a warning and
    have NaN maps.

    Args:
        net: Any torch module; its weights, modes and gradients are untouched.
        images: (N, C, H, W) float, as the network sees them.
        layer: A module path as in ``kdtutor.taps``.
        grid: Cells to a side.
        target: Mean entropy, in nats. None: no such selection, the last iterate is kept.
        start: "first order" begins a few steps before the place where the descent would pass the
            target if f were linear (with target None: at its minimum); "constant" is the paper's
            sigma_0 everywhere.
        iterations: The most steps from there.
        noise: Draws in each step. They are the same for all images, so a map does not depend on the
            images beside it.
        lr: By default 1e-4 * grid^2 / 256, the authors' rate, at which all grids move alike.
        weight: 7 for AlexNet and VGG, 6 for ResNets in the authors' code.
        sigma_0: The noise that gives the scale of the feature's change, in units of the input.
        bounds: Of sigma, (lower, upper).
        early_stop: An image ends when it has passed the target.
        relu: The feature after a ReLU, as in the authors' code for every layer.
        projections: As in ``sensitivity``, for the start and for ``agreement``.
        seed: Same seed, same maps.
        chunk: The most noisy images that run through the network at once; it bounds the memory and
            does not change what is computed.
        progress: Show a bar.

    Returns:
        ``EntropyMaps`` of the N images, on the CPU.

    Raises:
        ValueError: For a layer that does not exist, a layer dead for all images, NaN in images or
            features, a grid finer than the pixels, settings out of range.

    Source:
        Cheng et al. 2020 (CVPR, arXiv 2003.03622).

    Example:
        >>> images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
        >>> maps = entropy_map(net, images, "1", grid=2, noise=8, progress=False)
        >>> maps
        EntropyMaps(2 images, 2x2 cells, layer '1', target -2.8 reached by 2)
    """
    if start not in ("first order", "constant"):
        raise unknown("start", start, ("first order", "constant"))
    check_settings(
        bounds,
        sigma_0,
        iterations=iterations,
        noise=noise,
        chunk=chunk,
        weight=weight,
        lr=1.0 if lr is None else lr,
    )
    x_all = ready(net, images)
    if x_all.device.type == "cpu":
        keep_freed_memory()
    check_grid(grid, *x_all.shape[-2:])
    rate = 1e-4 * grid**2 / 256 if lr is None else lr
    linear: dict[str, Any] = dict(weight=weight, sigma_0=sigma_0, bounds=bounds)
    parts: list[list[Tensor]] = []
    with (
        still(net),
        bar(progress, total=len(x_all), desc=f"entropy maps of {layer}", unit="img") as show,
    ):
        read = Layer(net, layer, relu)
        check_features(read, x_all, chunk)
        for x in x_all.split(GROUP):
            noisy = _Noisy(read, x, grid, noise, chunk, torch.Generator(x.device).manual_seed(seed))
            scale = noisy.scale(sigma_0)
            if not scale.isfinite().all():
                raise ValueError(
                    f"layer {layer!r} gives NaN or Inf under noise of sigma_0={sigma_0}, first "
                    "for the image at position "
                    f"{len(parts) * GROUP + int((~scale.isfinite()).nonzero()[0])}: take a "
                    "smaller sigma_0, or another layer."
                )
            g = sensitivity(
                net, x, layer, grid, projections=projections, relu=relu, seed=seed, chunk=chunk
            )
            sigma = torch.full((len(x), grid, grid), sigma_0, dtype=x.dtype, device=x.device)
            if start == "first order":
                if target is None:
                    begun = optimum(g, None, **linear)
                else:
                    passes = duration_until(g, target, iterations * rate, **linear)
                    begun = descent(g, (passes - REFINE * rate).clamp(min=0), **linear)
                sigma = torch.where((g.flatten(1).sum(1) > 0)[:, None, None], begun, sigma)
            kept, steps = _descend(
                noisy, sigma, scale, target, iterations, rate, weight, bounds, early_stop
            )
            kept[scale == 0] = math.nan
            agreement = rank_correlation(-g.flatten(1), kept.flatten(1))
            parts.append([t.cpu() for t in (kept, scale, steps, agreement)])
            show.update(len(x))
    settings = dict(
        start=start,
        iterations=iterations,
        noise=noise,
        lr=rate,
        early_stop=early_stop,
        relu=relu,
        projections=projections,
        seed=seed,
        size=tuple(images.shape[-2:]),
        **linear,
    )
    sigma, scale, steps, agreement = (torch.cat(some) for some in zip(*parts))
    return report(EntropyMaps(sigma, scale, steps, agreement, layer, target, settings))


class _Noisy:
    """The feature's answer to noise, for one group of images: gradients of its mean squared change,
    in pieces of ``chunk``.
    """

    def __init__(
        self, read: Layer, x: Tensor, grid: int, noise: int, chunk: int, generator: torch.Generator
    ):
        self.read, self.x, self.grid, self.noise, self.generator = read, x, grid, noise, generator
        self.clean = clean_features(read, x, chunk)
        self.draws, self.images = min(noise, chunk), max(1, chunk // noise)  # at once

    def draw(self) -> Tensor:
        return torch.randn(
            self.noise,
            *self.x.shape[1:],
            generator=self.generator,
            dtype=self.x.dtype,
            device=self.x.device,
        )

    def _pieces(self, rows: Tensor, sigma: Tensor):
        """(images, noise, noisy input) of each piece; rows: which images, sigma: theirs."""
        eps = self.draw()
        for which in torch.arange(len(rows)).split(self.images):
            wide = spread(sigma[which], *self.x.shape[-2:])[:, None, None]
            for part in eps.split(self.draws):
                x = (self.x[rows[which]][:, None] + wide * part).flatten(0, 1)
                yield which, part, x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def scale(self, sigma_0: float) -> Tensor:
        """sigma_f^2 (N,): the mean squared change of the feature, per entry, under noise of sigma_0
        everywhere.
        """
        rows = torch.arange(len(self.x))
        total = torch.zeros(len(self.x), dtype=self.x.dtype, device=self.x.device)
        for which, part, x in self._pieces(
            rows, torch.full((len(rows), self.grid, self.grid), sigma_0).to(self.x)
        ):
            change = self.read(x).unflatten(0, (len(which), len(part))) - self.clean[which][:, None]
            total[which] += change.square().sum((1, 2)) / (self.noise * self.clean.shape[1])
        return total

    def gradient(self, rows: Tensor, sigma: Tensor, scale: Tensor) -> Tensor:
        """d/d sigma of the mean squared change / scale, for the images ``rows``: (len(rows), grid,
        grid).
        """
        total = torch.zeros_like(sigma)
        for which, part, x in self._pieces(rows, sigma):
            with torch.enable_grad():
                features = self.read(x.requires_grad_()).unflatten(0, (len(which), len(part)))
            if not features.requires_grad:
                raise ValueError(
                    f"layer {self.read.path!r} moves with the image but has no gradient with "
                    "respect to it: its forward pass "
                    "cuts the graph (detach, no_grad, rounding). Choose a layer that can be "
                    "differentiated."
                )
            change = features.detach() - self.clean[rows[which]][:, None]
            change *= (2 / (self.noise * self.clean.shape[1] * scale[which]))[:, None, None]
            (pulled,) = torch.autograd.grad(features, x, change)
            pixels = (pulled.unflatten(0, (len(which), len(part))) * part).sum((1, 2))
            total[which] += gather(pixels, self.grid)
        return total


def _descend(
    noisy: _Noisy,
    sigma: Tensor,
    scale: Tensor,
    target,
    iterations: int,
    rate: float,
    weight: float,
    bounds,
    early_stop: bool,
) -> tuple[Tensor, Tensor]:
    """SGD on sigma (N, g, g) from where it is; returns the kept iterates and the steps they took,
    (N,).
    """
    n, kept, steps = (
        sigma[0].numel(),
        sigma.clone(),
        torch.zeros(len(sigma), dtype=torch.int64, device=sigma.device),
    )
    nearest = torch.full((len(sigma),), math.inf, dtype=sigma.dtype, device=sigma.device)
    passed = torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
    rows = (scale > 0).nonzero().flatten()  # the images that still move
    pull = torch.full((len(sigma), 1, 1), weight / n, dtype=sigma.dtype, device=sigma.device)
    for step in range(iterations + 1):
        level = entropy(sigma[rows]).mean((1, 2))
        off = (level - target).abs() if target is not None else -torch.full_like(level, step)
        better = rows[off < nearest[rows]]
        kept[better], steps[better], nearest[better] = sigma[better], step, off[off < nearest[rows]]
        if target is not None:
            passed[rows] |= level >= target
            if early_stop and (step % LOOK == 0 or sigma.device.type == "cpu"):
                rows = rows[~passed[rows]]
        if step == iterations or not len(rows):
            break
        if target is not None and step == iterations * 3 // 4:
            pull = torch.where(passed[:, None, None], pull, 1.5 * pull)
        down = noisy.gradient(rows, sigma[rows], scale[rows]) - pull[rows] / sigma[rows]
        sigma[rows] = (sigma[rows] - rate * down).clamp(*bounds)
    return kept, steps
