"""The six concept metrics (CVPR 2020): hand-computed on tiny maps, against loops, masks, what is
left out, bad input.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kdtutor.concepts import (
    ConceptReport,
    EntropyMaps,
    Foreground,
    Trajectory,
    central_box,
    compare_reports,
    concept_cells,
    concept_metrics,
    effective_images,
    foreground,
)
from kdtutor.concepts.metrics import baseline_entropy
from kdtutor.datasets import Split, load

HALF = 0.5 * math.log(2 * math.pi * math.e)
H = -2.0  # of background cells below; k is a cell known by half a nat, a one by exactly b
NAMES = ["n_fg", "n_bg", "lambda", "d_mean", "d_std", "rho"]


def as_maps(entropy, layer="fc1", target=None, dead=(), size=None):
    """``EntropyMaps`` with these entropies (N, g, g)."""
    entropy = torch.as_tensor(entropy, dtype=torch.float64)
    n = len(entropy)
    scale, sigma = torch.ones(n), (entropy - HALF).exp()
    scale[list(dead)], sigma[list(dead)] = 0, math.nan
    return EntropyMaps(
        sigma,
        scale,
        torch.zeros(n, dtype=torch.int64),
        torch.ones(n),
        layer,
        target,
        {"size": size} if size else {},
    )


def cells(*rows):
    """One image's cells from words such as "fb" / "bb": f foreground, b background."""
    return torch.tensor([[c == "f" for c in row] for row in rows])


def levels(*rows, k=0.5):
    """One image's entropies: "." at H, "k" a concept, k nats below it."""
    return torch.tensor([[H - k * (c == "k") for c in row] for row in rows], dtype=torch.float64)


def slow(entropy, cells, epochs, distance, b=0.2, variant="paper"):
    """All six metrics by loops over checkpoints, images and cells. entropy: (M, N, g, g) array."""
    m, n, g, _ = entropy.shape
    every = [(r, c) for r in range(g) for c in range(g)]
    fg = [{p for p in every if cells[i][p]} for i in range(n)]
    known = []  # [checkpoint][image] -> set of cells
    for k in range(m):
        means = [
            np.mean([entropy[k, i][p] for p in every if p not in fg[i]])
            for i in range(n)
            if len(fg[i]) < g * g
        ]
        bar = sum(means) / len(means)
        known.append([{p for p in every if bar - entropy[k, i][p] > b} for i in range(n)])
    last, course = known[-1], [k for k in range(m) if variant == "code" or epochs[k] > 0]
    n_fg, n_bg = [len(last[i] & fg[i]) for i in range(n)], [len(last[i] - fg[i]) for i in range(n)]
    share = [f / (f + o) if f + o else 0.0 for f, o in zip(n_fg, n_bg)]
    where, rho = [], []
    for i in range(n):
        counts = [len(known[k][i] & fg[i]) for k in course]
        where.append(distance[course[counts.index(max(counts))]])
        union = set().union(*(known[k][i] & fg[i] for k in course))
        rho.append(len(last[i] & fg[i]) / len(union) if union else 0.0)
    mean = lambda v: sum(v) / len(v)
    variance = mean([(w - mean(where)) ** 2 for w in where])
    return {
        "n_fg": mean(n_fg),
        "n_bg": mean(n_bg),
        "lambda": mean(share),
        "d_mean": mean(where),
        "d_std": variance,
        "rho": mean(rho),
    }


# ---- by hand

FG = torch.stack([cells("ffb", "ffb", "bbb"), cells("fbb", "bbb", "bbb")])
COURSE = torch.stack(
    [  # fg / bg concepts of the first image, the second
        torch.stack(
            [levels("kk.", "kk.", "..."), levels("k..", "...", "...")]
        ),  # epoch 0: 4 / 0, 1 / 0
        torch.stack(
            [levels("k..", ".k.", "..."), levels("...", "..k", "...")]
        ),  # epoch 2: 2 / 0, 0 / 1
        torch.stack(
            [levels(".kk", "k..", "..."), levels("k..", "...", "...")]
        ),  # epoch 5: 2 / 1, 1 / 0
        torch.stack(
            [levels("k..", "...", ".k."), levels("...", "...", "...")]
        ),  # epoch 9: 1 / 1, 0 / 0
    ]
)
EPOCHS, DISTANCE = [0, 2, 5, 9], [0.0, 1.0, 3.0, 4.0]


