"""Everything that waits for a GPU, in one command that may be called again and again.

    python benchmarks/gpu.py                    what this card was not measured at yet, 9 min
    python benchmarks/gpu.py --quick            does every part run? On the CPU, into /tmp
    python benchmarks/gpu.py --parts speed cache --again speed

Parts come in order of worth (``on_gpu``); each writes data/results/gpu_<part>.csv after every
measurement, and a call goes on where the last one stopped. It needs torch with CUDA, numpy and
safetensors, for the tests pytest and hypothesis, for the lessons what their figures need; no
network and nothing of the notebook stack. Parts whose needs are missing say so and are left out.

Measurements run in a process of their own. Where one dies, its row says so and the next begins;
what is not done after ``--minutes`` is left for the next call."""

import argparse
import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from on_gpu import BROKEN, PARTS
from on_gpu.table import Table

REPO = Path(__file__).resolve().parents[1]
PATIENCE = 180  # seconds, at least, before a cell counts as hanging


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9, help="of this call, at most")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--again", nargs="+", choices=PARTS, default=[], help="measure these once more"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--peer", help="a checkout of RepDistiller, to be compared with")
    parser.add_argument("--data", default=REPO / "data", help="folder that holds CIFAR-10")
    parser.add_argument(
        "--state", default=REPO / "runs" / "gpu", help="what goes on in the next call"
    )
    parser.add_argument("--out", default=REPO / "data" / "results", help="folder of the tables")
    args = parser.parse_args(given)
    if args.quick and args.out == REPO / "data" / "results":
        args.out = Path(tempfile.mkdtemp(prefix="kdtutor-gpu-"))
    if args.quick:
        args.state = Path(args.out) / "state"
    return args


def main(given: list[str] | None = None) -> int:
    args = arguments(given)
    folders = {name: str(Path(getattr(args, name)).resolve()) for name in ("data", "state", "out")}
    told = {
        "quick": args.quick,
        "parts": args.parts,
        "peer": args.peer and str(Path(args.peer).resolve()),
        "deadline": time.monotonic() + 60 * args.minutes,
        **folders,
    }
    child = [sys.executable, "-m", "on_gpu.child"]
    call = Call(child, told, set(args.again))
    try:
        return call.run()
    except KeyboardInterrupt:
        return 130
    finally:
        print(call.summary())


class Call:
    """One call of the command: the process that measures, its tables, and the clock.

    Args:
        child: The command of that process; what it is told is its last argument.
        told: Parts, folders, the deadline.
        again: Parts whose rows of this card are dropped first.
    """

    def __init__(self, child: list[str], told: dict, again: set[str]):
        self.child, self.told, self.again = child, told, again
        self.tables: dict[str, Table] = {}
        self.machine: dict = {}
        self.notes: list[str] = []  # what was left, and why
        self.new = 0

    def run(self) -> int:
        """Measures until all is done or the time is over; the command's exit status."""
        while True:
            ended = self.once()
            if ended == "late":
                self.notes.append("the time was over: call again to go on")
            if ended != "died":
                return 0 if ended in ("done", "late") else 1

    def once(self) -> str:
        """One process, to its end: "done", "late", "died" (another can go on) or "failed"."""
        self.notes.clear()
        begun: tuple[str, dict] | None = None
        hung = float("inf")  # when a cell that takes far longer than it should is given up
        process = subprocess.Popen(
            [*self.child, json.dumps(self.told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ
            | {
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # for deterministic algorithms
                "PYTHONPATH": os.pathsep.join(
                    [str(REPO), str(REPO / "benchmarks"), os.environ.get("PYTHONPATH", "")]
                ).strip(os.pathsep),
            },
        )
        lines: queue.Queue = queue.Queue()
        threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        try:
            while True:
                until = min(self.told["deadline"], hung)
                try:
                    line = lines.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    if until < hung or not begun:
                        return "late"
                    part, key = begun
                    self.put(part, [key | {"error": "given up: it did not end"}])
                    return "died"
                if line is None:
                    break
                heard = json.loads(line)
                if "begun" in heard:
                    begun = heard["part"], heard["begun"]
                    hung = time.monotonic() + max(PATIENCE, 4 * heard["about"])
                    hung = hung if heard["begun"] else float("inf")
                answer = self.hear(heard)
                if answer is not None:
                    with contextlib.suppress(BrokenPipeError):  # it died: its status says so
                        process.stdin.write(json.dumps(answer) + "\n")
                        process.stdin.flush()
                if "rows" in heard or "lack" in heard:
                    begun, hung = None, float("inf")
            status = process.wait()
        finally:
            stop(process)
        if not status:
            return "done"
        if begun and begun[1]:
            part, key = begun
            self.put(part, [key | {"error": f"the process died with exit status {status}"}])
            return "died"
        # After a row that was told, CUDA may be broken: a new process goes on.
        return "died" if status == BROKEN and self.tables else "failed"

    def hear(self, heard: dict):
        """Takes one message of the process; what it is to be answered."""
        if "missing" in heard:
            self.notes.append(heard["missing"])
        elif "machine" in heard:
            self.machine = self.command() | heard["machine"]
            print(f"{self.machine['card']}, torch {self.machine['torch']}")
        elif "columns" in heard:
            name = heard["part"]
            path = Path(self.told["out"]) / f"gpu_{name}.csv"
            table = Table(path, heard["columns"], heard["note"])
            if name in self.again:
                table.forget(self.machine)
                self.again.remove(name)
            self.tables[name] = table
            return sorted(table.known(self.machine))
        elif "rows" in heard:
            self.put(heard["part"], heard["rows"], f"{heard['seconds']:.0f} s")
        elif "lack" in heard:
            self.notes.append(f"{heard['part']}: {heard['lack']}")
        elif "later" in heard:
            self.notes.append(f"{heard['part']}: too little time was left for {heard['later']}")
        return None

    def put(self, part: str, rows: list[dict], said: str = "") -> None:
        """Writes a cell's rows, and says so."""
        self.new += self.tables[part].put(rows, self.machine)
        failed = [r["error"] for r in rows if r.get("error")]
        named = ", ".join(self.tables[part].name(rows[0])) if rows else "nothing yet"
        print(f"  {part}: {named}: {failed[0] if failed else said}", flush=True)

    def command(self) -> dict:
        """What was called, without the folders of this machine."""
        given, kept = iter(sys.argv[1:]), []
        for word in given:
            if word in ("--data", "--state", "--out", "--peer"):
                next(given, None)
                kept += ["--peer", "PATH"] if word == "--peer" else []
            else:
                kept.append(word)
        return {"command": shlex.join(["python", "benchmarks/gpu.py", *kept])}

    def summary(self) -> str:
        """What there is now, by part."""
        lines = [f"{self.new} rows more, in {self.told['out']}:"]
        for name, table in self.tables.items():
            mine = [r for r in table.rows if r.get("card") == self.machine.get("card")]
            failed = sum(bool(r.get("error")) for r in mine)
            failed += sum(r.get("outcome") in ("failure", "error", "failed") for r in mine)
            lines.append(f"  {name:10} {len(mine):4} rows{f', {failed} failed' if failed else ''}")
        shown = self.notes[:8] + ([f"… and {len(self.notes) - 8} more"] if self.notes[8:] else [])
        return "\n".join(lines + [f"left: {note}" for note in shown])


def pump(stream, lines: queue.Queue) -> None:
    """Lines as they come; None at the end."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def stop(process: subprocess.Popen) -> None:
    """Ends a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
