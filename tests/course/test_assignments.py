"""The assignments: solutions pass, releases are clean and fail only where unsolved, nbgrader gives
the marks that are due, and every wrong answer in tests/course/mutants is caught (the table is
printed at the end of the run).
"""

import ast
import dis
import importlib
import inspect
import re
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import nbformat
import pytest
import torch

nbgrader = pytest.importorskip(
    "nbgrader", reason='the classroom needs nbgrader: pip install "kdtutor[classroom]"'
)

from kdtutor.course import assignment_names, new_course  # noqa: E402  needs nbgrader
from kdtutor.course.grading import open_course  # noqa: E402

COURSE = Path(__file__).resolve().parents[2] / "notebooks" / "assignments"
NAMES = assignment_names(COURSE)
HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS\n(.*?)^### END HIDDEN TESTS\n?", re.M | re.S)
SOLVED = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION\n?", re.M | re.S)
each = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.filterwarnings(
    "ignore::sqlalchemy.exc.SAWarning", "ignore::nbformat.warnings.MissingIDFieldWarning"
)


def role(cell, key):
    return cell.metadata.get("nbgrader", {}).get(key, False)


def graded_in(nb):
    """The autograded test cells."""
    return [cell for cell in nb.cells if cell.cell_type == "code" and role(cell, "grade")]


def errors(nb):
    """{id of a cell: name of its error}"""
    return {
        c.id: o.ename
        for c in nb.cells
        if c.cell_type == "code"
        for o in c.outputs
        if o.output_type == "error"
    }


def read(name):
    return nbformat.read(COURSE / "source" / name / f"{name}.ipynb", 4)


def functions(cell):
    """The functions that a cell defines."""
    return [node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]


def exercises(name):
    """[(test cell, the stubs that it tests)]: the code cells to be solved since the test cell
    before.
    """
    found, stubs = [], []
    for cell in read(name).cells:
        if cell.cell_type == "code" and role(cell, "solution"):
            stubs.append(cell)
        elif cell.cell_type == "code" and role(cell, "grade"):
            found.append((cell, stubs))
            stubs = []
    return found


@cache
def table(name):
    return importlib.import_module(f"tests.course.mutants.{name}")


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """A course directory of its own, with every assignment generated."""
    course = new_course(tmp_path_factory.mktemp("course") / "kd")
    api = open_course(course)
    for name in NAMES:
        done = api.generate_assignment(name)
        assert done["success"], done["log"]
    return course


def submit(course, student, name, nb):
    path = course / "submitted" / student / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nb, path)


@pytest.fixture(scope="session")
def marked(course):
    """name -> {student: (marks, notebook as executed)} of three submissions: the solution, the
    release, and the first exercise alone.
    """

    @cache
    def run(name):
        release = course / "release" / name / f"{name}.ipynb"
        solved = {c.id: c.source for c in read(name).cells if role(c, "solution")}
        first = {stub.id for stub in exercises(name)[0][1]}
        for student, ids in (("solution", set(solved)), ("release", set()), ("half", first)):
            nb = nbformat.read(release, 4)
            for cell in nb.cells:
                if cell.id in ids:
                    cell.source = solved[cell.id]
            submit(course, student, name, nb)
        api, found = open_course(course), {}
        for student in ("solution", "release", "half"):
            done = api.autograde(name, student)
            assert done["success"], done["log"]
            with api.gradebook as book:
                score = book.find_submission(name, student).score
            found[student] = (
                score,
                nbformat.read(course / "autograded" / student / name / f"{name}.ipynb", 4),
            )
        return found

    return run


def autograded_points(nb):
    return sum(role(c, "points") for c in graded_in(nb))


# --- what is committed


@each
def test_the_source_is_committed_as_it_should_be(name):
    nb = read(name)
    nbformat.validate(nb)
    ids = [c.id for c in nb.cells]
    assert 20 <= len(nb.cells) <= 35, f"{len(nb.cells)} cells"
    assert len(set(ids)) == len(ids) and all(
        re.fullmatch(r"[a-z][a-z0-9-]{2,40}", id) for id in ids
    ), "worded ids"
    assert all(not c.get("outputs") and not c.get("execution_count") for c in nb.cells)
    assert all(role(c, "grade_id") in (False, c.id) for c in nb.cells), (
        "a cell's id is its grade_id"
    )
    assert re.search(r"\*\*About \d+ minutes · .+ · (\d+) points", nb.cells[0].source), (
        "minutes, difficulty and points in the first cell"
    )
    points = int(re.search(r"· (\d+) points", nb.cells[0].source)[1])
    assert points == sum(role(c, "points") for c in nb.cells if role(c, "grade"))
    assert not re.search(
        r"(?<![\w.:/])/(?:home|root|tmp|work|Users)/", "\n".join(c.source for c in nb.cells)
    ), "a path of one machine"
    assert (
        max(len(line) for c in nb.cells if c.cell_type == "code" for line in c.source.splitlines())
        <= 140
    )


