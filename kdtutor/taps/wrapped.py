"""Networks inside others that only run them (compiled, on several devices, adapted), and what was
written down so that its layers no longer run as modules (TorchScript, exported programs)."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn


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


def is_exported(net: nn.Module) -> bool:
    """Is it a program that ``torch.export`` made, or does it hold one?

    Args:
        net: any torch module.

    Returns:
        True for what has no modes and runs no modules.

    Example:
        >>> is_exported(nn.Linear(2, 2))
        False
    """
    return any(map(_exported, net.modules()))


def written_down(module: nn.Module) -> str:
    """What a module was turned into that runs none of its own modules, in words.

    Args:
        module: any torch module.

    Returns:
        "" for an ordinary one.

    Example:
        >>> written_down(nn.Linear(2, 2))
        ''
    """
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module"
    return "an exported program" if _exported(module) else ""


def _exported(module: nn.Module) -> bool:
    # torch.export puts methods of its own in place of train() and eval(), which refuse.
    return isinstance(module, torch.fx.GraphModule) and "train" in vars(module)


def check_layers(net: nn.Module) -> None:
    """Checks that a network's layers can be read.

    Args:
        net: any torch module.

    Raises:
        ValueError: for TorchScript and exported programs, with what to do.

    Example:
        >>> check_layers(nn.Linear(2, 2))
    """
    if kind := written_down(unwrapped(net)):
        raise ValueError(
            f"{type(net).__name__} is {kind}, whose layers do not run as modules and cannot be "
            "read: pass the network that it was made from, or use a method of answers alone "
            "(Hinton, BornAgain, ...)."
        )


def to_eval(net: nn.Module) -> nn.Module:
    """The network in eval mode; an exported program, which refuses ``eval()``, as it was exported.

    Args:
        net: any torch module.

    Returns:
        The network itself.

    Raises:
        ValueError: for a program that was exported in training mode.

    Example:
        >>> to_eval(nn.Dropout()).training
        False
    """
    if not is_exported(net):
        return net.eval()
    for module in net.modules():
        if isinstance(module, torch.fx.GraphModule) and any(map(_trains, module.graph.nodes)):
            raise ValueError(
                f"{type(net).__name__} was exported in training mode (its dropout and batch "
                "normalisation would go on), and an exported program has no eval mode: export "
                "net.eval()."
            )
        module.training = False
    return net


# Where torch's functions say that they train: the place of that argument.
_MODES = {"dropout": 2, "batch_norm": 5, "_native_batch_norm_legit": 5, "feature_dropout": 2}


def _trains(node: torch.fx.Node) -> bool:
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    at = _MODES.get(name.rstrip("_"), 99)
    return node.op == "call_function" and len(node.args) > at and node.args[at] is True


__all__ = [
    "check_layers",
    "eagerly",
    "inside",
    "is_compiled",
    "is_exported",
    "module_at",
    "modules_by_path",
    "to_eval",
    "unwrapped",
    "written_down",
]
