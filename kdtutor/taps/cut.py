"""Cut a network behind a layer: what runs up to it, and what runs after it."""

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from .outputs import call, logits_of
from .read import Taps, eval_mode, example_input


def cut(
    net: nn.Module, layer: str, example: Tensor | None = None, copy: bool = False
) -> tuple[nn.Module, nn.Module]:
    """Two modules, ``lower`` and ``upper``: ``upper(lower(x))`` is what the network answers.

    The halves hold the network's own layers under their own names, so training them trains the
    network, BatchNorm's statistics included; each holds only what it runs, so their parameters are
    disjoint.

    Args:
        net: Any network whose forward pass can be parted at one tensor: whole children that run one
            after the other (ResNets, VGG, transformers' encoders), or anything that
            ``torch.fx.symbolic_trace`` can follow.
        layer: The path behind which to cut ("layer2", "features.7").
        example: A small batch of inputs, for networks that carry no ``input_shape``.
        copy: Give both halves copies of the layers, independent of the network.

    Returns:
        (lower, upper).

    Raises:
        ValueError: For a path that does not exist, a layer behind which the network still needs
            something from before (a shortcut across the cut), or a forward pass that cannot be
            followed.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> lower, upper = cut(net, "1", torch.zeros(2, 4))
        >>> x = torch.ones(2, 4)
        >>> bool((upper(lower(x)) == net(x)).all()), len(list(upper.parameters()))
        (True, 2)
    """
    Taps(net, [layer])  # raises for a path that does not exist
    source = deepcopy(net) if copy else net
    x = example_input(net, example, random=True)
    with eval_mode(net):
        want = logits_of(call(net, x))
        feature = Taps(net, [layer], stop=True)(x)[1][layer]
    reasons = []
    for way in (_chain, _graph):
        try:
            lower, upper = way(source, layer, x)
            with eval_mode(lower):
                fits = way is _graph or _gives(lower, x, feature)
            lower = lower if fits else _Until(lower, source, layer)
            with eval_mode(source), eval_mode(lower), eval_mode(upper):
                same = torch.equal(lower(x), feature) and torch.equal(
                    logits_of(upper(feature)), want
                )
            if same:
                return lower.train(net.training), upper.train(net.training)
            reasons.append("what lies behind it needs more than its output")
        except Exception as error:  # whatever following a stranger's forward pass may raise
            reasons.append(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
    raise ValueError(
        f"{type(net).__name__} cannot be cut after {layer!r}: {reasons[-1]}. Choose a layer "
        "through which everything passes, such as the end of a level; its children are "
        f"{[name for name, _ in net.named_children()]}."
    )


def _chain(net: nn.Module, layer: str, x) -> tuple[nn.Module, nn.Module]:
    """For children that run one after the other and hand on one tensor: no graph is needed, and the
    halves are plain ``Sequential`` modules. What the forward pass does between children (a flatten)
    is not seen, and is found out by the caller's comparison.
    """
    order: list[str] = []
    hooks = [
        child.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, child in net.named_children()
    ]
    try:
        with eval_mode(net):
            call(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    first, _, rest = layer.partition(".")
    if len(set(order)) < len(order) or first not in order:
        raise ValueError("its children do not run once each, one after the other")
    children = dict(net.named_children())
    at = order.index(first)
    lower = OrderedDict((n, children[n]) for n in order[:at])
    upper = OrderedDict((n, children[n]) for n in order[at + 1 :])
    if rest:
        with eval_mode(net):  # no trace: statistics do not move
            entering = Taps(net, [f"{first}:input"], stop=True)(x)[1][f"{first}:input"]
        low, high = _chain(children[first], rest, entering)
        lower[first] = low
        upper = OrderedDict([(first, high)]) | upper if list(high.children()) else upper
    else:
        lower[first] = children[first]
    return nn.Sequential(lower), nn.Sequential(upper)


def _gives(module: nn.Module, x, want: Tensor) -> bool:
    try:
        return torch.equal(module(x), want)
    except (RuntimeError, TypeError, ValueError):
        return False


class _Until(nn.Sequential):
    """The network itself, run only as far as a layer: for what it does between its children."""

    def __init__(self, lower: nn.Module, net: nn.Module, layer: str):
        super().__init__(OrderedDict(lower.named_children()))
        self._whole, self._layer = [net], layer  # in a list: no submodule of this half

    def forward(self, x):
        return Taps(self._whole[0], [self._layer], stop=True)(x)[1][self._layer]


class _EveryLayer(fx.Tracer):
    """Goes into every module of the user's own, and down to the one behind which the cut lies."""

    def __init__(self, layer: str):
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inside = self.layer.startswith(f"{module_qualified_name}.")
        return not inside and module_qualified_name != ""


def _graph(net: nn.Module, layer: str, x) -> tuple[nn.Module, nn.Module]:
    """For everything else: follow the forward pass, and part its graph at the layer's output."""
    graphs = []
    for mode in (True, False):
        with eval_mode(net):
            for module in net.modules():
                module.training = mode
            graphs.append(_EveryLayer(layer).trace(net))
    graph = graphs[0]
    if graph.python_code("self").src != graphs[1].python_code("self").src:
        raise ValueError("its forward pass takes other ways in training than in eval mode")
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
    if len(calls) != 1:
        raise ValueError(f"{layer!r} runs {len(calls)} times in one forward pass")
    (node,) = calls
    low, high, seen = fx.Graph(), fx.Graph(), {}
    needed, stack = set(), [node]
    while stack:  # everything that the feature depends on
        current = stack.pop()
        if current not in needed:
            needed.add(current)
            stack.extend(current.all_input_nodes)
    copied: dict[fx.Node, fx.Node] = {}
    for n in graph.nodes:
        if n in needed:
            copied[n] = low.node_copy(n, lambda a: copied[a])
    low.output(copied[node])
    seen[node] = high.placeholder("feature")
    for n in graph.nodes:
        if n.op == "placeholder" or n in needed:
            continue
        # A node that needs something from below other than the feature raises KeyError here.
        if n.op == "get_attr" or all(a in seen for a in n.all_input_nodes):
            seen[n] = high.node_copy(n, lambda a: seen[a])
        elif n.op == "output" or any(a in seen for a in n.all_input_nodes):
            raise ValueError("something behind it still needs what lies before it")
    return fx.GraphModule(net, low), fx.GraphModule(net, high)
