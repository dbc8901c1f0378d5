"""Teacher: a frozen network, or several, that answers for a batch; and the exact cache of its
answers.

A frozen teacher in eval mode gives the same answer for the same pixels. Where the augmentation
names its views (pad-4 crop and flip make only 162 of an image), an answer can be computed once and
reused by every method, student and seed: exactly, not as an approximation with stored crops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..datasets import Batch, Data
from ..datasets.batch import leaves
from ..datasets.data import digest
from ..errors import explained, unknown
from ..models.adapt import Adapted
from ..runs import describe, short_hash
from ..softening import MEANS, ensemble_logits
from ..taps import Taps, call, input_gradient, logits_of, to_eval
from ..taps.examples import for_network
from ..taps.written_down import check_any_batch, check_teaches
from .cache import LogitCache

GIB = 2**30


@explained
class Teacher:
    """A frozen network (or an ensemble) in eval mode.

    Not a module: no ``train()`` or ``parameters()`` of a student reaches it. Whatever its networks
    return, the teacher answers with their logits (``kdtutor.taps.logits_of``), in float32 at least;
    a float64 network's stay float64. Each network gets the inputs in its own type, such as
    float16. One that was trained on another size, normalisation or classes: ``models.adapt``.

    Args:
        nets: a module, or a list of modules with the same classes. Their parameters lose
            ``requires_grad``; pass a copy to keep training the original. TorchScript and exported
            programs answer, too, but their layers cannot be read.
        mean: how an ensemble agrees, "arithmetic" (mean of probabilities) or "geometric" (mean of
            logits).

    Raises:
        ValueError: for an unknown mean, no network, a program that was made in training mode,
            and, at the call, members with different classes or answers without logits.

    Example:
        >>> teacher = Teacher([nn.Linear(4, 3), nn.Linear(4, 3)], mean="geometric")
        >>> teacher(torch.rand(2, 4)).shape, teacher
        (torch.Size([2, 3]), Teacher([Linear, Linear], mean='geometric'))
    """

    def __init__(self, nets: nn.Module | Sequence[nn.Module], mean: str = "arithmetic"):
        program = next((n for n in _listed(nets) if isinstance(n, ExportedProgram)), None)
        if program is not None:
            raise ValueError(
                "Teacher was given an ExportedProgram, which is no network yet: pass what its "
                "method module() makes, Teacher(program.module())."
            )
        self.nets = [nets] if isinstance(nets, nn.Module) else list(nets)
        if not self.nets or not all(isinstance(n, nn.Module) for n in self.nets):
            raise ValueError(
                "Teacher needs a network, or a list with at least one network, each a "
                "torch.nn.Module."
            )
        if mean not in MEANS:
            raise unknown("mean", mean, MEANS)
        self.mean = mean
        self._cache: LogitCache | None = None
        for net in self.nets:
            check_teaches(net)
            to_eval(net)
            for parameter in net.parameters():  # TorchScript's modules have no requires_grad_
                parameter.requires_grad_(False)

    def __repr__(self) -> str:
        names = ", ".join(type(n).__name__ for n in self.nets)
        return (
            f"Teacher({names})"
            if len(self.nets) == 1
            else f"Teacher([{names}], mean={self.mean!r})"
        )

    def __call__(self, batch, temperature: float = 1.0) -> Tensor:
        """The teacher's logits.

        Args:
            batch: a ``Batch`` (answered from the cache where there is one), or plain inputs x.
            temperature: at which an ensemble's softmax is its soft target.

        Returns:
            Logits (B, C) whose softmax at this temperature is the soft target: a single network's
            own, or the ensemble's (for the arithmetic mean they depend on T).
        """
        members = self._members(batch)
        return members[0] if len(members) == 1 else ensemble_logits(members, temperature, self.mean)

    @property
    def net(self) -> nn.Module:
        """The single network.

        Raises:
            ValueError: for an ensemble, which has no single feature map and no single gradient.
        """
        if len(self.nets) > 1:
            raise ValueError(
                f"an ensemble of {len(self.nets)} teachers has no single feature map: distil "
                "features from one."
            )
        return self.nets[0]

    @property
    def is_cached(self) -> bool:
        """Does it answer from a cache (``cached``, ``load_cache``)?"""
        return self._cache is not None

    def features(
        self, batch, layers: Sequence[str], stop: bool = False
    ) -> tuple[Any, dict[str, Tensor]]:
        """Logits and the named layers' features of a single teacher network, never cached: features
        are too large.

        Args:
            batch: a ``Batch``, or plain inputs x.
            layers: paths, as ``kdtutor.taps.Taps`` takes them.
            stop: run only as far as these layers need.

        Returns:
            (logits, features by path), without gradients; after a stop the logits are None. A
            network without a head has no logits: then what it returned stands there.

        Raises:
            ValueError: for an ensemble, and as ``Taps`` does.
        """
        net = self.net
        if net.training:
            to_eval(net)
        with torch.no_grad():
            output, features = Taps(net, layers, stop)(for_network(net, _inputs(batch)))
        if _in_half(net):
            features = {k: _precise(v) for k, v in features.items()}
        return _unwrapped(output), features

    def input_gradient(
        self, batch, score, layers: Sequence[str] = ()
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """d score / d x of a single teacher network, in eval mode.

        Args:
            batch: a ``Batch``, or plain inputs x.
            score: (logits, features) -> (B,) values; each depends on its own image alone, so row b
                is the gradient of image b's score.
            layers: paths of features that the score reads.

        Returns:
            (gradient, logits, features), all detached.

        Raises:
            ValueError: for an ensemble, for inputs that are no single tensor of floating-point
                numbers, and for a network through which no gradient reaches them.
        """
        return input_gradient(to_eval(self.net), _inputs(batch), score, layers)

    def to(self, *args, **kwargs) -> "Teacher":
        """Moves the networks (and the cache) like ``nn.Module.to``.

        Args:
            *args: as ``nn.Module.to`` takes them.
            **kwargs: the same.

        Returns:
            The teacher itself.

        Raises:
            ValueError: for networks without weights (on device meta).
        """
        empty = [
            type(net).__name__ for net in self.nets if any(p.is_meta for p in net.parameters())
        ]
        if empty:
            raise ValueError(
                f"the teacher {', '.join(empty)} is on device meta, which holds no weights: load "
                "a trained network first."
            )
        for net in self.nets:
            net.to(*args, **kwargs)
        if self._cache is not None:
            self._cache.to(self._device())
        return self

    def _device(self) -> torch.device:
        """Where its networks lie; the CPU for those without parameters."""
        return next((p.device for net in self.nets for p in net.parameters()), torch.device("cpu"))

    def fingerprint(self) -> str:
        """Names the exact weights of all members and how they are combined: for caches and for a
        run's spec.

        Returns:
            Text that is equal for equal teachers.
        """
        eyes = [m.seeing() for net in self.nets for m in net.modules() if isinstance(m, Adapted)]
        values = [v for net in self.nets for v in net.state_dict().values()]
        # A quantised network's state holds types as well.
        others = [v for v in values if not isinstance(v, Tensor)]
        return (
            digest([v for v in values if isinstance(v, Tensor)])
            + "".join(f"/{short_hash(describe(v))}" for v in (eyes, others) if v)
            + (f"/{self.mean}" if len(self.nets) > 1 else "")
        )

    def cached(self, data: Data, max_bytes: int = 2 * GIB, fill: bool = False) -> "Teacher":
        """Keeps every answer for data's training images, so that each image and view is computed
        once.

        Exact: losses equal those without the cache.

        Args:
            data: what the students will train on.
            max_bytes: the most memory that it may take: images x views x teachers x classes, 4
                bytes each (8 for teachers in float64).
            fill: compute all answers now (with a progress bar) instead of when they are first asked
                for.

        Returns:
            The teacher itself.

        Raises:
            ValueError: if the augmentation's views have no id, and if the cache would not fit (with
                the size it needs).
        """
        if data.views is None and data.augment is None:
            raise ValueError(
                f"the batches of {data.name} are read or made anew in every epoch, so an answer "
                "cannot be told from another's: use data in memory (datasets.Data), or no cache."
            )
        if data.views is None:
            raise ValueError(
                f"the views of augment={data.augment!r} have no id, so an answer cannot be told "
                "from another view's: "
                "use an augmentation of kdtutor.datasets (CropFlip, Jitter, Flip), or no cache."
            )
        first = next(
            iter(
                data.batches(
                    data.train,
                    2,
                    augment=True,
                    shuffle=torch.Generator().manual_seed(0),
                    device=self._device(),
                )
            )
        )
        self._cache = None
        members = self._members(first)
        rows = len(data.train)
        each = members.shape[2:]  # (C,), or (C, H, W) of a segmentation
        size = members.element_size()
        need = rows * data.views * len(self.nets) * each.numel() * size
        if need > max_bytes:
            raise ValueError(
                f"the cache needs {need / GIB:.2f} GiB ({rows} images x {data.views} views x "
                f"{len(self.nets)} teachers x "
                f"{each.numel()} logits x {size} bytes) but max_bytes allows "
                f"{max_bytes / GIB:.2f} GiB: raise "
                "max_bytes, use an augmentation with fewer views, or a subset of the data."
            )
        logits = torch.empty(
            rows * data.views, len(self.nets), *each, dtype=members.dtype, device=members.device
        )
        assert data.train.index is not None and first.source is not None  # data's own batches
        self._cache = LogitCache(data.train.index, data.views, logits, first.source)
        if fill:
            self._fill(data, data.views)
        return self

    def save_cache(self, path: str | Path) -> None:
        """Writes a filled cache to a file, for other processes.

        Args:
            path: the file.

        Raises:
            ValueError: without a cache, or while answers are missing.
        """
        if self._cache is None:
            raise ValueError("there are no answers to save: teacher.cached(data, fill=True) first.")
        self._cache.save(path, self.fingerprint())

    def load_cache(self, path: str | Path) -> "Teacher":
        """Answers from a file that ``save_cache`` wrote, instead of computing them.

        Args:
            path: the file.

        Returns:
            The teacher itself.

        Raises:
            ValueError: where another teacher gave these answers, or the file is damaged.
        """
        cache = LogitCache.load(path, self.fingerprint())
        cache.to(self._device())
        self._cache = cache
        return self

    def _fill(self, data: Data, views: int) -> None:
        from ..display.progress import bar

        device = self._device()
        with bar(total=len(data.train) * views, desc="teacher cache", unit="view") as progress:
            for view in range(views):
                for batch in data.batches(data.train, 512, augment=True, view=view, device=device):
                    self._members(batch)
                    progress.update(len(leaves(batch.x)[0]))

    def _compute(self, x) -> Tensor:
        with torch.inference_mode():
            logits = [_precise(logits_of(self._answer(net, x))) for net in self.nets]
        if len({z.shape[1:] for z in logits}) > 1:
            raise ValueError(
                "the teachers have different numbers of classes: logits "
                f"{[tuple(z.shape) for z in logits]}. "
                "An ensemble needs the same classes in the same order."
            )
        # Outside of inference mode, so that it is an ordinary tensor, which any loss may use.
        return torch.stack(logits)

    def _answer(self, net: nn.Module, x):
        # eval() only where it is needed: it walks through every module.
        net = to_eval(net) if net.training else net
        try:
            return call(net, for_network(net, x))
        except AssertionError:  # a guard of an exported program
            check_any_batch(net)
            raise

    def _members(self, batch) -> Tensor:
        """(M, B, C) logits of all members."""
        if self._cache is None or not isinstance(batch, Batch):
            return self._compute(_inputs(batch))
        return self._cache(batch, self._compute)


def _listed(nets) -> list:
    return list(nets) if isinstance(nets, (list, tuple)) else [nets]


def _precise(logits: Tensor) -> Tensor:
    """float32 at least, also where the network answers in half precision; float64 stays."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def _in_half(net: nn.Module) -> bool:
    return any(p.is_floating_point() and p.dtype.itemsize < 4 for p in net.parameters())


def _inputs(batch):
    return batch.x if isinstance(batch, Batch) else batch


def _unwrapped(output):
    """The logits where the network has any, else what it returned: a network without a head may
    still be read inside.
    """
    try:
        return logits_of(output)
    except ValueError:
        return output
