"""Autograding one submission after another with nbgrader, and a plain account of who got marks and
who did not, and why.
"""

import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .folder import CONFIG, find_assignment

ORDINARY = (
    "AssertionError",
    "NotImplementedError",
)  # a test that failed, an exercise that is not solved
SIGNS = {
    "CellTimeoutError": "took too long and was interrupted",
    "MemoryError": "asked for too much memory",
    "allocate memory": "asked for too much memory",
    "a submission may": "tried what the guard forbids",
}
WORDS = {
    "NotJSONError": "it is not a notebook",
    "CellTimeoutError": "it took too long and could not be interrupted",
    "DeadKernelError": "its kernel died: it ended itself, or the system ended it for its memory",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one submission.

    Attributes:
        student: Who.
        score: The marks, None if it got none.
        points: The most marks that there are.
        by_hand: Is part of it to be graded by hand?
        seconds: What grading took.
        note: Why it got no marks, or which cells ended unusually.
    """

    student: str
    score: float | None
    points: float
    by_hand: bool
    seconds: float
    note: str = ""


def open_course(course: Path):
    """nbgrader's own interface to a course directory, with the settings of its nbgrader_config.py.

    Args:
        course: The directory.

    Returns:
        An ``NbGraderAPI``.

    Raises:
        OSError: Where nbgrader is not installed.
    """
    try:
        from nbgrader.apps.api import NbGraderAPI
    except ImportError as error:
        raise OSError(
            'nbgrader is not installed. Install it with: pip install "kdtutor[classroom]"'
        ) from error
    from traitlets.config import PyFileConfigLoader

    return NbGraderAPI(config=PyFileConfigLoader(CONFIG, path=str(course)).load_config())


def grade(
    course: str | Path,
    assignment: str,
    again: bool = False,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Autogrades every submission of an assignment, and goes on whatever a submission does.

    Args:
        course: The course directory.
        assignment: The assignment's name.
        again: Grade what has been graded, too.
        tell: Called with each outcome as soon as it is there.

    Returns:
        One outcome per student.

    Raises:
        ValueError: For an unknown assignment, and if it is not generated or nothing was submitted.
        FileNotFoundError: If it is no course directory.
        OSError: Where nbgrader is not installed.
    """
    course = Path(course).resolve()
    find_assignment(course, assignment)
    api, outcomes = open_course(course), []
    students = sorted(path.parent.name for path in course.glob(f"submitted/*/{assignment}"))
    if not students:
        raise ValueError(
            f"no submissions of {assignment!r}: expected "
            f"submitted/STUDENT/{assignment}/{assignment}.ipynb. "
            f"Collect them first: nbgrader zip_collect {assignment}."
        )
    with api.gradebook as gradebook:
        if assignment not in [known.name for known in gradebook.assignments]:
            raise ValueError(
                f"{assignment!r} is not in the gradebook. Generate it first: nbgrader "
                f"generate_assignment {assignment}."
            )
    with warnings.catch_warnings(), _temporary_folder():
        warnings.simplefilter(
            "ignore"
        )  # of nbgrader's own libraries: they say nothing about a submission
        for student in students:
            begin = time.perf_counter()
            done = api.autograde(assignment, student, force=again)
            outcomes.append(
                _outcome(api, course, assignment, student, done, time.perf_counter() - begin)
            )
            tell(outcomes[-1])
    return outcomes


@contextmanager
def _temporary_folder():
    """What kernels that were killed leave in their temporary folder goes when grading ends."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(
        prefix="kdtutor-grading-", ignore_cleanup_errors=True
    ) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before


def _outcome(
    api, course: Path, assignment: str, student: str, done: dict, seconds: float
) -> Outcome:
    path = course / "autograded" / student / assignment / f"{assignment}.ipynb"
    with api.gradebook as gradebook:
        points = gradebook.find_assignment(assignment).max_score
        if not done["success"] or not path.is_file():
            return Outcome(
                student,
                None,
                points,
                False,
                seconds,
                why(done.get("log") or done.get("error") or ""),
            )
        submission = gradebook.find_submission(assignment, student)
        return Outcome(
            student, submission.score, points, submission.needs_manual_grade, seconds, unusual(path)
        )


def why(log: str) -> str:
    r"""Why a submission could not be graded, in plain words.

    Args:
        log: nbgrader's.

    Returns:
        A sentence.

    Example:
        >>> why("nbconvert raised:\nnbclient.exceptions.DeadKernelError: Kernel died")
        'its kernel died: it ended itself, or the system ended it for its memory'
    """
    if other := re.search(r"Skipping unknown notebook: .*[/\\](.*)$", log, re.M):
        return f"its notebook has another name, {other[1]}"
    if "No notebooks were matched" in log:
        return "there is no notebook in its folder"
    raised = re.findall(r"^\s*(?:\w+\.)*(\w+(?:Error|Exception))\b(.*)$", log, re.M)
    name, text = raised[-1] if raised else ("", "")
    return WORDS.get(name, f"{name}{text}"[:150] or "nbgrader autograde --student says more")


def unusual(path: Path) -> str:
    """What an autograded notebook met beside failed tests and unsolved exercises.

    Args:
        path: The notebook.

    Returns:
        Time, memory, a forbidden file, ..., each with its cells; nothing where all is usual.
    """
    import nbformat

    found: dict[str, list[str]] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if (
                output.output_type != "error" or output.ename == "KeyboardInterrupt"
            ):  # how a timeout ends a cell
                continue
            text = f"{output.ename}: {output.evalue}"
            known = next((words for sign, words in SIGNS.items() if sign in text), None)
            if known or output.ename not in ORDINARY:
                place = cell.metadata.get("nbgrader", {}).get("grade_id", "a cell of the student's")
                found.setdefault(known or " ".join(text.split())[:150], []).append(place)
    return "; ".join(
        f"{text} ({', '.join(dict.fromkeys(places))})" for text, places in found.items()
    )


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as lines of text, and one line that sums them up.

    Args:
        outcomes: As ``grade`` gives them.

    Returns:
        The text.

    Example:
        >>> print(table([Outcome("ada", 9.0, 10.0, False, 12.0)]).splitlines()[1])
        ada           9 of 10     12.0
    """
    width = max([len("student"), *(len(o.student) for o in outcomes)])
    lines = [f"{'student':{width}}  {'marks':>12}  {'seconds':>7}  what happened"]
    for o in outcomes:
        marks = "none" if o.score is None else f"{o.score:g} of {o.points:g}"
        note = "; ".join(filter(None, ["part of it is to be graded by hand" * o.by_hand, o.note]))
        lines.append(f"{o.student:{width}}  {marks:>12}  {o.seconds:7.1f}  {note}".rstrip())
    graded = sum(o.score is not None for o in outcomes)
    lines.append(
        f"{graded} of {len(outcomes)} submissions have marks; "
        f"{sum(o.seconds for o in outcomes):.0f} s in all{_peak()}."
    )
    return "\n".join(lines)


def _peak() -> str:
    """The most memory that a submission's kernel used, where the system keeps that number."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
        1e9 if sys.platform == "darwin" else 1e6
    )
    return f", at most {most:.1f} GB of memory for one of them"
