"""A dataset in pieces: there and back byte for byte, and nothing that is broken is put together."""

import gzip
import io
import json
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from kdtutor.cli import app
from kdtutor.datasets import load, pack, unpack


@pytest.fixture
def root(tmp_path):
    """An image folder and MNIST's four files, of noise; MNIST some 3 MiB after compression."""
    root, random = tmp_path / "here", np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("a", "b c"):
            folder = root / "mine" / part / name
            folder.mkdir(parents=True)
            for i in range(3):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, n in (("train", 4000), ("t10k", 50)):
        head = lambda *sizes: (
            bytes([0, 0, 8, len(sizes)]) + b"".join(s.to_bytes(4, "big") for s in sizes)
        )
        images = random.integers(0, 256, n * 784, dtype=np.uint8).tobytes()
        labels = random.integers(0, 10, n, dtype=np.uint8).tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head(n, 28, 28) + images)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head(n) + labels)
    (raw / "not a file of MNIST").write_text("private")
    return root


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def test_an_image_folder_there_and_back(root, tmp_path):
    whole = load("mine", root=root)
    listed = pack("mine", tmp_path / "out", root)
    assert unpack(listed, tmp_path / "there") == tmp_path / "there" / "mine"
    assert contents(tmp_path / "there" / "mine") == contents(root / "mine")
    again = load("mine", root=tmp_path / "there")
    assert torch.equal(again.train.x, whole.train.x) and again.classes == whole.classes
    assert os.listdir(tmp_path / "there") == ["mine"]


def test_published_files_in_several_pieces(root, tmp_path):
    listed = pack("mnist", tmp_path / "out", root, piece_mib=1)
    about = json.loads(listed.read_text())
    sizes = [p["bytes"] for p in about["pieces"]]
    assert len(sizes) >= 3 and set(sizes[:-1]) == {2**20} and 0 < sizes[-1] <= 2**20
    assert [p["file"] for p in about["pieces"]] == [
        f"mnist.tar.gz.part{i:02d}" for i in range(len(sizes))
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        ["mnist.json", *(p["file"] for p in about["pieces"])]
    )
    there = tmp_path / "there"
    assert unpack(tmp_path / "out", there) == there / "MNIST" / "raw"  # the folder's only list
    found, given = contents(there / "MNIST" / "raw"), contents(root / "MNIST" / "raw")
    assert given.pop("not a file of MNIST") and found == given


