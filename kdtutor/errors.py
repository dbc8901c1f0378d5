"""Helpers that make one clear error out of bad input: what was given, what is expected, what to
do."""

import difflib
from collections.abc import Iterable


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
        ValueError: With both devices, unless they are equal.

    Example:
        >>> from torch import zeros
        >>> check_same_device("student", zeros(2), "teacher", zeros(3))
    """
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
