"""Helpers that make one clear error out of bad input: what was given, what is expected, what to
do."""

import difflib
import dis
import inspect
import re
from collections.abc import Callable, Iterable
from functools import update_wrapper
from types import FunctionType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_RAISE = dis.opmap["RAISE_VARARGS"]
_LIBRARIES = ("torch", "torchvision", "numpy", "pandas", "scipy", "sklearn", "safetensors")


def explained(function: F) -> F:
    """Makes one sentence of what Python, torch or numpy say about bad input: what the function was
    given, and what its docstring expects.

    What somebody raised on purpose, in this package or in a user's own network, passes as it is;
    so does the end of a GPU's memory.

    Args:
        function: With an "Args:" section in its docstring; or a class, for its construction.

    Returns:
        The same function, or the class itself.

    Raises:
        TypeError: At the call, where an argument is not of its kind at all.
        ValueError: At the call, for everything else that cannot be computed.

    Example:
        >>> @explained
        ... def double(x):
        ...     '''Twice as much.
        ...
        ...     Args:
        ...         x: a number.
        ...     '''
        ...     return x + x
        >>> double(None)
        Traceback (most recent call last):
        ...
        TypeError: double(x=None): unsupported operand type(s) for +: 'NoneType' and 'NoneType'. \
Expected x: a number.
    """
    if isinstance(function, type):  # of a class, what its construction says
        if "__init__" in vars(function):
            function.__init__ = _wrapped(function.__init__, function)  # type: ignore[misc]
        return function
    return _wrapped(function, function)