def test_the_same_files_give_the_same_pieces(root, tmp_path):
    first = contents(pack("mnist", tmp_path / "one", root, piece_mib=1).parent)
    os.utime(root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", (1, 1))
    assert contents(pack("mnist", tmp_path / "two", root, piece_mib=1).parent) == first
    # larger pieces: those of before are gone
    pack("mnist", tmp_path / "two", root)
    assert sorted(contents(tmp_path / "two")) == ["mnist.json", "mnist.tar.gz.part00"]


def test_pieces_that_are_missing_or_damaged_are_all_named(root, tmp_path):
    listed, there = pack("mnist", tmp_path / "out", root, piece_mib=1), tmp_path / "there"
    first, second, *_ = sorted(listed.parent.glob("*.part*"))
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of \d+ pieces of mnist.*{first.name}"):
        unpack(listed, there)
    first.write_bytes(b"x" + content[1:])
    second.write_bytes(second.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{first.name}, {second.name} of mnist.*SHA-256"):
        unpack(listed, there)
    assert contents(there) == {} and not list(there.glob(".unpacking*"))
    first.write_bytes(content)


def test_what_is_there_stays(root, tmp_path):
    listed = pack("mine", tmp_path / "out", root)
    with pytest.raises(ValueError, match="is there already"):
        unpack(listed, root)
    (tmp_path / "there" / "mine").mkdir(parents=True)  # empty: nothing is lost
    unpack(listed, tmp_path / "there")
    assert contents(tmp_path / "there" / "mine") == contents(root / "mine")


def test_a_dataset_of_two_folders(tmp_path):
    """CUB-200-2011's segmentations come in an archive of their own, and lie beside it."""
    root = tmp_path / "here"
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt",
                 "bounding_boxes.txt", "classes.txt", "images/a/1.jpg"):  # fmt: skip
        (root / "CUB_200_2011" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "CUB_200_2011" / name).write_text(name)
    (root / "segmentations").mkdir()
    (root / "segmentations" / "1.png").write_text("mask")
    listed, there = pack("cub200", tmp_path / "out", root), tmp_path / "there"
    assert unpack(listed, there) == there / "CUB_200_2011"
    assert contents(there) == contents(root) and len(contents(there)) == 7
    (there / "CUB_200_2011").rename(there / "elsewhere")
    with pytest.raises(ValueError, match="segmentations is there already"):
        unpack(listed, there)


def forged(tmp_path, *entries, **changes):
    """A list and a piece with these entries of a tar, digests right."""
    import hashlib

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    content = gzip.compress(buffer.getvalue())
    (tmp_path / "p.part00").write_bytes(content)
    piece = {
        "file": "p.part00",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    about = {"name": "mine", "folders": ["mine"], "files": 1, "bytes": 1, "pieces": [piece]}
    (tmp_path / "mine.json").write_text(json.dumps(about | changes))
    return tmp_path / "mine.json"


def entry(name, kind=tarfile.REGTYPE, size=1, link=""):
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, link
    return found


@pytest.mark.parametrize(
    "what",
    [
        entry("../outside"),
        entry("/tmp/outside"),
        entry("mine/../../outside"),
        entry("other/file"),
        entry("mine"),
        entry("mine\\..\\outside"),
        entry("mine/link", tarfile.SYMTYPE, 0, "/etc/passwd"),
        entry("mine/hard", tarfile.LNKTYPE, 0, "../../outside"),
        entry("mine/device", tarfile.CHRTYPE, 0),
    ],
)
def test_an_archive_can_write_nowhere_else(what, tmp_path):
    there = tmp_path / "a" / "there"
    with pytest.raises(ValueError, match="no file of mine"):
        unpack(forged(tmp_path, what), there)
    assert contents(there) == {} and not (tmp_path / "a" / "outside").exists()


def test_an_archive_of_another_size_than_promised(tmp_path):
    with pytest.raises(ValueError, match="promises 2 files"):
        unpack(forged(tmp_path, entry("mine/a"), files=2), tmp_path / "there")
    assert unpack(forged(tmp_path, entry("mine/a")), tmp_path / "there").name == "mine"


@pytest.mark.parametrize(
    "changes",
    [
        {"folders": ["../x"]},
        {"folders": ["mine", "/x"]},
        {"folders": [""]},
        {"folders": [1]},
        {"folders": []},
        {"folders": "mine"},
        {"pieces": []},
        {"pieces": [{"file": "../p"}]},
        {"pieces": [{}]},
        {"pieces": "all"},
        {"files": "1"},
    ],
)
def test_what_is_no_list_is_refused(changes, tmp_path):
    with pytest.raises(ValueError, match="is no list of a packed dataset"):
        unpack(forged(tmp_path, entry("mine/a"), **changes), tmp_path / "there")


def test_bad_input(root, tmp_path):
    with pytest.raises(ValueError, match="embedded"):
        pack("digits", tmp_path, root)
    with pytest.raises(ValueError, match="cifar10 is not in .*fetch cifar10"):
        pack("cifar10", tmp_path, root)
    with pytest.raises(ValueError, match=r"unknown dataset 'minee'.*'mine'"):
        pack("minee", tmp_path, root)
    with pytest.raises(ValueError, match="at least 1 MiB"):
        pack("mine", tmp_path, root, piece_mib=0)
    with pytest.raises(FileNotFoundError, match="NAME.json"):
        unpack(tmp_path / "nothing.json", root)
    with pytest.raises(FileNotFoundError, match=r"holds 0 lists.*none"):
        unpack(tmp_path, root)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is no list"):
        unpack(tmp_path, root)


def test_from_the_command_line(root, tmp_path):
    ask = lambda *words: CliRunner().invoke(app, ["data", *map(str, words)])
    done = ask("pack", "mnist", "--pieces", "--mib", 1, "--root", root)
    assert done.exit_code == 0 and "MiB. Bring them and" in done.output
    assert (root / "packed" / "mnist.json").exists()
    done = ask("unpack", root / "packed" / "mnist.json", "--root", tmp_path / "there")
    assert done.exit_code == 0 and "is complete" in done.output
    done = ask("pack", "mine", "--whole", "--out", tmp_path / "out", "--root", root)
    assert done.exit_code == 0 and "1 piece," in done.output
    assert "packed" not in ask("list", "--root", root).output
