"""What the metrics are given, in any of its forms, as tensors that fit each other; or one clear
error.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .maps import EntropyMaps
from .masks import Foreground, central_box, foreground


def read_epochs(epochs: Sequence[int] | None, m: int) -> list[int]:
    """The epochs of checkpoints, rising.

    Args:
        epochs: As given; None for 1 to m.
        m: How many checkpoints there are.

    Returns:
        m numbers.

    Raises:
        ValueError: Unless there is one rising number for each checkpoint.

    Example:
        >>> read_epochs(None, 3)
        [1, 2, 3]
    """
    epochs = list(range(1, m + 1)) if epochs is None else [int(e) for e in epochs]
    if len(epochs) != m or any(b <= a for a, b in itertools.pairwise(epochs)):
        raise ValueError(
            f"epochs={epochs} for {m} checkpoints: expected one rising number for each."
        )
    return epochs


def read_maps(maps) -> tuple[Tensor, Tensor, tuple[int, int] | None]:
    """Entropies over checkpoints, from anything that ``concept_metrics`` takes as maps.

    Args:
        maps: A ``Trajectory``, ``EntropyMaps``, entropies (N, g, g), a sequence of these, or
            (M, N, g, g).

    Returns:
        (entropies, good, size): (M, N, g, g) float64; which images are good at all checkpoints,
        (N,) bool; (height, width) of the images if it is known, else None.

    Raises:
        ValueError: For no maps, other shapes, and maps of different layers or targets.
    """
    maps = getattr(maps, "maps", maps)  # of a Trajectory
    several = (
        list(maps) if isinstance(maps, (list, tuple)) or getattr(maps, "ndim", 0) == 4 else [maps]
    )
    if not several:
        raise ValueError("no maps: expected the EntropyMaps of one checkpoint or more.")
    tensors = [
        torch.as_tensor(m.entropy if isinstance(m, EntropyMaps) else m).double() for m in several
    ]
    if (
        tensors[0].ndim != 3
        or tensors[0].shape[1] != tensors[0].shape[2]
        or any(t.shape != tensors[0].shape for t in tensors)
    ):
        raise ValueError(
            f"maps have shapes {sorted({tuple(t.shape) for t in tensors})}: expected (N, g, g), "
            "the same images and grid at "
            "every checkpoint."
        )
    entropy = torch.stack(tensors)
    good = torch.isfinite(entropy).all(0).all(-1).all(-1)
    named = [m for m in several if isinstance(m, EntropyMaps)]
    for m in named:
        if (m.layer, m.target) != (named[0].layer, named[0].target):
            raise ValueError(
                f"maps of different layers or targets cannot be compared: {named[0]!r} and {m!r}."
            )
        good &= m.reached
    return entropy, good, named[0].settings.get("size") if named else None


def read_masks(masks, n: int, grid: int, size) -> Foreground:
    """The foreground of some maps on a grid, from anything that ``concept_metrics`` takes.

    Args:
        masks: A ``Foreground``, pixel or cell masks, a dataset's split with masks, or None for the
            ``central_box``.
        n: How many maps there are.
        grid: Cells to a side.
        size: (height, width) of the images, None if not known.

    Returns:
        A ``Foreground`` of n images.

    Raises:
        ValueError: For masks of another size, number or grid.
    """
    if masks is None:
        return central_box(n, grid)
    if not isinstance(masks, Foreground):
        pixels = (
            masks.extra.get("object_mask") if hasattr(masks, "extra") else torch.as_tensor(masks)
        )
        if (
            pixels is not None
            and pixels.ndim == 3
            and size
            and tuple(pixels.shape[1:]) not in (tuple(size), (grid, grid))
        ):
            raise ValueError(
                f"masks of {pixels.shape[1]} x {pixels.shape[2]} pixels for images of {size[0]} x "
                f"{size[1]}: resize one to "
                f"the other, or pass cells ({grid} x {grid})."
            )
        masks = foreground(masks, grid)
    if len(masks) != n or masks.cells.shape[1:] != (grid, grid):
        raise ValueError(
            f"{len(masks)} masks of {masks.cells.shape[-1]} x {masks.cells.shape[-1]} cells for "
            f"{n} maps of {grid} x {grid}: "
            "expected one mask for each image, on the same grid."
        )
    return masks


def notes_on(fg: Foreground, good: Tensor) -> list[str]:
    """What the report must state about the images.

    Args:
        fg: The foreground of N images.
        good: (N,) bool, the images that are counted.

    Returns:
        Sentences: where the foreground comes from, how many images are counted, what was left out.

    Raises:
        ValueError: Where nothing can be said at all: no good image, no foreground, no background.
    """
    if not good.any():
        raise ValueError(
            f"none of the {len(good)} images has a map that reached its target at every "
            "checkpoint: nothing to count."
        )
    objects, all_of_it = fg.cells[good].flatten(1).any(1), fg.cells[good].flatten(1).all(1)
    if not objects.any():
        raise ValueError(
            "no image has a foreground cell: the masks are empty, or the objects are smaller than "
            "half a cell."
        )
    if all_of_it.all():
        raise ValueError(
            "no image has a background cell: without background there is no entropy to compare "
            "with."
        )
    notes = [f"foreground: {fg.source}", f"{int(good.sum())} of {len(good)} images"]
    for what, count in (
        ("left out: their map is dead or off target at a checkpoint", (~good).sum()),
        ("without foreground: N_fg is 0", (~objects).sum()),
        ("without background: not in H-bar", all_of_it.sum()),
    ):
        if count:
            notes.append(f"{int(count)} images {what}")
    return notes