def test_the_paper_by_hand():
    r = concept_metrics(list(COURSE), FG, epochs=EPOCHS, distance=DISTANCE)
    assert (r.n_fg, r.n_bg, r.lam) == (
        0.5,
        0.5,
        0.25,
    )  # image one: 1 of 2 on the object; image two knows nothing: 0
    # most foreground concepts: image one at epochs 2 and 5 (the first counts), image two at epoch
    # 5; epoch 0 does not count
    assert r.per_image["epoch"].tolist() == [2, 5] and r.per_image["distance"].tolist() == [1, 3]
    assert (r.d_mean, r.d_std) == (2, 1)
    # S_9 over the union of epochs 2, 5 and 9: one of {00, 11, 01, 10}; none of one
    assert r.per_image["rho"].tolist() == [0.25, 0] and r.rho == 0.125
    assert (
        list(r.values) == NAMES == list(r.intervals) and r.variant == "paper" and r.threshold == 0.2
    )
    assert torch.equal(r.cells, FG) and r.concepts.shape == (4, 2, 3, 3)
    assert r.concepts[2, 0].int().tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_the_authors_code_by_hand():
    r = concept_metrics(list(COURSE), FG, epochs=EPOCHS, distance=DISTANCE, variant="code")
    assert (r.n_fg, r.n_bg, r.lam) == (0.5, 0.5, 0.25)
    assert r.per_image["epoch"].tolist() == [0, 0] and (r.d_mean, r.d_std) == (
        0,
        0,
    )  # epoch 0 counts, and ties go to the first
    assert r.per_image["rho"].tolist() == [0.25, 0]
    r = concept_metrics(
        list(COURSE[1:]), FG, epochs=EPOCHS[1:], distance=[1.0, 4.0, 5.0], variant="code"
    )
    assert (
        r.per_image["distance"].tolist() == [1, 4] and r.d_mean == 2.5 and r.d_std == 2.25
    )  # the variance, over N
    assert (
        concept_metrics(list(COURSE[1:]), FG, epochs=EPOCHS[1:], distance=[1.0, 4.0, 5.0]).d_std
        == 2.25
    )  # the paper's D_std is the variance, too


def test_the_baseline_is_the_mean_over_images_of_the_background_anew_at_each_checkpoint():
    fg = torch.stack(
        [cells("ff", "fb"), cells("bb", "bb"), cells("ff", "ff")]
    )  # the third has no background: not in H-bar
    first = torch.tensor(
        [[[-9.0, -9], [-9, -1]], [[-2.0, -2], [-2, -6]], [[-7.0, -7], [-7, -7]]]
    ).double()
    maps = torch.stack([first, first - 2])
    assert baseline_entropy(maps, fg).tolist() == [(-1 - 3) / 2, (-1 - 3) / 2 - 2]
    r = concept_metrics(maps, fg, epochs=[1, 2])
    assert r.course["baseline"] == [-2, -4]
    assert r.concepts.int().tolist() == 2 * [[[[1, 1], [1, 0]], [[0, 0], [0, 1]], [[1, 1], [1, 1]]]]
    assert r.per_image["n_fg"].tolist() == [3, 0, 4] and r.per_image["n_bg"].tolist() == [0, 1, 0]
    assert any("1 images without foreground" in note for note in r.notes) and any(
        "1 images without background" in note for note in r.notes
    )
    assert r.per_image["rho"].tolist() == [1, 0, 1]


def test_the_threshold_is_strict():
    fg, exact = (
        cells("fb", "fb")[None],
        torch.tensor([[[-2.25, -2.0], [-2.5, -2.0]]], dtype=torch.float64),
    )
    count = lambda b: int(concept_cells(exact, fg, b).sum())
    assert [count(b) for b in (0.1, 0.25, 0.2500001, 0.4999, 0.5)] == [2, 1, 1, 1, 0]
    with pytest.warns(UserWarning):
        assert concept_metrics(exact, fg, threshold=0.25).n_fg == 1


