"""What a check of a learner's function returns: a plain verdict with a hint, never a bare
traceback.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

UNSOLVED = "nothing to check yet: replace `raise NotImplementedError` with your solution."


@dataclass(frozen=True)
class Verdict:
    """What a check says; true where it passed.

    ``a | b`` is the first of them that failed, else the last.

    Attributes:
        passed: Whether it passed.
        message: One sentence: what was right, or which input went wrong, what came out, what was
            expected, and a hint.

    Example:
        >>> Verdict(True, "one row is right.") | Verdict(False, "the second is off.")
        ✘ not yet: the second is off.
    """

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✔ passed' if self.passed else '✘ not yet'}: {self.message}"

    def __bool__(self) -> bool:
        return self.passed

    def __or__(self, other: "Verdict") -> "Verdict":
        """The first verdict that failed, else the last."""
        return self if not self.passed else other


def judge(function: Callable, *steps: Callable[[Callable], str | None], praise: str) -> Verdict:
    """Runs steps in order on the learner's function.

    Args:
        function: The learner's.
        *steps: Each takes the function, and returns None if all is well or the sentence that helps.
        praise: The message if all steps pass.

    Returns:
        The verdict: the first step that returns a sentence, or raises, decides. An unsolved
        exercise (``NotImplementedError``, or a function that returns None) says so.

    Example:
        >>> step = lambda f: None if f(2) == 4 else f"2 gives {f(2)}, expected 4."
        >>> judge(lambda x: x + 1, step, praise="squares.")
        ✘ not yet: 2 gives 3, expected 4.
    """
    for step in steps:
        try:
            complaint = step(function)
        except NotImplementedError:
            return Verdict(False, UNSOLVED)
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}")
        if complaint:
            return Verdict(False, complaint)
    return Verdict(True, praise)


def compare(got, want, what: str, tolerance: float = 1e-5) -> str | None:
    """Says how two tensors or numbers differ.

    Args:
        got, want: Tensors or numbers.
        what: Names the input.
        tolerance: Of the largest wanted value, or of 1 where that is less.

    Returns:
        None if they agree in shape and value, else a sentence.

    Example:
        >>> compare(0.75, 0.5, "q")
        'q: off by 0.25 at most.'
    """
    import torch

    if got is None:
        return f"{what}: your function returned None. Did you forget `return`?"
    try:
        got = torch.as_tensor(got).float().cpu()
    except (TypeError, ValueError, RuntimeError):
        return (
            f"{what}: your function returned a {type(got).__name__}, expected a tensor or a number."
        )
    want = torch.as_tensor(want).float().cpu()
    if got.shape != want.shape:
        return f"{what}: your result has shape {tuple(got.shape)}, expected {tuple(want.shape)}."
    if not torch.isfinite(got).all():
        return f"{what}: your result holds NaN or Inf. A logarithm of 0, or an overflow in exp?"
    off = (got - want).abs().max().item()
    return (
        f"{what}: off by {off:.3g} at most."
        if off > tolerance * max(1.0, want.abs().max().item())
        else None
    )


def explain(got, want, what: str, mistakes: Mapping[str, object]) -> str | None:
    """Says which of the known mistakes gives exactly this result, or how far off it is.

    Args:
        got, want: Tensors or numbers.
        what: Names the input.
        mistakes: {sentence that helps: the value that this mistake would give}.

    Returns:
        None if got is what is wanted, else a sentence.

    Example:
        >>> explain(4.0, 2.0, "KL", {"the mean is missing: you summed over the batch.": 4.0})
        'KL: the mean is missing: you summed over the batch.'
    """
    import torch

    complaint = compare(got, want, what)
    if complaint is None or got is None or not isinstance(got, (int, float, torch.Tensor)):
        return complaint
    for sentence, value in mistakes.items():
        value = torch.as_tensor(value)
        if torch.isfinite(value).all() and compare(got, value, what) is None:
            return f"{what}: {sentence}"
    return complaint
