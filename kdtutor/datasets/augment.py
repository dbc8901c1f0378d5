"""Augmentation of whole batches, where every possible result of one image has a number: its view
id.

An augmentation is an object with ``views`` (how many distinct views an image has), ``identity``
(the id of the unchanged image), ``sample(n, generator)`` (draws ids) and ``__call__(images,
view)``, a pure function: the same image and the same id give the same pixels, always. A frozen
teacher's answers can therefore be stored once per (image, id) and used by every student. Its
``repr`` names it completely, because it is part of the key of that store."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import explained
from .batch import sent


@explained
@dataclass(frozen=True)
class CropFlip:
    """Pads, crops back to the first size at one of (2·pad + 1)² places, mirrors half of the images.

    View id: ``(top · (2·pad + 1) + left) · 2 + mirrored``, where (top, left) is the corner of the
    crop in the padded image, both 0..2·pad; without flip the factor 2 and the last term are absent.

    Args:
        pad: Pixels on each side, 0 or more.
        flip: False: crop only.
        mode: "constant" (black border) or "reflect".

    Raises:
        ValueError: For a negative pad or an unknown mode.

    Example:
        >>> CropFlip(pad=4).views, CropFlip(pad=4, flip=False).views
        (162, 81)
    """

    pad: int = 4
    flip: bool = True
    mode: str = "constant"

    def __post_init__(self) -> None:
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
        """View ids, drawn uniformly.

        Args:
            n: How many.
            generator: A CPU generator; None: torch's global one.

        Returns:
            (n,) int64 on the CPU.

        Example:
            >>> Flip().sample(3, torch.Generator().manual_seed(0)).shape
            torch.Size([3])
        """
        return torch.randint(self.views, (n,), generator=generator)

    def __call__(self, images: Tensor, view: Tensor) -> Tensor:
        """The chosen view of each image.

        Args:
            images: (B, C, H, W), any type and device.
            view: (B,) ids.

        Returns:
            The same shape.

        Raises:
            ValueError: For images that are not (B, C, H, W), ids that are not one per image, or a
                reflection wider than the image.

        Example:
            >>> Flip()(torch.tensor([[[[1, 2, 3]]]]), torch.tensor([1]))
            tensor([[[[3, 2, 1]]]])
        """
        if images.ndim != 4 or view.shape != images.shape[:1]:
            raise ValueError(
                f"images of shape {tuple(images.shape)} and view ids of shape "
                f"{tuple(view.shape)}: expected (B, C, H, W) and (B,)."
            )
        if len(view) and (int(view.min()) < 0 or int(view.max()) >= self.views):
            raise ValueError(
                f"view ids run from {int(view.min())} to {int(view.max())}; {self!r} has ids 0 to "
                f"{self.views - 1}."
            )
        return self._cropped(images, view, fill=0)

    def move_masks(self, masks: Tensor, view: Tensor, fill: int | None) -> Tensor:
        """The chosen view of each mask: every label goes where its pixel goes, unchanged.

        Args:
            masks: (B, H, W) or (B, C, H, W), any type and device.
            view: (B,) ids.
            fill: The label of what comes in from outside the image (for mode "reflect" it is the
                mirrored label, like the pixels).

        Returns:
            The same shape and type.

        Raises:
            ValueError: If the masks' type cannot hold ``fill``, or it is None where it is needed.

        Example:
            >>> Jitter(1).move_masks(torch.tensor([[[1, 2]]]), torch.tensor([3]), fill=255)
            tensor([[[255,   1]]])
        """
        if self.pad and self.mode == "constant":
            if fill is None:
                raise ValueError(
                    f"{self!r} moves masks and must fill what comes in from outside: give the "
                    "task a label to ignore, or use Flip() or mode='reflect'."
                )
            if torch.full((), fill).to(masks.dtype).item() != fill:
                raise ValueError(
                    f"masks of type {masks.dtype} cannot hold the label to ignore, {fill}: "
                    "convert them to int64, or give the task another one."
                )
        planes = masks[:, None] if masks.ndim == 3 else masks
        return self._cropped(planes, view, fill or 0).view(masks.shape)

    def move_boxes(
        self, boxes: Tensor, view: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The boxes in the chosen view of each image: shifted, mirrored, clipped to the image.

        Args:
            boxes: (B, M, 4) as (x1, y1, x2, y2) in pixels.
            view: (B,) ids.
            size: (H, W) of the images.

        Returns:
            The boxes, those without any area left as zeros, and (B, M) bool: which have one.

        Example:
            >>> box = torch.tensor([[[0.0, 0, 2, 2]]])
            >>> Flip().move_boxes(box, torch.tensor([1]), (4, 6))[0]
            tensor([[[4., 0., 6., 2.]]])
        """
        view = sent(view, boxes.device)
        view, mirrored = (view // 2, view % 2) if self.flip else (view, torch.zeros_like(view))
        # The crop's corner is the new origin; pad pixels lie before the image's own.
        shift = torch.stack([self.pad - view % self.places, self.pad - view // self.places], 1)
        shifted = boxes + shift.to(boxes.dtype).repeat(1, 2)[:, None]
        x1, y1, x2, y2 = shifted.unbind(2)
        height, width = size
        turned = (mirrored == 1)[:, None]
        x1, x2 = torch.where(turned, width - x2, x1), torch.where(turned, width - x1, x2)
        x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
        y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
        kept = (x2 > x1) & (y2 > y1)
        return torch.stack([x1, y1, x2, y2], 2) * kept[..., None], kept

    def _cropped(self, images: Tensor, view: Tensor, fill: int) -> Tensor:
        height, width = images.shape[2:]
        padded, step = self._padded(images, fill), width + 2 * self.pad
        # Every view reads the padded image at the same H·W places, moved by one offset; a mirrored
        # one reads rows backwards. So one table of two rows, one sum and one gather serve the batch
        # (measured: twice as fast as strided windows).
        plain = torch.arange(height)[:, None] * step + torch.arange(width)
        places = torch.stack([plain.flatten(), plain.flip(1).flatten()])
        view, mirrored = (view // 2, view % 2) if self.flip else (view, torch.zeros_like(view))
        offset = view // self.places * step + view % self.places
        places, mirrored, offset = (sent(t, images.device) for t in (places, mirrored, offset))
        where = places.index_select(0, mirrored).add_(offset[:, None])
        return (
            padded.flatten(2)
            .gather(2, where[:, None].expand(-1, images.shape[1], -1))
            .view(images.shape)
        )

    def _padded(self, images: Tensor, fill: int) -> Tensor:
        if self.mode == "constant":
            return F.pad(images, (self.pad,) * 4, value=fill)
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


@explained
def Jitter(pixels: int = 2) -> CropFlip:
    """Shifts the image by up to ``pixels`` in any direction and fills with black.

    Args:
        pixels: 0 or more.

    Returns:
        A ``CropFlip`` without flip: (2·pixels + 1)² views.

    Example:
        >>> Jitter(2).views
        25
    """
    return CropFlip(pad=pixels, flip=False)


@explained
def Flip() -> CropFlip:
    """Mirrors half of the images left to right.

    Returns:
        A ``CropFlip`` without crop: 2 views, 0 unchanged and 1 mirrored.

    Example:
        >>> Flip().views, Flip().identity
        (2, 0)
    """
    return CropFlip(pad=0)


@dataclass(frozen=True)
class PerImage:
    """A transform of single images, for a batch (``per_image``)."""

    transform: Callable

    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([self.transform(image) for image in images])


@explained
def per_image(transform: Callable) -> PerImage:
    """An augmentation that calls a transform once for each image of a batch.

    Transforms of torchvision and many others draw one crop for all that they are given at once.

    Args:
        transform: (C, H, W) -> (C, H, W); all of one size.

    Returns:
        For ``Data(augment=)``. It is slower than ``CropFlip``, and its views have no id.

    Example:
        >>> per_image(lambda image: image.flip(-1))(torch.tensor([[[[1, 2]]]])).tolist()
        [[[[2, 1]]]]
    """
    return PerImage(transform)
