"""What the test cells of the assignments call: a verdict, or a comparison, that fails the cell."""

from .verdict import UNSOLVED, Verdict, compare


def require(verdict: Verdict) -> None:
    """Prints the verdict. Raises ``AssertionError`` with its hint unless it passed,
    ``NotImplementedError`` where nothing is solved.
    """
    if verdict:
        return print(verdict)
    raise (NotImplementedError if verdict.message == UNSOLVED else AssertionError)(verdict.message)


def expect(got, want, what: str, tolerance: float = 1e-5) -> None:
    """Raises ``AssertionError`` unless two tensors or numbers agree in shape and value (see
    ``compare``); what names the input.
    """
    complaint = compare(got, want, what, tolerance)
    if complaint:
        raise AssertionError(complaint)
