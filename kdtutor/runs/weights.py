"""A network's weights as a plain safetensors file, under the network's own parameter names: any
program that reads safetensors reads them, ``net.load_state_dict(load_file(path))``.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..datasets.data import digest
from ..errors import explained
from ..taps.wrapped import bare
from .files import replace_file
from .state import load_state

COMPILED = re.compile(r"(^|(?<=\.))_orig_mod\.")  # what torch.compile puts before names


@explained
def save_weights(net: nn.Module, path: str | Path, **about) -> None:
    """Saves a network's weights to a safetensors file, which appears complete or not at all.

    Args:
        net: the network; compiled ones and those inside DataParallel are saved under the names
            that they have without it.
        path: the file.
        about: a few words about them (plain data), kept in the file's header.

    Raises:
        CannotWrite: where the disk is full or the folder read-only.
        ValueError: for a state that is neither tensors nor plain data.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import load_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(nn.Linear(2, 1), f"{folder}/line.safetensors", epoch=3)
        ...     sorted(load_file(f"{folder}/line.safetensors"))
        ['bias', 'weight']
    """
    _check_built(net)
    whole = bare(net).state_dict()
    state = {COMPILED.sub("", k): v for k, v in whole.items()}
    # Contiguous clones: safetensors refuses tensors that share memory (tied weights) or are strided
    # (channels_last).
    tensors = {
        k: v.detach().cpu().contiguous().clone() for k, v in state.items() if isinstance(v, Tensor)
    }
    others = {k: v for k, v in state.items() if k not in tensors}
    try:
        extra = json.dumps(others)
    except TypeError as error:
        raise ValueError(
            f"{type(net).__name__} keeps {', '.join(others)} in its state, which is no tensor and "
            f"no plain data ({error}): give it a get_extra_state() of numbers, text, lists and "
            "dicts."
        ) from error
    meta = {"format": "pt", "about": json.dumps(about), "digest": _checksum(tensors)}
    meta |= {"extra": extra} if others else {}
    replace_file(Path(path), lambda temporary: save_file(tensors, temporary, metadata=meta))


@explained
def load_weights(net: nn.Module, path: str | Path) -> nn.Module:
    """Loads a safetensors file of weights into a network of the same architecture.

    Args:
        net: the network, changed in place, or not at all.
        path: the file: of ``save_weights``, or of any other program that wrote the network's own
            parameter names.

    Returns:
        The network.

    Raises:
        ValueError: for a damaged file, for something else than safetensors, and for weights of
            another architecture, with what differs.
        FileNotFoundError: where there is none.

    Example:
        >>> import tempfile
        >>> net = nn.Linear(2, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(net, f"{folder}/w.safetensors", epoch=1)
        ...     load_weights(nn.Linear(2, 2), f"{folder}/w.safetensors")
        Linear(in_features=2, out_features=2, bias=True)
    """
    _check_built(net)
    given = _read(Path(path))
    whole = bare(net).state_dict()
    own = {COMPILED.sub("", k): k for k in whole}
    if not given.keys() & own.keys():  # of a network inside DataParallel, or compiled
        given = {COMPILED.sub("", k).removeprefix("module."): v for k, v in given.items()}
    if problem := _problem({k: whole[v] for k, v in own.items()}, given):
        raise ValueError(
            f"the weights in {path} belong to another architecture than {type(net).__name__}: "
            f"{problem}."
        )
    separate(net)
    bare(net).load_state_dict({own[k]: v for k, v in given.items()})
    return net


def _check_built(net: nn.Module) -> None:
    """Raises ``ValueError`` for networks whose weights have no values yet."""
    for tensor in [*net.parameters(), *net.buffers()]:
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            way = "run a batch through it" if nn.parameter.is_lazy(tensor) else "net.to_empty()"
            raise ValueError(
                f"weights of {type(net).__name__} have no memory yet: {way} first, then save or "
                "load them."
            )


def separate(net: nn.Module) -> None:
    """Gives tensors whose elements share memory (``expand``) memory of their own, for nothing can
    be loaded into them; values do not change.
    """
    for tensor in [*net.parameters(), *net.buffers()]:
        if tensor.layout != torch.strided or nn.parameter.is_lazy(tensor):
            continue
        if any(n > 1 and not step for n, step in zip(tensor.shape, tensor.stride())):
            tensor.data = tensor.data.contiguous()


def _read(path: Path) -> dict[str, Any]:
    """The state in a file, by name."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}.")
    if path.is_dir():
        found = ", ".join(sorted(p.name for p in path.glob("*.safetensors"))[:3])
        raise ValueError(f"{path} is a folder: say which file of it{found and f', as {found}'}.")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - a file, no dict
    except (SafetensorError, OSError) as error:
        raise ValueError(_what_it_is(path, error)) from error
    if "state" in about:  # before weights stood under their own names
        return load_state(path)["weights"]
    if "digest" in about and _checksum(tensors) != about["digest"]:
        raise ValueError(
            f"{path} is damaged: its {len(tensors)} tensors do not match its checksum. Put back a "
            "good copy."
        )
    return tensors | json.loads(about.get("extra", "{}"))


def _checksum(tensors: dict[str, Tensor]) -> str:
    return digest([tensors[k] for k in sorted(tensors)])


def _what_it_is(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    if start in (b"PK", b"\x80\x02"):
        return (
            f"{path} was written by torch.save and is no safetensors file. Read it with "
            "torch.load(path, weights_only=True) and pass that to net.load_state_dict()."
        )
    return (
        f"{path} cannot be read as safetensors ({error}): it is cut off, damaged, or something "
        "else. Put back a good copy."
    )


def _problem(own: dict[str, Any], given: dict[str, Any]) -> str:
    """What keeps one state from being loaded as another; "" for nothing."""
    shape = lambda v: tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__
    absent, foreign = (sorted(a.keys() - b.keys()) for a, b in ((own, given), (given, own)))
    other = [
        f"{k} is {shape(given[k])} there and {shape(own[k])} in the network"
        for k in own
        if k in given and shape(own[k]) != shape(given[k])
    ]
    few = lambda names: ", ".join(names[:3]) + (f" and {len(names) - 3} more" * (len(names) > 3))
    said = [f"it lacks {few(absent)}"] if absent else []
    said += [f"it holds {few(foreign)}, which the network has not"] if foreign else []
    said += [few(other)] if other else []
    prefix = foreign[0].split(".")[0] + "." if foreign else ""
    if prefix and given.keys() == {prefix + k for k in own}:
        said.append(f"without the {prefix!r} before its names it would fit")
    return "; ".join(said)
