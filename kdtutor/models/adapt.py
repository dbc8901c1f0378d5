"""A network with other eyes than the batch was made for: another size, normalisation or number of
channels, other classes, an answer among several."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import explained
from ..taps import logits_of
from ..taps.examples import stated_shape
from .eyes import (
    Output,
    check_among,
    check_classes,
    check_normalisation,
    check_size,
    in_channels,
    picked,
    resized,
)

_NUMBERS = ("mean", "std", "data_mean", "data_std")


@explained
def adapt(
    net: nn.Module,
    *,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    data: Any = None,
    channels: int | None = None,
    classes: Sequence[int] | Tensor | None = None,
    axis: int | None = None,
    output: Output = None,
) -> "Adapted":
    """A module around a network that sees and answers otherwise than the student.

    What arrives is a batch as the student gets it: its normalisation is undone, the channels are
    made the network's, the images resized, and normalised as the network was trained. All steps
    are differentiable, so that gradients reach the pixels. Layers keep their paths ("layer3").

    Args:
        net: any torch module.
        size: height and width that it takes, or one number for both; bilinear interpolation,
            antialiased where a side shrinks.
        mean: per channel, of pixels in [0, 1], with which the network was trained.
        std: the same.
        data: how the batches that arrive were normalised: a ``Data`` (anything with ``mean`` and
            ``std``), or a pair (mean, std); ((), ()) for pixels in [0, 1]. Needed with ``mean``.
        channels: that the network takes, 1 or 3: one is repeated, three become their luminance.
        classes: positions among the network's own classes, in the student's order: [3, 1, 7] for a
            student of three classes.
        axis: of the classes in the network's answer, for ``classes``: by default 1, for (B, C) and
            maps (B, C, H, W); 2 for tokens (B, L, V).
        output: which of its answers is meant: a key, a position, an attribute's name, or a function
            of what it returned. By default what ``kdtutor.taps.logits_of`` finds.

    Returns:
        The module; the network is its ``net``. It carries an ``input_shape`` where one is known.

    Raises:
        ValueError: for sizes, numbers and classes that cannot be; at the call for images of other
            channels, an answer that is not there (with those that are), and a class that the
            network does not have.
        TypeError: for a network that is no module.

    Example:
        >>> from kdtutor.models import resnet8
        >>> teacher = adapt(resnet8(classes=10), size=64, channels=3, classes=[3, 1, 7])
        >>> teacher(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 3])
    """
    return Adapted(net, size, mean, std, data, channels, classes, axis, output)


class Adapted(nn.Module):
    """What ``adapt`` makes."""

    wraps = "net"  # where kdtutor.taps finds the layers

    mean: Tensor  # (C, 1, 1), as the others
    std: Tensor
    data_mean: Tensor
    data_std: Tensor
    order: Tensor  # (C,), positions of the classes

    def __init__(self, net, size, mean, std, data, channels, classes, axis, output):
        super().__init__()
        if not isinstance(net, nn.Module):
            raise TypeError(f"net is a {type(net).__name__}; expected a torch.nn.Module.")
        if channels not in (None, 1, 3):
            raise ValueError(f"channels={channels!r}: expected 1 or 3, what the network takes.")
        if axis not in (None, 1, 2):
            raise ValueError(f"axis={axis!r}: expected 1, for (B, C), or 2, for (B, L, V).")
        if isinstance(output, bool) or not (
            output is None or isinstance(output, (str, int)) or callable(output)
        ):
            raise ValueError(
                f"output={output!r}: expected a key, a position, an attribute's name or a function."
            )
        self.net, self.size, self.channels, self.axis, self.output = (
            net,
            check_size(size),
            channels,
            axis,
            output,
        )
        known = getattr(net, "classes", None)
        known = known if isinstance(known, int) else 0
        self.chosen = check_classes(classes, known)
        if count := len(self.chosen or ()) or known:
            self.classes = count
        self.numbers = check_normalisation(mean, std, data)
        if self.numbers and channels and len(self.numbers[0]) not in (1, channels):
            raise ValueError(
                f"mean has {len(self.numbers[0])} values but the network takes {channels} "
                "channels: one value per channel, or one for all."
            )
        # None of them is in the state dict: what is saved are the network's weights.
        device = next((p.device for p in net.parameters()), None)
        for name in _NUMBERS if self.numbers else ():
            self.register_buffer(name, torch.empty(0, device=device), persistent=False)
        if self.chosen:
            self.register_buffer("order", torch.tensor(self.chosen, device=device), False)
        self._write()
        if shape := self._input_shape(data):
            self.input_shape = shape

    def _input_shape(self, data) -> tuple[int, ...] | None:
        """The shape of what arrives, without the batch: the data's, or one that it can take."""
        x = getattr(getattr(data, "train", None), "x", None)
        if isinstance(x, Tensor) and x.ndim == 4:
            return tuple(x.shape[1:])
        known = stated_shape(self.net)
        if not known or len(known) != 3:
            return known
        return (self.channels or known[0], *(self.size or known[1:]))

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self._write()
        return self

    def _write(self) -> None:
        """The numbers with all digits of the network's type: after .half().double() too."""
        double = any(p.dtype == torch.float64 for p in self.net.parameters())
        for name, values in zip(_NUMBERS, self.numbers or ()):
            self._buffers[name] = torch.tensor(
                values,
                dtype=torch.float64 if double else torch.float32,
                device=getattr(self, name).device,
            ).view(-1, 1, 1)

    def seeing(self) -> dict[str, Any]:
        """What was given to ``adapt``: with the weights, all that decides an answer."""
        return {
            "size": self.size,
            "channels": self.channels,
            "classes": self.chosen,
            "axis": self.axis,
            "output": self.output,
            "normalisation": self.numbers,
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.seeing().items() if v is not None)

    def forward(self, x=None, **named):
        if x is not None and named:
            named["x"] = x  # of a mapping
        seen = {name: self._seen_by_name(name, value) for name, value in named.items()}
        answer = self.net(**seen) if seen else self.net(self._seen(x))
        if self.output is not None:
            answer = picked(answer, self.output, type(self.net).__name__)
        return answer if self.chosen is None else self._chosen(logits_of(answer))

    def _seen_by_name(self, name: str, x):
        """Of a mapping's entries the images are seen anew; the rest stays."""
        images = isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()
        return self._seen(x) if images and "mask" not in name else x

    def _seen(self, x: Tensor) -> Tensor:
        if not (self.size or self.channels or self.numbers):
            return x
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                "adapt(size=, mean=, channels=) takes floating-point images (batch, channels, "
                f"height, width), but the inputs are {x.dtype} of shape {tuple(x.shape)}."
            )
        if self.numbers:
            _check_channels(x, self.numbers[2], "the normalisation of the batches (data=)")
            x = x * self.data_std.to(x) + self.data_mean.to(x)
        x = in_channels(x, self.channels) if self.channels else x
        x = resized(x, self.size) if self.size else x
        if self.numbers:
            _check_channels(x, self.numbers[0], "mean")
            x = (x - self.mean.to(x)) / self.std.to(x)
        return x

    def _chosen(self, logits: Tensor) -> Tensor:
        if self.axis is None and logits.ndim not in (2, 4):
            raise ValueError(
                f"{type(self.net).__name__} answers with {tuple(logits.shape)}: say with axis= "
                "where the classes are, 1 for (B, C, ...) or 2 for tokens (B, L, V)."
            )
        axis = self.axis or 1
        check_among(self.chosen or (), logits.shape[axis])
        return logits.index_select(axis, self.order)


def _check_channels(x: Tensor, values: Sequence[float], what: str) -> None:
    if len(values) not in (1, x.shape[1]):
        raise ValueError(
            f"{what} has {len(values)} values, but the images have {x.shape[1]} channels: one "
            "value per channel, or one for all. adapt(channels=) says what the network takes."
        )


__all__ = ["Adapted", "adapt"]
