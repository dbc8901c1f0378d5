"""Read intermediate features of any torch module by module path, with forward hooks that exist only
during the call.

A path is what ``named_modules()`` prints ("layer2.1"); it means the module's output.
"layer2.1.relu2:input" means its input: the features before a ReLU. "layer2.1.relu#2" means the
second time that a module runs in one forward pass (torchvision's blocks use one ReLU twice).
"features.1:channels_last" is an output (B, H, W, C), as Swin transformers have them, given as
(B, C, H, W); ":tokens" and ":patches=14x14+1" are the like for tokens (``turns``).
A network inside torch.compile, nn.DataParallel or models.adapt keeps its paths; while layers are
read, compiled code runs as the Python that it was made from.
Inside an attention module (nn.MultiheadAttention, transformers' own) "encoder.attn:queries",
":keys", ":values" and ":attention" mean what no module returns (``attention.watch``).
Nothing in the network changes, so one network can serve several readers."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import explained, unknown
from .attention import SIDES, check_attention, watch
from .logits import call
from .modes import eval_mode, unpacked_attention
from .turns import FIRST, LAST, TOKENS, turn_of, turned
from .wrapped import eagerly, is_compiled, modules_by_path
from .written_down import check_layers


class _Read(Exception):
    """Everything that was asked for has been read."""


# By network and layers: does something later in the forward pass, such as an in-place ReLU,
# overwrite what was read? Then copies are kept.
_overwritten: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()


@explained
class Taps:
    """Reads named layers of a network while it runs.

    The hooks exist only during the call, and what a later in-place operation would overwrite is
    copied.

    Args:
        net: any torch module.
        layers: paths; see the top of this file for ":input", "#2" and paths into attention.
        stop: end the forward pass as soon as all layers are read: no later layer runs.

    Returns:
        From a call with x (a tensor, or a mapping of named arguments): (output, features). The
        output is what the network returned, None after a stop; features maps every path to its
        tensor, attached to the graph.

    Raises:
        ValueError: at construction, for a path that does not exist (with the near matches); at the
            call, for a layer that ran more than once (a shared module has no single feature: say
            which run), did not run, or returned no tensor.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> output, features = Taps(net, ["1", "2:input"])(torch.rand(5, 4))
        >>> output.shape, features["1"].shape
        (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    def __init__(self, net: nn.Module, layers: Sequence[str], stop: bool = False):
        self.net, self.layers, self.stop = (
            net,
            list(dict.fromkeys([layers] if isinstance(layers, str) else layers)),
            stop,
        )
        modules = dict(net.named_modules())
        if self.layers:
            check_layers(net)
        self._points = []
        for layer in self.layers:
            path, _, side = layer.partition(":")
            path, _, run = path.partition("#")
            if turn_of(layer):
                side = side.rpartition(":")[0]
            module = modules[path] if path in modules else modules_by_path(net).get(path)
            if module is None or not path:
                raise unknown(
                    f"layer path in {type(net).__name__}",
                    path,
                    [m for m in modules_by_path(net) if m],
                    "kdtutor.taps.layers(net) lists all of them.",
                )
            if side not in ("", "input", "output", *SIDES):
                raise ValueError(
                    f"layer {layer!r}: after the colon comes 'input' or 'output', {LAST!r} for an "
                    f"output (B, H, W, C), {TOKENS!r} or 'patches=14x14+1' for tokens (B, N, D), "
                    f"{FIRST!r} for channels at axis 1, or, inside an attention module, one of "
                    f"{SIDES}; not {side!r}."
                )
            check_layers(module)
            if side in SIDES:
                check_attention(module, layer)
            if run and not (run.isdigit() and int(run)):
                raise ValueError(
                    f"layer {layer!r}: after '#' comes which run of the module is meant, 1, 2, "
                    f"..., not {run!r}."
                )
            self._points.append((layer, module, side, int(run or 0)))

        self._compiled = bool(self.layers) and is_compiled(modules.values())
        self._attends = any(side in SIDES for _, _, side, _ in self._points)

    def __call__(self, x: Any) -> tuple[Any, dict[str, Tensor]]:
        key, known = (*self.layers, self.stop), _overwritten.setdefault(self.net, {})
        if key not in known:
            # One run aside: copies in one step and none in the next would change the order of sums
            # in the gradient.
            with torch.inference_mode(False), eval_mode(self.net):
                known[key] = self._run(x, copy=False)[2]
        output, features, changed = self._run(x, copy=known[key])
        if changed and not known[key]:
            known[key] = True
            raise RuntimeError(
                f"{type(self.net).__name__} overwrites one of {self.layers} in place now, which "
                "it did not do before: run it again, and copies will be kept."
            )
        return output, features

    def _run(self, x: Any, copy: bool) -> tuple[Any, dict[str, Tensor], bool]:
        """One forward pass: output, features, and whether something wrote into a feature after it
        was read.
        """
        features: dict[str, Tensor] = {}
        runs: dict[str, int] = {}
        hooks, originals = [], []

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
                    "'its' feature is ambiguous. Say which run is meant "
                    f"('{layer.partition(':')[0]}#2'), or tap the block around it."
                )
            features[layer] = turned(layer, value.clone() if copy else value)
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
            with (
                unpacked_attention(self.net) if self._attends else nullcontext(),
                eagerly(self._compiled),
            ):
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


@explained
def layers(net: nn.Module) -> list[str]:
    """All module paths of a network, in the order of definition.

    Args:
        net: any torch module.

    Returns:
        The paths, as ``Taps`` takes them: the network's own, whatever runs it (``torch.compile``,
        ``nn.DataParallel``, ``models.adapt``).

    Example:
        >>> layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        ['0', '1']
    """
    return [name for name in modules_by_path(net) if name]


@explained
def check_same_features(
    student_layer: str, student: Tensor, teacher_layer: str, teacher: Tensor
) -> None:
    """Checks that two features have equal shapes.

    Args:
        student_layer: the path that the error names.
        student: the feature.
        teacher_layer: the other path.
        teacher: the other feature.

    Raises:
        ValueError: unless they do; it names both layers and both shapes.

    Example:
        >>> check_same_features("fc", torch.zeros(2, 3), "head", torch.ones(2, 3))
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student layer {student_layer!r} gives {tuple(student.shape)} but teacher layer "
            f"{teacher_layer!r} gives {tuple(teacher.shape)}: choose layers "
            "that match, or put a connector between them."
        )
