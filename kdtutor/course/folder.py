"""A course directory: the workbook's assignments with nbgrader's settings, ready for a term."""

import shutil
from pathlib import Path

from ..errors import unknown

CONFIG = "nbgrader_config.py"
GENERATED = (
    "release",
    "submitted",
    "autograded",
    "feedback",
    "downloaded",
    "gradebook.db",
    "*.csv",
    ".ipynb_checkpoints",
)


def assignment_names(course: str | Path) -> list[str]:
    """The names of the assignments of a course directory.

    Args:
        course: The directory.

    Returns:
        Names, sorted.

    Raises:
        FileNotFoundError: If it is no course directory.
    """
    course = Path(course)
    if not (course / CONFIG).is_file():
        raise FileNotFoundError(
            f"{course.resolve()} is not a course directory: there is no {CONFIG} in it. "
            "Change into your course directory, or make one with `kdtutor course new DIR`."
        )
    return sorted(
        path.parent.name
        for path in course.glob("source/*/*.ipynb")
        if path.stem == path.parent.name
    )


def find_assignment(course: str | Path, name: str) -> str:
    """The name of an assignment, if the course has it.

    Args:
        course: The directory.
        name: The assignment's.

    Returns:
        The same name.

    Raises:
        ValueError: With the names that it has, if it has no such assignment.
        FileNotFoundError: If it is no course directory.
    """
    known = assignment_names(course)
    if name not in known:
        raise unknown("assignment", name, known)
    return name


def ours() -> Path:
    """The course directory of the checkout.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: Where the package is installed without it.
    """
    folder = Path(__file__).resolve().parents[2] / "notebooks" / "assignments"
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            "the assignments come with the source, not with the installed package: "
            "work in a clone of the repository, installed with `pip install -e .`."
        )
    return folder


def new_course(directory: str | Path) -> Path:
    """Makes a course directory: sources of the assignments, nbgrader's settings, instructor's page.

    Args:
        directory: New or empty.

    Returns:
        Its path, absolute.

    Raises:
        FileExistsError: Unless the directory is new or empty; nothing is written then.
        FileNotFoundError: Where the package is installed without the assignments.
    """
    directory, base = Path(directory), ours()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(
            f"{directory.resolve()} exists and is not empty: nothing was written. Choose a new "
            "directory."
        )
    names = assignment_names(base)
    directory.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, "README.md", "formgrader.png"):
        shutil.copyfile(base / name, directory / name)
    for name in names:
        shutil.copytree(
            base / "source" / name,
            directory / "source" / name,
            ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"),
        )
    lines = ["# made by nbgrader from source/, and what students handed in", *GENERATED]
    (directory / ".gitignore").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory.resolve()
