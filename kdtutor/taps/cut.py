"""Cut a network in two behind a layer: what runs up to it, and what runs from there on.

The forward pass is written down as a list of steps (``steps``), the list is cut behind the layer,
and each half calls the network's own modules. Only the forward methods around the layer are looked
into (for "layer2.0" the network's and layer2's); what happens inside other modules does not matter.
"""

import copy as copying
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from ..errors import explained
from .examples import Example, example_input
from .logits import call
from .modes import eval_mode
from .read import Taps
from .steps import NotTraceable, forward_steps
from .wrapped import bare, module_at


@explained
def cut(
    net: nn.Module, layer: str, example: Example = None, copy: bool = False
) -> tuple["Half", "Half"]:
    """Two modules: ``lower`` runs the network as far as a layer, ``upper`` all that follows.

    ``upper(lower(x))`` is ``net(x)``, bit for bit: it is tried on the example, in eval mode. The
    halves keep the network's names in ``state_dict`` and hold the modules that they run, no others;
    one that the network uses on both sides of the cut belongs to both.

    Args:
        net: any torch module whose forward methods around the layer can be followed (see Raises).
        layer: the path of a module that runs once and returns a tensor, "layer2.1".
        example: a small batch of the network's inputs; a mapping becomes named arguments, by which
            ``lower`` is then called too. Default: numbers in the ``input_shape`` that kdtutor's
            models carry. Where a forward method asks for sizes, other inputs are taken to answer
            as the example does.
        copy: False, the halves share the network's parameters and buffers: training them trains
            it, BatchNorm statistics included. True: each half is a copy of its own.

    Returns:
        (lower, upper), in the network's modes: ``lower(x)`` gives the layer's feature and
        ``upper(feature)`` the network's answer. Each has ``train()`` and ``eval()`` of its own.
        Move a network to its device before it is cut.

    Raises:
        ValueError: for an unknown layer (with the near matches), one that runs twice, never, or
            returns no tensor; where a step behind the layer reads the input or an earlier feature
            past it, as a skip connection does; and where a forward method around the layer branches
            on values, makes tensors out of nothing, or does something else in training.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> x = torch.rand(2, 4)
        >>> lower, upper = cut(net, "1", example=x)
        >>> lower(x).shape, torch.equal(upper(lower(x)), net(x)), list(upper.state_dict())
        (torch.Size([2, 8]), True, ['2.weight', '2.bias'])
    """
    Taps(net, [layer])  # raises for an unknown layer
    if ":" in layer or "#" in layer:
        raise ValueError(f"layer {layer!r}: a network is cut behind a module, so give its path.")
    target = module_at(net, layer)
    net = bare(net)
    layer = next(path for path, module in net.named_modules() if module is target)
    x, reader = example_input(net, example, random=True), Taps(net, [layer])
    with eval_mode(net):
        output, features = reader(x)
        feature = features[layer].clone()
    names = layer.split(".")
    around = {".".join(names[:i]) for i in range(1, len(names))}
    try:
        graph = forward_steps(net, around, x)
        lower, upper = _halves(net, layer, graph, copy)
    except NotTraceable as reason:
        raise _cannot(net, layer, str(reason)) from reason
    with eval_mode(lower), eval_mode(upper):
        below = call(lower, x)
        same = torch.equal(below, feature)
        version = below._version
        answer = upper(below)
        upper.overwrites = below._version != version
    if not same or not _equal(answer, output):
        raise _cannot(net, layer, "together the two halves do not answer as the network does")
    return lower, upper


class _Result(NamedTuple):
    """Stands for what an earlier step gave, among a step's arguments."""

    step: str


class _Step(NamedTuple):
    name: str
    kind: str  # as torch.fx calls it: call_module, call_function, call_method, get_attr
    target: Any  # a path of the network's, a function, the name of a method
    args: Any
    kwargs: Any


class Half(nn.Module):
    """One side of a cut network; ``cut`` makes it.

    Not torch.fx's own GraphModule, so that it is plain data beside the network's own modules: it
    can be copied, pickled and compared.
    """

    def __init__(self, net: nn.Module, inputs: list[str], steps: list[_Step], result: Any):
        super().__init__()
        self.inputs, self.steps, self.result = inputs, steps, result
        self.overwrites = False  # does a step, such as an in-place ReLU, write into the input?
        for step in steps:
            if step.kind in ("call_module", "get_attr"):
                _adopt(self, net, step.target)

    def forward(self, *args, **kwargs):
        values = {**dict(zip(self.inputs, args, strict=False)), **kwargs}
        if len(args) > len(self.inputs) or set(values) != set(self.inputs):
            raise ValueError(f"this half of a network takes {self.inputs}, got {sorted(values)}.")
        if self.overwrites:  # the caller's feature stays: other networks may read it too
            values = {name: value.clone() for name, value in values.items()}
        for step in self.steps:
            values[step.name] = self._run(step, values)
        return _resolved(self.result, values)

    def _run(self, step: _Step, values: dict[str, Any]) -> Any:
        args, kwargs = _resolved(step.args, values), _resolved(step.kwargs, values)
        if step.kind == "get_attr":
            return attrgetter(step.target)(self)
        if step.kind == "call_module":
            return self.get_submodule(step.target)(*args, **kwargs)
        if step.kind == "call_method":
            return getattr(args[0], step.target)(*args[1:], **kwargs)
        return step.target(*args, **kwargs)


