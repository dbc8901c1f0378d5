"""What a grid is made of, by name or by object: methods with their settings, networks, datasets.
All become plain data and back.

A choice is named in a way that two equal choices share and two different ones do not: "RKD-DA" and
"RKD" are one method; an object is known by its name and by a digest of what it is (a network's
layers, a class's source, a dataset's examples)."""

import ast
import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .. import datasets, methods, models
from ..datasets import Data
from ..datasets.batch import digest, leaves
from ..methods import Composition, Distiller
from ..teacher import Teacher


def short_hash(value) -> str:
    """Twelve hex digits that name plain data."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class MethodChoice:
    """A method with settings. label: how tables call it.   parts: {name: (class, settings)}, more
    than one for a composition.

    ``MethodChoice.of`` takes a class, its name or the papers' short name ("SP"), these with
    settings ("RKD(distance_weight=10)"), ``functools.partial(RKD, distance_weight=10)``, and sums
    of names ("AT+Hinton"). Raises ``ValueError`` with the near matches."""

    label: str
    parts: dict[str, tuple[type[Distiller], dict[str, Any]]] = field(compare=False)

    @classmethod
    def of(cls, choice) -> "MethodChoice":
        if isinstance(choice, MethodChoice):
            return choice
        if isinstance(choice, str):
            parts = {text.split("(")[0].strip(): _parse(text) for text in _summands(choice)}
            label = (
                methods.method(choice).name
                if _in_catalog(choice) and choice.lower() == methods.method(choice).name.lower()
                else choice
            )
            return cls(label.replace(" ", ""), parts)
        settings = dict(choice.keywords) if isinstance(choice, functools.partial) else {}
        kind = choice.func if isinstance(choice, functools.partial) else choice
        if not (isinstance(kind, type) and issubclass(kind, Distiller)) or getattr(
            choice, "args", ()
        ):
            raise ValueError(
                f"{choice!r} is no method: expected a Distiller class, functools.partial(a class, "
                "setting=value, ...), or a "
                "name such as 'Hinton' or 'RKD(distance_weight=10)'."
            )
        shown = f"({', '.join(f'{k}={v!r}' for k, v in settings.items())})" if settings else ""
        return cls(kind.__name__ + shown, {kind.__name__: (kind, settings)})

    @property
    def needs_teacher(self) -> bool:
        return any(
            "teacher" in inspect.signature(kind).parameters for kind, _ in self.parts.values()
        )

    def plain(self) -> list[dict]:
        """What it is, as plain data: equal for equal methods, whatever they were called."""
        found = []
        for name, (kind, settings) in self.parts.items():
            known = {k: v for k, v in settings.items() if _differs(kind, k, v)}
            found.append(
                {
                    "class": kind.__qualname__
                    if kind.__module__.startswith("kdtutor.")
                    else _about(kind),
                    "settings": known,
                }
                | ({"name": name} if len(self.parts) > 1 else {})
            )
        return found

    def build(self, make_student: Callable[[int], nn.Module], teacher: Teacher | None) -> Distiller:
        """The distiller around make_student(0); methods of several networks get make_student(1),
        ... as well.
        """
        student = make_student(0)
        made = {
            name: self._one(kind, dict(settings), student, make_student, teacher)
            for name, (kind, settings) in self.parts.items()
        }
        return next(iter(made.values())) if len(made) == 1 else Composition(made)

    def _one(self, kind, settings, student, make_student, teacher) -> Distiller:
        wanted = inspect.signature(kind).parameters
        peers = settings.pop("peers", 2)
        wrong = [
            k
            for k in settings
            if k not in wanted and not any(p.kind is p.VAR_KEYWORD for p in wanted.values())
        ]
        if wrong:
            raise methods_error(kind, wrong[0], wanted)
        if "students" in wanted:
            return kind([student, *(make_student(i) for i in range(1, peers))], **settings)
        if "teacher" not in wanted:
            return kind(student, **settings)
        if teacher is None:
            raise ValueError(
                f"{self.label} learns from a teacher, and this grid has none: "
                "Grid(teacher='resnet20', ...)."
            )
        return kind(student, teacher, **settings)


def methods_error(kind, name, wanted) -> ValueError:
    from ..errors import unknown

    return unknown(
        f"setting of {kind.__name__}",
        name,
        [k for k in wanted if k not in ("student", "teacher", "students")],
    )


def sweep(method, **values) -> list:
    """One method at several settings: sweep("Hinton", temperature=[1, 4, 16]) ->
    ["Hinton(temperature=1)", ...].
    """
    import itertools

    rows = [
        dict(row)
        for row in itertools.product(*([(k, v) for v in options] for k, options in values.items()))
    ]
    name = method if isinstance(method, str) else method.__name__
    if not _in_catalog(name):  # a class of the user's own has no name to look up
        return [functools.partial(method, **row) for row in rows]
    return [f"{name}({', '.join(f'{k}={v!r}' for k, v in row.items())})" for row in rows]


def network(choice, data: Data, seed: int) -> nn.Module:
    """A network by name (``models.build``), fitted to the data's images and classes, or from a
    function without arguments.
    """
    torch.manual_seed(seed)
    if callable(choice):
        return choice()
    shape = leaves(data.train.x)[0].shape[1:]
    size = tuple(shape[1:]) if len(shape) == 3 else (1, shape[0])
    return models.build(
        choice,
        classes=len(data.classes),
        channels=shape[0] if len(shape) == 3 else 1,
        image_size=size,
    )


def network_name(choice) -> str:
    """A network's name in specs; a function's has a digest of the network that it makes and of the
    user's own classes in it.
    """
    if not callable(choice):
        return str(choice)
    with torch.random.fork_rng():
        net = choice()
    own = {
        type(m)
        for m in net.modules()
        if not type(m).__module__.startswith(("torch.", "torchvision.", "kdtutor."))
    }
    return f"{getattr(choice, '__qualname__', type(choice).__name__)}/{short_hash([repr(net), sorted(map(_about, own))])}"


def dataset_name(choice) -> str:
    """What a table calls the dataset."""
    return choice.name if isinstance(choice, Data) else str(choice)


@functools.lru_cache(maxsize=8)
def dataset_digest(choice, root: str) -> str:
    """A digest of all that training sees of a dataset: images, labels, augmentation, normalisation,
    classes.
    """
    data = dataset(choice, root)
    splits = [[s.source, digest([s.index, *leaves(s.y)])] for s in (data.train, data.test)]
    augment = (
        repr(data.augment)
        if data.augment is None or data.views is not None
        else _code(data.augment)
    )
    return short_hash([splits, augment, list(data.mean), list(data.std), list(data.classes)])


@functools.lru_cache(maxsize=2)
def _loaded(name: str, root: str) -> Data:
    return datasets.load(name, root=root)


def dataset(choice, root: str) -> Data:
    """The dataset: loaded by name, once per process, or the object itself."""
    return choice if isinstance(choice, Data) else _loaded(str(choice), str(root))


def _in_catalog(name: str) -> bool:
    try:
        return bool(methods.method(name))
    except ValueError:
        return False


def _summands(text: str) -> list[str]:
    """Splits at every + that is in no bracket and no name ("BAN+L")."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == "+" and not depth:
            parts.append("")
        else:
            parts[-1] += c
    whole = [parts[0]]
    for part in parts[1:]:
        together = f"{whole[-1].strip()}+{part.strip()}"
        name = together.split("(")[0]
        whole[-1:] = [together] if "+" in name and _in_catalog(name) else [whole[-1], part]
    return whole


