"""Time from `make lab` to a JupyterLab that a learner can use, beside JupyterLab started by hand:
the ratio is what make adds.

    python benchmarks/lab_start.py [--runs 3] [VENV=/path PYTHON=/path …]

Ready means that /api/status and the page of the first lesson both answer 200. The first start,
which may install the environment, is printed but not counted. Each server is asked to shut down
before the next one starts."""

import argparse
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LESSON = "notebooks/00_start_here.ipynb"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(url: str, method: str = "GET", token: str = "") -> int:
    """The HTTP status, 0 where nobody answers."""
    request = urllib.request.Request(
        url, method=method, headers={"Authorization": f"token {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def start(command: list[str], port: int, limit: float) -> float:
    """Seconds from starting the command to a ready JupyterLab; stops it again. Ends this script if
    it does not get ready.
    """
    token, base = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    pages = [f"{base}/api/status", f"{base}/lab/tree/{LESSON}"]
    begin = time.perf_counter()
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed below, once the server has ended
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"JUPYTER_TOKEN": token},
        start_new_session=True,
        stdout=said,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        while not all(ask(page, token=token) == 200 for page in pages):
            if server.poll() is not None or time.perf_counter() - begin > limit:
                said.seek(0)
                seconds = time.perf_counter() - begin
                sys.exit(
                    f"{' '.join(command)}\nnot ready after {seconds:.0f} s. It "
                    f"said:\n{said.read()[-2000:]}"
                )
            time.sleep(0.02)
        return time.perf_counter() - begin
    finally:
        ask(f"{base}/api/shutdown", "POST", token)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(
                server.pid, signal.SIGKILL
            )  # its own session: make, the shell and the server, nothing else


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="starts that count")
    parser.add_argument(
        "--limit", type=float, default=120, help="seconds that a counted start may take"
    )
    parser.add_argument(
        "--first-limit",
        type=float,
        default=3600,
        help="seconds for the first start, which may install",
    )
    parser.add_argument("variables", nargs="*", help="passed on to make, such as VENV=/path")
    args = parser.parse_args()
    venv = next((v.split("=", 1)[1] for v in args.variables if v.startswith("VENV=")), ".venv")

    def make(limit: float) -> float:
        port = free_port()
        options = f"--no-browser --ServerApp.port={port} --ServerApp.port_retries=0"
        return start(["make", "lab", f"LAB_ARGS={options}", *args.variables], port, limit)

    def by_hand() -> float:
        port = free_port()
        root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        return start(
            [
                str(Path(venv) / "bin" / "python"),
                "-m",
                "jupyterlab",
                LESSON,
                "--no-browser",
                "--ip=127.0.0.1",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                "--ServerApp.root_dir=.",
                *root,
            ],
            port,
            args.limit,
        )

    print(f"first start: {make(args.first_limit):.2f} s (not counted)", flush=True)
    pairs = [
        (make(args.limit), by_hand()) for _ in range(args.runs)
    ]  # in turns: the machine's other load hits both
    for made, hand in pairs:
        print(f"make lab {made:.2f} s   jupyterlab by hand {hand:.2f} s", flush=True)
    lab, hand = (statistics.median(column) for column in zip(*pairs))
    print(
        f"make lab to a ready JupyterLab: {lab:.2f} s, median of {args.runs}; {lab / hand:.2f} x "
        "JupyterLab by hand"
    )
    print(
        json.dumps(
            {
                "lab_start_s": round(lab, 2),
                "by_hand_s": round(hand, 2),
                "ratio": round(lab / hand, 3),
                "runs": args.runs,
            }
        )
    )


if __name__ == "__main__":
    main()
