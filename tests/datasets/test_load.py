"""Loading: what is read is what lies there, and every file that is missing, damaged or odd is named
in one clear error.
"""

import gzip
import os
import pickle
import subprocess
import sys
import tarfile
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image

from kdtutor.datasets import CropFlip, available, fetch, load, names, vision
from kdtutor.datasets.folders import image_folder


def pictures(folder, train=None, test=None, shape=(4, 5, 3), ending="png"):
    """An image folder of random pictures: {class: how many} per part. Returns the arrays in the
    order of their names.
    """
    rng, arrays = np.random.default_rng(0), {"train": [], "test": []}
    for part, classes in (
        ("train", train or {"cat": 3, "bee": 2}),
        ("test", test or {"cat": 1, "bee": 2}),
    ):
        for name in sorted(classes):
            (folder / part / name).mkdir(parents=True)
            for i in range(classes[name]):
                arrays[part].append(rng.integers(0, 256, shape, dtype=np.uint8))
                Image.fromarray(arrays[part][-1]).save(folder / part / name / f"{i}.{ending}")
    return arrays


def idx(array) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A data root with MNIST's four files, shortened to 12 and 5 images; returns (root, arrays by
    file name).
    """
    shapes = {
        name: (12 if "train" in name else 5, *shape[1:]) for name, shape in vision.IDX.items()
    }
    monkeypatch.setitem(vision.PUBLISHED, "mnist", vision.PUBLISHED["mnist"]._replace(files=shapes))
    rng, raw = np.random.default_rng(1), tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = {
        name: rng.integers(0, 10 if "labels" in name else 256, shape, dtype=np.uint8)
        for name, shape in shapes.items()
    }
    for name, array in arrays.items():
        (raw / name).write_bytes(idx(array))
    return tmp_path, arrays


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A data root with CIFAR-10's and CIFAR-100's pickles, shortened, written as Python 2 and numpy
    of then named things.
    """
    rng = np.random.default_rng(2)
    for name, label, classes in (("cifar10", "labels", 10), ("cifar100", "fine_labels", 100)):
        published = vision.PUBLISHED[name]
        files = {file: 100 if file == "meta" else 4 for file in published.files}
        monkeypatch.setitem(vision.PUBLISHED, name, published._replace(files=files))
        (tmp_path / published.folder).mkdir()
        for file in published.files:
            content = {
                "data": rng.integers(0, 256, (4, 3072), dtype=np.uint8),
                label: rng.integers(0, classes, 4).tolist(),
            }
            content = (
                {"fine_label_names": [f"class{i:02}" for i in range(100)]}
                if file == "meta"
                else content
            )
            raw = pickle.dumps(content, protocol=2).replace(
                b"numpy._core.multiarray", b"numpy.core.multiarray"
            )
            (tmp_path / published.folder / file).write_bytes(raw)
    return tmp_path


# Embedded


def test_digits():
    data = load("digits")
    assert data.train.x.shape == (1297, 1, 8, 8) and data.test.x.shape == (500, 1, 8, 8)
    assert (
        data.train.x.dtype == torch.uint8
        and data.train.x.max() == 255
        and data.train.y.dtype == torch.int64
    )
    whole = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
    assert torch.bincount(data.test.y).tolist() == [round(500 * n / 1797) for n in whole], (
        "the same share of every class"
    )
    assert data.augment is None and data.mean == () and data.classes == tuple("0123456789")
    assert torch.equal(data.train.x, load("digits").train.x) and not torch.equal(
        data.test.x, load("digits", seed=1).test.x
    )
    together = torch.cat([data.train.x, data.test.x]).flatten(1).double()
    from sklearn.datasets import load_digits

    raw = torch.from_numpy(load_digits().data)
    assert torch.equal((together * 16 / 255).round().sum(0), raw.sum(0)), (
        "every real digit is there once"
    )


def test_digits_bad_split():
    with pytest.raises(ValueError, match="n_test=1797: digits has 1797 images, so 1 to 1796"):
        load("digits", n_test=1797)


def test_options_reach_scenes():
    data = load("scenes", n_train=16, n_test=8, size=40)
    assert data.train.x.shape == (16, 3, 40, 40) and len(data.test) == 8


