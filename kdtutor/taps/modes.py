"""What a network is switched to for a while, and back: eval mode, operations that can be
differentiated twice, attention that can be read."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .written_down import to_eval


@contextmanager
def eval_mode(net: nn.Module) -> Iterator[nn.Module]:
    """Eval mode without gradients inside the block; every module gets its own mode back, frozen
    BatchNorms included.

    Args:
        net: any torch module.

    Returns:
        A context that gives the network.

    Example:
        >>> net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
        >>> with eval_mode(net):
        ...     net[0].training, torch.is_grad_enabled()
        (False, False)
        >>> net[0].training, net[1].training
        (True, False)
    """
    modes = [(m, m.training) for m in net.modules()]
    try:
        to_eval(net)
        with torch.no_grad():
            yield net
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def twice_differentiable(net: nn.Module) -> Iterator[nn.Module]:
    """Inside, hard sigmoids and attention run as operations whose gradient has a gradient; torch's
    fused ones have none.

    Args:
        net: any torch module.

    Returns:
        A context that gives the network.

    Example:
        >>> x = torch.ones(1, requires_grad=True)
        >>> with twice_differentiable(nn.Hardsigmoid()) as net:
        ...     (slope,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        >>> torch.autograd.grad(slope.sum(), x)[0].allclose(torch.tensor(2 / 36))
        True
    """
    hard = [(m, m.inplace) for m in net.modules() if isinstance(m, nn.Hardsigmoid)]
    # hardsigmoid(x) = relu6(x + 3) / 6: the same function, made of operations with derivatives.
    hooks = [
        m.register_forward_hook(lambda m, args, out: F.relu6(args[0] + 3) / 6) for m, _ in hard
    ]
    try:
        for module, _ in hard:
            module.inplace = False  # or else the hook would read what was overwritten
        with sdpa_kernel(SDPBackend.MATH):
            yield net
    finally:
        for hook, (module, inplace) in zip(hooks, hard):
            hook.remove()
            module.inplace = inplace


@contextmanager
def unpacked_attention(net: nn.Module) -> Iterator[None]:
    """Inside, nn.TransformerEncoder does not pack padded batches into nested tensors, which it does
    in eval mode only and which have no maps. What it answers at the padded places is then not 0.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    packs = any(isinstance(m, nn.TransformerEncoder) for m in net.modules())
    try:
        torch.backends.mha.set_fastpath_enabled(before and not packs)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


__all__ = ["eval_mode", "twice_differentiable", "unpacked_attention"]
