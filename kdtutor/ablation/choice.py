"""What a grid is made of, by name or by object: methods with their settings, networks, datasets.
All become plain data and back.

A choice is named in a way that two equal choices share and two different ones do not: "RKD-DA" and
"RKD" are one method; an object is known by its name and by a digest of what it is (a network's
layers, a class's source, a dataset's examples)."""

import ast
import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .. import datasets, methods, models
from ..datasets import Data, GeneratedData, LoaderData
from ..datasets.data import leaves
from ..methods import Composition, Distiller
from ..runs import describe, named, short_hash
from ..runs.architecture import architecture, weights
from ..teacher import Teacher

OBJECTS = (Data, GeneratedData, LoaderData)


@dataclass(frozen=True)
class MethodChoice:
    """A method with settings.

    Attributes:
        label: How tables call it.
        parts: {name: (class, settings)}, more than one for a composition.

    Example:
        >>> MethodChoice.of("RKD(distance_weight=10)").label
        'RKD(distance_weight=10)'
        >>> list(MethodChoice.of("AT+Hinton").parts)
        ['AT', 'Hinton']
    """

    label: str
    parts: dict[str, tuple[type[Distiller], dict[str, Any]]] = field(compare=False)

    @classmethod
    def of(cls, choice) -> "MethodChoice":
        """The method that is meant.

        Args:
            choice: A class, its name or the papers' short name ("SP"), these with settings
                ("RKD(distance_weight=10)"), ``functools.partial(RKD, distance_weight=10)``, a sum
                of names ("AT+Hinton"), or a ``MethodChoice``.

        Returns:
            A ``MethodChoice``.

        Raises:
            ValueError: For an unknown name, with the near matches; for what is no method.
        """
        if isinstance(choice, MethodChoice):
            return choice
        if isinstance(choice, str):
            parts: dict[str, tuple[type[Distiller], dict[str, Any]]] = {}
            for text in _summands(choice):
                name = text.split("(")[0].strip()
                again = sum(known.partition("_")[0] == name for known in parts)
                parts[f"{name}_{again + 1}" if again else name] = _parse(text)
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
        """Does any of its parts learn from a teacher?"""
        return any(
            "teacher" in inspect.signature(kind).parameters for kind, _ in self.parts.values()
        )

    def plain(self) -> list[dict]:
        """What it is, as plain data: equal for equal methods, whatever they were called.

        Returns:
            A dictionary per part: class, settings that differ from the defaults, and, in a
            composition, name.
        """
        found = []
        for name, (kind, settings) in self.parts.items():
            known = {k: _setting(v) for k, v in settings.items() if _differs(kind, k, v)}
            found.append(
                {"class": named(kind), "settings": known}
                | ({"name": name} if len(self.parts) > 1 else {})
            )
        return found

    def build(self, make_student: Callable[[int], nn.Module], teacher: Teacher | None) -> Distiller:
        """The distiller around a student.

        Args:
            make_student: The student is make_student(0); methods of several networks get
                make_student(1), ... as well.
            teacher: None for a method that needs none.

        Returns:
            A ``Distiller``, a ``Composition`` where there are several parts.

        Raises:
            ValueError: For a setting the method does not have, and for a missing teacher.
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
    """The error for a setting that a method does not have.

    Args:
        kind: The method's class.
        name: The setting that was given.
        wanted: Names of the parameters that it has.

    Returns:
        A ``ValueError`` with the near matches.
    """
    from ..errors import unknown

    return unknown(
        f"setting of {kind.__name__}",
        name,
        [k for k in wanted if k not in ("student", "teacher", "students")],
    )


def sweep(method, **values) -> list:
    """One method at several settings: every combination of them.

    Args:
        method: A class or a name.
        **values: Each setting with the values that it takes.

    Returns:
        Choices for ``Grid(methods=…)``: texts, or ``functools.partial`` of a class of your own.

    Example:
        >>> sweep("Hinton", temperature=[1, 4])
        ['Hinton(temperature=1)', 'Hinton(temperature=4)']
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
    """A network that fits the data.

    Args:
        choice: A name for ``models.build``, fitted to the data's images and classes, a function
            without arguments that makes a network, or a network, of which a copy is taken.
        data: Decides classes, channels and image size.
        seed: Of its weights.

    Returns:
        A torch module.
    """
    torch.manual_seed(seed)
    if isinstance(choice, nn.Module):
        return copy.deepcopy(choice)
    if callable(choice):
        return choice()
    # Data that are not in memory show their size by a batch.
    shown = leaves(data.train.x) or leaves(next(iter(data.batches(data.train, 2))).x)
    shape = shown[0].shape[1:]
    size = tuple(shape[1:]) if len(shape) == 3 else (1, shape[0])
    return models.build(
        choice,
        classes=len(data.classes),
        channels=shape[0] if len(shape) == 3 else 1,
        image_size=size,
    )