# Published files


@pytest.mark.parametrize("packed", [False, True])
def test_mnist(mnist, packed):
    root, arrays = mnist
    if packed:
        for file in (root / "MNIST" / "raw").iterdir():
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    data = load("mnist", root=root)
    train_x, train_y, test_x, test_y = map(torch.from_numpy, arrays.values())
    assert torch.equal(data.train.x, train_x[:, None]) and torch.equal(data.test.x, test_x[:, None])
    assert torch.equal(data.train.y, train_y.long()) and torch.equal(data.test.y, test_y.long())
    assert data.name == "mnist" and data.augment is None and data.mean == ()
    assert available(root)["mnist"] == (True, f"files in {root / 'MNIST' / 'raw'}")


def test_known_lengths_of_the_published_files():
    assert vision.IDX["train-images-idx3-ubyte"] == (60_000, 28, 28) and vision.IDX[
        "t10k-labels-idx1-ubyte"
    ] == (10_000,)
    assert sum(vision.PUBLISHED["cifar10"].files.values()) == 60_000
    assert vision.PUBLISHED["cifar100"].files == {"train": 50_000, "test": 10_000, "meta": 100}


@pytest.mark.parametrize(
    "spoil, found",
    [
        (lambda raw: raw[:-100], "9,308 bytes after 00000803"),
        (lambda raw: raw + b"x", "9,409 bytes after 00000803"),
        (lambda raw: b"\0\0\x0d\x03" + raw[4:], "9,408 bytes after 00000d03"),
        (lambda raw: raw[:7] + b"\x0b" + raw[8:], "after 000000?"),
        (lambda raw: b"<html>", "after 3c68746d6c3e"),
        (lambda raw: b"", "after no header"),
    ],
)
def test_damaged_idx(mnist, spoil, found):
    file = mnist[0] / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(spoil(file.read_bytes()))
    expected = (
        f"train-images-idx3-ubyte is damaged.*expected 12 x 28 x 28 bytes.*{found}.*"
        "Delete it .*fetch mnist"
    )
    with pytest.raises(ValueError, match=expected):
        load("mnist", root=mnist[0])


@pytest.mark.parametrize(
    "spoil",
    [lambda raw: raw[:-20], lambda raw: b"no gzip", lambda raw: raw[:30] + bytes(9) + raw[39:]],
)
def test_damaged_gzip(mnist, spoil):
    file = mnist[0] / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.with_name(f"{file.name}.gz").write_bytes(spoil(gzip.compress(file.read_bytes())))
    file.unlink()
    with pytest.raises(
        ValueError,
        match="t10k-images-idx3-ubyte.gz is damaged.*expected 5 x 28 x 28 bytes.*"
        "broken compression",
    ):
        load("mnist", root=mnist[0])


def test_cifar(cifar):
    ten, hundred = load("cifar10", root=cifar), load("cifar100", root=cifar)
    assert (
        ten.train.x.shape == (20, 3, 32, 32)
        and ten.test.x.shape == (4, 3, 32, 32)
        and hundred.train.x.shape == (4, 3, 32, 32)
    )
    third = pickle.loads((cifar / "cifar-10-batches-py" / "data_batch_3").read_bytes())
    assert torch.equal(ten.train.x[8:12].flatten(1), torch.from_numpy(third["data"]))
    assert ten.train.y[8:12].tolist() == third["labels"]
    assert hundred.classes[7] == "class07" and len(hundred.classes) == 100
    for data in (ten, hundred):
        assert (
            data.augment == CropFlip(4)
            and len(data.mean) == len(data.std) == 3
            and data.views == 162
        )


