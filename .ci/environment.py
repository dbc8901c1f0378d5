"""Make the workbook's virtual environment, or stop with one clear line.

    python .ci/environment.py [--venv .venv] [--extra test] [--python PYTHON] [--need-gb GB]

Quick when nothing is to be done: a stamp in the environment holds a digest of pyproject.toml and constraints.txt, is taken
away before an install begins and comes back only after it ended well. Any Python may run this file, 2.7 included, because its
first task is to say that a Python is too old: keep it to syntax and modules that all of them have.
"""

from __future__ import print_function

import argparse
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINIMUM = (3, 11)
CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3", "python")
# Environment and pip's downloads together, at the peak of the install: on Linux torch brings its CUDA libraries.
NEED_GB = 10.0 if sys.platform.startswith("linux") else 3.0
UNREACHABLE = re.compile(
    r"connection broken by|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Read timed out|Max retries exceeded"
    r"|Temporary failure in name resolution|Network is unreachable|ProxyError|SSLError|Could not fetch URL|IncompleteRead"
)
DISK_FULL = re.compile(r"No space left on device|Errno 28\b|Disk quota exceeded")


class Refusal(Exception):
    """The one line that a learner reads."""


def version_of(python):
    """((major, minor, micro), able to make environments?) of an interpreter, or None where it does not run."""
    ask = "import sys; print('%d.%d.%d' % sys.version_info[:3]); import ensurepip, venv"
    try:
        process = subprocess.Popen(
            [python, "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        answer = re.match(
            r"(\d+)\.(\d+)\.(\d+)", process.communicate()[0].decode("ascii", "replace")
        )
    except (OSError, ValueError):
        return None
    return (
        (tuple(int(part) for part in answer.groups()), process.returncode == 0) if answer else None
    )


def find_python(named=""):
    """The first interpreter that is new enough and can make an environment."""
    old, crippled = [], []
    for python in [named] if named else CANDIDATES:
        found = version_of(python)
        if found and found[0] < MINIMUM:
            old.append("%s is %d.%d.%d" % ((python,) + found[0]))
        elif found and not found[1]:
            crippled.append(python)
        elif found:
            return python
    need = "%d.%d" % MINIMUM
    if crippled:
        raise Refusal(
            "%s cannot make an environment, its venv or ensurepip module is missing: install it (Debian, Ubuntu: "
            "apt install python3-venv) or name another Python: make lab PYTHON=/path/to/python3"
            % crippled[0]
        )
    seen = ", ".join(old) if old else (named + " does not run" if named else "none was found")
    raise Refusal(
        "Python %s or newer is needed, and %s: install it, or name it: make lab PYTHON=/path/to/python%s"
        % (need, seen, need)
    )


def inside(venv):
    """The environment's own interpreter."""
    return (
        os.path.join(venv, "Scripts", "python.exe")
        if os.name == "nt"
        else os.path.join(venv, "bin", "python")
    )


def digest():
    """Changes with the dependencies, their pins and the place of the checkout."""
    total = hashlib.sha256(ROOT.encode("utf-8"))
    for name in ("pyproject.toml", "constraints.txt"):
        with io.open(os.path.join(ROOT, name), "rb") as file:
            total.update(file.read())
    return total.hexdigest()


def stamp(venv, extra):
    return os.path.join(venv, ".ready" + ("-" + extra if extra else ""))


def is_ready(venv, extra):
    try:
        with io.open(stamp(venv, extra)) as file:
            return file.read() == digest() and os.path.exists(inside(venv))
    except (IOError, OSError):
        return False


def has_pinned_torch(venv):
    """True when the heavy part is already there, so that an install needs little room."""
    with io.open(os.path.join(ROOT, "constraints.txt")) as file:
        pin = re.search(r"^torch==(\S+)", file.read(), re.M)
    for folder, _, _ in os.walk(os.path.join(venv, "Lib" if os.name == "nt" else "lib")):
        if os.path.basename(folder) == "site-packages":
            return bool(pin) and os.path.isdir(
                os.path.join(folder, "torch-%s.dist-info" % pin.group(1))
            )
    return False


def check_disk(venv, need_gb):
    place = venv
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    free_gb = shutil.disk_usage(place).free / 1e9
    if free_gb < need_gb:
        raise Refusal(
            "not enough free disk: the install needs about %.0f GB where %s lies, and %.1f GB are free: make room, "
            "or put it elsewhere: make lab VENV=/path/with/room (NEED_GB=4 tries with less)"
            % (need_gb, venv, free_gb)
        )


def make_venv(python, venv):
    """Keep an environment that works; make a new one where there is none or where its interpreter is gone or too old."""
    found = version_of(inside(venv))
    if found and found[0] >= MINIMUM and subprocess.call([inside(venv), "-c", "import pip"]) == 0:
        return
    if (
        os.path.isdir(venv)
        and os.listdir(venv)
        and not os.path.exists(os.path.join(venv, "pyvenv.cfg"))
    ):
        raise Refusal(
            "%s exists and is not a virtual environment: remove it, or choose another place: "
            "make lab VENV=/another/place" % venv
        )
    if subprocess.call([python, "-m", "venv", "--clear", venv]) != 0:
        raise Refusal("%s -m venv %s failed (its own words are above)" % (python, venv))


def pip_install(venv, arguments):
    """Run pip; its whole output goes to a file, the large downloads to the screen, and a failure into one line."""
    log, scratch = os.path.join(venv, "pip.log"), os.path.join(venv, "tmp")
    shutil.rmtree(scratch, ignore_errors=True)  # of an install that was killed
    os.mkdir(scratch)
    command = [
        inside(venv),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
        "-c",
        "constraints.txt",
    ] + arguments
    said = []
    with io.open(log, "a", encoding="utf-8") as file:
        # wheels of several GB pass through the temporary folder: not through a small /tmp in memory
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(os.environ, TMPDIR=scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            for line in io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace"):
                file.write(line)
                file.flush()
                said.append(line.strip())
                size = re.match(
                    r"Downloading \S*?([^/\s]+)-\d\S* \((\d{2,}[\d.]* MB|[\d.]+ GB)\)", line.strip()
                )
                if size:
                    print("  downloading %s (%s)" % size.groups())
                elif line.startswith("Installing collected packages:") and "," in line:
                    print("  unpacking %d packages" % (line.count(",") + 1))
                sys.stdout.flush()
        except BaseException:  # interrupted: leave no pip behind that writes beside the next one
            process.terminate()
            process.wait()
            raise
    shutil.rmtree(scratch, ignore_errors=True)
    if process.wait() == 0:
        return
    text = "\n".join(said)
    if DISK_FULL.search(text):
        raise Refusal(
            "the disk is full: make room, or put the environment elsewhere: make lab VENV=/path/with/room "
            "(pip's log: %s)" % log
        )
    if UNREACHABLE.search(text):
        raise Refusal("no network: pip could not reach the package index (pip's log: %s)" % log)
    errors = [line for line in said if line.startswith("ERROR:")] or [
        "it stopped with status %d" % process.returncode
    ]
    raise Refusal("pip could not install the environment: %s (pip's log: %s)" % (errors[-1], log))


def prepare(venv, extra, named, need_gb):
    if is_ready(venv, extra):
        return
    python = find_python(named)
    if sys.version_info < MINIMUM:  # from here on it may be a modern Python
        raise SystemExit(subprocess.call([python, os.path.abspath(__file__)] + sys.argv[1:]))
    check_disk(venv, min(need_gb, 1.0) if has_pinned_torch(venv) else need_gb)
    make_venv(python, venv)
    for name in os.listdir(venv):
        if name.startswith(".ready") or name == "pip.log":
            os.remove(os.path.join(venv, name))
    print(
        "Installing the workbook's environment into %s: some minutes, once (pip's log: %s)"
        % (venv, os.path.join(venv, "pip.log"))
    )
    sys.stdout.flush()
    pip_install(
        venv, ["--retries", "2", "setuptools"]
    )  # the pinned build backend; says at once whether there is a network
    pip_install(venv, ["--no-build-isolation", "-e", ".[%s]" % extra if extra else "."])
    for name in {"", extra}:
        with io.open(stamp(venv, name), "w") as file:
            file.write(digest())


def main():
    parser = argparse.ArgumentParser(description="Make the workbook's virtual environment.")
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"))
    parser.add_argument("--extra", default="", help="an extra of pyproject.toml, such as test")
    parser.add_argument(
        "--python",
        default="",
        help="the interpreter to build on; without it the newest known one is looked for",
    )
    parser.add_argument(
        "--need-gb", type=float, default=NEED_GB, help="free disk that an install needs"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as for Ctrl-C
    try:
        prepare(os.path.abspath(args.venv), args.extra, args.python, args.need_gb)
    except Refusal as refusal:
        sys.stderr.write("kdtutor: %s\n" % refusal)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("kdtutor: interrupted; the same command begins the install again\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