def test_an_image_or_a_network_without_concepts_has_zeros():
    nothing = torch.full((3, 2, 3, 3), H)
    r = concept_metrics(nothing, FG, epochs=[1, 2, 3], distance=[5.0, 6.0, 7.0])
    assert list(r.values.values()) == [0, 0, 0, 5, 0, 0] and r.per_image["epoch"].tolist() == [1, 1]


@hypothesis_settings(max_examples=30)
@given(
    st.integers(1, 4),
    st.integers(2, 4),
    st.integers(2, 4),
    st.integers(0, 10**6),
    st.sampled_from(["paper", "code"]),
)
def test_all_six_equal_the_loops(n, m, g, seed, variant):
    gen = torch.Generator().manual_seed(seed)
    entropy = torch.randn(m, n, g, g, generator=gen, dtype=torch.float64) * 0.3 - 2.8
    fg = torch.rand(n, g, g, generator=gen) < torch.rand(n, 1, 1, generator=gen)
    fg[0, 0, 0], fg[0, 1, 1] = True, False
    epochs = [0, 3, 4, 9][:m] if m > 2 else [1, 2]
    distance = torch.rand(m, generator=gen, dtype=torch.float64).cumsum(0).tolist()
    r = concept_metrics(entropy, fg, epochs=epochs, distance=distance, variant=variant, resamples=5)
    want = slow(entropy.numpy(), fg.numpy(), epochs, distance, variant=variant)
    assert r.values == pytest.approx(want, abs=1e-12)
    # and what holds whatever the numbers
    assert 0 <= r.lam <= 1 and 0 <= r.rho <= 1
    assert torch.equal(
        r.per_image["n_fg"] + r.per_image["n_bg"], r.concepts[-1].sum((1, 2)).double()
    )
    assert np.allclose(
        np.add(r.course["n_fg"], r.course["n_bg"]), r.concepts.sum((2, 3)).double().mean(1)
    )
    shifted = (
        entropy + torch.tensor([8.0, -4.0, 2.0, 0.5][:m], dtype=torch.float64)[:, None, None, None]
    )
    assert concept_metrics(
        shifted, fg, epochs=epochs, distance=distance, variant=variant, resamples=5
    ).values == pytest.approx(r.values)
    order = torch.randperm(n, generator=gen)
    mixed = concept_metrics(
        entropy[:, order], fg[order], epochs=epochs, distance=distance, variant=variant, resamples=5
    )
    assert mixed.values == pytest.approx(r.values) and torch.equal(
        mixed.concepts, r.concepts[:, order]
    )


# ---- the report


def test_the_report_in_tables_and_words():
    r = concept_metrics(
        [as_maps(e, size=(9, 9)) for e in COURSE], FG, epochs=EPOCHS, distance=DISTANCE
    )
    assert isinstance(r, ConceptReport)
    frame = r.frame()
    assert list(frame["metric"]) == NAMES and {
        "value",
        "low",
        "high",
        "images",
        "threshold",
        "variant",
        "masks",
    } <= set(frame)
    assert (
        frame["value"].tolist() == list(r.values.values())
        and set(frame["images"]) == {2}
        and set(frame["masks"]) == {"given masks"}
    )
    images = r.images()
    assert {"image", "n_fg", "n_bg", "lambda", "rho", "epoch", "distance"} == set(
        images
    ) and images["image"].tolist() == [0, 1]
    course = r.epochs()
    assert course["epoch"].tolist() == EPOCHS and course["n_fg"].tolist() == [2.5, 1, 1.5, 0.5]
    assert course["n_bg"].tolist() == [0, 0.5, 0.5, 0.5]
    assert (
        course["lambda"].tolist() == pytest.approx([1, 0.5, (2 / 3 + 1) / 2, 0.25])
        and course["distance"].tolist() == DISTANCE
    )
    assert course["baseline"].tolist() == [
        H,
        pytest.approx((H + H - 0.5 / 8) / 2),
        *[pytest.approx((H - 0.5 / 5 + H) / 2)] * 2,
    ]
    for word in ("n_fg 0.5 [", "b = 0.2", "'paper'", "given masks", "2 of 2 images"):
        assert word in repr(r)


