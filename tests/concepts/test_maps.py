"""Entropy maps (CVPR 2020): against a loop over one image, linear networks whose answer is known,
the network left alone, bad input.
"""

import copy
import importlib
import itertools
import math
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from kdtutor import datasets, fit
from kdtutor.concepts import (
    EntropyMaps,
    entropy_map,
    first_order_map,
    rank_correlation,
    sensitivity,
)
from kdtutor.concepts.cells import gather, owners, spread
from kdtutor.concepts.first_order import descent, duration_until, optimum
from kdtutor.methods import CrossEntropy
from kdtutor.taps import layers

engine = importlib.import_module(
    "kdtutor.concepts.entropy"
)  # the package's attribute of that name is a function
HALF = 0.5 * math.log(2 * math.pi * math.e)


def linear(rows=3, side=8, channels=1, read=None, seed=0, dtype=torch.float64):
    """flatten, then one linear layer "fc"; read: (side, side) bool, the pixels that it looks at."""
    g = torch.Generator().manual_seed(seed)
    net = nn.Sequential()
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(channels * side * side, rows))
    w = torch.randn(rows, channels, side, side, generator=g)
    net.fc.weight.data = (w if read is None else w * read).flatten(1)
    return net.to(dtype)


def conv(side=8, channels=1, seed=0, features=12):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * (side // 2) ** 2, features),
        nn.ReLU(),
        nn.Linear(features, 10),
    )


def pictures(n=3, side=8, channels=1, seed=1, dtype=torch.float32):
    return torch.randn(
        n, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=dtype
    )


