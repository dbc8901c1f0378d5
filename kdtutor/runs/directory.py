"""A run is a directory: what was asked (spec.json), what happened (metrics.jsonl), where it stands
(checkpoint.safetensors).

Every file appears complete or not at all (a temporary file, then ``os.replace``), so a run may be
killed at any moment. Checkpoints hold tensors and JSON, never pickles: opening a stranger's file
runs no code."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..datasets.batch import digest


def _pack(value, tensors: dict[str, Tensor]):
    """A nested state as JSON that refers to named tensors: tensors move to the dictionary, the
    skeleton is returned.
    """
    if isinstance(value, Tensor):
        # A contiguous clone: safetensors refuses tensors that share memory (tied weights) or are
        # strided (channels_last).
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[k, _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(v, tensors) for v in value]}
    return {"value": value}


def _unpack(skeleton, tensors):
    kind, value = next(iter(skeleton.items()))
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {k: _unpack(v, tensors) for k, v in value}
    return [_unpack(v, tensors) for v in value] if kind == "list" else value


class CannotWrite(OSError):
    """A file of a run cannot be written: the disk is full or the folder read-only. Nothing that was
    saved before is lost.
    """


def replace_file(path: Path, write) -> None:
    """Calls write(temporary path), then moves the finished file into place in one step."""
    temporary = path.with_name(
        f".{path.name}.{secrets.token_hex(4)}.tmp"
    )  # not the process number: machines may share a folder
    try:
        write(temporary)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {path} ({error.strerror or error}). Is the disk full or the folder "
            "read-only? What was saved "
            "before is intact; free space or choose another folder, then run again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_state(path: str | Path, state: Any) -> None:
    """Saves a nested state (dicts and lists of tensors, numbers, strings, None) to one safetensors
    file, atomically.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _pack(state, tensors)
    meta = {"state": json.dumps(skeleton), "digest": digest(list(tensors.values()))}
    replace_file(Path(path), lambda temporary: save_file(tensors, temporary, metadata=meta))


def load_state(path: str | Path) -> Any:
    """Reads what ``save_state`` wrote. Raises ``ValueError`` naming the file if it is truncated,
    corrupted or something else.
    """
    try:
        with safe_open(path, framework="pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}
        skeleton = json.loads(meta["state"])
        if digest([tensors[str(i)] for i in range(len(tensors))]) != meta["digest"]:
            raise ValueError("its contents do not match its checksum")
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} is truncated, corrupted or no kdtutor checkpoint ({error}). Delete it (or "
            "its run directory) to "
            "start over, or put back a good copy."
        ) from error
    return _unpack(skeleton, tensors)


def save_weights(net: nn.Module, path: str | Path, **about) -> None:
    """Saves a network's weights (and a few words about them) to a safetensors file, atomically."""
    save_state(path, {"weights": dict(net.state_dict()), "about": about})


def load_weights(net: nn.Module, path: str | Path) -> nn.Module:
    """Loads weights saved by ``save_weights`` into a network of the same architecture; returns the
    network.

    Raises ``ValueError`` for a damaged file or for weights of another architecture.
    """
    try:
        net.load_state_dict(load_state(path)["weights"])
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {path} belong to another architecture than {type(net).__name__}: "
            f"{error}"
        ) from error
    return net


class RunDirectory:
    """The files of one run. Raises ``OSError`` with what to do if the directory cannot be created
    or written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"cannot create the run directory {self.path} ({error.strerror or error}): choose "
                "a folder you may "
                "write to."
            ) from error
        replace_file(self.path / ".writable", lambda temporary: temporary.write_text(""))
        (self.path / ".writable").unlink(
            missing_ok=True
        )  # another process that opens the folder now may have been here first

    def begin(self, spec: dict, state) -> dict | None:
        """Starts a run with its initial state, or returns the state where this very run stopped.

        Raises ``ValueError`` that lists the differences if the directory holds a run with another
        spec."""
        if not (self.path / "spec.json").exists():
            (self.path / "metrics.jsonl").unlink(missing_ok=True)
            save_state(self.path / "checkpoint.safetensors", state())
            self._write_json("spec.json", spec)
            return None
        old = self._read_json("spec.json")
        new = json.loads(json.dumps(spec))
        differ = [
            f"{k}: {old.get(k)!r} there, {new.get(k)!r} now"
            for k in sorted({*old, *new} - {"versions"})
            if old.get(k) != new.get(k)
        ]
        if differ:
            raise ValueError(
                f"{self.path} holds a run with other settings ({'; '.join(differ)}). Continue it "
                "with its own settings, "
                "or choose another run_dir."
            )
        return load_state(self.path / "checkpoint.safetensors")

    def rows(self, until: int) -> list[dict]:
        """The metrics of the first ``until`` epochs; rows of later epochs and a torn last line are
        dropped from the file.
        """
        file, rows = self.path / "metrics.jsonl", []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        rows = [r for r in rows if r["epoch"] <= until]
        replace_file(
            file,
            lambda temporary: temporary.write_text("".join(json.dumps(r) + "\n" for r in rows)),
        )
        return rows

    def append(self, row: dict) -> None:
        """Adds one epoch's metrics."""
        try:
            with open(self.path / "metrics.jsonl", "a") as f:
                f.write(json.dumps(row) + "\n")
        except OSError as error:
            raise CannotWrite(
                f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror or error}). Is the "
                "disk full? What was saved "
                "before is intact; free space, then run again."
            ) from error

    def checkpoint(self, state) -> None:
        """Replaces the checkpoint."""
        save_state(self.path / "checkpoint.safetensors", state)

    def finish(self, result: dict) -> None:
        """Writes result.json, the last thing a finished run writes."""
        self._write_json("result.json", result)

    @property
    def result(self) -> dict | None:
        return self._read_json("result.json") if (self.path / "result.json").exists() else None

    def _write_json(self, name: str, value: dict) -> None:
        replace_file(
            self.path / name,
            lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"),
        )

    def _read_json(self, name: str) -> dict:
        try:
            return json.loads((self.path / name).read_text())
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{self.path / name} is corrupted ({error}). Delete the run directory to start "
                "over."
            ) from error


def environment(device: torch.device) -> dict:
    """Versions and device, for provenance."""
    import platform

    from .. import __version__

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "kdtutor": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type}:{name}",
        "threads": torch.get_num_threads(),
    }
