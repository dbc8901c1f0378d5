"""The classroom: a course directory is made and never overwritten, hidden inputs are private, and
no submission stops the others.
"""

import os
import subprocess
import sys

import nbformat
import pytest
import torch
from typer.testing import CliRunner

from kdtutor import checks
from kdtutor.checks import Verdict, expect, require
from kdtutor.checks.verdict import UNSOLVED
from kdtutor.cli import app
from kdtutor.course import assignment_names, hidden_generator, new_course
from kdtutor.course.folder import GENERATED
from kdtutor.course.grading import Outcome, table, why
from tests.course import submissions

NAME = "softmax_and_kd"


def kd(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


# --- a course directory


def test_a_new_course_holds_the_sources_and_nothing_that_was_generated(tmp_path):
    done = kd("course", "new", tmp_path / "kd")
    assert (
        done.exit_code == 0
        and f"nbgrader generate_assignment {assignment_names(tmp_path / 'kd')[0]}" in done.output
    )
    assert {p.name for p in (tmp_path / "kd").iterdir()} == {
        "README.md",
        "formgrader.png",
        "nbgrader_config.py",
        "source",
        ".gitignore",
    }
    assert NAME in assignment_names(tmp_path / "kd")
    for name in assignment_names(tmp_path / "kd"):
        assert (tmp_path / "kd" / "source" / name / f"{name}.ipynb").is_file()


def test_a_course_is_never_overwritten(tmp_path):
    (tmp_path / "gradebook.db").write_text("a term's work")
    done = kd("course", "new", tmp_path)
    assert (
        done.exit_code == 1
        and "not empty" in done.output
        and "Choose a new directory" in done.output
    )
    assert [p.name for p in tmp_path.iterdir()] == ["gradebook.db"]


@pytest.mark.skipif(os.name != "posix", reason="uses git")
def test_git_ignores_what_a_course_generates(tmp_path):
    course = new_course(tmp_path / "kd")
    subprocess.run(["git", "init", "-q"], cwd=course, check=True)
    for name in ("release", "submitted", "autograded", "feedback", "downloaded"):
        (course / name).mkdir()
        (course / name / "x.txt").touch()
    (course / "gradebook.db").touch()
    (course / "grades.csv").touch()
    seen = subprocess.run(
        ["git", "status", "--short", "-uall"],
        cwd=course,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {name.split("/")[0] for name in seen[1::2]} == {
        ".gitignore",
        "README.md",
        "formgrader.png",
        "nbgrader_config.py",
        "source",
    }
    assert set(GENERATED) <= set((course / ".gitignore").read_text().splitlines())


def test_outside_a_course_the_error_says_what_to_do(elsewhere):
    done = kd("course", "grade", NAME)
    assert done.exit_code == 1 and "kdtutor course new DIR" in done.output


# --- hidden inputs


def draw(name):
    return torch.randn(4, generator=hidden_generator(name)).tolist()


def test_hidden_inputs_depend_on_the_private_seed_and_on_the_test(monkeypatch):
    monkeypatch.delenv("KDTUTOR_GRADING_SEED", raising=False)
    public = draw("a/x")
    assert public == draw("a/x") != draw("a/y")
    monkeypatch.setenv("KDTUTOR_GRADING_SEED", "apple pie")
    private = draw("a/x")
    assert private == draw("a/x") and private not in (public, draw("a/y"))
    monkeypatch.setenv("KDTUTOR_GRADING_SEED", "apple tart")
    assert draw("a/x") not in (public, private)


# --- what test cells call


def test_a_verdict_fails_a_test_cell_in_its_own_words(capsys):
    require(Verdict(True, "fine"))
    assert capsys.readouterr().out == "✔ passed: fine\n"
    with pytest.raises(AssertionError, match="the sign is flipped"):
        require(Verdict(False, "the sign is flipped"))
    with pytest.raises(NotImplementedError, match="replace"):
        require(Verdict(False, UNSOLVED))


def test_a_comparison_fails_a_test_cell_and_names_the_input():
    expect(torch.ones(2), torch.ones(2), "two ones")
    with pytest.raises(AssertionError, match="two ones: off by 1"):
        expect(torch.zeros(2), torch.ones(2), "two ones")


def test_every_check_is_importable_from_one_place_and_has_one_home():
    assert {"check_soften", "check_log_soften", "check_pair_distances"} <= set(checks.homes())
    assert {name: where for name, where in checks.homes().items() if len(where) > 1} == {}
    assert checks.check_soften.__module__ == "kdtutor.lessons.start_here.checks"
    assert "check_diagnosis" in dir(checks)
    with pytest.raises(AttributeError, match="check_everything"):
        _ = checks.check_everything


# --- grading: what happened, in plain words


def test_the_table_says_who_has_marks_and_who_has_none_and_why():
    lines = table(
        [
            Outcome("ada", 8.0, 10.0, True, 3.2),
            Outcome("bo", None, 10.0, False, 0.1, "it is not a notebook"),
        ]
    ).splitlines()
    assert lines[1].split() == [
        "ada",
        "8",
        "of",
        "10",
        "3.2",
        "part",
        "of",
        "it",
        "is",
        "to",
        "be",
        "graded",
        "by",
        "hand",
    ]
    assert lines[2].split() == ["bo", "none", "0.1", "it", "is", "not", "a", "notebook"]
    assert lines[3].startswith("1 of 2 submissions have marks; 3 s in all")


@pytest.mark.parametrize(
    "log, says",
    [
        (
            "    nbformat.reader.NotJSONError: Notebook does not appear to be JSON: 'My answer'",
            "it is not a notebook",
        ),
        (
            "  ValueError: first\n    nbclient.exceptions.DeadKernelError: Kernel died\n[ERROR] "
            "There was an error",
            "its kernel died",
        ),
        ("    nbclient.exceptions.CellTimeoutError: A cell timed out", "could not be interrupted"),
        (
            "[WARNING] Skipping unknown notebook: /a/b/homework.ipynb\nNbGraderException: No "
            "notebooks found",
            "homework.ipynb",
        ),
        ("[ERROR] No notebooks were matched by '/a/b'", "no notebook in its folder"),
        ("    KeyError: 'cells'", "KeyError: 'cells'"),
        ("", "nbgrader autograde --student"),
    ],
)
def test_the_reason_is_read_from_the_log(log, says):
    assert says in why(log)


# --- the guard in a submission's kernel


def guarded(code, folder):
    """A process with the guard, in ``folder``: what it prints."""
    program = (
        f"from kdtutor.course import guard\nguard.start(gigabytes=2, "
        f"megabytes_printed=0.01)\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORBIDDEN = [
    "open('../x', 'w')",
    "open('../precious.txt', 'r+')",
    "Path('../x').mkdir()",
    "os.remove('../precious.txt')",
    "os.rename('mine.txt', '../x')",
    "os.rename('../precious.txt', 'x')",
    "shutil.rmtree('../other')",
    "sqlite3.connect('../gradebook.db')",
    "os.open('../x', os.O_WRONLY | os.O_CREAT)",
    "open('link/x', 'w')",
    "os.symlink('x', '../x')",
    "np.save('../x.npy', np.ones(2))",
    "shutil.copy('mine.txt', '../x')",
]


def test_the_guard_keeps_a_submission_in_its_folder(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    (own / "link").symlink_to(tmp_path)
    code = f"""
import os, shutil, sqlite3, tempfile
from pathlib import Path
import numpy as np
Path('mine.txt').write_text('mine'); os.rename('mine.txt', 'still.txt')
shutil.copy('still.txt', 'mine.txt'); os.remove('still.txt')
Path('new').mkdir(); Path('new/x').touch(); shutil.rmtree('new')
sqlite3.connect(':memory:').close(); sqlite3.connect('own.db').close()
with tempfile.TemporaryDirectory() as folder: Path(folder, 'x').write_text('temporary')
open(os.devnull, 'w').close()
print(open('../precious.txt').read())
for line in {FORBIDDEN!r}:
    try: exec(line); print('did', line)
    except PermissionError as error: assert 'own folder' in str(error), error
"""
    assert guarded(code, own) == "precious\n"
    assert {p.name for p in tmp_path.iterdir()} == {"own", "other", "precious.txt"}
    assert (tmp_path / "precious.txt").read_text() == "precious"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux limits the memory of a running process"
)
def test_the_guard_limits_memory_and_the_program_goes_on(tmp_path):
    code = """
import numpy as np
hoard = []
try:
    while len(hoard) < 40: hoard.append(np.ones(12_500_000))
except MemoryError:
    count = len(hoard); hoard.clear()
    print(10 < count < 21, np.ones(12_500_000).sum())
"""
    assert guarded(code, tmp_path).split() == ["True", "12500000.0"]


def test_the_guard_limits_what_is_printed(tmp_path):
    code = """
import sys
try:
    while True: print('y' * 1000)
except RuntimeError as error: print('stopped:', error)
print('and goes on', sys.stdout.encoding)
"""
    lines = guarded(code, tmp_path).splitlines()
    assert (
        len(lines) < 15 and "0.01 MB at most" in lines[-2] and lines[-1].startswith("and goes on")
    )


def test_the_guard_sets_smoke_and_one_thread(tmp_path):
    assert guarded(
        "import kdtutor, torch; print(kdtutor.budget(), torch.get_num_threads())", tmp_path
    ).split() == ["smoke", "1"]


# --- the four that a grader is afraid of, among others


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A course with good and bad submissions, short limits, and what ``kdtutor course grade`` said
    of it.
    """
    pytest.importorskip(
        "nbgrader", reason='the classroom needs nbgrader: pip install "kdtutor[classroom]"'
    )
    from kdtutor.course.grading import open_course

    course = new_course(tmp_path_factory.mktemp("graded") / "kd")
    config = (course / "nbgrader_config.py").read_text(encoding="utf-8")
    short = config.replace("timeout = 120", "timeout = 15").replace("gigabytes=4", "gigabytes=2")
    assert short != config and "timeout = 15" in short and "gigabytes=2" in short
    (course / "nbgrader_config.py").write_text(short, encoding="utf-8")
    # The setup cell is quick, so that the short limit is the loop's alone.
    path = course / "source" / NAME / f"{NAME}.ipynb"
    keep = {"setup", "soften", "soften-test", "log-soften", "log-soften-test"}
    source = nbformat.read(path, 4)
    source.cells = [cell for cell in source.cells if cell.id in keep]
    for cell in source.cells:
        if cell.id == "setup":
            cell.source = (
                "import torch\nimport torch.nn.functional as F\nfrom kdtutor.softening import "
                "soften\n"
                "from kdtutor.checks import check_log_soften, check_soften, expect, require"
            )
    nbformat.write(source, path)
    assert open_course(course).generate_assignment(NAME)["success"]
    release = course / "release" / NAME / f"{NAME}.ipynb"
    bad = dict(
        loops=submissions.LOOPS,
        memory=submissions.EATS_MEMORY,
        outside=submissions.WRITES_OUTSIDE,
        dies=submissions.DIES,
        warns=submissions.WARNS,
    )
    for student, body in bad.items():
        submissions.submit(
            course, student, NAME, submissions.solved(path, release, bodies={"soften": body})
        )
    submissions.submit(course, "text", NAME, "My answer is 42.")
    for student in ("ada", "zoe"):  # the first and the last
        submissions.submit(course, student, NAME, submissions.solved(path, release))
    cut = submissions.solved(path, release)
    cut.cells = [cell for cell in cut.cells if cell.id != "soften-test"]
    submissions.submit(course, "cut", NAME, cut)
    done = kd("course", "grade", NAME, "--course", course)
    rows = [line.split(maxsplit=1) for line in done.output.splitlines()]
    return (
        course,
        done,
        {who: " ".join(rest.split()) for who, rest in (row for row in rows if len(row) == 2)},
    )


@pytest.mark.slow
def test_no_submission_stops_the_others(graded):
    course, done, rows = graded
    assert done.exit_code == 1, "somebody got no marks"
    for student in ("ada", "zoe", "cut", "warns"):
        assert rows[student].startswith("4 of 4"), rows
    for student in ("loops", "memory", "outside"):
        assert rows[student].startswith("2 of 4"), (
            f"the other exercise of {student!r} counts: {rows}"
        )
    assert (
        "took too long" in rows["loops"]
        and "too much memory" in rows["memory"]
        and "guard forbids" in rows["outside"]
    )
    assert rows["text"].startswith("none") and rows["text"].endswith("it is not a notebook")
    assert rows["dies"].startswith("none") and "kernel died" in rows["dies"]
    assert "7 of 9 submissions have marks" in done.output


@pytest.mark.slow
def test_the_gradebook_agrees_and_goes_into_a_csv_file(graded):
    course, _, rows = graded
    command = [sys.executable, "-m", "nbgrader", "export", "--to", "grades.csv"]
    subprocess.run(command, cwd=course, check=True, capture_output=True)
    lines = [line.split(",") for line in (course / "grades.csv").read_text().splitlines()]
    marks = {
        row["student_id"]: float(row["score"])
        for row in (dict(zip(lines[0], line)) for line in lines[1:])
    }
    assert marks["ada"] == marks["zoe"] == 4 and marks["loops"] == 2
    assert marks["text"] == marks["dies"] == 0, (
        "nbgrader writes 0 where there are no marks: the table tells the two apart"
    )


@pytest.mark.slow
def test_grading_again_does_only_what_is_new(graded):
    course, _, _ = graded
    for student in ("loops", "memory", "outside", "dies", "text"):
        (course / "submitted" / student).rename(course / f"set-aside-{student}")
    done = kd("course", "grade", NAME, "--course", course)
    assert done.exit_code == 0 and "4 of 4 submissions have marks; 0 s in all" in done.output
    assert kd("course", "grade", "softmax", "--course", course).output.startswith(
        "kdtutor: unknown assignment 'softmax'. Did you mean"
    )


@pytest.mark.slow
def test_archives_are_collected_whatever_their_form(graded, tmp_path):
    import shutil

    course, _, _ = graded
    notebook = course / "release" / NAME / f"{NAME}.ipynb"
    archive = course / "downloaded" / NAME / "archive"
    archive.mkdir(parents=True)
    shutil.copy(notebook, archive / f"bea_{NAME}.ipynb")
    shutil.copy(notebook, archive / f"Carl Gauss_1234_assignsubmission_file_{NAME}.ipynb")
    (tmp_path / "dora").mkdir()
    shutil.copy(notebook, tmp_path / "dora" / f"{NAME}.ipynb")
    shutil.make_archive(str(archive / "dora"), "zip", tmp_path / "dora")
    shutil.make_archive(str(archive / "eve"), "zip", tmp_path)  # with a folder inside
    (archive / "fred_essay.docx").write_text("not a notebook")
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "zip_collect", NAME],
        cwd=course,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for student in ("bea", "Carl Gauss", "dora", "eve"):
        assert (course / "submitted" / student / NAME / f"{NAME}.ipynb").is_file(), done.stderr
    assert not (course / "submitted" / "fred").exists()
