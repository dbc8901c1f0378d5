"""Generated images whose meaning is known pixel by pixel: small robots on textured backgrounds,
with loose parts lying about.

A robot is a body with eyes (part 1) and three decisive parts of two kinds each; the class is their
combination, 2·2·2 = 8:

    part 2, head: ball on a stem / spike      part 3, sides: arms / wings      part 4, base: legs /
    wheels

Nothing else carries information: colours, place, size, tilt, roundness of the body, background and
the loose parts (the same kinds as on robots, never touching one) are drawn independently of the
class. So the question "which pixels should a network look at?" has an answer here, and the same
images serve segmentation (``part_mask``) and detection (``boxes``)."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Data, Split

PARTS = ("none", "body", "head", "sides", "base")  # names of the ids in part_mask
DECISIVE = (2, 3, 4)  # ids of the parts whose kind decides the class
KINDS = (("ball", "spike"), ("arms", "wings"), ("legs", "wheels"))
CLASSES = tuple("-".join(kinds) for kinds in itertools.product(*KINDS))
CHUNK = 1 << 15  # pixels drawn at once, so that intermediate results stay in the processor's cache


def scenes(n_train: int = 2000, n_test: int = 500, size: int = 32, seed: int = 0) -> Data:
    """Generated robots, classes in equal shares.

    The same arguments give the same pixels; train and test come from separate random streams, so
    the test set does not depend on n_train.

    Args:
        n_train: Images to train on, 1 or more.
        n_test: Images to test on, 1 or more.
        size: Height and width in pixels, 24 or more (parts would vanish).
        seed: Decides all that is drawn.

    Returns:
        x (N, 3, size, size) uint8, y (N,) 0..7. ``extra`` of both splits, by image:
        ``part_mask`` (N, size, size) uint8, 0 or the part's id as in ``PARTS`` (``DECISIVE``:
        2, 3, 4); ``object_mask`` uint8 0/1, the robot; the background is its complement;
        ``distractor_mask`` uint8 0/1, the loose parts in the background; ``boxes`` (N, 4) int64,
        the robot's x0, y0, x1, y1 in pixels, x1 and y1 excluded.

    Raises:
        ValueError: For sizes below 24 pixels or splits without images.

    Example:
        >>> robots = scenes(n_train=8, n_test=8, size=24)
        >>> robots.classes[0], robots.train.extra["boxes"].shape
        ('ball-arms-legs', torch.Size([8, 4]))
    """
    if size < 24 or n_train < 1 or n_test < 1:
        raise ValueError(
            f"scenes(n_train={n_train}, n_test={n_test}, size={size}): expected 1 image or more "
            "each and a size of 24 pixels or more, below which parts vanish."
        )
    # Thousands of small operations: where other work runs too, threads would mostly wait for each
    # other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Data(
            "scenes", CLASSES, _split(n_train, size, 2 * seed), _split(n_test, size, 2 * seed + 1)
        )
    finally:
        torch.set_num_threads(threads)


def _split(n: int, size: int, seed: int) -> Split:
    g = torch.Generator().manual_seed(seed)
    y = torch.randperm(n, generator=g) % len(CLASSES)
    drawn = [_draw(part, size, g) for part in y.split(max(1, CHUNK // size**2))]
    x, part_mask, distractor_mask = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
    robot = part_mask > 0
    ends = [
        (across.int().argmax(1), size - across.flip(1).int().argmax(1))
        for across in (robot.any(1), robot.any(2))
    ]
    boxes = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1)
    return Split(
        x,
        y,
        extra={
            "part_mask": part_mask,
            "object_mask": robot.byte(),
            "distractor_mask": distractor_mask,
            "boxes": boxes,
        },
    )


# The shapes, as signed distances (below 0 inside) in units of the robot's size, y downwards, the
# body's centre at the origin. Sides and base are the right one of a pair: a robot passes |x|. Each
# has the centre and the reach it turns about when loose.


def _circle(x, y, cx, cy, r):
    return torch.hypot(x - cx, y - cy) - r


def _bar(x, y, cx, cy, half_width, half_height, rounding=0.0):
    dx, dy = (x - cx).abs() - half_width + rounding, (y - cy).abs() - half_height + rounding
    return (
        torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
        + torch.maximum(dx, dy).clamp(max=0)
        - rounding
    )


SHAPES = {  # name: (distance, centre, reach)
    "ball": (
        lambda x, y: torch.minimum(_circle(x, y, 0, -0.74, 0.21), _bar(x, y, 0, -0.46, 0.07, 0.16)),
        (0, -0.65),
        0.36,
    ),
    "spike": (
        lambda x, y: torch.maximum(0.92 * x.abs() - 0.39 * (y + 0.95), y + 0.3),
        (0, -0.55),
        0.41,
    ),
    "arms": (
        lambda x, y: torch.minimum(
            _circle(x, y, 0.84, -0.24, 0.15), _bar(x, y + 0.3 * (x - 0.6), 0.6, -0.15, 0.25, 0.07)
        ),
        (0.66, -0.18),
        0.36,
    ),
    "wings": (
        lambda x, y: torch.maximum(x - 0.92, 0.86 * (y + 0.05).abs() - 0.5 * (x - 0.25)),
        (0.68, -0.05),
        0.48,
    ),
    "legs": (
        lambda x, y: torch.minimum(
            _bar(x, y, 0.2, 0.6, 0.08, 0.3), _bar(x, y, 0.29, 0.84, 0.17, 0.07)
        ),
        (0.25, 0.65),
        0.34,
    ),
    "wheels": (  # the outline fills the hole
        lambda x, y: _circle(x, y, 0.27, 0.6, 0.16).abs() - 0.1,
        (0.27, 0.6),
        0.26,
    ),
}


def _draw(y: Tensor, size: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, size, size), part_mask and distractor_mask (B, size, size), all uint8, for
    classes y (B,).
    """
    b, outline = len(y), 0.022 * size
    rand = lambda low, high: torch.rand(b, 1, 1, generator=g) * (high - low) + low
    py, px = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    image = _background(b, size, px, py, rand, g)
    dark = torch.tensor([0.10, 0.09, 0.16]).view(1, 3, 1, 1)

    # In pixels; edges are smoothed over one pixel, with a dark outline round them.
    def paint(distance, colour):
        image.lerp_(dark, (0.5 + outline - distance).clamp(0, 1)[:, None]).lerp_(
            colour, (0.5 - distance).clamp(0, 1)[:, None]
        )

    def frame(cx, cy, scale, angle):  # pixel coordinates -> the shape's own
        dx, dy = (px - cx) / scale, (py - cy) / scale
        return dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()

    scale, margin = rand(0.29, 0.35) * size, 1.0 + outline
    cx, cy = (rand(0, 1) * (size - 2 * (scale + margin)) + scale + margin for _ in range(2))
    u, v = frame(cx, cy, scale, rand(-0.25, 0.25))
    kinds = [(y[:, None, None] // 2 ** (2 - i) % 2).bool() for i in range(3)]
    part = [_bar(u, v, 0, 0, 0.42, 0.4, rand(0.1, 0.4)) * scale]
    part += [
        torch.where(kind, SHAPES[second][0](u.abs(), v), SHAPES[first][0](u.abs(), v)) * scale
        for kind, (first, second) in zip(kinds, KINDS, strict=True)
    ]
    taken = torch.stack(part).amin(0) - outline  # distance to whatever is drawn already

    loose = torch.zeros(b, size, size, dtype=torch.bool)
    edge = torch.minimum(torch.minimum(px, size - px), torch.minimum(py, size - py))
    for shape, (mx, my), reach in SHAPES.values():
        smaller = scale * rand(0.75, 1.0)
        room = (taken > reach * smaller + outline + 1.5) & (edge > reach * smaller)
        chance, place = (torch.rand(b, size, size, generator=g) * room).flatten(1).max(1)
        there = (chance > 0).view(-1, 1, 1) & (rand(0, 1) < 0.6)
        lx, ly = px.flatten()[place].view(-1, 1, 1), py.flatten()[place].view(-1, 1, 1)
        lu, lv = frame(lx, ly, smaller, rand(-3.1416, 3.1416))
        distance = torch.where(there, shape(lu + mx, lv + my) * smaller, torch.inf)
        paint(distance, _colour(rand))
        loose |= distance < outline
        taken = torch.where(
            there,
            torch.minimum(taken, torch.hypot(px - lx, py - ly) - reach * smaller - outline),
            taken,
        )

    mask = torch.zeros(b, size, size, dtype=torch.uint8)
    for i in (3, 2, 1, 0):  # base, sides and head lie behind the body
        paint(part[i], _colour(rand))
        mask[part[i] < outline] = i + 1
    for colour, radius in ((torch.ones(3, 1, 1), 0.15), (dark, 0.07)):  # eyes
        image.lerp_(
            colour, (0.5 - _circle(u.abs(), v, 0.17, -0.06, radius) * scale).clamp(0, 1)[:, None]
        )
    return image.mul_(255).round_().clamp_(0, 255).byte(), mask, loose.byte()


def _background(b, size, px, py, rand, g):
    """Stripes, checks or clouds between two pale colours, with a little noise: (B, 3, size, size)
    in about [0, 1].
    """
    angle, wave = rand(0, 3.1416), rand(2.2, 5.0) * 6.2832 / size
    along, across = px * angle.cos() + py * angle.sin(), py * angle.cos() - px * angle.sin()
    stripes = (along * wave + rand(0, 6.28)).sin()
    clouds = F.interpolate(
        torch.rand(b, 1, 6, 6, generator=g) * 4 - 2,
        (size, size),
        mode="bicubic",
        align_corners=True,
    )[:, 0]
    kind = rand(0, 3)
    texture = torch.where(
        kind < 1, stripes, torch.where(kind < 2, stripes * (across * wave).sin(), clouds)
    )
    texture = (2 * texture).sigmoid()[:, None]
    return torch.lerp(
        _colour(rand, 0.1, 0.4, 0.6, 0.8), _colour(rand, 0.1, 0.4, 0.8, 1.0), texture
    ) + 0.03 * torch.randn(b, 3, size, size, generator=g)


def _colour(rand, low=0.6, high=1.0, dull=0.7, bright=1.0):
    """A random hue, saturation low..high, value dull..bright, as RGB (B, 3, 1, 1) in [0, 1]."""
    hue, saturation, value = rand(0, 6), rand(low, high), rand(dull, bright)
    k = (torch.tensor([5.0, 3.0, 1.0]) + hue) % 6
    return (value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)).view(-1, 3, 1, 1)