def _wrapped(function, about):
    """The function with its errors explained by the docstring of ``about``, itself or its class."""
    raised, sentence = _raised, _sentence  # this function's body runs among another module's names

    def run(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if raised(error):
                raise
            kind = TypeError if isinstance(error, (TypeError, AttributeError)) else ValueError
            raise kind(sentence(function, about, args, kwargs, error)) from error

    # Among the names of the function's own module, for doctest looks there whose a function is.
    code, names = run.__code__, inspect.unwrap(function).__globals__
    made = FunctionType(code, names, function.__name__, None, run.__closure__)
    return update_wrapper(made, function)


def _raised(error: Exception) -> bool:
    """Did somebody say this on purpose: by ``raise``, and not inside a library?"""
    # What lacks outside the call is no bad input: a file, a package, memory.
    outside = isinstance(error, (OSError, ImportError, MemoryError, Warning))
    if outside or type(error).__name__ == "OutOfMemoryError" or error.__traceback__ is None:
        return True
    if str(error).startswith("vmap: "):  # what torch.func cannot do is no bad input either
        return True
    # Called with arguments that it has not: Python's own sentence names them.
    if error.__traceback__.tb_next is None:
        return True
    home, by_raise = _origin(error)
    return by_raise and home not in _LIBRARIES


def said_by_us(error: Exception) -> bool:
    """Was an error raised by this package, and so a sentence already?

    Args:
        error: As it was caught.

    Example:
        >>> try:
        ...     check_variant("none")
        ... except ValueError as error:
        ...     print(said_by_us(error))
        True
    """
    return _origin(error) == ("kdtutor", True)


def _origin(error: Exception) -> tuple[str, bool]:
    """The package in which an error arose, and whether by ``raise``."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return "", False
    home = str(last.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    return home, last.tb_frame.f_code.co_code[last.tb_lasti] == _RAISE


def _sentence(function, about, args: tuple, kwargs: dict, error: Exception) -> str:
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        given = kwargs
    given = {k: v for k, v in given.items() if k != "self"}
    shown = ", ".join(f"{k}={_shown(v)}" for k, v in given.items())
    text = re.search(r"Args:\n(.*?)(\n\s*\n|\Z)", inspect.getdoc(about) or "", re.DOTALL)
    entries = re.split(r"\n    (?=\S)", "\n" + text[1]) if text else []
    # Of what was given, and of each the first sentence.
    said = [re.sub(r"\s+", " ", e).split(". ")[0].rstrip(".") for e in entries]
    asked = [e for e in said if {n.strip(" *") for n in e.partition(":")[0].split(",")} & {*given}]
    expected = ("; ".join(asked) or "what its docstring says") + "."
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else "impossible"
    return f"{about.__name__}({shown}): {reason}. Expected {expected}"


def _shown(value) -> str:
    """A value in a few words: a tensor or an array by its type and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "" if type(value).__name__ == "Tensor" else f"{type(value).__name__} "
        return f"{kind}{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 40 else type(value).__name__


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> ValueError:
    """The error for a name that does not exist, with its near matches.

    Args:
        kind: What the name is of: "network", "dataset".
        name: What was given.
        known: All names that exist.
        hint: A further sentence.

    Returns:
        A ``ValueError`` to raise. Where no name is near it lists the known ones, at most 40.

    Example:
        >>> unknown("network", "resnet21", ["resnet20", "vgg"])
        ValueError("unknown network 'resnet21'. Did you mean 'resnet20'?")
    """
    known, word = [str(k) for k in known], str(name)
    near = difflib.get_close_matches(word, known, n=5, cutoff=0.5)
    near += [k for k in known if k not in near and word and word.lower() in k.lower()][
        : 5 - len(near)
    ]
    listed = (
        f"Did you mean {', '.join(map(repr, near))}?"
        if near
        else f"Known: {', '.join(known[:40])}."
    )
    return ValueError(f"unknown {kind} {name!r}. {listed}{' ' + hint if hint else ''}")


def check_temperature(temperature: float) -> float:
    """Checks a temperature.

    Args:
        temperature: What the logits are divided by.

    Returns:
        The temperature as a float.

    Raises:
        ValueError: Unless it is finite and > 0.

    Example:
        >>> check_temperature(4)
        4.0
    """
    value = float(temperature)
    if not 0 < value < float("inf"):
        raise ValueError(
            f"temperature is {temperature}; it divides the logits, so it must be finite and > 0 "
            "(try 1 to 20)."
        )
    return value


def check_same_shape(name_a: str, a, name_b: str, b) -> None:
    """Checks that two tensors have the same shape and device.

    Args:
        name_a: What the first is called in the message.
        a: A tensor.
        name_b: What the second is called.
        b: A tensor.

    Raises:
        ValueError: With both shapes (or devices), unless they are equal.

    Example:
        >>> from torch import zeros
        >>> check_same_shape("student", zeros(2, 3), "teacher", zeros(2, 3))
    """
    check_same_device(name_a, a, name_b, b)
    if a.shape != b.shape:
        raise ValueError(
            f"{name_a} has shape {tuple(a.shape)} but {name_b} has shape {tuple(b.shape)}: they "
            "must be equal. For logits this usually means different numbers of classes."
        )


def check_same_device(name_a: str, a, name_b: str, b) -> None:
    """Checks that two tensors lie on the same device.

    Args:
        name_a: What the first is called in the message.
        a: A tensor.
        name_b: What the second is called.
        b: A tensor.

    Raises:
        TypeError: For anything but tensors.
        ValueError: With both devices, unless they are equal.

    Example:
        >>> from torch import zeros
        >>> check_same_device("student", zeros(2), "teacher", zeros(3))
    """
    for name, value in ((name_a, a), (name_b, b)):
        if not hasattr(value, "requires_grad"):
            raise TypeError(
                f"{name} is a {type(value).__name__}; expected a torch.Tensor: "
                "torch.as_tensor(values)."
            )
    if a.device != b.device:
        raise ValueError(
            f"{name_a} is on {a.device} but {name_b} is on {b.device}: move both to one device "
            "with .to(device). ``fit`` moves student, teacher and data by itself."
        )


def check_variant(variant: str) -> str:
    """Checks the variant of a method.

    Args:
        variant: "paper", the formula as published, or "code", the authors' public code.

    Returns:
        The variant.

    Raises:
        ValueError: Unless it is one of the two.

    Example:
        >>> check_variant("paper")
        'paper'
    """
    if variant not in ("paper", "code"):
        raise unknown(
            "variant",
            variant,
            ("paper", "code"),
            "'paper' is the formula as published, 'code' the authors' public code.",
        )
    return variant


def check_weights(**weights: float) -> None:
    """Checks the weights of a loss's terms.

    Args:
        **weights: Name and value of each.

    Raises:
        ValueError: Unless every weight is finite and >= 0 and one of them is > 0.

    Example:
        >>> check_weights(alpha=0, beta=0)
        Traceback (most recent call last):
        ...
        ValueError: alpha=0, beta=0: weights must be finite and >= 0, and at least one of them > 0.
    """
    if not all(0 <= float(w) < float("inf") for w in weights.values()) or not any(weights.values()):
        given = ", ".join(f"{k}={v}" for k, v in weights.items())
        raise ValueError(f"{given}: weights must be finite and >= 0, and at least one of them > 0.")
