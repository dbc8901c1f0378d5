"""What the test cells of the assignments call: a verdict, or a comparison, that fails the cell."""

from .verdict import UNSOLVED, Verdict, compare


def require(verdict: Verdict) -> None:
    """Prints a verdict that passed, and fails the cell of one that did not.

    Args:
        verdict: Of a check.

    Raises:
        AssertionError: With the hint, unless it passed.
        NotImplementedError: Where nothing is solved.

    Example:
        >>> require(Verdict(True, "rows sum to 1."))
        ✔ passed: rows sum to 1.
    """
    if verdict:
        return print(verdict)
    raise (NotImplementedError if verdict.message == UNSOLVED else AssertionError)(verdict.message)


def expect(got, want, what: str, tolerance: float = 1e-5) -> None:
    """Fails the cell unless two tensors or numbers agree in shape and value, as in ``compare``.

    Args:
        got, want: Tensors or numbers.
        what: Names the input.
        tolerance: Of the largest wanted value, or of 1 where that is less.

    Raises:
        AssertionError: Unless they agree.

    Example:
        >>> expect(0.5, 0.5, "q of two equal logits")
    """
    complaint = compare(got, want, what, tolerance)
    if complaint:
        raise AssertionError(complaint)
