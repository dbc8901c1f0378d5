"""A nested state in one safetensors file: tensors and JSON, never pickles, so that opening a
stranger's file runs no code.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..datasets.data import digest
from .files import replace_file


class ForeignFile(ValueError):
    """A whole file, but of something else."""


def _pack(value, tensors: dict[str, Tensor]):
    """A nested state as JSON that refers to named tensors: tensors move to the dictionary, the
    skeleton is returned.
    """
    if isinstance(value, Tensor):
        # A contiguous clone: safetensors refuses tensors that share memory (tied weights) or are
        # strided (channels_last).
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[k, _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(v, tensors) for v in value]}
    return {"value": value}


def _unpack(skeleton, tensors):
    kind, value = next(iter(skeleton.items()))
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {k: _unpack(v, tensors) for k, v in value}
    return [_unpack(v, tensors) for v in value] if kind == "list" else value


def save_state(path: str | Path, state: Any) -> None:
    """Saves a nested state to one safetensors file, which appears complete or not at all.

    Args:
        path: the file, replaced where there is one.
        state: dicts and lists of tensors, numbers, strings, None.

    Raises:
        CannotWrite: where the disk is full or the folder read-only.
        ValueError: for a state that is neither tensors nor plain data.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_state(f"{folder}/s.safetensors", {"epoch": 3, "seen": [1, 2]})
        ...     load_state(f"{folder}/s.safetensors")
        {'epoch': 3, 'seen': [1, 2]}
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _pack(state, tensors)
    try:
        text = json.dumps(skeleton)
    except TypeError as error:
        raise ValueError(
            f"what the run must keep to go on is neither tensors nor plain data ({error}): let "
            "state_dict() or get_extra_state() of the network, the optimiser or the scheduler give "
            "numbers, text, lists and dicts."
        ) from error
    meta = {"state": text, "digest": digest(list(tensors.values()))}
    replace_file(Path(path), lambda temporary: save_file(tensors, temporary, metadata=meta))


def load_state(path: str | Path) -> Any:
    """Reads what ``save_state`` wrote.

    Args:
        path: the file.

    Returns:
        The nested state, tensors on the CPU; tuples come back as lists. Of a file of
        ``save_weights``: {"weights", "about"}.

    Raises:
        ValueError: naming the file if it is truncated, corrupted or something else.
        FileNotFoundError: where there is none.
    """
    try:
        with safe_open(path, framework="pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - a file, no dict
        if "about" in meta:  # a file of ``save_weights``
            if digest([tensors[k] for k in sorted(tensors)]) != meta["digest"]:
                raise ValueError("its contents do not match its checksum")
            return {"weights": tensors, "about": json.loads(meta["about"])}
        if tensors and "state" not in meta:
            raise ForeignFile(
                f"{path} is a safetensors file with tensors under names of their own "
                f"({', '.join(list(tensors)[:3])}, ...), not the state of a run: load_weights(net, "
                "path) reads weights."
            )
        skeleton = json.loads(meta["state"])
        if digest([tensors[str(i)] for i in range(len(tensors))]) != meta["digest"]:
            raise ValueError("its contents do not match its checksum")
    except (FileNotFoundError, ForeignFile):
        raise
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} is truncated, corrupted or no kdtutor checkpoint ({error}). Delete it (or "
            "its run directory) to "
            "start over, or put back a good copy."
        ) from error
    return _unpack(skeleton, tensors)
