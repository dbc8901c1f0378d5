"""Augmentation of whole batches, where every possible result of one image has a number: its view
id.

An augmentation is an object with ``views`` (how many distinct views an image has), ``identity``
(the id of the unchanged image), ``sample(n, generator)`` (draws ids) and ``__call__(images,
view)``, a pure function: the same image and the same id give the same pixels, always. A frozen
teacher's answers can therefore be stored once per (image, id) and used by every student. Its
``repr`` names it completely, because it is part of the key of that store."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class CropFlip:
    """Pads by ``pad`` pixels, crops back to the first size at one of (2·pad + 1)² places, mirrors
    half of the images.

    mode: "constant" (black border) or "reflect".   flip=False: crop only.   Views: 162 for pad 4
    with flip, 81 without. View id: ``(top · (2·pad + 1) + left) · 2 + mirrored``, where (top, left)
    is the corner of the crop in the padded image, both 0..2·pad; without flip the factor 2 and the
    last term are absent. Raises ``ValueError`` for a negative pad or an unknown mode."""

    pad: int = 4
    flip: bool = True
    mode: str = "constant"

    def __post_init__(self):
        if not isinstance(self.pad, int) or self.pad < 0:
            raise ValueError(f"pad={self.pad!r}: expected a whole number of pixels, 0 or more.")
        if self.mode not in ("constant", "reflect"):
            raise ValueError(
                f"mode={self.mode!r}: expected 'constant' (a black border) or 'reflect'."
            )

    @property
    def places(self) -> int:
        """How many places the crop can take along one side."""
        return 2 * self.pad + 1

    @property
    def views(self) -> int:
        """How many distinct views of one image there are; ids run from 0 to views - 1."""
        return self.places**2 * (1 + self.flip)

    @property
    def identity(self) -> int:
        """The id of the view that leaves the image unchanged."""
        return (self.pad * self.places + self.pad) * (1 + self.flip)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n view ids drawn uniformly, (n,) int64 on the CPU. generator: a CPU generator (None:
        torch's global one).
        """
        return torch.randint(self.views, (n,), generator=generator)

    def __call__(self, images: Tensor, view: Tensor) -> Tensor:
        """The chosen view of each image. images: (B, C, H, W), any type and device.   view: (B,)
        ids.   Returns the same shape.

        Raises ``ValueError`` for images that are not (B, C, H, W), ids that are not one per image,
        or a reflection wider than the image."""
        if images.ndim != 4 or view.shape != images.shape[:1]:
            raise ValueError(
                f"images of shape {tuple(images.shape)} and view ids of shape "
                f"{tuple(view.shape)}: expected "
                "(B, C, H, W) and (B,)."
            )
        if len(view) and (int(view.min()) < 0 or int(view.max()) >= self.views):
            raise ValueError(
                f"view ids run from {int(view.min())} to {int(view.max())}; {self!r} has ids 0 to "
                f"{self.views - 1}."
            )
        return self._taken(self._padded(images), view, images.shape[2:])

    def _taken(self, padded: Tensor, view: Tensor, size) -> Tensor:
        """The view of each padded image (B, C, H + 2·pad, W + 2·pad): (B, C, H, W)."""
        (height, width), step = size, size[1] + 2 * self.pad
        # Every view reads the padded image at the same H·W places, moved by one offset; a mirrored
        # one reads rows backwards. So one table of two rows, one sum and one gather serve the batch
        # (measured: twice as fast as strided windows).
        plain = torch.arange(height)[:, None] * step + torch.arange(width)
        places = torch.stack([plain.flatten(), plain.flip(1).flatten()])
        view, mirrored = self._parts(view)
        offset = view // self.places * step + view % self.places
        device = padded.device
        where = places.to(device).index_select(0, mirrored.to(device))
        where = where.add_(offset.to(device)[:, None])
        taken = padded.flatten(2).gather(2, where[:, None].expand(-1, padded.shape[1], -1))
        return taken.view(*padded.shape[:2], height, width)

    def _parts(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(place, mirrored) of each view id."""
        return (view // 2, view % 2) if self.flip else (view, torch.zeros_like(view))

    def move_masks(self, masks: Tensor, view: Tensor, fill: int) -> Tensor:
        """Label maps moved as their images are: exact copies, no values in between.

        Args:
            masks: (B, H, W), whole numbers.
            view: (B,) ids.
            fill: The label of places that came from outside the image (with ``mode="reflect"``
                they mirror the map, as the pixels do).

        Returns:
            (B, H, W).
        """
        padded = masks[:, None]
        if self.mode == "constant":
            padded = F.pad(padded, (self.pad,) * 4, value=fill)
        else:
            padded = self._padded(padded)
        return self._taken(padded, view, masks.shape[1:])[:, 0]

    def move_boxes(self, boxes: Tensor, view: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes moved as their images are, and clipped to the image.

        Args:
            boxes: (B, M, 4) x1, y1, x2, y2 in pixels.
            view: (B,) ids.
            size: (H, W) of the images.

        Returns:
            (B, M, 4); a box that lies outside has no area.

        Raises:
            ValueError: With ``mode="reflect"``, which would show objects twice.
        """
        if self.mode == "reflect" and self.pad:
            raise ValueError(
                f"{self!r} mirrors objects at the border, where no box would show them: use "
                "mode='constant' for boxes."
            )
        (height, width), (place, mirrored) = size, self._parts(view.to(boxes.device))
        down, right = place // self.places - self.pad, place % self.places - self.pad
        x = (boxes[..., 0::2] - right[:, None, None]).clamp(0, width)
        y = (boxes[..., 1::2] - down[:, None, None]).clamp(0, height)
        x = torch.where(mirrored[:, None, None].bool(), width - x.flip(-1), x)
        return torch.stack([x, y], -1).flatten(-2)

    def _padded(self, images: Tensor) -> Tensor:
        if self.mode == "constant":
            return F.pad(images, (self.pad,) * 4)
        for axis in (2, 3):  # by indexing, because torch's own reflection does not take uint8
            last = images.shape[axis] - 1
            if self.pad > last:
                raise ValueError(
                    f"pad={self.pad} cannot reflect images of size {tuple(images.shape[2:])}: it "
                    "must be smaller."
                )
            line = torch.arange(-self.pad, last + 1 + self.pad, device=images.device).abs()
            images = images.index_select(axis, last - (last - line).abs())
        return images


def Jitter(pixels: int = 2) -> CropFlip:
    """Shifts the image by up to ``pixels`` in any direction and fills with black: (2·pixels + 1)²
    views, 25 for 2.
    """
    return CropFlip(pad=pixels, flip=False)


def Flip() -> CropFlip:
    """Mirrors half of the images left to right: 2 views, 0 unchanged and 1 mirrored."""
    return CropFlip(pad=0)
