"""Networks inside others that only run them: compiled, on several devices, adapted."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..errors import explained


def inside(net: nn.Module) -> str:
    """The name under which a wrapper holds the network that it runs.

    Args:
        net: any torch module.

    Returns:
        "_orig_mod" of ``torch.compile``, "module" of ``nn.DataParallel`` and its kin, what a class
        of kdtutor's states as ``wraps``; "" for a network that is no wrapper.

    Example:
        >>> inside(nn.DataParallel(nn.Linear(2, 2))), inside(nn.Linear(2, 2))
        ('module', '')
    """
    if "_orig_mod" in net._modules:
        return "_orig_mod"
    kin = (
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
        torch.optim.swa_utils.AveragedModel,
    )
    return "module" if isinstance(net, kin) else getattr(type(net), "wraps", "")


@explained
def bare(net: nn.Module) -> nn.Module:
    """The network without what only runs it, with its own names in ``state_dict``. An adapter is a
    part of it and stays.

    Args:
        net: any torch module.

    Returns:
        The network itself where ``torch.compile`` or ``nn.DataParallel`` did not wrap it.

    Example:
        >>> list(bare(nn.DataParallel(nn.Linear(2, 2))).state_dict())
        ['weight', 'bias']
    """
    while (name := inside(net)) in ("_orig_mod", "module"):
        net = net.get_submodule(name)
    return net


@explained
def unwrapped(net: nn.Module) -> nn.Module:
    """The network inside all wrappers.

    Args:
        net: any torch module.

    Returns:
        The network itself where it is no wrapper.

    Example:
        >>> unwrapped(nn.DataParallel(nn.Linear(2, 2)))
        Linear(in_features=2, out_features=2, bias=True)
    """
    while name := inside(net):
        net = net._modules[name]  # type: ignore[assignment]
    return net


def modules_by_path(net: nn.Module) -> dict[str, nn.Module]:
    """All modules by the network's own paths: those that it has without its wrappers.

    Args:
        net: any torch module.

    Returns:
        {path: module}, in the order of definition; the network itself is "". The names that
        wrappers put before a path work as well: ``module_at``.

    Example:
        >>> list(modules_by_path(nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))))
        ['', '0']
    """
    modules = dict(net.named_modules())
    if not any(map(inside, modules.values())):
        return modules
    own: dict[str, str] = {"": ""}  # by the full path
    for path, _ in modules.items():
        around, _, name = path.rpartition(".")
        if path:
            within = own[around]
            passed = inside(modules[around]) == name
            own[path] = within if passed else f"{within}.{name}".lstrip(".")
    return {own[path]: module for path, module in modules.items()}


def module_at(net: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, with or without the names of wrappers.

    Args:
        net: any torch module.
        path: "layer1.0"; for a compiled network "_orig_mod.layer1.0" is the same.

    Returns:
        The module, None where there is none.

    Example:
        >>> net = nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))
        >>> module_at(net, "0") is module_at(net, "module.0")
        True
    """
    given = dict(net.named_modules())
    return given[path] if path in given else modules_by_path(net).get(path)


def is_compiled(modules: Iterable[nn.Module]) -> bool:
    """Is one of these modules compiled (``torch.compile(net)`` or ``net.compile()``)?

    Args:
        modules: those of a network.

    Returns:
        True where ``torch.compile`` runs one of them.

    Example:
        >>> is_compiled(nn.Linear(2, 2).modules())
        False
    """
    return any(m._compiled_call_impl is not None or "_orig_mod" in m._modules for m in modules)


def eagerly(compiled: bool) -> AbstractContextManager[Any]:
    """Inside, what ``torch.compile`` made runs as the Python that it was made from.

    Compiled code knows the hooks that were there when it was compiled, and no later ones.

    Args:
        compiled: is there any? Without, nothing happens, and torch's compiler is not loaded.

    Returns:
        A context.

    Example:
        >>> with eagerly(is_compiled(nn.Linear(2, 2).modules())):
        ...     pass
    """
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


__all__ = ["bare", "eagerly", "inside", "is_compiled", "module_at", "modules_by_path", "unwrapped"]
