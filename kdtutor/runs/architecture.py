"""What a network is: its modules, their classes and own attributes; its weights; what is frozen."""

import re
from typing import Any

import torch
from torch import nn

BASE = set(vars(nn.Module()))


def network_parts(net: nn.Module) -> tuple[str, Any]:
    """A network as a kind and parts: architecture and weights."""
    return "network", [architecture(net), weights(net)]


def architecture(net: nn.Module, root: bool = True) -> dict[str, Any]:
    """All of a network but the values of its weights, as parts for ``describe``.

    Args:
        net: the network.
        root: whether the outermost module's own class and attributes are part of it.

    Returns:
        {"modules": {path: [class, attributes, hooks]}, "shapes": ..., "frozen": names of the
        parameters without gradients, "eval": names of the modules in eval mode though others train,
        "tied": {a name: the first name of the same tensor}}.

    Example:
        >>> architecture(nn.Dropout(0.5))["modules"][""][1]
        {'p': 0.5, 'inplace': False}
    """
    modules = dict(net.named_modules())
    resting = sorted(name for name, m in modules.items() if not m.training)
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in tensors(net).items():
        if first.setdefault(id(tensor), name) != name:
            tied[name] = first[id(tensor)]
    return {
        "modules": {
            name: [type(m), *_attributes(m)] for name, m in modules.items() if name or root
        },
        "shapes": {name: [t.dtype, list(t.shape)] for name, t in tensors(net).items()},
        "frozen": sorted(n for n, p in net.named_parameters() if not p.requires_grad),
        # A network that is in eval as a whole is only waiting for its training.
        "eval": resting if len(resting) < len(modules) else [],
        "tied": tied,
    }


def _attributes(module: nn.Module) -> tuple[dict, list]:
    """What was set on a module beyond torch's own bookkeeping, and the hooks on it."""
    if isinstance(module, torch.jit.ScriptModule):
        return {"program": _program(module)}, []
    if isinstance(module, torch.fx.GraphModule):
        return {"program": module.code}, []
    if type(module).__name__ == "GuardsFn":  # an exported program's checks of its inputs
        return {}, []
    own = {k: v for k, v in vars(module).items() if k not in BASE}
    hooks = [
        [k, list(v.values())]  # their keys are numbers that count all hooks of the process
        for k, v in sorted(vars(module).items())
        if k in BASE and k.endswith("hooks") and v
    ]
    return own, hooks


def _program(module) -> str:
    """What a TorchScript module does, without the numbers that count such classes in a process."""
    try:
        graph = module.inlined_graph
        return re.sub(r"___torch_mangle_\d+\.?", "", graph.str(False))
    except RuntimeError:  # a part without a forward method
        return ""


def tensors(net: nn.Module) -> dict[str, Any]:
    """All parameters and buffers by name, those without a place in the state dict included.

    Args:
        net: the network.

    Returns:
        {name: tensor}; tied tensors occur under each of their names.

    Example:
        >>> sorted(tensors(nn.Linear(2, 3)))
        ['bias', 'weight']
    """
    return dict(net.named_parameters(remove_duplicate=False)) | dict(
        net.named_buffers(remove_duplicate=False)
    )


def weights(net: nn.Module) -> dict[str, Any]:
    """The values of a network's parameters and buffers, as parts for ``describe``.

    Args:
        net: the network.

    Returns:
        {name: tensor}, detached.

    Example:
        >>> list(weights(nn.Linear(2, 3)))
        ['weight', 'bias']
    """
    return {name: t.detach() for name, t in tensors(net).items()}