def _parse(text: str) -> tuple[type[Distiller], dict]:
    """ "RKD-D(layers='fc:input')" -> the class and its settings, those of the catalog's row
    included.
    """
    name, bracket, rest = text.strip().partition("(")
    row = methods.method(name.strip())
    if not bracket:
        return row.distiller, dict(row.settings)
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if call.args:
            raise ValueError("settings are given by name")
        return row.distiller, dict(row.settings) | {
            k.arg: ast.literal_eval(k.value) for k in call.keywords
        }
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(
            f"method {text!r} cannot be read ({error}): expected a name with plain settings, such "
            "as "
            "'RKD(distance_weight=10)'."
        ) from None


def _differs(kind, name: str, value) -> bool:
    parameter = inspect.signature(kind).parameters.get(name)
    return parameter is None or parameter.default != value


def _about(kind: type) -> str:
    """A class of the user's own: its name and a digest of its source and of its own bases', so that
    a changed class is another method.
    """
    own = [
        k
        for k in kind.__mro__
        if not k.__module__.startswith(("torch.", "torchvision.", "kdtutor.", "builtins"))
    ]
    return f"{kind.__qualname__}/{short_hash([_source(k) for k in own])}"


def _source(kind: type):
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # a class that was defined in a notebook or at a prompt
        return [
            [name, _code(value)]
            for name, value in sorted(vars(kind).items())
            if not name.startswith("__") or callable(value)
        ]


def _code(value) -> Any:
    """What a function does, or what a value is, without where it was written."""
    function = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
    code = value if inspect.iscode(value) else getattr(function, "__code__", None)
    if code is None:
        return repr(value)
    given = [repr(getattr(function, name, None)) for name in ("__defaults__", "__kwdefaults__")]
    return [code.co_code.hex(), list(code.co_names), [_code(c) for c in code.co_consts], given]
