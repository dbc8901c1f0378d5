"""Read intermediate features of any torch module by module path, with forward hooks that exist only
during the call.

A path is what ``named_modules()`` prints ("layer2.1"); it means the module's output.
"layer2.1.relu2:input" means its input: the features before a ReLU. "layer2.1.relu#2" means the
second time that a module runs in one forward pass (torchvision's blocks use one ReLU twice).
Inside an attention module (nn.MultiheadAttention, transformers' own) "encoder.attn:queries",
":keys", ":values" and ":attention" mean what no module returns (``attention.watch``).
Nothing in the network changes, so one network can serve several readers."""

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import unknown
from .attention import SIDES, check_attention, watch
from .outputs import call, logits_of


class _Read(Exception):
    """Everything that was asked for has been read."""


# By network and layers: does something later in the forward pass, such as an in-place ReLU,
# overwrite what was read? Then copies are kept.
_overwritten: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()


class Taps:
    """Reads named layers of a network while it runs: ``output, features = Taps(net, ["layer1",
    "layer3"])(x)``.

    features maps every path to its tensor, attached to the graph.   stop: end the forward pass as
    soon as all layers are read; the output is then None, and no later layer runs. Raises
    ``ValueError`` for a path that does not exist (with the near matches), at construction; for a
    layer that ran more than once in a forward (a shared module has no single feature: say which
    run), did not run, or returned no tensor, at the call."""

    def __init__(self, net: nn.Module, layers: Sequence[str], stop: bool = False):
        self.net, self.layers, self.stop = (
            net,
            list(dict.fromkeys([layers] if isinstance(layers, str) else layers)),
            stop,
        )
        modules = dict(net.named_modules())
        self._points = []
        for layer in self.layers:
            path, _, side = layer.partition(":")
            path, _, run = path.partition("#")
            if path not in modules or not path:
                raise unknown(
                    f"layer path in {type(net).__name__}",
                    path,
                    [m for m in modules if m],
                    "kdtutor.taps.layers(net) lists all of them.",
                )
            if side not in ("", "input", "output", *SIDES):
                raise ValueError(
                    f"layer {layer!r}: after the colon comes 'input' or 'output' (or, inside an "
                    f"attention module, one of {SIDES}), not {side!r}."
                )
            if side in SIDES:
                check_attention(modules[path], layer)
            if run and not (run.isdigit() and int(run)):
                raise ValueError(
                    f"layer {layer!r}: after '#' comes which run of the module is meant, 1, 2, "
                    f"..., not {run!r}."
                )
            self._points.append((layer, modules[path], side, int(run or 0)))

        self._attends = any(side in SIDES for _, _, side, _ in self._points)

    def __call__(self, x) -> tuple[Tensor, dict[str, Tensor]]:
        key, known = (*self.layers, self.stop), _overwritten.setdefault(self.net, {})
        if (
            key not in known
            # one run aside; in a step, copies now and none later would change the order of sums in
            # its
            # gradient
        ):
            with torch.inference_mode(False), eval_mode(self.net):
                known[key] = self._run(x, copy=False)[2]
        output, features, changed = self._run(x, copy=known[key])
        if changed and not known[key]:
            known[key] = True
            raise RuntimeError(
                f"{type(self.net).__name__} overwrites one of {self.layers} in place now, which "
                "it did not do before: run "
                "it again, and copies will be kept."
            )
        return output, features

    def _run(self, x, copy: bool) -> tuple[Tensor | None, dict[str, Tensor], bool]:
        """One forward pass: output, features, and whether something wrote into a feature after it
        was read.
        """
        features, hooks, runs, originals = {}, [], {}, []

        def keep(layer, run, value):
            runs[layer] = runs.get(layer, 0) + 1
            if run and runs[layer] != run:
                return
            value = value[0] if isinstance(value, (tuple, list)) and len(value) else value
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"layer {layer!r} passes a {type(value).__name__}, not a tensor: choose a "
                    "layer inside it."
                )
            if layer in features:
                raise ValueError(
                    f"layer {layer!r} ran twice in one forward pass (the module is shared), so "
                    "'its' feature is "
                    f"ambiguous. Say which run is meant ('{layer.partition(':')[0]}#2'), or tap "
                    "the block around it."
                )
            features[layer] = value.clone() if copy else value
            if not value.is_inference():
                originals.append((value, value._version))
            if self.stop and len(features) == len(self.layers):
                raise _Read

        try:
            for layer, module, side, run in self._points:
                if side in SIDES:
                    one = lambda value, n=layer, r=run: keep(n, r, value)
                    hooks.extend(watch(module, layer, side, one))
                elif side == "input":
                    hooks.append(
                        module.register_forward_pre_hook(
                            lambda m, args, n=layer, r=run: keep(n, r, args)
                        )
                    )
                else:
                    hooks.append(
                        module.register_forward_hook(
                            lambda m, args, out, n=layer, r=run: keep(n, r, out)
                        )
                    )
            with _visible(self.net) if self._attends else nullcontext():
                output = call(self.net, x)
        except _Read:
            output = None
        finally:
            for hook in hooks:
                hook.remove()
        missing = [layer for layer in self.layers if layer not in features]
        if missing:
            raise ValueError(
                f"the forward pass of {type(self.net).__name__} never ran {missing}: choose "
                "layers that it uses."
            )
        return output, features, any(value._version != version for value, version in originals)