def finished(choice) -> bool:
    """Is a teacher one that was trained already: a network, or a ``Teacher``?

    Args:
        choice: Of ``Grid(teacher=...)``.

    Example:
        >>> finished(nn.Linear(2, 2)), finished("resnet8")
        (True, False)
    """
    return isinstance(choice, (nn.Module, Teacher))


def teacher_from(choice, data: Data, seed: int = 0) -> Teacher:
    """The teacher that is meant, untrained where it is a name or a function.

    Args:
        choice: As for ``network``, or a ``Teacher``, of which a copy is taken.
        data: As for ``network``.
        seed: Of the weights of an untrained one.

    Returns:
        A ``Teacher``.
    """
    if isinstance(choice, Teacher):
        return copy.deepcopy(choice)
    return Teacher(network(choice, data, seed))


def network_name(choice) -> str:
    """A network's name in specs.

    Args:
        choice: A name for ``models.build``, a function without arguments that makes a network, a
            network, or a ``Teacher``.

    Returns:
        The name. A network's is its class with a digest of its layers and weights, a teacher's
        those of its networks. A function's is its name with a digest of the network that it makes:
        architecture, attributes, the weights that it loads (those that are equal under two seeds),
        and how far the others are spread.

    Example:
        >>> network_name("resnet8")
        'resnet8'
    """
    if isinstance(choice, Teacher):
        whole = "+".join(map(network_name, choice.nets))
        return f"{whole} ({choice.mean})" if len(choice.nets) > 1 else whole
    if isinstance(choice, nn.Module):
        return f"{type(choice).__name__}/{short_hash(describe(choice))}"
    if not callable(choice):
        return str(choice)
    nets = []
    with torch.random.fork_rng():
        for seed in (0, 1):
            torch.manual_seed(seed)
            nets.append(choice())
    values = {
        name: a if torch.equal(a, b) else _spread(a)
        for (name, a), b in zip(weights(nets[0]).items(), weights(nets[1]).values())
    }
    name = getattr(choice, "__qualname__", type(choice).__name__)
    return f"{name}/{short_hash(describe([architecture(nets[0]), values]))}"


def _spread(drawn) -> list[str]:
    """How random weights are drawn: two digits, since machines round the same draws differently."""
    return [f"{v:.1e}" for v in (drawn.float().std(correction=0).item(), drawn.abs().max().item())]


def dataset_name(choice, root: str) -> str:
    """What a table calls the dataset."""
    named = isinstance(choice, OBJECTS) or callable(choice)
    return dataset(choice, root).name if named else str(choice)


def dataset_digest(choice, root: str) -> str:
    """A digest of a dataset's content: splits, augmentation, normalisation, classes, task."""
    return short_hash(describe(dataset(choice, root)))


@functools.lru_cache(maxsize=2)
def _loaded(name: str, root: str) -> Data:
    return datasets.load(name, root=root)


@functools.lru_cache(maxsize=2)
def _made(make: Callable) -> Any:
    data = make()
    if not isinstance(data, OBJECTS):
        raise ValueError(
            f"dataset={getattr(make, '__name__', make)!r} returned a {type(data).__name__}; "
            "expected data: a function without arguments that returns from_loaders(...), a Data or "
            "a GeneratedData."
        )
    return data


def dataset(choice, root: str) -> Data:
    """The dataset: loaded by name or made by a function, once per process, or the object itself.

    Args:
        choice: A name or folder for ``datasets.load``, a function without arguments that makes
            data, or data.
        root: The folder that holds the datasets.

    Returns:
        ``Data``, ``GeneratedData`` or ``LoaderData``.

    Raises:
        ValueError: For a function that returns anything else.
    """
    if isinstance(choice, OBJECTS):
        return choice
    return _made(choice) if callable(choice) else _loaded(str(choice), str(root))


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


def _setting(value):
    """Plain numbers and text as they are, anything else as what it is."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else describe(value)
