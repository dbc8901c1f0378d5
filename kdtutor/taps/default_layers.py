"""Where to read a network that one has not built oneself: its stages, what enters a ReLU, the
embedding before the classifier.

These find the default layers of the methods. All give paths for ``kdtutor.taps``, and every method
takes other paths instead."""

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

from .examples import Example, stated_shape, trial
from .logits import call, logits_of
from .modes import eval_mode
from .read import Taps
from .turns import turn_of
from .wrapped import eagerly, is_compiled, module_at, modules_by_path, unwrapped
from .written_down import check_layers

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish)
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.Identity,
)


def numbered(net: nn.Module, word: str) -> list[str]:
    """The children of a network that are named by a word and a number, in the order of definition.

    Args:
        net: any torch module.
        word: "layer" for layer1, layer2, ...

    Returns:
        Their names; an empty list where there are none.

    Example:
        >>> from kdtutor.models import mlp
        >>> numbered(mlp((8, 8)), "relu")
        ['relu1', 'relu2']
    """
    return [name for name, _ in net.named_children() if re.fullmatch(rf"{word}\d+", name)]


def levels(net: nn.Module) -> list[str]:
    """The paths of a network's stages, as kdtutor's and torchvision's ResNets name them.

    Args:
        net: any torch module.

    Returns:
        ["layer1", "layer2", ...].

    Raises:
        ValueError: for other networks: then the layers must be chosen by hand.

    Example:
        >>> from kdtutor.models import resnet8
        >>> levels(resnet8())
        ['layer1', 'layer2', 'layer3']
    """
    check_layers(net)
    net = unwrapped(net)
    names = numbered(net, "layer")
    if not names:
        some = [name for name, _ in net.named_modules() if name][:12]
        raise ValueError(
            f"{type(net).__name__} has no stages named layer1, layer2, ... to choose from: pass "
            f"layers=, pairs of paths (student, teacher). Its modules begin with {some}; "
            "kdtutor.taps.layers(net) lists all."
        )
    return names


def embedding(net: nn.Module, example: Example = None) -> str:
    """The path of what enters the classifier: the pooled features that it sees.

    The classifier is the linear layer that runs last and gives as many numbers as the network
    answers, found by watching one dry run. Without an input the linear layer that was defined last
    stands for it; ``RKD`` checks it on its first batch.

    Args:
        net: any torch module.
        example: an input; None: made from ``net.input_shape``, if it has one.

    Returns:
        A path such as "fc:input", whose feature is (B, D).

    Raises:
        ValueError: for a network without a linear layer, and for one whose answers no linear layer
            gives: one without its head.

    Example:
        >>> embedding(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        '2:input'
    """
    check_layers(net)
    linear = {m: name for name, m in modules_by_path(net).items() if isinstance(m, nn.Linear)}
    if not linear:
        raise ValueError(
            f"{type(net).__name__} has no linear layer whose input could be its embedding: pass "
            "layers=, pairs of paths (student, teacher)."
        )
    if example is None and stated_shape(net) is None:
        return list(linear.values())[-1] + ":input"
    ran: list[tuple[str, Any]] = []
    hooks = [
        module.register_forward_hook(lambda m, _, out: ran.append((linear[m], out)))
        for module in linear
    ]
    made: list[Any] = []  # by the network itself; an adapter around it may choose among classes
    hooks.append(unwrapped(net).register_forward_hook(lambda m, _, out: made.append(out)))
    try:
        with eval_mode(net), eagerly(is_compiled(net.modules())):
            with trial(net, example) as x:
                call(net, x)
            try:
                logits = logits_of(made[-1])
                answers = tuple(logits.shape)
            except ValueError as error:  # the output of a body alone
                raise ValueError(
                    f"{error} Without them {type(net).__name__} has no default embedding: pass "
                    "layers=, pairs of paths (student, teacher)."
                ) from error
    finally:
        for hook in hooks:
            hook.remove()
    heads = [name for name, out in ran if out.ndim == 2 and tuple(out.shape) == answers]
    if not heads:
        raise ValueError(
            f"{type(net).__name__} answers with {answers}, and no linear layer gives "
            "that: a network without its head has no default embedding. Pass layers=, pairs of "
            "paths (student, teacher); kdtutor.taps.layers(net) lists all."
        )
    # Of several that could be it, such as one beside it for another loss, the one that answered.
    same = lambda out: out.dtype == logits.dtype and not out.is_meta and torch.equal(out, logits)
    answered = [name for name, out in ran if name in heads and same(out)]
    return (answered or heads)[-1] + ":input"