@each
def test_the_stubs_have_the_arguments_of_the_library(name):
    scope = scope_of(name)
    stubs = [c for c in read(name).cells if c.cell_type == "code" and role(c, "solution")]
    assert {f for c in stubs for f in functions(c)} == set(table(name).LIBRARY)
    for function, library in table(name).LIBRARY.items():
        given = inspect.signature(scope[function])
        assert all(p.annotation is not p.empty for p in given.parameters.values()), (
            f"{function}: shapes in the signature"
        )
        assert given.return_annotation is not given.empty and scope[function].__doc__
        if library:
            wanted = list(inspect.signature(library).parameters.values())
            further = wanted[len(given.parameters) :]  # a class axis, a mask: not the exercise's
            assert [*given.parameters] == [p.name for p in wanted[: len(given.parameters)]] and all(
                p.default is not p.empty for p in further
            ), f"{function}{given} and {library.__name__}{inspect.signature(library)} drifted apart"


# --- through nbgrader


@each
def test_the_release_is_clean(name, course):
    nb = nbformat.read(course / "release" / name / f"{name}.ipynb", 4)
    text = "\n".join(c.source for c in nb.cells)
    for leak in (
        "BEGIN SOLUTION",
        "END SOLUTION",
        "HIDDEN TESTS",
        "hidden_generator",
        "MARK SCHEME",
    ):
        assert leak not in text
    assert all(not c.get("outputs") for c in nb.cells)
    for cell in read(name).cells:
        if solved := SOLVED.search(cell.source):
            assert solved[0] not in text
    assert all("require(" in c.source for c in graded_in(nb)), "a test cell without a visible check"
    assert not {p.name for p in (course / "release" / name).iterdir()} - {
        p.name for p in (COURSE / "source" / name).iterdir()
    }


