"""Augmentation: every view id names its pixels, the batched code equals a slow loop, nothing is
drawn with a bias.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtutor.datasets import CropFlip, Flip, Jitter


def images(n=5, channels=3, height=6, width=7, seed=0):
    return torch.randint(
        0,
        256,
        (n, channels, height, width),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.uint8,
    )


def pixel(image, row, column, mode):
    """One pixel of the padded plane, from the definition: black outside, or mirrored about the edge
    pixel.
    """
    height, width = image.shape[1:]
    if mode == "constant" and not (0 <= row < height and 0 <= column < width):
        return torch.zeros(image.shape[0], dtype=image.dtype)
    row, column = (
        (-i if i < 0 else 2 * (n - 1) - i if i >= n else i)
        for i, n in ((row, height), (column, width))
    )
    return image[:, row, column]


def slow(batch, view, pad, flip, mode):
    """Independent of the code under test: image by image, pixel by pixel."""
    out = torch.empty_like(batch)
    for i, (image, number) in enumerate(zip(batch, view.tolist(), strict=True)):
        number, mirrored = divmod(number, 2) if flip else (number, 0)
        top, left = divmod(number, 2 * pad + 1)
        for r in range(image.shape[1]):
            for c in range(image.shape[2]):
                source = image.shape[2] - 1 - c if mirrored else c
                out[i, :, r, c] = pixel(image, r + top - pad, source + left - pad, mode)
    return out


@settings(max_examples=40)
@given(
    st.data(),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from(["constant", "reflect"]),
    st.integers(1, 3),
    st.integers(4, 6),
    st.integers(4, 6),
)
def test_batched_equals_slow(data, pad, flip, mode, channels, height, width):
    change = CropFlip(pad, flip, mode)
    batch = images(3, channels, height, width)
    view = torch.tensor(
        data.draw(st.lists(st.integers(0, change.views - 1), min_size=3, max_size=3))
    )
    before = batch.clone()
    assert torch.equal(change(batch, view), slow(batch, view, pad, flip, mode))
    assert torch.equal(batch, before), "the input was changed in place"


@pytest.mark.parametrize(
    "change", [CropFlip(2), CropFlip(2, mode="reflect"), CropFlip(1, flip=False), Jitter(2), Flip()]
)
def test_all_views_are_distinct_and_identity_changes_nothing(change):
    one = images(1, 1, 7, 7)
    every = change(one.expand(change.views, -1, -1, -1), torch.arange(change.views))
    assert len({tuple(view.flatten().tolist()) for view in every}) == change.views
    assert torch.equal(every[change.identity], one[0])


def test_known_views():
    assert [CropFlip().views, CropFlip(flip=False).views, Jitter().views, Flip().views] == [
        162,
        81,
        25,
        2,
    ]
    assert [CropFlip().identity, Jitter().identity, Flip().identity] == [80, 12, 0]
    one = images(1)
    assert torch.equal(Flip()(one, torch.tensor([1])), one.flip(3))
    down = Jitter(1)(
        one, torch.tensor([1])
    )  # id 1: the crop's corner at (0, 1) of the padded image, so the image moves down by 1
    assert torch.equal(down[..., 1:, :], one[..., :-1, :]) and not down[..., 0, :].any()


def test_the_same_id_gives_the_same_pixels_in_any_batch_and_type():
    change, batch = CropFlip(2), images(6)
    view = change.sample(6, torch.Generator().manual_seed(1))
    together = change(batch, view)
    alone = torch.cat([change(batch[i : i + 1], view[i : i + 1]) for i in range(6)])
    assert torch.equal(together, alone)
    assert torch.equal(change(batch.float(), view), together.float())
    assert torch.equal(change(batch.contiguous(memory_format=torch.channels_last), view), together)


def test_samples_are_uniform_repeatable_cpu_ids():
    change = CropFlip(1)
    ids = change.sample(18_000, torch.Generator().manual_seed(0))
    assert ids.dtype == torch.int64 and ids.shape == (18_000,)
    assert torch.equal(ids, change.sample(18_000, torch.Generator().manual_seed(0)))
    counts = torch.bincount(ids, minlength=change.views)
    assert len(counts) == 18 and counts.min() > 850 and counts.max() < 1150  # 1000 ± 5 sigma


def test_the_name_is_complete():
    assert repr(CropFlip()) == "CropFlip(pad=4, flip=True, mode='constant')"
    assert (
        len(
            {
                repr(c)
                for c in (
                    CropFlip(),
                    CropFlip(2),
                    CropFlip(flip=False),
                    CropFlip(mode="reflect"),
                    Jitter(),
                    Flip(),
                )
            }
        )
        == 6
    )
    assert eval(repr(Jitter(3))) == Jitter(3)


def test_empty_batch():
    assert CropFlip()(images(0), torch.zeros(0, dtype=torch.long)).shape == (0, 3, 6, 7)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CropFlip(-1), "pad=-1: expected a whole number"),
        (lambda: CropFlip(1.5), "pad=1.5: expected a whole number"),
        (lambda: CropFlip(mode="wrap"), "mode='wrap': expected 'constant'"),
        (
            lambda: CropFlip(1)(images(2), torch.tensor([0])),
            r"\(2, 3, 6, 7\) and view ids of shape \(1,\)",
        ),
        (lambda: CropFlip(1)(images(2)[0], torch.tensor([0, 1, 1])), r"expected \(B, C, H, W\)"),
        (
            lambda: CropFlip(1)(images(2), torch.tensor([0, 18])),
            "run from 0 to 18; .* has ids 0 to 17",
        ),
        (lambda: CropFlip(1)(images(2), torch.tensor([-1, 0])), "run from -1 to 0"),
        (
            lambda: CropFlip(6, mode="reflect")(images(1), torch.tensor([0])),
            r"pad=6 cannot reflect images of size \(6, 7\)",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_a_gpu_gives_the_same_pixels(mode, gpu):
    change, batch = CropFlip(mode=mode), images(64, 3, 32, 32)
    view = change.sample(64, torch.Generator().manual_seed(0))
    assert torch.equal(change(batch.to(gpu), view).cpu(), change(batch, view))