def maps_of(net, x, layer, grid=4, noise=12, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return entropy_map(net, x, layer, grid, noise=noise, **kw)


def slow(
    feature,
    x,
    grid,
    *,
    noise=12,
    iterations=80,
    weight=7.0,
    target=-2.8,
    lr=None,
    seed=0,
    sigma_0=0.01,
    low=1e-3,
    high=1.0,
):
    """One image (1, C, H, W), from the recipe: every iterate and its mean entropy, by autograd
    through the written loss.
    """
    _, _, height, width = x.shape
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (
        [r * grid // height for r in range(height)],
        [c * grid // width for c in range(width)],
    )
    up = lambda s: s[rows][:, columns]
    change = lambda s: (
        (
            feature(
                x + up(s) * torch.randn(noise, *x.shape[1:], generator=generator, dtype=x.dtype)
            )
            - clean
        )
        .square()
        .mean()
    )
    with torch.no_grad():
        clean = feature(x)
        sigma_f = change(torch.full((grid, grid), sigma_0, dtype=x.dtype))
    lr = 1e-4 * grid * grid / 256 if lr is None else lr
    sigma, iterates, levels = torch.full((grid, grid), sigma_0, dtype=x.dtype), [], []
    for step in range(iterations + 1):
        iterates.append(sigma)
        levels.append(float((sigma.log() + HALF).mean()))
        if step == iterations * 3 // 4 and max(levels) < target:
            weight = 1.5 * weight
        sigma = sigma.clone().requires_grad_()
        loss = change(sigma) / sigma_f - weight * (sigma.log() + HALF).mean()
        sigma = (sigma - lr * torch.autograd.grad(loss, sigma)[0]).detach().clamp(low, high)
    return iterates, levels


def nearest(levels, target):
    return min(range(len(levels)), key=lambda i: abs(levels[i] - target))


# ---- cells and pixels


def test_cells_are_those_of_nearest_upsampling_and_may_be_of_unequal_size():
    assert owners(4, 10).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    for grid, height, width in (
        (16, 224, 224),
        (16, 227, 227),
        (16, 32, 32),
        (3, 7, 11),
        (5, 5, 9),
    ):
        cells = torch.randn(2, grid, grid)
        assert torch.equal(
            spread(cells, height, width),
            F.interpolate(cells[:, None], (height, width), mode="nearest")[:, 0],
        )


@hypothesis_settings(max_examples=30)
@given(st.integers(1, 6), st.integers(6, 15), st.integers(6, 15))
def test_gather_adds_up_what_spread_gives_out(grid, height, width):
    p = torch.randn(height, width, dtype=torch.float64)
    want = np.zeros((grid, grid))
    for r in range(height):
        for c in range(width):
            want[r * grid // height, c * grid // width] += p[r, c]
    assert np.allclose(gather(p, grid), want)
    c = torch.randn(grid, grid, dtype=torch.float64)
    assert torch.allclose((spread(c, height, width) * p).sum(), (c * gather(p, grid)).sum())


# ---- sensitivity and the closed form


def test_sensitivity_of_a_linear_layer_is_its_squared_weights_cell_by_cell():
    net, x = linear(5, 6, channels=2), pictures(3, 6, 2)
    want = np.zeros((4, 4))
    for row in net.fc.weight.detach().reshape(5, 2, 6, 6).numpy():
        for ch in range(2):
            for r in range(6):
                for c in range(6):
                    want[r * 4 // 6, c * 4 // 6] += row[ch, r, c] ** 2
    g = sensitivity(net, x, "fc", 4)
    assert g.shape == (3, 4, 4) and np.allclose(g, want, rtol=1e-12)


def test_sensitivity_of_a_network_is_its_jacobian_also_in_pieces():
    net, x = conv().double(), pictures(dtype=torch.float64)
    for path, end in (("5", 6), ("6", 7)):
        for relu in (False, True):
            head = lambda z: net[:end](z).relu() if relu else net[:end](z)
            j = torch.autograd.functional.jacobian(lambda z: head(z), x)  # (N, D, N, 1, 8, 8)
            want = torch.stack([gather(j[i, :, i, 0].square().sum(0), 4) for i in range(3)])
            for chunk in (1, 2, 256):
                assert torch.allclose(
                    sensitivity(net, x, path, 4, relu=relu, chunk=chunk), want, rtol=1e-9
                )
    assert not torch.allclose(sensitivity(net, x, "5", 4), sensitivity(net, x, "5", 4, relu=True))
    assert torch.equal(sensitivity(net, x, "5", 4, relu=True), sensitivity(net, x, "6", 4))


def test_random_projections_are_right_on_average_alike_for_images_and_exact_where_they_suffice():
    net, x = linear(80), pictures(2, dtype=torch.float64)
    exact = sensitivity(net, x, "fc", 2, projections=80)
    assert torch.allclose(
        exact[0], gather(net.fc.weight.detach().square().sum(0).view(8, 8), 2), rtol=1e-10
    )
    random = [sensitivity(net, x, "fc", 2, projections=4, seed=s) for s in range(60)]
    assert torch.equal(random[0][0], random[0][1]) and not torch.equal(random[0], random[1])
    assert torch.equal(random[3], sensitivity(net, x, "fc", 2, projections=4, seed=3))
    assert torch.equal(random[3], sensitivity(net, x, "fc", 2, projections=4, seed=3, chunk=1))
    assert torch.allclose(torch.stack(random).mean(0), exact, rtol=0.05)
    more = sensitivity(net, x, "fc", 2, projections=79)
    assert not torch.equal(more, exact) and torch.allclose(more, exact, rtol=0.25)


def test_the_optimum_minimises_the_loss_of_a_linear_layer():
    net, x = linear(4), pictures(1, dtype=torch.float64)
    g, weight, n = sensitivity(net, x, "fc", 2).numpy()[0], 7.0, 4
    loss = lambda s: (s**2 * g).sum() / (0.01**2 * g.sum()) - weight * np.log(s).mean()
    best = optimum(torch.tensor(g)[None], None, weight)[0].numpy()
    assert np.allclose(best, np.sqrt(weight * 0.01**2 * g.sum() / (2 * n * g)), rtol=1e-12)
    for i in range(2):
        for j in range(2):
            for factor in (0.99, 1.01):
                other = best.copy()
                other[i, j] *= factor
                assert loss(other) > loss(best)


@hypothesis_settings(max_examples=30)
@given(st.floats(-4.5, 0.5), st.floats(0, 4), st.integers(0, 10**6))
def test_the_optimum_at_a_target_has_that_mean_and_one_constant(target, spread_of_g, seed):
    g = (
        spread_of_g
        * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ).exp()
    sigma = optimum(g, target)
    assert torch.allclose(
        (sigma.log() + HALF).mean((1, 2)), torch.tensor(target, dtype=torch.float64), atol=1e-9
    )
    for s, of in zip(sigma, g):
        c, inside = s.square() * of, (s > 1e-3 * (1 + 1e-9)) & (s < 1 - 1e-9)
        assert inside.any()
        typical = c[inside].median()
        assert torch.allclose(c[inside], typical, rtol=1e-6)
        assert (c[s <= 1e-3 * (1 + 1e-9)] >= typical * (1 - 1e-6)).all() and (
            c[s >= 1 - 1e-9] <= typical * (1 + 1e-6)
        ).all()


def test_the_optimum_gives_unread_cells_the_upper_bound_whatever_the_target():
    g = torch.tensor([[[4.0, 1.0], [0.0, 1.0]]])
    for target in (None, -2.8, -1.0):
        assert optimum(g, target)[0, 1, 0] == 1
        assert optimum(g, target, bounds=(1e-3, 0.5))[0, 1, 0] == 0.5
    assert optimum(g, -2.8)[0, 0, 0].item() == pytest.approx(
        optimum(g, -2.8)[0, 0, 1].item() / 2, rel=1e-5
    )


def test_descent_is_the_differential_equation():
    g = torch.tensor([[[5.0, 1.0, 0.3], [0.1, 0.0, 40.0], [1.0, 2.0, 0.01]]], dtype=torch.float64)
    weight, sigma_0, end, steps = 5.0, 0.02, 2e-4, 40_000
    share = (g / g.sum()).numpy()[0]
    for bounds in ((1e-3, 1.0), (0.018, 0.0215)):
        sigma = np.full((3, 3), sigma_0)
        for _ in range(steps):
            sigma -= end / steps * (2 * sigma * share / sigma_0**2 - weight / 9 / sigma)
            sigma = sigma.clip(*bounds)
        assert np.allclose(descent(g, end, weight, sigma_0, bounds)[0], sigma, rtol=1e-5)
    assert torch.equal(descent(g, 0.0), torch.full((1, 3, 3), 0.01, dtype=torch.float64))
    far = descent(g, 1e3)
    assert torch.allclose(far, optimum(g, None), rtol=1e-9)
    both = descent(g.repeat(2, 1, 1), torch.tensor([0.0, 1e3]))
    assert torch.allclose(both, torch.cat([descent(g, 0.0), far]))


def test_duration_until():
    g = torch.rand(4, 5, 5, dtype=torch.float64) + 0.1
    u = duration_until(g, -2.9, 1.0)
    assert torch.allclose(
        (descent(g, u).log() + HALF).mean((1, 2)),
        torch.tensor(-2.9, dtype=torch.float64),
        atol=1e-9,
    )
    assert (u > 1e-4).all() and u.std() > 0
    assert torch.allclose(
        duration_until(g, 1.0, 1e-3), torch.tensor(1e-3, dtype=torch.float64)
    )  # never: the longest
    assert duration_until(g, -4.0, 1e-3).max() < 1e-12  # from the start


def test_first_order_maps_have_the_target_and_both_kinds_rank_alike():
    net, x = linear(3), pictures(2, dtype=torch.float64)
    g = sensitivity(net, x, "fc", 4)
    best, on_the_way = (
        first_order_map(net, x, "fc", 4),
        first_order_map(net, x, "fc", 4, kind="descent"),
    )
    for maps in (best, on_the_way):
        assert maps.reached.all() and torch.allclose(
            maps.mean, torch.tensor(-2.8, dtype=torch.float64), atol=1e-6
        )
        assert (rank_correlation(-g.flatten(1), maps.sigma.flatten(1)) > 1 - 1e-6).all()
        assert maps.agreement.tolist() == [1, 1] and maps.steps.tolist() == [0, 0]
    assert on_the_way.entropy.std() < 0.8 * best.entropy.std()
    assert torch.allclose(best.sigma, optimum(g, -2.8))
    assert torch.equal(first_order_map(net, x, "fc", 4, target=None).sigma, optimum(g, None))
    w = (
        net.fc.weight.detach().square().sum(1).mean()
    )  # expected squared change per entry of the feature
    assert torch.allclose(best.feature_scale, 1e-4 * w)
    assert torch.allclose(
        maps_of(net, x, "fc", noise=4000, iterations=1).feature_scale, best.feature_scale, rtol=0.05
    )


# ---- the optimised map: answers that are known


def quadrant(side=8):
    read = torch.zeros(side, side, dtype=torch.bool)
    read[: side // 2, : side // 2] = True
    return read


def test_a_fine_grid_reaches_its_target_too():
    net, x = linear(2, side=48, read=quadrant(48), dtype=torch.float32), pictures(1, 48)
    assert first_order_map(net, x, "fc", 48, kind="descent", target=-1.0).reached.all()


@pytest.mark.parametrize("start", ["first order", "constant"])
def test_entropy_is_low_where_a_linear_layer_reads_and_highest_and_equal_elsewhere(start):
    net, x = linear(6, read=quadrant()), pictures(3, dtype=torch.float64)
    maps = entropy_map(net, x, "fc", 4, noise=96, start=start)
    read = gather(quadrant().double(), 4) > 0
    assert maps.reached.all() and maps.entropy.shape == (3, 4, 4)
    for h in maps.entropy:
        assert (h[~read] == h[~read][0]).all() and h[read].max() < h[~read].min() - 0.3
    assert torch.equal(maps.sigma[0], maps.sigma[1]) or torch.allclose(
        maps.sigma[0], maps.sigma[1], rtol=1e-6
    )  # linear: any image


def test_without_a_target_the_linear_layer_ends_at_the_minimum():
    net, x = linear(6, read=quadrant()), pictures(2, dtype=torch.float64)
    g, read = sensitivity(net, x, "fc", 4), gather(quadrant().double(), 4) > 0
    want = (7 * 0.01**2 * g.sum((1, 2), keepdim=True) / (2 * 16 * g)).sqrt()
    maps = entropy_map(net, x, "fc", 4, target=None, noise=400)
    assert (
        (maps.sigma[:, ~read] == 1).all() and maps.reached.all() and maps.steps.tolist() == [80, 80]
    )
    assert torch.allclose(
        maps.sigma[:, read], want[:, read], rtol=0.03
    )  # no 1.5 times the weight on the way
    maps = entropy_map(net, x, "fc", 4, target=None, noise=400, start="constant", iterations=120)
    assert torch.allclose(maps.sigma[:, read], want[:, read], rtol=0.03)
    grown = math.sqrt(0.01**2 + 2 * 7 / 16 * 120 * 1e-4 / 16)  # ds/du = 2 weight/n
    assert torch.allclose(maps.sigma[:, ~read], torch.tensor(grown, dtype=torch.float64), rtol=2e-3)


def test_the_map_of_a_linear_layer_is_where_the_closed_descent_passes_the_target():
    net, x = linear(6), pictures(2, dtype=torch.float64)
    closed = first_order_map(net, x, "fc", 4, kind="descent")
    for start in ("first order", "constant"):
        maps = entropy_map(net, x, "fc", 4, noise=600, start=start)
        assert maps.reached.all() and torch.allclose(maps.sigma, closed.sigma, rtol=0.03)
        assert (maps.agreement > 0.97).all()
        assert torch.allclose(
            maps.agreement, rank_correlation(maps.sigma.flatten(1), closed.sigma.flatten(1))
        )


# ---- the optimised map: against the loop


@pytest.mark.parametrize(
    "grid, side, relu, settings",
    [
        (4, 8, False, dict(iterations=80)),
        (3, 8, True, dict(iterations=60, weight=6.0, target=-2.9, seed=5)),  # cells of unequal size
        (4, 8, False, dict(iterations=24)),  # the target is not reached: 1.5 times the weight
        (2, 8, True, dict(iterations=41, target=-3.25, lr=1e-6, sigma_0=0.008)),
    ],
)
def test_the_map_equals_the_slow_loop_with_the_same_noise(grid, side, relu, settings):
    net, x = conv(side), pictures(3, side)
    feature = lambda z: net[:6](z).relu() if relu else net[:6](z)
    maps = maps_of(net, x, "5", grid, relu=relu, start="constant", early_stop=False, **settings)
    ending = maps_of(net, x, "5", grid, relu=relu, start="constant", **settings)
    target = settings.get("target", -2.8)
    for i in range(3):
        iterates, levels = slow(feature, x[i : i + 1], grid, **settings)
        best = nearest(levels, target)
        assert maps.steps[i] == best and torch.allclose(
            maps.sigma[i], iterates[best], rtol=0, atol=1e-6
        )
        # It rises until it has passed the target, later noise may win: an early end loses nothing.
        assert all(b > a for a, b in itertools.pairwise(levels[: best + 2]))
        assert ending.steps[i] == best and torch.equal(ending.sigma[i], maps.sigma[i])
        assert maps.reached[i] == (abs(levels[best] - target) <= 0.05)
    assert maps.reached.all() == (settings["iterations"] != 24)


def test_the_weight_of_images_still_below_the_target_grows_and_of_no_others():
    net, x = conv(), pictures(2)
    kw = dict(noise=12, iterations=40, target=-2.9, start="constant", early_stop=False)
    iterates, levels = slow(
        net[:6], x[:1], 4, **{k: v for k, v in kw.items() if k not in ("start", "early_stop")}
    )
    passing = next(i for i, h in enumerate(levels) if h >= -2.9)
    assert 4 < passing < 40
    late = slow(net[:6], x[:1], 4, noise=12, iterations=passing + 2, target=-2.9)[
        1
    ]  # three quarters come before the target
    assert max(late) > levels[passing + 2] + 1e-3
    maps = maps_of(net, x, "5", **(kw | dict(iterations=passing + 2)))
    assert maps.mean[0].item() == pytest.approx(late[nearest(late, -2.9)], abs=1e-4)


def test_without_a_target_the_last_iterate_is_kept():
    net, x = conv(), pictures(1)
    iterates, _ = slow(net[:6], x, 4, iterations=10, target=-math.inf)
    maps = entropy_map(net, x, "5", 4, noise=12, iterations=10, target=None, start="constant")
    assert torch.allclose(
        maps.sigma[0], iterates[-1], rtol=0, atol=1e-6
    ) and maps.steps.tolist() == [10]


@pytest.mark.parametrize(
    "start, chunk",
    [
        ("first order", 1),
        ("first order", 13),
        ("constant", 4),
        ("constant", 6),
        ("constant", 10_000),
    ],
)
def test_a_batch_equals_one_at_a_time_at_any_chunk(start, chunk):
    net, x, kw = conv(), pictures(4), dict(start=start, noise=6, iterations=24, target=-3.0)
    whole = maps_of(net, x, "5", **kw)
    assert whole.reached.all()
    for maps in (
        maps_of(net, x, "5", chunk=chunk, **kw),
        EntropyMaps.joined([maps_of(net, x[i : i + 1], "5", chunk=chunk, **kw) for i in range(4)]),
        maps_of(net, torch.cat([x, pictures(2, seed=9)]), "5", chunk=chunk, **kw).select(range(4)),
    ):
        assert torch.allclose(maps.sigma, whole.sigma, rtol=0, atol=1e-6)
        assert torch.equal(maps.steps, whole.steps) and torch.allclose(
            maps.feature_scale, whole.feature_scale, rtol=1e-4
        )


def test_never_more_noisy_images_at_once_than_chunk():
    net, x, seen = conv(), pictures(5), []
    net[0].register_forward_hook(lambda m, args, out: seen.append(len(out)))
    for chunk in (1, 5, 12, 30):
        seen.clear()
        maps_of(net, x, "5", iterations=2, chunk=chunk)
        assert max(seen) <= chunk, chunk


def test_images_beyond_one_group_see_the_same_noise(monkeypatch):
    net, x = conv(), pictures(5)
    whole = maps_of(net, x, "5", iterations=30)
    monkeypatch.setattr(engine, "GROUP", 2)
    grouped = maps_of(net, x, "5", iterations=30)
    assert torch.allclose(grouped.sigma, whole.sigma, rtol=0, atol=1e-6) and torch.equal(
        grouped.steps, whole.steps
    )


def test_seeds():
    net, x = conv(), pictures(2)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = (
        maps_of(net, x, "5", iterations=12, start="constant", target=None, seed=s)
        for s in (0, 0, 1)
    )
    assert (
        torch.equal(a.sigma, b.sigma)
        and torch.equal(a.feature_scale, b.feature_scale)
        and not torch.equal(a.sigma, c.sigma)
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_order_start_finds_the_map_of_the_constant_start_on_a_trained_network():
    data, net = datasets.load("digits"), conv(features=16)
    fit(CrossEntropy(net), data, 4, lr=0.05, progress=False, test=False, validation=0)
    x = data.normalised(data.test.x[:5])
    slowly, quickly = (
        entropy_map(net, x, "6", 8, noise=64, start=start) for start in ("constant", "first order")
    )
    assert slowly.reached.all() and quickly.reached.all()
    assert (quickly.steps < slowly.steps / 2).all()
    same = rank_correlation(slowly.sigma.flatten(1), quickly.sigma.flatten(1))
    assert same.min() > 0.9 and same.mean() > 0.95, same
    assert (quickly.agreement > 0.9).all()
    closed = first_order_map(net, x, "6", 8, kind="descent")
    assert (rank_correlation(closed.sigma.flatten(1), slowly.sigma.flatten(1)) > 0.85).all()


def test_a_target_that_is_not_reached_is_said_aloud():
    net, x = conv(), pictures(4)
    with pytest.warns(
        UserWarning, match=r"4 of 4 maps of '5' is not the target -2.8.*More iterations"
    ) as caught:
        maps = entropy_map(net, x, "5", 4, noise=12, iterations=5, start="constant")
    assert caught[0].filename == __file__
    assert (
        not maps.reached.any()
        and maps.steps.tolist() == [5] * 4
        and "target -2.8 reached by 0" in repr(maps)
    )
    with pytest.warns(UserWarning, match="is not the target 3"):
        assert not first_order_map(net, x, "5", 4, target=3.0).reached.any()


# ---- the network comes out as it went in


class Fails(nn.Module):
    """Passes its input on until ``after`` calls have been made."""

    def __init__(self, error):
        super().__init__()
        self.error, self.after = error, 10**9

    def forward(self, x):
        self.after -= 1
        if self.after < 0:
            raise self.error
        return x


def delicate(error=KeyboardInterrupt):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        Fails(error),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(36, 5),
    ).train()
    net[6].eval()  # frozen statistics in a network that trains
    net[0].bias.requires_grad_(False)
    net[8].weight.grad = torch.ones_like(net[8].weight)
    for p in net[6].parameters():
        p.requires_grad_(False)
    return net


def picture_of(net):
    return (
        {k: v.clone() for k, v in net.state_dict().items()},
        [p.requires_grad for p in net.parameters()],
        [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        [m.training for m in net.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()],
    )


def same_picture(a, b):
    return (
        a[0].keys() == b[0].keys()
        and all(torch.equal(a[0][k], b[0][k]) for k in a[0])
        and a[1] == b[1]
        and a[3:] == b[3:]
        and all(
            (p is None) == (q is None) and (p is None or torch.equal(p, q))
            for p, q in zip(a[2], b[2])
        )
    )


MAKERS = {
    "entropy_map": lambda net, x: maps_of(net, x, "8", iterations=3),
    "first_order_map": lambda net, x: first_order_map(net, x, "8", 4),
    "sensitivity": lambda net, x: sensitivity(net, x, "8", 4),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_network_and_the_images_come_out_as_they_went_in(make):
    net, x = delicate(), pictures(3)
    before, images, device_bits = (
        picture_of(net),
        x.clone(),
        [p.data_ptr() for p in net.parameters()],
    )
    make(net, x)
    with torch.no_grad():
        make(net, x)
    assert same_picture(picture_of(net), before) and torch.equal(x, images) and not x.requires_grad
    assert [p.data_ptr() for p in net.parameters()] == device_bits
    for calls in (0, 1, 3, 6) if make is MAKERS["entropy_map"] else (0, 1):
        net[4].after = calls
        with pytest.raises(KeyboardInterrupt):
            make(net, x)
        assert same_picture(picture_of(net), before), calls


def test_the_network_is_in_eval_mode_without_dropout_while_maps_are_made():
    net, x = delicate(), pictures(2)
    quiet = copy.deepcopy(net).eval()
    for make in MAKERS.values():
        a, b = make(net, x), make(quiet, x)
        a, b = (m if isinstance(m, torch.Tensor) else m.sigma for m in (a, b))
        assert torch.equal(a, b)


def test_any_module_path_will_do():
    net, x = conv(), pictures(2)
    for path in ("0", "1", "2:input", "5", "6", "7"):
        assert maps_of(net, x, path, iterations=2).layer == path
    assert torch.equal(
        maps_of(net, x, "6", iterations=4).sigma,
        maps_of(net, x, "5", iterations=4, relu=True).sigma,
    )
    bare = nn.Sequential(nn.AvgPool2d(2))  # no parameters at all
    assert maps_of(bare, x, "0", iterations=2).sigma.dtype == torch.float32
    assert maps_of(conv().double(), x, "5", iterations=2).sigma.dtype == torch.float64


# ---- EntropyMaps


def test_entropy_maps_in_words_rows_and_parts():
    net, x = conv(), pictures(4)
    maps = maps_of(net, x, "5", iterations=60, seed=3, projections=32)
    assert len(maps) == 4 and maps.grid == 4 and maps.layer == "5" and maps.target == -2.8
    assert torch.equal(maps.entropy, maps.sigma.log() + HALF) and torch.equal(
        maps.mean, maps.entropy.mean((1, 2))
    )
    assert repr(maps) == "EntropyMaps(4 images, 4x4 cells, layer '5', target -2.8 reached by 4)"
    wanted = dict(
        seed=3,
        noise=12,
        start="first order",
        size=(8, 8),
        weight=7.0,
        projections=32,
        lr=1e-4 * 16 / 256,
        iterations=60,
    )
    assert wanted.items() <= maps.settings.items()
    for rows in ([2, 0], torch.tensor([2, 0]), torch.tensor([True, False, True, False])):
        some = maps.select(rows)
        assert len(some) == 2 and some.settings == maps.settings
        assert torch.equal(some.sigma.sort(0).values, maps.sigma[[0, 2]].sort(0).values)
    whole = EntropyMaps.joined([maps.select([0]), maps.select([1, 2, 3])])
    assert torch.equal(whole.sigma, maps.sigma) and torch.equal(whole.agreement, maps.agreement)
    frame = maps.frame()
    assert (
        list(frame)
        == ["image", "layer", "mean", "reached", "dead", "steps", "agreement", "feature_scale"]
        and len(frame) == 4
    )
    assert (
        frame["reached"].all()
        and not frame["dead"].any()
        and frame["mean"].tolist() == maps.mean.tolist()
    )
    other = maps_of(net, x[:1], "6", iterations=1)
    with pytest.raises(ValueError, match="cannot join .*'5'.*'6'"):
        EntropyMaps.joined([maps, other])


def test_rank_correlation_is_spearmans_with_ties_and_nan_where_there_is_none():
    a, b = torch.randint(0, 5, (6, 20)).float(), torch.randint(0, 5, (6, 20)).float()
    want = [spearmanr(x, y).statistic for x, y in zip(a, b)]
    assert np.allclose(rank_correlation(a, b), want, atol=1e-6)
    a[0], a[1, 3] = 2.0, torch.nan
    got = rank_correlation(a, b)
    assert got[:2].isnan().all() and np.allclose(got[2:], want[2:], atol=1e-6)
    assert rank_correlation(b, b.exp()).tolist() == pytest.approx([1] * 6)


# ---- bad input


class Dying(nn.Module):
    """A feature that images with a dark first pixel do not move."""

    def forward(self, x):
        return x.flatten(1) * (x[:, :1, 0, 0] > -5).to(x)


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones(len(x), 3)


class Mixed(nn.Module):
    def forward(self, x):
        return x.flatten(1).mean(0, keepdim=True)


class Poison(nn.Module):
    """NaN for images whose first pixel is bright."""

    def forward(self, x):
        return x.flatten(1) * torch.where(x[:, :1, 0, 0] > 50, torch.nan, 1.0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_matter(mode):
    net, x = conv(), pictures(2)
    for make in (
        lambda x: maps_of(net, x, "5", iterations=9).sigma,
        lambda x: first_order_map(net, x, "5", 4).sigma,
    ):
        with mode():
            inside = make(x.double()).clone()  # a tensor made in that mode
        assert torch.equal(inside, make(x))


def test_a_feature_that_cuts_the_graph_is_an_error():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)

    with pytest.raises(ValueError, match="'0' moves with the image but has no gradient.*detach"):
        entropy_map(nn.Sequential(Cut()), pictures(2), "0", 4, noise=4, iterations=2)
    with pytest.raises(ValueError, match="'0' does not answer"):
        first_order_map(nn.Sequential(Cut()), pictures(2), "0", 4)


def test_some_dead_images_are_counted_with_their_positions_and_have_no_map():
    net, x = nn.Sequential(Dying()), pictures(6)
    x[1, 0, 0, 0] = x[4, 0, 0, 0] = -100
    alone = maps_of(net, x[[0, 2, 3, 5]], "0", iterations=60)
    for make in (
        lambda: entropy_map(net, x, "0", 4, noise=12, iterations=60, target=None),
        lambda: entropy_map(net, x, "0", 4, noise=12, iterations=60),
        lambda: first_order_map(net, x, "0", 4),
    ):
        with pytest.warns(
            UserWarning, match=r"'0' does not answer.*2 of 6 images.*positions \[1, 4\].*NaN"
        ):
            maps = make()
        assert (
            maps.dead.tolist() == [False, True, False, False, True, False]
            and not maps.reached[maps.dead].any()
        )
        assert (
            maps.sigma[maps.dead].isnan().all()
            and maps.sigma[~maps.dead].isfinite().all()
            and "2 dead" in repr(maps)
        )
        assert maps.reached[~maps.dead].all()
    with pytest.warns(UserWarning):
        maps = entropy_map(net, x, "0", 4, noise=12, iterations=60)
    assert (
        torch.allclose(maps.sigma[~maps.dead], alone.sigma, rtol=0, atol=1e-6)
        and maps.agreement[maps.dead].isnan().all()
    )


@pytest.mark.parametrize(
    "net", [nn.Sequential(Constant()), linear(3, read=torch.zeros(8, 8))], ids=["constant", "zero"]
)
@pytest.mark.parametrize("make", [entropy_map, first_order_map])
def test_a_layer_that_never_answers_is_an_error(make, net):
    with pytest.raises(
        ValueError,
        match=r"does not answer to the image for any of the 3 images \(sigma_f = 0\).*constant or "
        r"dead",
    ):
        make(net, pictures(3), layers(net)[-1], 4)


def test_an_image_that_answers_to_noise_only_starts_at_sigma_0():
    net, x = linear(2, dtype=torch.float32), pictures(3)
    net.fc.bias.data = (
        net.fc.bias.data - net(x)[0].detach() - 1e-3
    )  # the first image sits just below the ReLU's kink
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = entropy_map(net, x, "fc", 4, relu=True, noise=64, iterations=80)
    assert (
        maps.feature_scale[0] > 0 and maps.sigma[0].isfinite().all() and maps.agreement[0].isnan()
    )


@pytest.mark.parametrize("make", [entropy_map, first_order_map, sensitivity])
@pytest.mark.parametrize("group", [2, 64])
def test_nan_is_counted_and_placed(monkeypatch, make, group):
    monkeypatch.setattr(engine, "GROUP", group)
    x = pictures(7)
    x[3, 0, 0, 0] = x[5, 0, 0, 0] = 100
    with pytest.raises(
        ValueError, match="'0' gives NaN or Inf for 2 of 7 images, the first at position 3"
    ):
        make(nn.Sequential(Poison()), x, "0", 4, chunk=2)
    x[4, 0, 2, 2] = math.inf
    with pytest.raises(ValueError, match="1 of 7 images hold NaN or Inf, the first at position 4"):
        make(nn.Sequential(Poison()), x, "0", 4)


def test_features_that_are_nan_under_noise_only_are_an_error_with_the_position(monkeypatch):
    class Log(nn.Module):
        def forward(self, x):
            return x.flatten(1).log()

    monkeypatch.setattr(engine, "GROUP", 2)
    x = torch.ones(4, 1, 8, 8)
    x[3] = 1e-3
    with pytest.raises(ValueError, match="NaN or Inf under noise of sigma_0=0.01.*position 3"):
        entropy_map(nn.Sequential(Log()), x, "0", 4, noise=12, iterations=2)


@pytest.mark.parametrize("make", [entropy_map, first_order_map, sensitivity])
@pytest.mark.parametrize(
    "change, message",
    [
        (dict(layer="fd"), r"unknown layer path.*'fd'.*Did you mean 'fc'"),
        (dict(layer=""), "layer path"),
        (dict(x=torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), r"torch.uint8.*data.normalised"),
        (dict(x=torch.zeros(1, 8, 8)), r"\(1, 8, 8\)"),
        (dict(x=[0.0]), "a list"),
        (dict(x=torch.zeros(0, 1, 8, 8)), "at least one image"),
        (dict(grid=9), "grid=9 for images of 8 x 8 pixels.*1 to 8"),
        (dict(grid=0), "grid=0"),
        (dict(grid=2.0), "whole number"),
        (dict(net=linear(dtype=torch.float16)), r"torch.float16.*net.float\(\)"),
        (dict(net=linear(dtype=torch.bfloat16)), "bfloat16"),
        (dict(net=nn.Sequential(nn.Flatten(), Mixed()), layer="1"), "1 rows for 2 images"),
        (dict(projections=0), "projections=0"),
        (dict(chunk=0), "chunk=0"),
    ],
)
def test_bad_input_is_refused_in_clear_words(make, change, message):
    given = dict(net=linear(), x=pictures(2), layer="fc", grid=4) | change
    with pytest.raises(ValueError, match=message):
        make(given.pop("net"), given.pop("x"), **given)


@pytest.mark.parametrize(
    "make, settings, message",
    [
        (entropy_map, dict(start="zero"), "unknown start 'zero'"),
        (first_order_map, dict(kind="best"), "unknown kind"),
        (first_order_map, dict(kind="descent", target=None), "kind='descent'.*target"),
        (entropy_map, dict(iterations=0), "iterations=0"),
        (entropy_map, dict(noise=0), "noise=0"),
        (entropy_map, dict(noise=2.5), "noise=2.5.*whole"),
        (entropy_map, dict(lr=-1.0), "lr=-1.0"),
        *(
            (make, settings, message)
            for make in (entropy_map, first_order_map)
            for settings, message in (
                (dict(weight=0), "weight=0"),
                (dict(weight=math.nan), "weight=nan"),
                (dict(sigma_0=2.0), "sigma_0=2.0"),
                (dict(bounds=(0.0, 1.0)), "bounds"),
                (dict(bounds=(1.0, 0.001)), "bounds"),
                (dict(sigma_0=1e-4), "lower <= sigma_0"),
            )
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(linear(), pictures(2), "fc", 4, **settings)


def test_bounds_hold():
    maps = maps_of(
        conv(),
        pictures(2),
        "5",
        iterations=40,
        target=None,
        start="constant",
        bounds=(0.009, 0.0125),
    )
    assert maps.sigma.min() >= 0.009 and maps.sigma.max() == 0.0125 and re.search("4x4", repr(maps))
