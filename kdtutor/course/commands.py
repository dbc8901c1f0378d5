"""``kdtutor course new | grade``: an instructor's two commands beside nbgrader's own."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The classroom: make a course directory, grade submissions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def new(directory: Annotated[Path, typer.Argument(help="A new or empty directory.")]):
    """Make a course directory for nbgrader from the workbook's assignments."""
    from . import assignment_names, new_course

    course = new_course(directory)
    names = assignment_names(course)
    typer.echo(
        f"{course} is a course with {len(names)} assignments: {', '.join(names)}.\nNext:\n  cd "
        f"{directory}\n"
        f"  nbgrader generate_assignment {names[0]}\nThen hand out release/{names[0]}. All steps: "
        "README.md in that directory."
    )


@app.command()
def grade(
    assignment: Annotated[str, typer.Argument(help="The assignment's name.")],
    course: Annotated[Path, typer.Option(help="The course directory.")] = Path(),
    again: Annotated[
        bool, typer.Option("--again", help="Grade what has been graded, too.")
    ] = False,
):
    """Autograde all submissions of an assignment. Exit status 1 if one of them could not be
    graded."""
    from .grading import grade as grade_all
    from .grading import table

    outcomes = grade_all(
        course,
        assignment,
        again,
        tell=lambda done: typer.echo(f"{done.student}: {done.seconds:.0f} s", err=True),
    )
    typer.echo(table(outcomes))
    if any(outcome.score is None for outcome in outcomes):
        raise typer.Exit(1)