def _resolved(args: Any, values: dict[str, Any]) -> Any:
    if isinstance(args, _Result):
        return values[args.step]
    if isinstance(args, (tuple, list)):
        return type(args)(_resolved(a, values) for a in args)
    if isinstance(args, dict):
        return {k: _resolved(a, values) for k, a in args.items()}
    if isinstance(args, slice):
        return slice(*(_resolved(a, values) for a in (args.start, args.stop, args.step)))
    return args


def _adopt(half: nn.Module, net: nn.Module, path: str) -> None:
    """Puts the network's module, parameter or buffer into the half, under its own path."""
    *around, name = path.split(".")
    here, there = half, net
    for part in around:
        there = getattr(there, part)
        if not hasattr(here, part):
            here.add_module(part, nn.Module())
            getattr(here, part).train(there.training)
        here = getattr(here, part)
    if here is there:  # the module around it is in the half as a whole
        return
    value = getattr(there, name)
    if isinstance(value, (nn.Module, nn.Parameter)):
        setattr(here, name, value)
    else:
        lasting = name not in there._non_persistent_buffers_set
        here.register_buffer(name, value, persistent=lasting)


def _halves(net: nn.Module, layer: str, graph: fx.Graph, copy: bool) -> tuple[Half, Half]:
    nodes = list(graph.nodes)
    runs = [i for i, n in enumerate(nodes) if n.op == "call_module" and n.target == layer]
    if len(runs) != 1:
        raise NotTraceable(f"the forward methods around it call it {len(runs)} times by this name")
    split = runs[0]
    given = [n for n in nodes if n.op == "placeholder"]
    below = [n for n in nodes[: split + 1] if n.op != "placeholder"]
    above = [n for n in nodes[split + 1 :] if n.op != "output"]
    # What an earlier step made of parameters alone, a class token for instance, is made again.
    fixed: set[fx.Node] = set()
    for node in below:
        if node.op == "get_attr" or (
            node.all_input_nodes and fixed.issuperset(node.all_input_nodes)
        ):
            fixed.add(node)
    late, known = nodes[-1], {nodes[split], *above, *fixed}
    for node in [*above, late]:
        past = [n for n in node.all_input_nodes if n not in known]
        if past:
            what = "the input" if past[0] in given else f"what {_words(past[0])} gave"
            raise NotTraceable(f"{_words(node)} reads {what} past the layer")
    needed: set[fx.Node] = set()
    for node in reversed([*(n for n in below if n in fixed), *above, late]):
        if node not in fixed or needed & set(node.users):
            needed.add(node)
    again = [n for n in below if n in needed]
    feature = _Result(nodes[split].name)
    sources = [copying.deepcopy(net), copying.deepcopy(net)] if copy else [net, net]
    lower = Half(sources[0], [str(n.target) for n in given], [_step(n) for n in below], feature)
    upper = Half(
        sources[1], [feature.step], [_step(n) for n in [*again, *above]], _plain(late.args[0])
    )
    for half in (lower, upper):
        half.training = net.training
    return lower, upper


def _step(node: fx.Node) -> _Step:
    return _Step(node.name, node.op, node.target, _plain(node.args), _plain(node.kwargs))


def _plain(args: Any) -> Any:
    """torch.fx's arguments, as plain Python, with results named instead of nodes."""
    if isinstance(args, fx.Node):
        return _Result(str(args.target) if args.op == "placeholder" else args.name)
    if isinstance(args, slice):
        return slice(*(_plain(a) for a in (args.start, args.stop, args.step)))
    if isinstance(args, dict):
        return {k: _plain(a) for k, a in args.items()}
    if isinstance(args, (tuple, list)):
        plain = [_plain(a) for a in args]
        return plain if isinstance(args, list) else tuple(plain)
    return args


def _words(node: fx.Node) -> str:
    if node.op in ("output", "placeholder"):
        return "its answer" if node.op == "output" else "the input"
    return repr(node.target) if isinstance(node.target, str) else repr(node.target.__name__)


def _equal(a: Any, b: Any) -> bool:
    a, b = tree_leaves(a), tree_leaves(b)
    return len(a) == len(b) and all(
        torch.equal(p, q) if isinstance(p, Tensor) and isinstance(q, Tensor) else p == q
        for p, q in zip(a, b)
    )


def _cannot(net: nn.Module, layer: str, reason: str) -> ValueError:
    children = [name for name, _ in net.named_children()]
    return ValueError(
        f"{type(net).__name__} cannot be cut after {layer!r}: {reason}. Cut behind the whole block "
        f"around it, or behind another of its children: {children}."
    )


__all__ = ["Half", "cut"]