@contextmanager
def _visible(net: nn.Module):
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


def layers(net: nn.Module) -> list[str]:
    """All module paths of a network, in the order of definition."""
    return [name for name, _ in net.named_modules() if name]


@contextmanager
def eval_mode(net: nn.Module):
    """Eval mode without gradients inside the block; every module gets its own mode back, frozen
    BatchNorms included.
    """
    modes = [(m, m.training) for m in net.modules()]
    try:
        net.eval()
        with torch.no_grad():
            yield net
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def twice_differentiable(net: nn.Module):
    """Inside, hard sigmoids and attention run as operations whose gradient has a gradient; torch's
    fused ones have none.
    """
    hard = [(m, m.inplace) for m in net.modules() if isinstance(m, nn.Hardsigmoid)]
    hooks = [
        m.register_forward_hook(lambda m, args, out: F.relu6(args[0] + 3) / 6) for m, _ in hard
    ]
    try:
        for module, _ in hard:
            module.inplace = False
        with sdpa_kernel(SDPBackend.MATH):
            yield net
    finally:
        for hook, (module, inplace) in zip(hooks, hard):
            hook.remove()
            module.inplace = inplace


def input_gradient(
    net: nn.Module, x: Tensor, score, layers: Sequence[str] = ()
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """d score / d x of a network in eval mode: (gradient, logits, features), all detached. The
    network is left as it was.

    score: (logits, features) -> (B,) values; each depends on its own image alone, so row b is the
    gradient of image b's score."""
    x = x.detach().requires_grad_()
    with eval_mode(net), torch.enable_grad():
        output, features = Taps(net, layers)(x)
        logits = logits_of(output)
        (gradient,) = torch.autograd.grad(score(logits, features).sum(), x)
    return gradient, logits.detach(), {k: v.detach() for k, v in features.items()}


def example_input(net: nn.Module, example: Tensor | None = None, random: bool = False) -> Tensor:
    """An input for a dry run, on the network's device: ``example``, or zeros of the ``input_shape``
    that kdtutor's models carry.

    random: numbers in [0, 1) instead of zeros, always the same.   Raises ``ValueError`` if neither
    is there, and for an example in bytes."""
    weight = next(net.parameters(), torch.empty(0))
    if example is not None:
        if example.dtype == torch.uint8:
            raise ValueError(
                "example= holds bytes (uint8), and networks take normalised images: pass "
                "data.normalised(data.train.x[:2])."
            )
        return example.to(weight.device)
    shape = getattr(net, "input_shape", None)
    if shape is None:
        raise ValueError(
            f"{type(net).__name__} does not say its input_shape: pass example=, a small batch of "
            "its inputs, "
            "or set net.input_shape = (channels, height, width)."
        )
    x = (
        torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
        if random
        else torch.zeros(2, *shape)
    )
    return x.to(weight)


def shapes(
    net: nn.Module, paths: Sequence[str], example: Tensor | None = None
) -> dict[str, tuple[int, ...]]:
    """The shapes, without the batch dimension, of the layers' features: one dry run in eval mode
    that leaves no trace.
    """
    with eval_mode(net):
        _, features = Taps(net, paths)(example_input(net, example))
    return {path: tuple(f.shape[1:]) for path, f in features.items()}


def check_same_features(
    student_layer: str, student: Tensor, teacher_layer: str, teacher: Tensor
) -> None:
    """Raises ``ValueError`` with both layers and both shapes unless the two features have equal
    shapes.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student layer {student_layer!r} gives {tuple(student.shape)} but teacher layer "
            f"{teacher_layer!r} gives "
            f"{tuple(teacher.shape)}: choose layers that match, or put a connector between them."
        )