@each
def test_the_solution_passes_and_gets_full_marks(name, marked):
    score, nb = marked(name)["solution"]
    assert errors(nb) == {}
    assert score == autograded_points(nb) > 0
    stderr = [c.id for c in nb.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
    assert not stderr


@each
def test_the_release_fails_only_where_unsolved_and_gets_no_marks(name, marked):
    score, nb = marked(name)["release"]
    found = errors(nb)
    assert score == 0
    assert set(found.values()) == {"NotImplementedError"}, found
    graded = {c.id for c in graded_in(nb)}
    assert graded <= set(found), f"tests that pass on the unsolved notebook: {graded - set(found)}"
    assert set(found) <= graded | {c.id for c in nb.cells if role(c, "solution")}, (
        "an ungraded cell breaks before the student starts"
    )


@each
def test_half_a_solution_gets_its_part(name, marked):
    score, nb = marked(name)["half"]
    first, _ = exercises(name)[0]
    assert score == role(first, "points") < autograded_points(nb)
    assert {c.id for c in graded_in(nb)} - set(errors(nb)) == {first.id}


# --- mutants


def scope_of(name):
    """What a test cell may rely on: the setup cell, and the solutions of all exercises."""
    scope = {"__name__": "__main__"}
    for cell in read(name).cells:
        if cell.cell_type == "code" and (role(cell, "solution") or cell.id.startswith("setup")):
            exec(
                "\n".join(line for line in cell.source.splitlines() if not line.startswith("%")),
                scope,
            )
    return scope


def outcome(source, scope):
    """None if the code runs, else its error."""
    torch.manual_seed(0)
    with redirect_stdout(StringIO()):
        try:
            exec(source, dict(scope))
        except Exception as error:
            return error


def parts(cell):
    """The visible and the hidden part of a test cell, each to be run alone."""
    return HIDDEN.sub("", cell.source), "\n".join(HIDDEN.findall(cell.source))


def fingerprint(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), str(value.dtype), tuple(value.detach().flatten().tolist())
    if isinstance(value, (list, tuple)):
        return tuple(map(fingerprint, value))
    return repr(value)


def replaying(function, visible, function_name, scope):
    """Solves the exercise for the inputs of the visible check only, as somebody would who had
    copied its answers.
    """
    seen = set()

    def record(*a, **k):
        seen.add(fingerprint([a, sorted(k.items())]))
        return function(*a, **k)

    outcome(visible, scope | {function_name: record})
    return lambda *a, **k: (
        function(*a, **k) if fingerprint([a, sorted(k.items())]) in seen else None
    )


@each
def test_every_wrong_answer_is_caught(name, record_property, monkeypatch):
    scope, found, missed, named = scope_of(name), [], [], {}
    assert (
        {cell.id for cell, _ in exercises(name)} == set(table(name).WRONG) == set(table(name).RIGHT)
    )
    for cell, stubs in exercises(name):
        function = functions(stubs[-1])[-1]  # what comes before it are its helpers
        visible, hidden = parts(cell)
        assert outcome(cell.source, scope) is None
        for other in table(name).RIGHT[cell.id]:
            error = outcome(cell.source, scope | {function: other})
            assert error is None, f"{cell.id} refuses a right answer: {error}"
        wrong = dict(table(name).WRONG[cell.id])
        assert len(wrong) >= 5, f"{cell.id}: {len(wrong)} wrong answers"
        copied = replaying(scope[function], visible, function, scope)
        if (
            outcome(visible, scope | {function: copied}) is None
        ):  # not where the inputs are themselves functions
            wrong["right for the visible inputs only"] = copied
        for what, mutant in wrong.items():
            seen, caught = outcome(visible, scope | {function: mutant}), True
            for private in ("", "first", "second"):  # whatever the instructor chose
                monkeypatch.setenv("KDTUTOR_GRADING_SEED", private)
                caught &= outcome(hidden, scope | {function: mutant}) is not None
            found.append(
                (name, cell.id, what, str(seen).strip().splitlines()[0] if seen else "", caught)
            )
            named[cell.id] = named.get(cell.id, 0) + (seen is not None)
            if not caught:
                missed.append(f"{cell.id}: {what}{' (the visible check sees it)' if seen else ''}")
    record_property("mutants", found)
    few = {id: count for id, count in named.items() if count < 5}
    assert not few, f"the visible check should catch at least five wrong answers by itself: {few}"
    assert not missed, "the hidden tests do not catch: " + "; ".join(missed)


def names(source, *operations):
    """The notebook's names that code reads ("LOAD_NAME", "LOAD_GLOBAL") or binds ("STORE_NAME"), as
    Python compiled it.
    """
    codes, found = (
        [
            compile(
                "\n".join(line for line in source.splitlines() if not line.startswith("%")),
                "cell",
                "exec",
            )
        ],
        set(),
    )
    while codes:
        code = codes.pop()
        found |= {i.argval for i in dis.get_instructions(code) if i.opname in operations}
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return found


@each
def test_hidden_tests_leave_the_demonstrations_alone(name):
    """Hidden tests run in the notebook, and on the instructor's side only: what they bind must not
    be what a later demo reads.
    """
    bound = set()
    for cell in read(name).cells:
        if cell.cell_type == "code" and role(cell, "grade"):
            bound |= names(parts(cell)[1], "STORE_NAME")
        elif cell.cell_type == "code":
            own = names(cell.source, "STORE_NAME")
            read_here = names(cell.source, "LOAD_NAME", "LOAD_GLOBAL") - own
            assert not read_here & bound, (
                f"{cell.id} reads {read_here & bound}, which a hidden test bound"
            )
            bound -= own


@each
def test_other_seeds_give_other_hidden_inputs_and_the_solution_still_passes(name, monkeypatch):
    from kdtutor.course import seeds

    scope, used = scope_of(name), set()
    real = seeds.hidden_seed
    monkeypatch.setattr(
        seeds, "hidden_seed", lambda test: used.add((test, real(test))) or real(test)
    )
    for private in ("first", "second", "third"):
        monkeypatch.setenv(seeds.VARIABLE, private)
        for cell, _ in exercises(name):
            assert outcome(parts(cell)[1], scope) is None
    tests = {test for test, _ in used}
    assert len(tests) == len(exercises(name)) and all(test.startswith(f"{name}/") for test in tests)
    assert len({seed for _, seed in used}) == 3 * len(tests)


@each
def test_the_instructors_page_lists_it(name):
    row = re.search(
        rf"^\| `{name}` \| (.+) \| (\d+) \| (.+) \| (\d+) \|$",
        (COURSE / "README.md").read_text(encoding="utf-8"),
        re.M,
    )
    assert row, f"README.md: | `{name}` | lesson | minutes | difficulty | points |"
    assert f"**About {row[2]} minutes · {row[3]} · {row[4]} points" in read(name).cells[0].source
