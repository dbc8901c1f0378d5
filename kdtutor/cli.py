"""The command line: ``kdtutor doctor | data | lessons | ablate | course``. Thin: a command calls
one function and prints.
"""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from .course.commands import app as course
from .errors import unknown
from .workbook.budget import BUDGETS


class PlainErrors(TyperGroup):
    """Bad input and the file system answer with one line and exit status 1; ``--debug`` shows where
    it came from.
    """

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `kdtutor data list | head`: typer's own business
            raise
        except (ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"kdtutor: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None


plain = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
}
app = typer.Typer(
    cls=PlainErrors, help="A workbook for knowledge distillation. Start with: make lab", **plain
)
data = typer.Typer(help="The datasets: which are here, and how to get one.", **plain)
lessons = typer.Typer(help="The lesson notebooks: list, execute, check.", **plain)
app.add_typer(data, name="data")
app.add_typer(lessons, name="lessons")
app.add_typer(course, name="course")

Root = Annotated[Path, typer.Option(help="The data directory.")]


def _version(wanted: bool):
    if wanted:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def main(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
):
    pass


@app.command()
def doctor(root: Root = Path("data")):
    """Say, line by line, whether everything a lesson needs is here. Exit status 1 if something
    fails.
    """
    from .workbook.doctor import diagnose

    failed = 0
    for line in diagnose(root):
        typer.echo(str(line))
        failed += not line.ok
    if failed:
        typer.echo(f"{failed} to mend before the lessons run.")
        raise typer.Exit(1)
    typer.echo("Ready for the lessons.")


@data.command("list")
def list_data(root: Root = Path("data")):
    """The datasets that have a name, and which of them are here."""
    from . import datasets

    for name, (present, detail) in datasets.available(root).items():
        typer.echo(f"{name:15} {'present' if present else 'absent':8} {detail}")


@data.command("fetch")
def fetch_data(name: str, root: Root = Path("data")):
    """Download a dataset into the data directory."""
    from . import datasets

    where = datasets.fetch(name, root)
    typer.echo(f"{name} is in {where}." if where else f"{name} needs no files: nothing to fetch.")


@data.command("pack")
def pack_data(
    name: str,
    pieces: Annotated[
        bool, typer.Option("--pieces/--whole", help="In pieces, or all in one file.")
    ] = True,
    mib: Annotated[int, typer.Option(help="The most MiB of a piece.")] = 48,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pieces; without it DATA/packed.")
    ] = None,
    root: Root = Path("data"),
):
    """Write a dataset's files as pieces with digests, to bring them to a machine without a
    network.
    """
    import json

    from . import datasets

    listed = datasets.pack(name, out, root, mib if pieces else None)
    made = json.loads(listed.read_text())["pieces"]
    typer.echo(
        f"{name}: {len(made)} piece{'s' * (len(made) != 1)}, "
        f"{sum(p['bytes'] for p in made) / 2**20:.0f} MiB. Bring them and {listed}, then: "
        f"kdtutor data unpack {listed.name}"
    )


@data.command("unpack")
def unpack_data(
    listed: Annotated[Path, typer.Argument(help="NAME.json beside the pieces, or its folder.")],
    root: Root = Path("data"),
):
    """Put a dataset together from its pieces, if all of them are there and whole."""
    from . import datasets

    typer.echo(f"{datasets.unpack(listed, root)} is complete.")


@lessons.command("list")
def list_lessons():
    """The lessons, in order."""
    from .workbook.notebooks import lessons as all_lessons

    for path in all_lessons():
        typer.echo(path.stem)


def chosen(names: list[str]) -> list[Path]:
    """The lessons with these names; a number ("01"), the name and the path all do. None given:
    all."""
    from .workbook.notebooks import lessons as all_lessons

    known = {path.stem: path for path in all_lessons()}
    found = []
    for name in names:
        stem = Path(name).stem
        matches = [path for full, path in known.items() if stem in (full, full.split("_")[0])]
        if not matches:
            raise unknown("lesson", name, known)
        found += matches
    return found if names else list(known.values())


@lessons.command("run")
def run_lessons(
    names: Annotated[list[str] | None, typer.Argument(help="Numbers or names; none: all.")] = None,
    budget: Annotated[
        str | None, typer.Option(help=f"{', '.join(BUDGETS)}; without it KDTUTOR_BUDGET, or cpu.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Write the outputs into the notebooks.")
    ] = True,
):
    """Execute lessons from top to bottom and save them, normalised, with their outputs. Exit status
    1 if one fails.
    """
    from .workbook.notebooks import LessonError, run

    failed = False
    for path in chosen(names or []):
        try:
            typer.echo(f"OK   {path.stem}: {run(path, budget, save):.0f} s")
        except LessonError as error:
            failed = True
            typer.echo(f"FAIL {path.stem}: {error}")
    if failed:
        raise typer.Exit(1)


@lessons.command("check")
def check_lessons(
    names: Annotated[list[str] | None, typer.Argument(help="Numbers or names; none: all.")] = None,
):
    """Say what is wrong with the committed notebooks. Exit status 1 if anything is."""
    from .workbook.notebooks import problems

    failed = False
    for path in chosen(names or []):
        found = problems(path)
        failed = failed or bool(found)
        typer.echo(
            f"{'FAIL' if found else 'OK  '} {path.stem}{': ' + '; '.join(found) if found else ''}"
        )
    if failed:
        raise typer.Exit(1)


@app.command()
def ablate(
    what: Annotated[str, typer.Argument(help="A grid as a TOML file; or status, table, stop.")],
    store: Annotated[Path, typer.Option(help="The folder of the runs.")],
    workers: Annotated[int, typer.Option(help="Processes; 0: in this one.")] = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say how many runs there are and how long they will take."
        ),
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Begin failed runs again.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the table to .md, .tex, .csv or .parquet.")
    ] = None,
):
    """Run a grid and print its table; or look at a store: status (runs by state), table, stop (end
    its grids within an epoch).
    """
    from . import ablation

    if what == "stop":
        ablation.Store(store, create=False).stop()
        return typer.echo(f"{store}: its grids end within one epoch; run one again to continue.")
    if what in ("status", "table"):
        results = ablation.load(store)
        if what == "status":
            return typer.echo(ablation.status(results))
    else:
        grid = ablation.read_grid(what)
        if dry_run:
            return typer.echo(ablation.forecast(grid, store, max(1, workers)))
        results = ablation.run(grid, store, workers=workers, retry=retry)
    frame = results.frame()
    if set(frame["status"] if len(frame) else ()) != {"finished"}:
        typer.echo(ablation.status(results))
    if not results.metrics():
        return typer.echo("no run is finished yet: there is no table.")
    typer.echo(results.table().to_string())
    if export:
        typer.echo(f"written to {results.export(export)}")


if __name__ == "__main__":
    app()