def test_by_default_checkpoints_are_numbered_from_one_and_without_a_distance_there_is_no_d():
    r = concept_metrics(list(COURSE), FG)
    assert r.epochs()["epoch"].tolist() == [1, 2, 3, 4] and r.per_image["epoch"].tolist() == [1, 1]
    assert (
        math.isnan(r.d_mean)
        and math.isnan(r.d_std)
        and r.rho == 0.125
        and all(map(math.isnan, r.intervals["d_mean"]))
    )
    with_way = concept_metrics(list(COURSE), FG, distance=DISTANCE)
    assert with_way.d_mean == 0


def test_maps_may_be_entropy_maps_lists_or_one_tensor():
    kw = dict(epochs=EPOCHS, distance=DISTANCE)
    want = concept_metrics(COURSE, FG, **kw).values
    for maps in (
        list(COURSE),
        tuple(COURSE),
        [e.numpy() for e in COURSE],
        [e.float() for e in COURSE],
        [as_maps(e) for e in COURSE],
    ):
        assert concept_metrics(maps, FG, **kw).values == pytest.approx(want)
    for masks in (
        FG,
        FG.byte(),
        FG.numpy(),
        255 * FG.int(),
        FG.repeat_interleave(4, 1).repeat_interleave(4, 2),
        Foreground(FG, "mine"),
    ):
        assert concept_metrics(COURSE, masks, **kw).values == pytest.approx(want)
    assert concept_metrics(COURSE, Foreground(FG, "mine"), **kw).mask_source == "mine"
    with pytest.warns(UserWarning, match="single checkpoint"):
        assert concept_metrics(as_maps(COURSE[2]), FG).n_fg == 1.5


def many(n, seed=0):
    gen = torch.Generator().manual_seed(seed)
    entropy = torch.randn(3, n, 4, 4, generator=gen, dtype=torch.float64) * 0.3 - 2.8
    return entropy, torch.rand(n, 4, 4, generator=gen) < 0.5


def test_intervals_hold_the_value_repeat_and_shrink():
    entropy, fg = many(200)
    report = lambda n, **kw: concept_metrics(entropy[:, :n], fg[:n], distance=[1.0, 2.0, 4.0], **kw)
    few, lots = report(12), report(200)
    for r in (few, lots):
        assert all(
            low <= r.values[k] <= high and low < high for k, (low, high) in r.intervals.items()
        ), r.intervals
    width = lambda r, k: r.intervals[k][1] - r.intervals[k][0]
    assert all(width(lots, k) < 0.6 * width(few, k) for k in NAMES)
    assert report(12).intervals == few.intervals and report(12, seed=1).intervals != few.intervals
    assert width(report(12, confidence=0.5), "n_fg") < 0.6 * width(few, "n_fg")
    spread = (
        2 * 1.96 * lots.per_image["n_fg"].std().item() / math.sqrt(200)
    )  # the interval of a mean
    assert width(lots, "n_fg") == pytest.approx(spread, rel=0.15)
    one = concept_metrics(entropy[:, :1], fg[:1])
    assert one.intervals["n_fg"] == (one.n_fg, one.n_fg)


def test_two_reports_side_by_side():
    base = concept_metrics(COURSE, FG, epochs=EPOCHS, distance=DISTANCE)
    better = replace(base, values=dict(zip(NAMES, (1.0, 0.0, 0.25, 3.0, math.nan, 0.2))))
    table = compare_reports(better, base).set_index("metric")
    assert list(table.index) == NAMES
    assert table["claim"].tolist() == ["higher", "lower", "higher", "lower", "lower", "higher"]
    assert table["agrees"].tolist() == [
        True,
        True,
        False,
        False,
        None,
        True,
    ]  # equal does not agree; NaN says nothing
    assert table["difference"].tolist()[:4] == [0.5, -0.5, 0, 1] and table[
        "hypothesis"
    ].tolist() == [1, 1, 1, 2, 2, 3]
    assert table.loc["n_fg", "distilled"] == 1 and table.loc["n_fg", "baseline"] == 0.5


