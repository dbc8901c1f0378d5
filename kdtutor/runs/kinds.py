"""What each kind of thing is, in simpler values: one registration for each type."""

import functools
import hashlib
import random
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets import Data, Split
from ..datasets.data import digest
from .architecture import network_parts
from .code import class_parts, code_parts, function_parts
from .dataset import data_parts, split_parts


@functools.singledispatch
def parts(value) -> tuple[str, Any]:
    """What a value is: a kind and simpler values that ``describe`` follows. Register a type's own.

    Args:
        value: an object. Without a registration it is its class and the state that pickle would
            keep.

    Returns:
        (kind, parts).

    Raises:
        TypeError: for what has no such state.

    Example:
        >>> parts(PurePath("runs/first"))
        ('path', 'runs/first')
    """
    state = value.__reduce_ex__(4)
    if isinstance(state, str):
        return "name", [type(value), state]
    make, given, own, *more = [*state, None, None, None][:5]
    items, pairs = (list(m) if m is not None else [] for m in more)
    return "object", [type(value), make, given, own, items, dict(pairs)]


def _by_name(value) -> tuple[str, Any]:
    return "name", [value.__objclass__.__name__, value.__name__]


parts.register(FunctionType)(function_parts)
parts.register(type)(class_parts)
parts.register(nn.Module)(network_parts)
parts.register(Data)(data_parts)
parts.register(Split)(split_parts)
DESCRIPTORS: tuple[type, ...] = (
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
for _kind in DESCRIPTORS:
    parts.register(_kind)(_by_name)
parts.register(CodeType)(lambda v: ("code", code_parts(v)))
parts.register(MethodType)(lambda v: ("method", [v.__func__, v.__self__]))
parts.register(MethodWrapperType)(lambda v: ("method", [v.__name__, v.__self__]))
parts.register(functools.partial)(lambda v: ("partial", [v.func, v.args, v.keywords]))
parts.register(property)(lambda v: ("property", [v.fget, v.fset, v.fdel]))
parts.register(staticmethod)(lambda v: ("static", [v.__func__]))
parts.register(classmethod)(lambda v: ("class method", [v.__func__]))
parts.register(functools.cached_property)(lambda v: ("property", [v.func]))
parts.register(type(functools.lru_cache(len)))(lambda v: ("cached", [v.__wrapped__]))
parts.register(ModuleType)(lambda v: ("module", v.__name__))
parts.register(PurePath)(lambda v: ("path", str(v)))
parts.register(bytes)(lambda v: ("bytes", v.hex()))
parts.register(torch.device)(lambda v: ("device", str(v)))
for _word in (torch.dtype, torch.layout, torch.memory_format):
    parts.register(_word)(lambda v: ("torch", str(v)))
parts.register(Tensor)(lambda v: ("tensor", tensor_content(v)))
parts.register(torch.Generator)(lambda v: ("generator", [v.get_state()]))
parts.register(random.Random)(lambda v: ("generator", [v.getstate()]))


@parts.register
def _(value: BuiltinFunctionType) -> tuple[str, Any]:
    home = value.__self__
    bound = [] if home is None or isinstance(home, (ModuleType, type)) else [home]
    return "name", [value.__module__ or getattr(home, "__name__", ""), value.__qualname__, *bound]


@parts.register
def _(value: np.ndarray) -> tuple[str, Any]:
    if value.dtype.hasobject:
        return "array", [value.shape, value.tolist()]
    content = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
    return "array", [str(value.dtype), value.shape, content]


def tensor_content(tensor: Tensor) -> list:
    """A tensor's type, shape and a digest of its values, wherever and however they lie in memory.

    Args:
        tensor: any shape, type and device; one on the device meta has no values.

    Returns:
        [type, shape, digest].

    Example:
        >>> image = torch.rand(2, 3, 4, 4)
        >>> lying = image.contiguous(memory_format=torch.channels_last)
        >>> tensor_content(image) == tensor_content(lying)
        True
    """
    about = [str(tensor.dtype), list(tensor.shape)]
    if tensor.is_meta:
        return [*about, "meta"]
    whole = tensor.detach()
    whole = whole.to_dense() if whole.layout != torch.strided else whole
    return [*about, digest([whole.resolve_conj().resolve_neg()])]
