"""The answers of a frozen teacher, kept by image and view: in memory, or in a file that every run
of a grid reads.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..datasets import Batch
from ..datasets.batch import digest, sent
from ..runs import replace_file


class LogitCache:
    """Logits by (image, view), computed when they are first asked for.

    Which are there is kept on the CPU: a look-up never waits for the device.

    Args:
        index: (N,) positions in the training set of the images that it serves.
        views: how many an image has.
        logits: (N * views, members, classes), the room for the answers: float32, or float64 for
            teachers in float64. Answers of any other shape (..., of a segmentation) fit as well.
        source: the images, augmentation and normalisation (``Batch.source``).
        filled: are the answers there already?
    """

    def __init__(
        self, index: Tensor, views: int, logits: Tensor, source: str, filled: bool = False
    ):
        self.index, self.views, self.logits, self.source = index, views, logits, source
        self.filled = torch.full((len(logits),), filled, dtype=torch.bool)
        # The last entry stands for all positions beyond.
        self.row = torch.full((int(index.max()) + 2,), -1)
        self.row[index] = torch.arange(len(index))

    def to(self, device) -> None:
        self.logits = self.logits.to(device)

    def __call__(self, batch: Batch, compute: Callable[[Tensor | Mapping], Tensor]) -> Tensor:
        """The logits of a batch's images and views.

        Args:
            batch: with ``index``, ``view`` and ``source``.
            compute: inputs -> (members, b, C), for those that are missing.

        Returns:
            (members, B, C).

        Raises:
            ValueError: for batches of other images, augmentation or normalisation.
        """
        if batch.view is None or batch.index is None:
            raise ValueError(
                "the teacher's cache needs batches with index and view, and this batch's views "
                "have no id. Use an "
                "augmentation of kdtutor.datasets, or a Teacher without cache."
            )
        rows = self.row[batch.index.clamp(max=len(self.row) - 1)]
        if batch.source != self.source or (rows < 0).any():
            theirs = (
                f"{batch.source}"
                if batch.source != self.source
                else "more images of the same source"
            )
            raise ValueError(
                f"the teacher's cache holds answers for {len(self.index)} images of {self.source} "
                "but this batch comes from "
                f"{theirs}: other images, augmentation or normalisation. Call "
                "teacher.cached(data) with the data you train on."
            )
        slots = rows * self.views + batch.view
        absent = ~self.filled[slots]
        there = sent(slots, self.logits.device)
        if absent.any():
            part = sent(absent.nonzero().flatten(), self.logits.device)
            x = (
                {k: v[part] for k, v in batch.x.items()}
                if isinstance(batch.x, Mapping)
                else batch.x[part]
            )
            self.logits[there[part]] = compute(x).transpose(0, 1)
            self.filled[slots] = True
        return self.logits[there].transpose(0, 1)

    def save(self, path: str | Path, weights: str) -> None:
        """Writes all answers, in one step.

        Args:
            path: the file.
            weights: the teacher's fingerprint.

        Raises:
            ValueError: while some are missing.
        """
        if not self.filled.all():
            raise ValueError(
                f"{int((~self.filled).sum())} of {len(self.filled)} answers are missing: "
                "teacher.cached(data, fill=True) first."
            )
        logits = self.logits.cpu().view(len(self.index), self.views, *self.logits.shape[1:])
        tensors = {"logits": logits, "index": self.index}
        whole = digest([logits, self.index])
        about = {"source": self.source, "weights": weights, "digest": whole}
        replace_file(Path(path), lambda temporary: save_file(tensors, temporary, metadata=about))

    @classmethod
    def load(cls, path: str | Path, weights: str) -> "LogitCache":
        """Reads what ``save`` wrote.

        Args:
            path: the file.
            weights: the fingerprint of the teacher that asks.

        Returns:
            The cache, filled, on the CPU.

        Raises:
            ValueError: where another teacher gave these answers, or the file is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about, index, logits = (
                    file.metadata(),
                    file.get_tensor("index"),
                    file.get_tensor("logits"),
                )
        except SafetensorError as error:
            raise ValueError(
                f"{path} is damaged ({error}). Delete it: the answers will be computed again."
            ) from error
        if about.get("digest") != digest([logits, index]):
            raise ValueError(
                f"{path} is damaged: its answers do not match their checksum. Delete it: they will "
                "be computed again."
            )
        if about["weights"] != weights:
            raise ValueError(
                f"{path} holds the answers of another teacher: delete it, or load the teacher "
                "that gave them."
            )
        return cls(index, logits.shape[1], logits.flatten(0, 1), about["source"], filled=True)
