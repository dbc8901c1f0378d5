"""Inputs of hidden tests: drawn from a seed that only the instructor knows."""

import hashlib
import os

VARIABLE = "KDTUTOR_GRADING_SEED"


def hidden_seed(name: str) -> int:
    """The seed of a hidden test.

    Args:
        name: The test's, "assignment/exercise".

    Returns:
        A whole number in [0, 2**63), from the environment variable ``KDTUTOR_GRADING_SEED`` (any
        text; may be absent) and the name.

    Example:
        >>> hidden_seed("hw1/soften") == hidden_seed("hw1/soften") != hidden_seed("hw1/kl")
        True
    """
    text = f"{os.environ.get(VARIABLE, '')}/{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def hidden_generator(name: str):
    """The source of one hidden test's inputs.

    The same inputs for all students, and others for another private seed. The sources of the
    assignments are public, so without a private seed the inputs of the hidden tests are public too;
    the tests work all the same.

    Args:
        name: "assignment/exercise", so that two tests never share their inputs.

    Returns:
        A ``torch.Generator``.
    """
    import torch

    return torch.Generator().manual_seed(hidden_seed(name))