# ---- which images count


def test_dead_images_and_those_off_target_at_any_checkpoint_are_left_out_and_counted():
    entropy, fg = many(6)
    entropy += -2.8 - entropy.mean((2, 3), keepdim=True)  # all at the target
    entropy[1, 2] += 0.2
    maps = [as_maps(e, target=-2.8, dead=[4] if k == 0 else []) for k, e in enumerate(entropy)]
    r = concept_metrics(maps, fg, distance=[1.0, 2.0, 3.0])
    keep = [0, 1, 3, 5]
    assert (
        r.images()["image"].tolist() == keep
        and any("2 images left out" in n for n in r.notes)
        and "4 of 6 images" in repr(r)
    )
    assert r.values == pytest.approx(
        concept_metrics(entropy[:, keep], fg[keep], distance=[1.0, 2.0, 3.0]).values
    )
    assert r.concepts.shape[1] == len(r.cells) == 4 and set(r.frame()["images"]) == {4}
    holes = entropy.clone()
    holes[2, 0, 1, 1] = math.nan
    assert concept_metrics(holes, fg).images()["image"].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="none of the 6 images.*target"):
        concept_metrics([as_maps(e, target=-1.0) for e in entropy], fg)


def test_effective_images_have_the_higher_entropy_beside_the_object():
    fg = torch.stack([cells("fb", "fb")] * 3 + [cells("ff", "ff"), cells("bb", "bb")])
    low, high = levels("k.", "k."), levels(".k", ".k")
    maps = torch.stack(
        [
            torch.stack(m)
            for m in ([low, high, low, low, low], [low, low, high, low, low], [low] * 5)
        ]
    )
    assert effective_images(maps, fg).tolist() == [
        True,
        True,
        True,
        False,
        False,
    ]  # the last checkpoint alone
    assert effective_images(maps, fg, epochs=[10, 40, 90]).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]  # from epoch 40 on
    assert effective_images(maps, fg, epochs=[10, 40, 90], after=10).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert effective_images(maps, fg, epochs=[1, 2, 3]).tolist() == [True, True, True, False, False]
    assert (
        effective_images(torch.full_like(maps, H), fg).tolist() == [False] * 5
    )  # equal is not higher
    assert effective_images([as_maps(maps[2], dead=[1])], fg).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="epochs"):
        effective_images(maps, fg, epochs=[1, 2])


# ---- masks


def test_a_cell_is_foreground_if_at_least_the_share_of_its_pixels_is():
    mask = torch.zeros(1, 4, 4)
    mask[0, :2, :1], mask[0, 0, 2], mask[0, 2:, 2:] = (
        1,
        7,
        0.5,
    )  # two of four pixels, one, four; any value but 0 is the object
    assert foreground(mask, 2).cells.int().tolist() == [[[1, 0], [0, 1]]]  # exactly half counts
    assert foreground(mask, 2, share=0.25).cells.int().tolist() == [[[1, 1], [0, 1]]]
    assert foreground(mask, 2, share=0.51).cells.int().tolist() == [[[0, 0], [0, 1]]]
    assert foreground(mask, 2, share=1.0).cells.int().tolist() == [[[0, 0], [0, 1]]]
    assert foreground(mask.bool(), 4).cells.equal(mask != 0)
    for share in (0.1, 0.3, 0.7):  # a share that floating point cannot hold counts when met exactly
        some = torch.zeros(1, 10, 10)
        some.view(-1)[: round(100 * share)] = 1
        assert foreground(some, 1, share=share).cells.item()


def test_grids_that_do_not_divide_the_size():
    masks = (torch.rand(2, 7, 10) < 0.5).int()
    got, want = foreground(masks, 3).cells, torch.zeros(2, 3, 3, dtype=torch.bool)
    for i in range(2):
        for r in range(3):
            for c in range(3):
                inside = [
                    int(masks[i, y, x])
                    for y in range(7)
                    for x in range(10)
                    if y * 3 // 7 == r and x * 3 // 10 == c
                ]
                want[i, r, c] = 2 * sum(inside) >= len(inside)
    assert torch.equal(got, want)


