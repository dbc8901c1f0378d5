"""The tools of `make check` find nothing."""

import subprocess
import sys
from importlib.util import find_spec

import pytest


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_style_and_types(command, repo):
    tool, *arguments = command.split()
    if not find_spec(tool):
        pytest.skip(f"{tool} is not installed here (`make check` installs it)")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=repo, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