def before_relu(net: nn.Module, layer: str, example: Example = None) -> str:
    """The path of a layer's features before the non-linearity that follows them.

    Where the layer ends in a ReLU, that ReLU's input. Where it gives a signed sum (the blocks of
    wide ResNets), the input of the next ReLU if nothing but a normalisation lies between, else the
    layer's own output. Found by watching one dry run.

    Args:
        net: any torch module.
        layer: the layer's path.
        example: an input; see ``kdtutor.taps.example_input``.

    Returns:
        A path such as "layer2.1.relu2:input".

    Raises:
        ValueError: for a path that does not exist (with the near matches).

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        >>> before_relu(net, "0", torch.zeros(2, 4))
        '2:input'
    """
    Taps(net, [layer])  # raises for an unknown path, with the near matches
    hooks, target = [], module_at(net, layer)
    assert target is not None  # Taps has found it
    runs: dict[str, int] = {}
    rectified: list[tuple[str, int, Tensor]] = []  # path, run and output of every ReLU so far
    own: list[tuple[str, int]] = []  # the answer, where the layer ends in a ReLU
    behind: list[Tensor] = []  # the layer's output, and what normalisations make of it
    following: list[tuple[str, int]] = []  # the answer, where a ReLU reads one of these

    def ran(name):
        def hook(module, args, out):
            runs[name] = runs.get(name, 0) + 1
            read = any(args[0] is t for t in behind)
            if isinstance(module, _RECTIFIERS):
                rectified.append((name, runs[name], out))
                following.extend([(name, runs[name])] if read else [])
            elif read:
                behind.append(out)

        return hook

    def ended(module, args, out):
        own.extend([(name, run) for name, run, output in rectified if output is out][-1:])
        behind.append(out)

    try:
        for name, module in modules_by_path(net).items():
            if isinstance(module, _RECTIFIERS + _NORMS):
                hooks.append(module.register_forward_hook(ran(name)))
        hooks.append(target.register_forward_hook(ended))
        with eval_mode(net), eagerly(is_compiled(net.modules())), trial(net, example) as x:
            call(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    for name, run in (own or following)[:1]:
        return f"{name}#{run}:input" if runs[name] > 1 else f"{name}:input"
    return layer


def nonlinearity(net: nn.Module, layer: str, example: Example = None) -> nn.Module | None:
    """A copy of the activation module in which a layer ends (ReLU, Hardswish, Sigmoid, ...), by one
    dry run.

    Args:
        net: any torch module.
        layer: the layer's path.
        example: an input; see ``kdtutor.taps.example_input``.

    Returns:
        The copy; None where the layer ends in none.

    Example:
        >>> nonlinearity(nn.Sequential(nn.Linear(4, 8), nn.SiLU()), "1", torch.rand(2, 4))
        SiLU()
    """
    hooks, seen = [], []
    layer = layer.removesuffix(f":{turn_of(layer)}")  # as the network has it
    try:
        for module in net.modules():
            if type(module).__module__ == nn.ReLU.__module__ and not isinstance(
                module, nn.MultiheadAttention
            ):
                hooks.append(
                    module.register_forward_hook(
                        lambda module, _, out: seen.append((module, out.clone()))
                    )
                )
        with eval_mode(net), trial(net, example, random=True) as x:
            feature = Taps(net, [layer], stop=True)(x)[1][layer]
    finally:
        for hook in hooks:
            hook.remove()
    ends = [
        module for module, out in seen if out.shape == feature.shape and torch.equal(out, feature)
    ]
    return copy.deepcopy(ends[-1]) if ends else None


def parameters_before(
    net: nn.Module, layers: list[str], example: Example = None
) -> list[nn.Parameter]:
    """The trainable parameters that these layers' features depend on: the network up to them,
    whatever its shape.

    Args:
        net: any torch module.
        layers: the layers' paths.
        example: an input; see ``kdtutor.taps.example_input``.

    Returns:
        The parameters, in the network's order.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
        >>> [tuple(p.shape) for p in parameters_before(net, ["0"], torch.zeros(2, 4))]
        [(8, 4), (8,)]
    """
    trainable = [p for p in net.parameters() if p.requires_grad]
    with eval_mode(net), torch.enable_grad(), trial(net, example) as x:
        _, features = Taps(net, layers, stop=True)(x)
        # What enters the network depends on no parameter.
        sums = [f.float().sum() for f in features.values() if f.requires_grad]
        if not sums or not trainable:
            return []
        gradients = torch.autograd.grad(sums, trainable, allow_unused=True)
    return [p for p, g in zip(trainable, gradients) if g is not None]


__all__ = ["before_relu", "embedding", "levels", "nonlinearity", "numbered", "parameters_before"]