def test_the_central_box():
    box = central_box(3)
    assert len(box) == 3 and "central box" in box.source and "no masks" in box.source
    want = np.zeros((16, 16), dtype=bool)
    want[2:14, 2:14] = True
    assert all((c.numpy() == want).all() for c in box.cells)
    for grid in range(3, 40):
        c = central_box(1, grid).cells[0]
        assert (
            torch.equal(c, c.flip(0))
            and torch.equal(c, c.flip(1))
            and torch.equal(c, c.T)
            and c.any()
            and not c.all()
        ), grid
        assert grid < 8 or (c[0].sum() == 0 and 0.65 <= c[grid // 2].double().mean() <= 0.82), grid
    assert [int(central_box(1, grid).cells.sum()) for grid in (4, 8, 16, 24, 32)] == [
        2**2,
        6**2,
        12**2,
        18**2,
        24**2,
    ]
    for bad in ((0, 16), (1, 2), (1, 0)):
        with pytest.raises(ValueError, match="central_box"):
            central_box(*bad)


def test_masks_of_a_dataset():
    shown = load("scenes", n_train=16, n_test=8).test
    entropy = torch.randn(2, 8, 16, 16, dtype=torch.float64) * 0.3
    r = concept_metrics(entropy, shown)
    assert (
        torch.equal(r.cells, foreground(shown.extra["object_mask"]).cells)
        and 0 < r.cells.double().mean() < 1
    )
    assert "dataset" in r.mask_source
    assert "dataset" in r.notes[0] and foreground(shown, 8).cells.shape == (8, 8, 8)
    assert torch.equal(
        foreground(shown).select([3, 1]).cells, foreground(shown.select([3, 1])).cells
    )
    bare = Split(shown.x, shown.y)
    for call in (lambda: foreground(bare), lambda: concept_metrics(entropy, bare)):
        with pytest.raises(ValueError, match="no object masks.*central_box"):
            call()
    assert "central box" in repr(concept_metrics(entropy, central_box(8)))


# ---- bad input


def test_a_single_checkpoint_says_that_d_and_rho_compare_checkpoints():
    kw = dict(distance=[1.0])
    with pytest.warns(UserWarning, match="single checkpoint.*D_mean, D_std and rho.*NaN") as caught:
        r = concept_metrics(COURSE[2], FG, **kw)
    assert caught[0].filename == __file__ and any("single checkpoint" in n for n in r.notes)
    assert (r.n_fg, r.n_bg) == (1.5, 0.5) and all(math.isnan(v) for v in (r.d_mean, r.d_std, r.rho))
    with pytest.warns(
        UserWarning, match="single"
    ):  # before training and one after: nothing to compare in the paper's terms
        assert math.isnan(concept_metrics(COURSE[:2], FG, epochs=[0, 2]).rho)
    with pytest.warns(UserWarning, match="single"):
        concept_metrics(COURSE[:1], FG, epochs=[0])
    assert not math.isnan(concept_metrics(COURSE[:2], FG, epochs=[0, 2], variant="code").rho)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: concept_metrics(COURSE, FG, epochs=[1, 2, 3]),
            r"epochs=\[1, 2, 3\] for 4 checkpoints",
        ),
        (lambda: concept_metrics(COURSE, FG, epochs=[0, 5, 2, 9]), "rising"),
        (lambda: concept_metrics(COURSE, FG, epochs=[0, 2, 2, 9]), "rising"),
        (
            lambda: concept_metrics(COURSE, FG, distance=[1.0, 2.0]),
            "distance has 2 numbers for 4 checkpoints",
        ),
        (lambda: concept_metrics(COURSE, FG, threshold=0), "threshold=0"),
        (lambda: concept_metrics(COURSE, FG, threshold=math.nan), "threshold"),
        (lambda: concept_metrics(COURSE, FG, variant="papers"), "'papers'.*'paper'"),
        (lambda: concept_metrics(COURSE, FG, confidence=95), "confidence=95"),
        (lambda: concept_metrics(COURSE, FG, resamples=0), "resamples=0"),
        (lambda: concept_metrics([], FG), "no maps"),
        (lambda: concept_metrics(torch.zeros(2, 3), FG), r"\(2, 3\).*expected \(N, g, g\)"),
        (
            lambda: concept_metrics([COURSE[0], COURSE[1, :1]], FG),
            r"\(1, 3, 3\), \(2, 3, 3\).*the same images and grid",
        ),
        (lambda: concept_metrics(torch.zeros(2, 2, 3, 4), FG), r"\(2, 3, 4\)"),
        (lambda: concept_metrics(COURSE, FG[:1]), "1 masks of 3 x 3 cells for 2 maps of 3 x 3"),
        (
            lambda: concept_metrics(COURSE, Foreground(torch.ones(2, 4, 4).bool(), "x")),
            "2 masks of 4 x 4 cells for 2 maps of 3 x 3",
        ),
        (lambda: concept_metrics(COURSE, FG[:, :2, :2]), "grid=3 for images of 2 x 2"),
        (lambda: concept_metrics(COURSE, FG[0]), r"\(3, 3\)"),
        (
            lambda: concept_metrics(
                [as_maps(e, size=(9, 12)) for e in COURSE], torch.ones(2, 9, 9)
            ),
            "masks of 9 x 9 pixels for images of 9 x 12",
        ),
        (lambda: concept_metrics(COURSE, torch.zeros(2, 3, 3)), "no image has a foreground cell"),
        (lambda: concept_metrics(COURSE, torch.ones(2, 3, 3)), "no image has a background cell"),
        (
            lambda: concept_metrics([as_maps(COURSE[0]), as_maps(COURSE[1], layer="fc2")], FG),
            "different layers.*'fc1'.*'fc2'",
        ),
        (
            lambda: concept_metrics(
                [as_maps(COURSE[0], target=-2.8), as_maps(COURSE[1], target=-2.5)], FG
            ),
            "targets",
        ),
        (lambda: foreground(torch.zeros(2, 3, 8, 8)), r"\(2, 3, 8, 8\), expected \(N, H, W\)"),
        (lambda: foreground(torch.zeros(2, 8, 8)), "grid=16"),
        (lambda: foreground(torch.zeros(2, 16, 16), share=0), "share=0"),
        (lambda: foreground(torch.zeros(2, 16, 16), share=1.5), "share"),
    ],
)
def test_bad_input_is_refused_in_clear_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_masks_of_the_images_size_or_of_the_grids_fit():
    maps = [as_maps(e, size=(9, 12)) for e in COURSE]
    pixels = torch.zeros(2, 9, 12)
    pixels[:, :3, :8] = 1
    assert concept_metrics(maps, pixels).cells[1].int().tolist() == [
        [1, 1, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert torch.equal(concept_metrics(maps, FG).cells, FG)


def test_a_trajectory_brings_its_epochs_and_arrays_will_do():
    g = torch.Generator().manual_seed(3)
    maps, cells = torch.rand(3, 4, 5, 5, generator=g), torch.rand(4, 5, 5, generator=g) > 0.5
    course = Trajectory([0, 2, 7], [as_maps(m) for m in maps])
    wanted = concept_metrics(list(maps), cells, epochs=[0, 2, 7], distance=[0, 1, 3])
    for maps_given, masks in (
        (course, cells),
        (maps, cells[:, None]),
        (maps.numpy(), cells.numpy()),
    ):
        epochs = None if maps_given is course else [0, 2, 7]
        found = concept_metrics(maps_given, masks, epochs=epochs, distance=[0, 1, 3])
        assert found.values == pytest.approx(wanted.values) and found.course["epoch"] == [0, 2, 7]
    assert set(wanted.images().epoch) <= {2, 7}
    assert torch.equal(
        effective_images(course, cells, after=2),
        effective_images(maps, cells, epochs=[0, 2, 7], after=2),
    )


def test_without_masks_the_central_box_is_taken_and_named():
    maps = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    report = concept_metrics(maps, None)
    assert (
        torch.equal(report.cells, central_box(4, 8).cells)
        and "central box" in report.mask_source
        and "central box" in repr(report)
    )
