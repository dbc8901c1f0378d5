"""What makes two runs the same: any value as plain data that equal values share, and a short hash.

``parts`` says what a value is in simpler values, one kind of thing at a time; ``describe`` follows
them down to plain data. A type that this room cannot know is registered with ``parts.register``; an
object of the user's own may say what it is by a method ``identity()``."""

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any

import numpy as np

from .code import is_own
from .kinds import parts

LEAVES = (bool, str, type(None))


def short_hash(plain) -> str:
    """Twelve hex digits that name plain data.

    Args:
        plain: what JSON can hold: dicts with text as keys, lists, numbers, text, None. Equal
            numbers have equal hashes (8 and 8.0), and the order of a dict's keys does not matter.

    Returns:
        Twelve hex digits.

    Example:
        >>> short_hash({"lr": 8, "seed": 0}) == short_hash({"seed": 0, "lr": 8.0})
        True
    """
    text = json.dumps(_numbers(plain), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _numbers(value):
    """Whole floats as integers, so that equal numbers are written alike."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def describe(value) -> Any:
    """What a value is, as plain data: equal for things that are the same, wherever they were
    written.

    Functions are what they compute, with what they close over and reach; classes of the user's own
    their members; objects their class and state; networks their architecture, attributes and
    weights; tensors and arrays their type, shape and content. Two definitions of one thing are
    equal, in this process or another; a change anywhere in what they reach is another.

    Args:
        value: anything; an object may say what it is by a method ``identity()`` without arguments.

    Returns:
        Lists, dicts, text, numbers and None, ready for JSON.

    Raises:
        ValueError: for what has no state to be told by (a lock, an open file), with the way there.

    Example:
        >>> describe([8.0, "adam", None])
        [8, 'adam', None]
        >>> describe(lambda x: 2 * x) == describe(lambda x: 2 * x) != describe(lambda x: 3 * x)
        True
    """
    return _Walk().plain(value, [])


def named(value) -> str:
    """A readable name with a digest: "cosine" for what kdtutor or torch defines, "mine/1f2e..." for
    the user's own.

    Args:
        value: a function, a class or an object, such as a schedule, a metric or an augmentation.

    Returns:
        The name alone where it says everything.

    Example:
        >>> from pathlib import Path
        >>> named(None), named(Path.exists), named(lambda p: 1 - p).split("/")[0]
        ('None', 'exists', '<lambda>')
    """
    if isinstance(value, LEAVES):
        return str(value)
    name = getattr(value, "__name__", None) or type(value).__name__
    home, where = (getattr(value, k, None) or "" for k in ("__module__", "__qualname__"))
    # kdtutor's makers of functions put what they were given into the name: "sgd(lr=0.1, ...)".
    whole = "<" not in where or (home.startswith("kdtutor.") and name[0] != "<")
    if where and whole and not is_own(home or "builtins"):
        return name
    return f"{name}/{short_hash(describe(value))}"


class _Walk:
    """One description: what is being told now (for cycles), and what was told (each once)."""

    def __init__(self) -> None:
        self.open: list[int] = []
        self.told: dict[int, tuple[Any, Any]] = {}
        self.back = 0  # the outermost of ``open`` that a cycle led back to since it was reset

    def plain(self, value, way: list[str]):
        if isinstance(value, Enum):
            return {"enum": [type(value).__name__, value.name]}
        if isinstance(value, LEAVES):
            return str(value) if isinstance(value, str) else value
        if isinstance(value, (int, float, np.integer, np.floating)):
            number = value.item() if isinstance(value, np.generic) else value
            whole = isinstance(number, int) or number.is_integer()
            return int(number) if whole else float(number)
        if id(value) in self.told:
            return self.told[id(value)][1]
        if id(value) in self.open:
            at = self.open.index(id(value))
            self.back = min(self.back, at)
            return {"up": len(self.open) - at}
        outer, self.back = self.back, len(self.open)
        self.open.append(id(value))
        found = self._inside(value, way)
        self.open.pop()
        # What leads back to something that is still open means another thing elsewhere: not kept.
        if self.back >= len(self.open):
            self.told[id(value)] = (value, found)  # with the value: an id is used again
        self.back = min(self.back, outer)
        return found

    def _inside(self, value, way):
        if isinstance(value, Mapping):
            pairs = [
                [self.plain(k, way), self.plain(v, [*way, str(k)[:40]])] for k, v in value.items()
            ]
            return {"dict": sorted(pairs, key=_text)}
        if isinstance(value, AbstractSet):
            return {"set": sorted((self.plain(v, way) for v in value), key=_text)}
        if isinstance(value, (list, tuple)):
            return [self.plain(v, way) for v in value]
        try:
            kind, inside = _say(value)
        except (TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"cannot tell what a {type(value).__name__} is"
                f"{f' (reached by {chr(46).join(way)})' if way else ''}, so that this run could "
                f"not be told from another ({error}). Give it a method identity() that returns "
                "what decides its results, as numbers, text, lists and dicts, or leave it out of "
                "what the run is made of."
            ) from error
        name = getattr(value, "__name__", None) or type(value).__name__
        # Hashed, so that what is reached often is not written out often.
        return {kind: short_hash(self.plain(inside, [*way, str(name)]))}


def _text(plain) -> str:
    return json.dumps(_numbers(plain), sort_keys=True)


def _say(value) -> tuple[str, Any]:
    own = getattr(type(value), "identity", None)
    return (
        ("identity", [type(value), value.identity()])
        if callable(own) and not isinstance(value, type)
        else parts(value)
    )
