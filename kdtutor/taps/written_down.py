"""Networks that were written down as programs, TorchScript or ``torch.export``: they answer, but
their layers do not run as modules, and some know one mode only."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from ..errors import explained
from .wrapped import unwrapped

# torch's functions that do something else in training, and the place of the argument that says so.
_MODES = {
    "dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
    "batch_norm": 5,
    "_native_batch_norm_legit": 5,
    "native_batch_norm": 5,
}


def written_down(module: nn.Module) -> str:
    """What a module was turned into that runs none of its own modules, in words.

    Args:
        module: any torch module.

    Returns:
        "a TorchScript module", "an exported program", or "" for an ordinary one.

    Example:
        >>> written_down(nn.Linear(2, 2))
        ''
    """
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module"
    # torch.export puts methods of its own in place of train() and eval(), which refuse.
    exported = isinstance(module, fx.GraphModule) and "train" in vars(module)
    return "an exported program" if exported else ""


def programs(net: nn.Module) -> Iterator[nn.Module]:
    """The outermost written-down modules of a network.

    Args:
        net: any torch module.

    Yields:
        Each of them, perhaps the network itself.

    Example:
        >>> list(programs(nn.Sequential(nn.Linear(2, 2))))
        []
    """
    if written_down(net):
        yield net
        return
    for child in net.children():
        yield from programs(child)


def fixed_modes(program: nn.Module) -> set[bool]:
    """The modes, training or not, in which a program was written down for good.

    Args:
        program: a written-down module.

    Returns:
        True among them: its dropout or batch normalisation always trains; False: it never does.
        Empty where nothing depends on the mode, or the mode may still be switched.

    Example:
        >>> fixed_modes(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)).module())
        set()
    """
    return {mode for mode in _said(program) if isinstance(mode, bool)}


def _said(program: nn.Module) -> Iterator[object]:
    if isinstance(program, fx.GraphModule):
        for node in program.graph.nodes:
            name = str(node.target).removeprefix("aten.").partition(".")[0].rstrip("_")
            at = _MODES.get(name)
            if node.op == "call_function" and at is not None and len(node.args) > at:
                yield node.args[at]
        return
    graph: Any = program.inlined_graph  # its nodes live as long as it does
    for name, at in _MODES.items():
        for node in graph.findAllNodes(f"aten::{name}"):
            yield list(node.inputs())[at].toIValue()


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


def check_teaches(net: nn.Module) -> None:
    """Checks that a network can answer in eval mode.

    Args:
        net: any torch module.

    Raises:
        ValueError: for a program that was traced or exported in training mode.

    Example:
        >>> check_teaches(nn.Linear(2, 2))
    """
    for program in programs(net):
        if True in fixed_modes(program):
            raise ValueError(
                f"{type(net).__name__} is {written_down(program)} made in training mode: its "
                "dropout and batch normalisation would go on, and it has no eval mode. Make it of "
                "net.eval()."
            )


def check_any_batch(net: nn.Module, who: str = "teacher") -> None:
    """Checks that a network takes batches of every size.

    Args:
        net: any torch module.
        who: what it is called in the message.

    Raises:
        ValueError: for a program that was exported for one number of examples, which is torch's
            default, with what to do.

    Example:
        >>> check_any_batch(nn.Linear(2, 2))
    """
    for program in programs(net):
        if not isinstance(program, fx.GraphModule):
            continue
        inputs = (n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder")
        sizes = [t.shape[0] for t in inputs if isinstance(t, torch.Tensor) and t.ndim]
        fixed = [size for size in sizes if isinstance(size, int)]
        if fixed:
            raise ValueError(
                f"the {who} ({type(net).__name__}) is {written_down(program)} for batches of "
                f"exactly {fixed[0]}: export it for any number of examples, "
                "torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim('batch')},))."
            )


def check_learns(net: nn.Module, who: str = "student") -> None:
    """Checks that a network can be trained: that it has both modes.

    Args:
        net: any torch module.
        who: what it is called in the message.

    Raises:
        ValueError: for an exported program, and for one that was traced with layers that do
            something else in training.

    Example:
        >>> check_learns(nn.Linear(2, 2))
    """
    for program in programs(net):
        if isinstance(program, fx.GraphModule) or fixed_modes(program):
            raise ValueError(
                f"the {who} is {written_down(program)}, which keeps the one mode in which it was "
                "made (training or eval) and cannot be trained as a network is: train the network "
                "itself, and export what deploy() gives."
            )


@explained
def to_eval(net: nn.Module) -> nn.Module:
    """The network in eval mode; an exported program, which refuses ``eval()``, is left as it is.

    Args:
        net: any torch module.

    Returns:
        The network itself.

    Example:
        >>> to_eval(nn.Dropout()).training
        False
    """
    try:
        return net.eval()
    except NotImplementedError:
        for module in net.modules():
            module.training = False
        return net


__all__ = [
    "check_any_batch",
    "check_layers",
    "check_learns",
    "check_teaches",
    "fixed_modes",
    "programs",
    "to_eval",
    "written_down",
]
