"""Does a teacher see the pixels that it was trained on? Asked once, before training."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..models.adapt import Adapted
from ..models.eyes import Numbers
from ..taps.wrapped import inside
from ..teacher import Teacher

CLOSE = 1e-3  # tables print three or four digits


def warn_of_other_eyes(teachers: list[Teacher], data: Any) -> None:
    """Warns where a teacher states another normalisation than the data have.

    timm's networks state theirs in ``pretrained_cfg``, kdtutor's adapters what they were given;
    most networks state none, and nothing is said of them.

    Args:
        teachers: those of a method.
        data: with ``mean`` and ``std``; without them nothing is known.

    Example:
        >>> from types import SimpleNamespace
        >>> warn_of_other_eyes([Teacher(nn.Linear(2, 2))], SimpleNamespace(mean=(0.5,), std=(1.0,)))
    """
    mean, std = (_numbers(getattr(data, name, None)) for name in ("mean", "std"))
    if mean is None or std is None:
        return
    how = f"normalised with mean={mean} and std={std}" if mean else "not normalised"
    here = f"the batches of {getattr(data, 'name', 'the data')} are {how}"
    for net in (net for teacher in teachers for net in teacher.nets):
        said = _adapted(net, mean, std) or _pretrained(net, mean, std)
        if said:
            warnings.warn(f"{here}, but {said}", stacklevel=5)  # where fit was called


def _adapted(net: nn.Module, mean: Numbers, std: Numbers) -> str:
    """Of an adapter that was told of other batches than those that arrive."""
    for module in _around(net):
        if isinstance(module, Adapted) and module.numbers:
            *_, told_mean, told_std = module.numbers
            if not _same((told_mean, told_std), (mean or (0.0,), std or (1.0,))):
                return (
                    f"adapt(...) was told that they have mean={told_mean} and std={told_std}: pass "
                    "it data=data."
                )
    return ""


def _pretrained(net: nn.Module, mean: Numbers, std: Numbers) -> str:
    """Of a network that states with what it was trained, and that no adapter serves."""
    around = list(_around(net))
    if any(isinstance(module, Adapted) for module in around):
        return ""
    stated = getattr(around[-1], "pretrained_cfg", None) or getattr(around[-1], "default_cfg", None)
    ask = stated.get if isinstance(stated, Mapping) else lambda name: getattr(stated, name, None)
    own = _numbers(ask("mean")), _numbers(ask("std"))
    if not own[0] or not own[1] or _same((own[0], own[1]), (mean or (0.0,), std or (1.0,))):
        return ""
    size = ask("input_size")
    sized = f"size={tuple(size)[1:]}, " if size is not None and len(size) == 3 else ""
    return (
        f"the teacher ({type(around[-1]).__name__}) states mean={own[0]} and std={own[1]}. If its "
        f"weights were trained with these, let it see so: Teacher(kdtutor.models.adapt(net, {sized}"
        f"mean={own[0]}, std={own[1]}, data=data)). If it was trained on these data, set "
        "net.pretrained_cfg = {} and this is not said again."
    )


def _around(net: nn.Module) -> Iterator[nn.Module]:
    """A network's wrappers, from outside, and itself."""
    yield net
    while name := inside(net):
        net = net.get_submodule(name)
        yield net


def _numbers(values: Any) -> Numbers | None:
    try:
        return None if values is None else tuple(round(float(v), 4) for v in values)
    except (TypeError, ValueError):
        return None


def _same(one: tuple[Numbers, Numbers], other: tuple[Numbers, Numbers]) -> bool:
    """Per channel, where a single number stands for all."""
    for a, b in zip(one, other):
        wide = max(len(a), len(b))
        a, b = (v * wide if len(v) == 1 else v for v in (a, b))
        if len(a) != len(b) or any(abs(p - q) > CLOSE for p, q in zip(a, b)):
            return False
    return True
