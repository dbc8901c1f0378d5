"""Inputs of hidden tests: drawn from a seed that only the instructor knows."""

import hashlib
import os

VARIABLE = "KDTUTOR_GRADING_SEED"


def hidden_seed(name: str) -> int:
    """A seed in [0, 2**63) from the environment variable ``KDTUTOR_GRADING_SEED`` (any text; may be
    absent) and the test's name.
    """
    text = f"{os.environ.get(VARIABLE, '')}/{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def hidden_generator(name: str):
    """A ``torch.Generator`` for one hidden test: the same inputs for all students, and others for
    another private seed.

    name: "assignment/exercise", so that two tests never share their inputs. The sources of the
    assignments are public, so without a private seed the inputs of the hidden tests are public too;
    the tests work all the same."""
    import torch

    return torch.Generator().manual_seed(hidden_seed(name))
