"""The entropy map in closed form, to first order: what it would be if the layer were linear around
the image.

For small noise f(x') - f(x) = J (sigma * eps), so the expected change of the feature is sum_i
sigma_i^2 g_i, where g_i is the squared norm of the Jacobian's columns of cell i. The most entropy
at a given change then has sigma_i^2 proportional to 1 / g_i."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..display.progress import bar
from ..errors import explained, unknown
from .cells import check_grid, gather
from .features import Layer, check_features, check_settings, ready, still
from .maps import HALF_LOG_2PIE, EntropyMaps, entropy, report

BOUNDS = (1e-3, 1.0)  # of sigma, as in the authors' code
STEPS = 80  # halvings that locate a crossing: of any range here to the last digit of a double


@explained
def sensitivity(
    net: nn.Module,
    images: Tensor,
    layer: str,
    grid: int = 16,
    *,
    projections: int = 64,
    relu: bool = False,
    seed: int = 0,
    chunk: int = 256,
) -> Tensor:
    """g: the squared norm of the Jacobian's columns that belong to a cell, pixels and channels.

    Args:
        net: Any torch module; nothing is done to it.
        images: (N, C, H, W) float, as the network sees them.
        layer: A module path as in ``kdtutor.taps``.
        grid: Cells to a side.
        projections: g_i = E_v ||(J^T v)_i||^2 for v with entries +-1, averaged over that many v,
            the same ones for all images; where the feature has no more entries than that, its rows
            are taken one by one and g is exact.
        relu: The feature after a ReLU.
        seed: Of the projections.
        chunk: Images at once.

    Returns:
        g, (N, grid, grid).

    Raises:
        ValueError: As ``entropy_map`` does.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> net[1].weight = nn.Parameter(torch.tensor([[1.0, 2.0, 3.0, 0.0]]))
        >>> sensitivity(net, torch.rand(1, 1, 2, 2), "1", grid=2).tolist()
        [[[1.0, 4.0], [9.0, 0.0]]]
    """
    return _columns(net, images, layer, grid, projections, relu, seed, chunk)[0]


def _columns(
    net, images, layer, grid, projections, relu, seed, chunk, show=None
) -> tuple[Tensor, int]:
    """``sensitivity``, and the number of the feature's entries."""
    check_settings(BOUNDS, BOUNDS[0], projections=projections, chunk=chunk)
    images = ready(net, images)
    check_grid(grid, *images.shape[-2:])
    g, read = torch.Generator().manual_seed(seed), Layer(net, layer, relu)
    found, v = [], None
    with still(net), torch.enable_grad():
        entries = check_features(read, images, chunk)
        for x in images.split(chunk):
            x = x.clone().requires_grad_()
            rows = read(x)
            if v is None:
                exact = rows.shape[1] <= projections
                v = (
                    torch.eye(rows.shape[1])
                    if exact
                    else torch.randint(0, 2, (projections, rows.shape[1]), generator=g) * 2.0 - 1
                )
                v, count = v.to(rows), 1 if exact else projections
            total = torch.zeros_like(x)
            for i, direction in enumerate(v):
                if (
                    rows.requires_grad
                ):  # a feature that does not depend on the image has no gradient at all
                    (pulled,) = torch.autograd.grad(
                        rows, x, direction.expand_as(rows), retain_graph=i + 1 < len(v)
                    )
                    total += pulled.square()
            found.append(gather(total.sum(1), grid) / count)
            if show:
                show.update(len(x))
    return torch.cat(found), entries


def optimum(
    g: Tensor,
    target: float | None = -2.8,
    weight: float = 7.0,
    sigma_0: float = 0.01,
    bounds=BOUNDS,
) -> Tensor:
    """The sigma with the most entropy at a given change: sigma_i^2 = c / g_i within ``bounds``.

    Args:
        g: (N, grid, grid), as ``sensitivity`` gives it.
        target: c is such that the mean entropy is this (where the bounds allow it), in nats; or,
            for None, the minimiser of the paper's loss sum_i sigma_i^2 g_i / (sigma_0^2 sum_i g_i)
            - weight * mean_i H_i, which is c = weight sigma_0^2 sum_i g_i / (2 n).
        weight, sigma_0: Of that loss.
        bounds: Of sigma.

    Returns:
        sigma, (N, grid, grid); cells with g_i = 0 at the upper bound.

    Example:
        >>> sigma = optimum(torch.tensor([[[1.0, 4.0], [16.0, 64.0]]]))
        >>> [round(r, 3) for r in (sigma[0, 0, 0] / sigma[0]).flatten().tolist()]
        [1.0, 2.0, 4.0, 8.0]
        >>> round(entropy(sigma).mean().item(), 3)
        -2.8
    """
    flat = g.double().flatten(1)
    c = weight * sigma_0**2 * flat.sum(1, keepdim=True) / (2 * flat.shape[1])
    if target is not None:
        level = lambda log_c: (
            ((log_c - flat.log()) / 2).clamp(*map(math.log, bounds)).mean(1, keepdim=True)
            + HALF_LOG_2PIE
        )
        seen = torch.where(flat > 0, flat, torch.nan).log()
        low = 2 * math.log(bounds[0]) + torch.nan_to_num(seen, math.inf).amin(1, keepdim=True)
        high = 2 * math.log(bounds[1]) + torch.nan_to_num(seen, -math.inf).amax(1, keepdim=True)
        c = _crossing(level, target, low, high).exp()
    return (c / flat).sqrt().clamp(*bounds).view_as(g).to(g.dtype)