def batch(labels, rows=4) -> bytes:
    return pickle.dumps({"data": np.zeros((rows, 3072), np.uint8), "labels": labels}, protocol=2)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    "content, found",
    [
        (pickle.dumps(Evil(), protocol=2), r"it asks for posix.mkdir|it asks for nt.mkdir"),
        (pickle.dumps({"data": np.array([Evil()], dtype=object)}), "it asks for"),
        (pickle.dumps([1]), "a pickled list"),
        (pickle.dumps({"labels": [1]}), "'data' of shape None"),
        (batch([1, 2]), "'labels' not as expected"),
        (batch([1, 2, "3", 4]), "'labels' not as expected"),
        (batch([1] * 4, rows=3), r"'data' of shape \(3, 3072\)"),
        (batch([1] * 4)[:-99], "truncated"),
        (b"", "EOFError"),
        (b"<html>not here</html>", "Error"),
    ],
)
def test_damaged_or_hostile_pickle(cifar, elsewhere, content, found):
    (cifar / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    expected = (
        "(?s)data_batch_2 is damaged or incomplete: expected a pickle with 'data'.*"
        f"({found}).*fetch cifar10"
    )
    with pytest.raises(ValueError, match=expected):
        load("cifar10", root=cifar)
    assert not (elsewhere / "owned").exists() and not os.path.exists("owned"), (
        "the pickle ran a program"
    )


def test_every_cut_of_a_pickle_is_one_clear_error(cifar):
    file = cifar / "cifar-10-batches-py" / "test_batch"
    raw = file.read_bytes()
    for cut in [*range(0, 200, 3), *range(200, len(raw), 997)]:
        file.write_bytes(raw[:cut])
        with pytest.raises(ValueError, match="test_batch is damaged or incomplete"):
            load("cifar10", root=cifar)


def test_damaged_class_names(cifar):
    (cifar / "cifar-100-python" / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple"]}))
    with pytest.raises(
        ValueError, match="meta is damaged.*expected a pickle with 100 'fine_label_names'"
    ):
        load("cifar100", root=cifar)


# Image folders


@pytest.mark.filterwarnings("ignore:passed over 1")
def test_folder(tmp_path):
    arrays = pictures(tmp_path / "pets")
    (tmp_path / "pets" / "train" / "cat" / ".hidden.png").write_bytes(b"not an image")
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("not an image either")
    (tmp_path / "pets" / "train" / ".cache").mkdir()
    for data in (
        load(tmp_path / "pets"),
        load(str(tmp_path / "pets")),
        load("pets", root=tmp_path),
    ):
        assert (
            data.classes == ("bee", "cat")
            and data.name == "pets"
            and data.augment is None
            and data.mean == ()
        )
        assert torch.equal(
            data.train.x, torch.from_numpy(np.stack(arrays["train"])).permute(0, 3, 1, 2)
        )
        assert torch.equal(
            data.test.x, torch.from_numpy(np.stack(arrays["test"])).permute(0, 3, 1, 2)
        )
        assert data.train.y.tolist() == [0, 0, 1, 1, 1] and data.test.y.tolist() == [0, 0, 1]
    assert available(tmp_path)["pets"] == (True, f"image folder {tmp_path / 'pets'}")


def test_grey_folder_has_one_channel_and_a_single_colour_image_makes_three(tmp_path):
    arrays = pictures(tmp_path, shape=(4, 5))
    data = image_folder(tmp_path)
    assert torch.equal(data.train.x, torch.from_numpy(np.stack(arrays["train"]))[:, None])
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "train" / "cat" / "1.png")
    mixed = image_folder(tmp_path)
    assert mixed.train.x.shape == (5, 3, 4, 5) and torch.equal(
        mixed.test.x, data.test.x.expand(-1, 3, -1, -1)
    )
    assert mixed.train.x[3, :, 0, 0].tolist() == [1, 2, 3]


def test_cifar10_as_a_folder_has_cifar10_s_defaults(tmp_path):
    pictures(tmp_path / "cifar10", shape=(32, 32, 3))
    data = load("cifar10", root=tmp_path)
    assert (
        data.name == "cifar10"
        and data.augment == CropFlip(4)
        and data.mean == (0.4914, 0.4822, 0.4465)
    )
    assert available(tmp_path)["cifar10"][0] and not available(tmp_path)["cifar100"][0]


def test_sizes_differ(tmp_path):
    pictures(tmp_path)
    Image.new("RGB", (7, 9)).save(tmp_path / "test" / "bee" / "1.png")
    with pytest.raises(
        ValueError,
        match=r"differ in size: .*train.bee.0.png has 5 x 4 pixels, "
        r".*test.bee.1.png has 7 x 9.*size=",
    ):
        load(tmp_path)
    assert load(tmp_path, size=6).train.x.shape == (5, 3, 6, 6)
    assert load(tmp_path, size=(3, 8)).test.x.shape == (3, 3, 3, 8)
    with pytest.raises(ValueError, match="size=0: expected a positive number of pixels"):
        load(tmp_path, size=0)


def test_resizing_keeps_the_picture(tmp_path):
    pictures(tmp_path, shape=(4, 4))
    for file in tmp_path.rglob("*.png"):
        Image.fromarray(np.repeat(np.uint8([[0, 0, 200, 200]]), 4, 0)).save(file)
    assert load(tmp_path, size=(2, 2)).train.x[0, 0, 0].tolist() == pytest.approx([0, 200], abs=30)


@pytest.mark.parametrize(
    "train, test, message",
    [
        ({"cat": 1, "bee": 1}, {"cat": 1}, "differ between train and test; only in train: bee"),
        ({"cat": 1}, {"cat": 1, "ant": 1, "dog": 1}, "only in test: ant, dog"),
        ({"cat": 1, "elk": 1}, {"cat": 1, "ant": 1}, "only in train: elk; only in test: ant"),
        (
            {"cat": 1, "bee": 0},
            {"cat": 1, "bee": 1},
            "class folder .*train.bee is empty: it needs at least one image",
        ),
    ],
)
def test_classes_that_do_not_agree(tmp_path, train, test, message):
    pictures(tmp_path, train, test)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[:-30], lambda raw: raw[:40], lambda raw: b"", lambda raw: b"no image"]
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_damaged_image(tmp_path, spoil, ending):
    pictures(tmp_path, shape=(16, 16, 3), ending=ending)
    file = tmp_path / "train" / "cat" / f"1.{ending}"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(
        ValueError,
        match=rf"train.cat.1.{ending} cannot be read as an image .*Replace or remove the file",
    ):
        load(tmp_path)


