"""What is the input and what the label in somebody else's batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..tasks import NoLabels, Task
from ..tasks.task import is_integer
from .batch import leaves, tree_map
from .convert import as_tensor
from .split import _tensor

LABELS = ("labels", "label", "y")
Keys = str | Sequence[str] | None


@dataclass(frozen=True)
class Fields:
    """How (x, y) is read out of a batch.

    Args:
        inputs: Of a mapping, the key of x, or several for an x that is a mapping. None: all that
            are not labels; one alone is x itself.
        labels: The key of y, or several. None: the one of "labels", "label" and "y" that is there.
        task: What a label is; without labels nothing is looked for.

    Raises:
        ValueError: For batches of another form, with the keys that are there.

    Example:
        >>> from kdtutor.tasks import Classification
        >>> fields = Fields(None, None, Classification())
        >>> x, y = fields.read({"pixels": torch.zeros(2, 3), "label": [1, 0]}, "mine")
        >>> x.shape, y
        (torch.Size([2, 3]), tensor([1, 0]))
    """

    inputs: Keys
    labels: Keys
    task: Task

    def __post_init__(self):
        for name in ("inputs", "labels"):
            keys = getattr(self, name)
            several = isinstance(keys, (list, tuple)) and len(keys) > 0
            if keys is not None and not isinstance(keys, str) and not several:
                raise ValueError(
                    f"{name}={keys!r}: expected the name of an entry of a batch, or several."
                )
            if several:
                object.__setattr__(self, name, tuple(keys))

    def read(self, made, where: str) -> tuple[Any, Any]:
        """(x, y) of a batch, tensors or mappings of tensors with one row per example.

        Args:
            made: (x, y) or longer, a mapping, or x alone where there are no labels.
            where: Whose batch it is, for messages.

        Returns:
            The two; y is None for the task ``NoLabels``.
        """
        x, y = self._pair(made, where)
        if isinstance(made, Mapping) and isinstance(x, Mapping) and self.inputs is None:
            _check_arrays(x, where)
        x = tree_map(lambda t: _tensor(f"{where} x", t), x)
        y = tree_map(lambda t: as_tensor(f"{where} y", t), y)
        if isinstance(y, Tensor):
            y = self.task.as_labels(y)
            y = y.long() if is_integer(y) else y
        rows = {t.shape[0] if t.ndim else 0 for t in leaves(x)}
        size = next(iter(rows), 0)
        if isinstance(y, Tensor) and not y.ndim and size == 1:
            y = y[None]
        if len(rows) != 1 or any(not t.ndim or len(t) != size for t in leaves(y)):
            shown = [tuple(t.shape) for t in leaves(x)], [tuple(t.shape) for t in leaves(y)]
            raise ValueError(
                f"{where} batch has x of shape {shown[0]} and y of shape {shown[1]}: expected as "
                "many rows in each. Single examples become batches with torch.utils.data."
                "DataLoader(dataset, batch_size=64)."
            )
        return x, y

    def _pair(self, made, where: str) -> tuple[Any, Any]:
        if isinstance(made, Mapping):
            return self._of_mapping(made, where)
        unlabelled = isinstance(self.task, NoLabels)
        if isinstance(made, (tuple, list)) and made:
            if unlabelled or len(made) > 1:
                return made[0], None if unlabelled else made[1]
        elif unlabelled:
            return made, None
        many = f" of {len(made)}" if isinstance(made, (tuple, list)) else ""
        what = f"{type(made).__name__}{many}"
        raise ValueError(
            f"{where} batch is a {what}; expected (x, y), (x, y, ...) or a mapping. Batches "
            "without labels need task=NoLabels()."
        )

    def _of_mapping(self, made: Mapping, where: str) -> tuple[Any, Any]:
        there = ", ".join(map(repr, made))
        if not all(isinstance(key, str) for key in made):
            raise ValueError(f"{where} batch has the keys {there}: expected names.")
        y_keys = self.labels
        if y_keys is None and not isinstance(self.task, NoLabels):
            found = [k for k in LABELS if k in made]
            if len(found) != 1:
                raise ValueError(
                    f"{where} batch has the keys {there}, of which "
                    f"{'none' if not found else ' and '.join(map(repr, found))} may be the label: "
                    "say which, from_loaders(..., labels='key')."
                )
            y_keys = found[0]
        named = [y_keys] if isinstance(y_keys, str) else list(y_keys or ())
        x_keys = self.inputs
        if x_keys is None:
            rest = [k for k in made if k not in named]
            x_keys = rest[0] if len(rest) == 1 else rest
        wanted = [*([x_keys] if isinstance(x_keys, str) else x_keys), *named]
        lacking = [k for k in wanted if k not in made]
        if lacking or not x_keys:
            raise ValueError(
                f"{where} batch has the keys {there}; "
                f"{', '.join(map(repr, lacking)) or 'an input'} is missing: say which they are, "
                "from_loaders(..., inputs='key' or ('key', 'key'), labels='key')."
            )
        take = lambda keys: made[keys] if isinstance(keys, str) else {k: made[k] for k in keys}
        return take(x_keys), take(y_keys) if named else None


def _check_arrays(x: Mapping, where: str) -> None:
    """Raises ``ValueError`` where what was left beside the labels is more than inputs."""
    odd = [k for k, v in x.items() if not isinstance(v, (Tensor, Mapping)) and not _is_array(v)]
    if odd:
        usual = [k for k in x if k not in odd]
        raise ValueError(
            f"{where} batch has {', '.join(map(repr, odd))} beside the labels, a "
            f"{type(x[odd[0]]).__name__} and no tensor: say what the network takes, "
            f"from_loaders(..., inputs={(usual[0] if len(usual) == 1 else tuple(usual))!r})."
        )


def _is_array(value) -> bool:
    return hasattr(value, "__array__")


def check_finite(x, where: str, look: bool) -> None:
    """Raises ``ValueError`` for NaN or Inf among the inputs of a batch.

    Args:
        x: A tensor, or a mapping of tensors.
        where: Whose batch it is, for the message.
        look: Look at tensors on a GPU, too, for which it must be waited.

    Example:
        >>> check_finite(torch.zeros(2), "mine", look=True)
    """
    for t in leaves(x):
        if not t.is_floating_point() or not (look or t.device.type == "cpu"):
            continue
        # A sum is twice as fast as a look at each number; it may overflow where all are finite.
        if not bool(torch.isfinite(t.sum())) and not bool(torch.isfinite(t).all()):
            rows = (~torch.isfinite(t.reshape(len(t), -1))).any(1).nonzero().flatten()
            raise ValueError(
                f"{where} batch holds NaN or Inf in {len(rows)} of {len(t)} inputs, the first at "
                f"position {int(rows[0])}. Clean or drop them before training."
            )