def descent(
    g: Tensor, duration: Tensor | float, weight: float = 7.0, sigma_0: float = 0.01, bounds=BOUNDS
) -> Tensor:
    """Where gradient descent on sigma stands after a while, if f is linear.

    s = sigma^2 follows ds/du = 2 (weight/n - 2 s p / sigma_0^2), p = g / sum g, from sigma_0^2 at
    u = 0; so s(u) = s_inf + (sigma_0^2 - s_inf) exp(-4 p u / sigma_0^2) with s_inf = weight
    sigma_0^2 / (2 n p).

    Args:
        g: (N, grid, grid), as ``sensitivity`` gives it.
        duration: u, steps times rate; one per image or one for all.
        weight, sigma_0: Of the loss in ``optimum``.
        bounds: Of sigma.

    Returns:
        sigma, (N, grid, grid).

    Example:
        >>> [round(s, 4) for s in descent(torch.ones(1, 2, 2), 0.0).flatten().tolist()]
        [0.01, 0.01, 0.01, 0.01]
    """
    flat = g.double().flatten(1)
    share, n = flat / flat.sum(1, keepdim=True), flat.shape[1]
    rate = 4 * share / sigma_0**2
    u = torch.as_tensor(duration, dtype=flat.dtype, device=flat.device).reshape(-1, 1)
    # 2 weight/n (1 - e^(-rate u)) / rate tends to 2 weight/n u where nothing is read: expm1 keeps
    # the digits there.
    grown = torch.where(rate > 0, -torch.expm1(-rate * u) / rate.clamp(min=1e-300), u)
    s = sigma_0**2 * torch.exp(-rate * u) + 2 * weight / n * grown
    return s.sqrt().clamp(*bounds).view_as(g).to(g.dtype)


def duration_until(g: Tensor, target: float, longest: float, **settings) -> Tensor:
    """After which duration ``descent`` has a mean entropy.

    Args:
        g: (N, grid, grid), as ``sensitivity`` gives it.
        target: The mean entropy, in nats.
        longest: The most that is returned.
        **settings: Of ``descent``: weight, sigma_0, bounds.

    Returns:
        (N,) durations, float64.
    """
    level = lambda u: entropy(descent(g, u, **settings)).double().mean((1, 2))[:, None]
    ends = torch.zeros(len(g), 1, dtype=torch.float64, device=g.device)
    return _crossing(level, target, ends, ends + longest).flatten()


def _crossing(rising, target: float, low: Tensor, high: Tensor) -> Tensor:
    """Where a rising function of (N, 1) passes the target, between low and high, by halving; the
    nearer end where it does not.
    """
    for _ in range(STEPS):
        middle = (low + high) / 2
        above = rising(middle) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


@explained
def first_order_map(
    net: nn.Module,
    images: Tensor,
    layer: str,
    grid: int = 16,
    *,
    target: float | None = -2.8,
    kind: str = "optimum",
    projections: int = 64,
    weight: float = 7.0,
    sigma_0: float = 0.01,
    bounds=BOUNDS,
    relu: bool = False,
    seed: int = 0,
    chunk: int = 256,
    progress: bool = True,
) -> EntropyMaps:
    """``entropy_map`` in closed form, some hundred times cheaper.

    Exact for features that are linear in the image.

    Args:
        net, images, layer, grid, target, weight, sigma_0, bounds, relu, progress: As in
            ``entropy_map``.
        kind: "optimum", sigma_i^2 proportional to 1 / g_i (``optimum``); or "descent", the map at
            which the paper's descent, which stops long before its optimum, passes ``target``
            (``descent``): flatter, and the one to compare with ``entropy_map`` cell by cell. Both
            rank the cells alike.
        projections, seed, chunk: As in ``sensitivity``.

    Returns:
        ``EntropyMaps`` of the N images, on the CPU; ``steps`` are 0, ``agreement`` is 1.

    Raises:
        ValueError: As ``entropy_map`` does; for an unknown kind, and for "descent" without a
            target.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
        >>> first_order_map(net, torch.rand(2, 1, 4, 4), "1", grid=2, progress=False)
        EntropyMaps(2 images, 2x2 cells, layer '1', target -2.8 reached by 2)
    """
    if kind not in ("optimum", "descent"):
        raise unknown("kind", kind, ("optimum", "descent"))
    if kind == "descent" and target is None:
        raise ValueError(
            "kind='descent' is a map on the way to a mean entropy: pass target=, or take "
            "kind='optimum'."
        )
    check_settings(bounds, sigma_0, weight=weight)
    images = ready(net, images)
    with bar(progress, total=len(images), desc="first-order maps", unit="img") as show:
        g, entries = _columns(net, images, layer, grid, projections, relu, seed, chunk, show)
    dead = g.flatten(1).sum(1) == 0
    if kind == "optimum":
        sigma = optimum(g, target, weight, sigma_0, bounds)
    else:
        assert target is not None  # refused above
        own: dict[str, Any] = dict(weight=weight, sigma_0=sigma_0, bounds=bounds)
        sigma = descent(g, duration_until(g, target, longest=g[0].numel(), **own), **own)
    sigma[dead] = math.nan
    scale = sigma_0**2 * g.flatten(1).sum(1) / entries
    settings = dict(
        kind=kind,
        projections=projections,
        relu=relu,
        seed=seed,
        size=tuple(images.shape[-2:]),
        weight=weight,
        sigma_0=sigma_0,
        bounds=bounds,
    )
    no_steps, itself = torch.zeros(len(g), dtype=torch.int64), torch.ones(len(g))
    return report(EntropyMaps(sigma.cpu(), scale.cpu(), no_steps, itself, layer, target, settings))