def test_sixteen_bit_image(tmp_path):
    pictures(tmp_path)
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "train" / "bee" / "0.png")
    with pytest.raises(
        ValueError, match="bee.0.png cannot be read as an image .more than 8 bits per channel"
    ):
        load(tmp_path)


def test_not_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder 'train': expected train/<class>/"):
        load(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="train has no class folders"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder. Your own images"):
        load(tmp_path / "nowhere")


def test_cache_is_used_and_noticed_when_stale(tmp_path, monkeypatch):
    pictures(tmp_path, ending="bmp")
    first = load(tmp_path)
    caches = list(tmp_path.glob(".kdtutor-cache*"))
    assert [c.name for c in caches] == [".kdtutor-cache.safetensors"], (
        "one cache, and no half-written file left beside it"
    )
    monkeypatch.setattr(
        "PIL.Image.open", lambda *_: pytest.fail("decoded again although nothing changed")
    )
    assert (
        torch.equal(load(tmp_path).train.x, first.train.x)
        and load(tmp_path).train.source == first.train.source
    )
    monkeypatch.undo()
    file = tmp_path / "train" / "bee" / "0.bmp"
    Image.new("RGB", (5, 4), (9, 9, 9)).save(file)
    for every in tmp_path.rglob(
        "*.bmp"
    ):  # as an archive may leave them: the same length and the same time
        os.utime(every, (1, 1))
    assert load(tmp_path).train.x[0].unique().tolist() == [9], (
        "files with another time were not noticed"
    )
    file.rename(file.with_name("9.bmp"))
    assert load(tmp_path).train.x[1].unique().tolist() == [9], "a changed name was not noticed"
    assert load(tmp_path, size=3).train.x.shape[-1] == 3 and load(tmp_path).train.x.shape[-1] == 5


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_damaged_cache_is_no_harm(tmp_path, content):
    pictures(tmp_path)
    first, cache = load(tmp_path), tmp_path / ".kdtutor-cache.safetensors"
    cache.write_bytes(cache.read_bytes()[:-10] if content is None else content)
    assert torch.equal(load(tmp_path).train.x, first.train.x)


def test_a_folder_that_cannot_be_written_has_no_cache(tmp_path, monkeypatch):
    pictures(tmp_path)

    def refuse(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("kdtutor.datasets.folders.save_file", refuse)
    assert len(load(tmp_path).train) == 5
    assert not list(tmp_path.glob(".kdtutor-cache*"))


# Not here, not known, not to be had


@pytest.mark.parametrize(
    "name, folder, file",
    [
        ("mnist", "MNIST/raw", "train-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw", "t10k-labels-idx1-ubyte"),
        ("cifar10", "cifar-10-batches-py", "data_batch_1"),
        ("cifar100", "cifar-100-python", "meta"),
    ],
)
def test_missing_names_the_three_ways(tmp_path, name, folder, file):
    with pytest.raises(FileNotFoundError) as error:
        load(name, root=tmp_path)
    text = str(error.value)
    assert f"kdtutor data fetch {name}" in text and str(tmp_path / folder) in text and file in text
    assert (
        str(tmp_path / name) + "/{train,test}/<class>/" in text
        and "load('digits')" in text
        and "load('scenes')" in text
    )
    assert "\n" not in text and available(tmp_path)[name] == (False, f"kdtutor data fetch {name}")


def test_one_file_missing_is_named(mnist):
    (mnist[0] / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"'mnist' is not in .* \(t10k-labels-idx1-ubyte missing\).*Three ways",
    ):
        load("mnist", root=mnist[0])


@pytest.mark.parametrize(
    "name, near",
    [("mnits", "'mnist'"), ("cifar", "'cifar10'"), ("digit", "'digits'"), ("pet", "'pets'")],
)
def test_unknown_name_lists_near_matches(tmp_path, name, near):
    pictures(tmp_path / "pets")
    with pytest.raises(
        ValueError,
        match=f"unknown dataset '{name}'. Did you mean .*{near}.*load\\('path/to/folder'\\)",
    ):
        load(name, root=tmp_path)


def test_fetch_of_what_needs_no_download(mnist):
    assert fetch("digits") is None and fetch("scenes") is None
    assert fetch("mnist", mnist[0]) == mnist[0] / "MNIST" / "raw"
    with pytest.raises(ValueError, match="unknown dataset 'minst'. Did you mean 'mnist'"):
        fetch("minst")


@pytest.mark.parametrize(
    "problem",
    [
        urllib.error.URLError("no route to host"),
        RuntimeError("Error downloading file"),
        TimeoutError("timed out"),
        tarfile.ReadError("not a gzip file"),
        EOFError(),
    ],
)
def test_fetch_without_network(tmp_path, monkeypatch, problem):
    def fail(root, download):
        raise problem

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
    expected = (
        r"could not download cifar10 \(.+\). Check the network .* "
        r"copy data_batch_1.*load\('digits'\)"
    )
    with pytest.raises(OSError, match=expected):
        fetch("cifar10", tmp_path)


def test_fetch_downloads_into_the_root_and_checks(mnist, monkeypatch, tmp_path_factory):
    fresh = tmp_path_factory.mktemp("fresh") / "new" / "data"

    def download(root, download):
        assert download
        (root / "MNIST").mkdir()
        (mnist[0] / "MNIST" / "raw").rename(root / "MNIST" / "raw")

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    assert (
        fetch("mnist", fresh) == fresh / "MNIST" / "raw" and len(load("mnist", fresh).train) == 12
    )
    (fresh / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"cut")
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte is damaged"):
        fetch("mnist", fresh)


def test_fetch_into_an_unwritable_root(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(
        OSError, match="cannot write to the data directory .*data .*Choose another one"
    ):
        fetch("mnist", tmp_path / "data")


def test_names_and_available():
    assert names() == [
        "digits",
        "scenes",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "voc2012",
        "cub200",
    ]
    here = available("no-such-folder")
    assert (
        list(here) == names() and here["digits"][0] and here["scenes"][0] and not here["mnist"][0]
    )


def test_importing_datasets_needs_torch_numpy_and_safetensors_only():
    code = (
        "import sys, torch, numpy, safetensors.torch; before = set(sys.modules); import "
        "kdtutor.datasets; "
        "print({m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "{'kdtutor'}"
    )
