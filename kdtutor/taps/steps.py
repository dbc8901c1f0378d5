"""A network's forward pass, written down as a list of steps: calls of its modules and of torch's
functions.

torch.fx follows the forward methods of the network and of chosen modules within it; every other
module is one step, whatever happens inside. Beside each step its value for an example is known, so
that a forward method may ask for sizes ("is the image 32 wide?"), which torch.fx alone refuses."""

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from .logits import call
from .modes import eval_mode
from .wrapped import eagerly, is_compiled


class NotTraceable(Exception):
    """A forward method does what cannot be written down as a list of steps."""


def forward_steps(net: nn.Module, inside: set[str], x: Tensor | Mapping) -> fx.Graph:
    """The steps of ``net(x)``.

    Args:
        net: any torch module; it is left as it was.
        inside: the paths of modules to follow too; all others are called as a whole.
        x: an example of its inputs; where a forward method asks for a size, other inputs are taken
            to answer as this one does.

    Returns:
        A torch.fx graph over the network's own module paths.

    Raises:
        NotTraceable: where a forward method branches on values, makes tensors out of nothing, works
            differently in training, or does something else that torch.fx cannot follow.
    """
    followed = [net, *(module for name, module in net.named_modules() if name in inside)]
    modes = [module.training for module in followed]
    made = _outputs(net, inside, x)
    graphs = []
    try:
        for mode in (True, False):  # only the followed methods' own: a flag they read is frozen
            for module in followed:
                module.training = mode
            with torch.no_grad():
                graphs.append(_Tracer(inside, x, made).trace(net))
    except Exception as error:  # whatever a foreign forward method makes of a tensor's stand-in
        raise NotTraceable(f"{type(error).__name__}: {error}") from error
    finally:
        for module, mode in zip(followed, modes):
            module.training = mode
    if str(graphs[0]) != str(graphs[1]):
        raise NotTraceable("its forward method does something else in training than in eval mode")
    return graphs[1]


def _outputs(net: nn.Module, inside: set[str], x: Any) -> dict[str, list]:
    """What every module that is one step returns for x, by its path, run by run."""
    made, hooks = defaultdict(list), []
    try:
        for name, module in net.named_modules():
            if name and name not in inside and name.rpartition(".")[0] in {"", *inside}:
                hooks.append(
                    module.register_forward_hook(lambda m, a, out, n=name: made[n].append(out))
                )
        with eval_mode(net), eagerly(is_compiled(net.modules())):
            call(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    return made


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, inside: set[str], x: Any, made: dict[str, list]):
        super().__init__()
        self.inside, self.x = inside, x
        self.made = {name: iter(outputs) for name, outputs in made.items()}
        self.values: dict[fx.Node, Any] = {}

    def trace(self, root, concrete_args=None):
        # Before tracing: meanwhile a module's attributes are stand-ins.
        self.state = {**dict(root.named_parameters()), **dict(root.named_buffers())}
        return super().trace(root, concrete_args)

    def is_leaf_module(self, m, module_qualified_name):
        return module_qualified_name not in self.inside

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        """Stand-ins for what the network is given; its other arguments keep their defaults."""
        if isinstance(self.x, Mapping):
            named = {name: self._given(name, value) for name, value in self.x.items()}
            return (lambda root: root_fn(root, **named)), [self.root]
        name = list(inspect.signature(root_fn).parameters)[1]
        first = self._given(name, self.x)
        return (lambda root: root_fn(root, first)), [self.root]

    def _given(self, name, value):
        proxy = super().create_proxy("placeholder", name, (), {})
        self.values[proxy.node] = value
        return proxy

    def create_proxy(self, kind, target, args, kwargs, *rest, **more):
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        if kind != "placeholder":
            self.values[proxy.node] = self._value(kind, target, *self._known((args, kwargs)))
        return proxy

    def _known(self, args):
        return map_aggregate(args, lambda a: self.values[a.node] if isinstance(a, fx.Proxy) else a)

    def _value(self, kind, target, args, kwargs):
        if kind == "call_module":
            return next(self.made[target])
        if kind == "get_attr":
            return self.state[target]
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    def create_arg(self, a):
        if isinstance(a, Tensor):  # torch.fx would freeze its numbers, random ones included
            raise NotTraceable("it makes a tensor that depends on none of its inputs")
        return super().create_arg(a)

    def to_bool(self, obj):
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise NotTraceable("it branches on the values of a tensor")
        return bool(value)

    def iter(self, obj) -> Iterator:
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise NotTraceable("it loops over the entries of a tensor")
        return iter([obj[i] for i in range(len(value))])


__all__ = ["NotTraceable", "forward_steps"]
