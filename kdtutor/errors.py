"""Helpers that make one clear error out of bad input: what was given, what is expected, what to
do."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> ValueError:
    """A ``ValueError`` for a name that does not exist, with its near matches (or, where none is
    near, all known names).
    """
    known = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), known, n=5, cutoff=0.5)
    near += [
        k for k in known if k not in near and str(name).lower() and str(name).lower() in k.lower()
    ][: 5 - len(near)]
    listed = (
        f"Did you mean {', '.join(map(repr, near))}?"
        if near
        else f"Known: {', '.join(known[:40])}."
    )
    return ValueError(f"unknown {kind} {name!r}. {listed}{' ' + hint if hint else ''}")


def check_temperature(temperature: float) -> float:
    """The temperature as a float. Raises ``ValueError`` unless it is finite and > 0."""
    value = float(temperature)
    if not 0 < value < float("inf"):
        raise ValueError(
            f"temperature is {temperature}; it divides the logits, so it must be finite and > 0 "
            "(try 1 to 20)."
        )
    return value


def check_same_shape(name_a: str, a, name_b: str, b) -> None:
    """Raises ``ValueError`` with both shapes (or devices) unless the two tensors have the same
    shape and device.
    """
    check_same_device(name_a, a, name_b, b)
    if a.shape != b.shape:
        raise ValueError(
            f"{name_a} has shape {tuple(a.shape)} but {name_b} has shape {tuple(b.shape)}: they "
            "must be equal. "
            "For logits this usually means different numbers of classes."
        )


def check_same_device(name_a: str, a, name_b: str, b) -> None:
    """Raises ``ValueError`` with both devices unless the two tensors lie on the same one."""
    if a.device != b.device:
        raise ValueError(
            f"{name_a} is on {a.device} but {name_b} is on {b.device}: move both to one device "
            "with .to(device). "
            "``fit`` moves student, teacher and data by itself."
        )


def check_variant(variant: str) -> str:
    """The variant. Raises ``ValueError`` unless it is "paper" or "code"."""
    if variant not in ("paper", "code"):
        raise unknown(
            "variant",
            variant,
            ("paper", "code"),
            "'paper' is the formula as published, 'code' the authors' public code.",
        )
    return variant


def check_weights(**weights: float) -> None:
    """Raises ``ValueError`` unless every weight is finite and >= 0 and one of them is > 0."""
    if not all(0 <= float(w) < float("inf") for w in weights.values()) or not any(weights.values()):
        given = ", ".join(f"{k}={v}" for k, v in weights.items())
        raise ValueError(f"{given}: weights must be finite and >= 0, and at least one of them > 0.")
