"""Image folders as people have them: their layouts, sizes, formats, and what is passed over."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from small import weights

from kdtutor import evaluate, fit
from kdtutor.datasets import CropFlip, available, load
from kdtutor.methods import CrossEntropy
from kdtutor.models import mlp


def pictures(folder, counts, shape=(4, 5, 3), ending="png", seed=0):
    """{class: how many} random pictures; returns them in the order of their names."""
    rng, arrays = np.random.default_rng(seed), []
    for name in sorted(counts):
        (folder / name).mkdir(parents=True)
        for i in range(counts[name]):
            arrays.append(rng.integers(0, 256, shape, dtype=np.uint8))
            Image.fromarray(arrays[-1]).save(folder / name / f"{i:02d}.{ending}")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Layouts


@pytest.mark.parametrize("held", ["val", "valid", "validation"])
def test_three_parts(tmp_path, held, quiet):
    parts = {"train": {"a": 3, "b": 2}, held: {"a": 1, "b": 2}, "test": {"a": 2, "b": 1}}
    want = {name: pictures(tmp_path / name, c, seed=i) for i, (name, c) in enumerate(parts.items())}
    for _ in range(2):  # decoded, then remembered
        data = load(tmp_path)
        for split, name in ((data.train, "train"), (data.validation, held), (data.test, "test")):
            assert torch.equal(split.x, want[name])
        assert data.validation.y.tolist() == [0, 1, 1] and data.test.y.tolist() == [0, 0, 1]
    assert data.holdout(0.1) == (data.train, data.validation)
    assert "5 train, 3 validation, 3 test, 2 classes" in repr(data)
    assert available(tmp_path.parent)[tmp_path.name][0]


def test_train_and_val_have_no_test_set(tmp_path):
    pictures(tmp_path / "train", {"a": 6, "b": 6})
    pictures(tmp_path / "val", {"a": 2, "b": 2})
    data = load(tmp_path)
    assert len(data.validation) == 4 and len(data.test) == 0
    net = mlp([4], classes=2, inputs=60)
    history = fit(CrossEntropy(net), data, 1, batch_size=4, progress=False)
    assert history.spec["examples"] == 12 and "val_accuracy" in history.rows[0]
    with pytest.raises(ValueError, match=r"has no test set: pass split=.*data.validation"):
        evaluate(net, data)
    assert evaluate(net, data, data.validation) == history.rows[0]["val_accuracy"]


def test_a_single_folder_is_cut_as_stated(tmp_path):
    want = pictures(tmp_path, {"a": 20, "b": 10})
    data = load(tmp_path, test_fraction=0.2, validation_fraction=0.1)
    assert [len(s) for s in data.splits().values()] == [21, 3, 6]
    assert data.test.y.tolist() == [0, 0, 0, 0, 1, 1] and data.validation.y.tolist() == [0, 0, 1]
    assert data.classes == ("a", "b")
    positions = torch.cat([s.index for s in data.splits().values()])
    assert positions.sort().values.tolist() == list(range(30)), "each image once"
    for split in data.splits().values():
        assert torch.equal(split.x, want[split.index]) and split.source == data.train.source
    again, other = (load(tmp_path, test_fraction=0.2, seed=s) for s in (0, 1))
    assert torch.equal(again.test.index, data.test.index)
    assert not torch.equal(other.test.index, data.test.index) and other.validation is None
    assert len(load(tmp_path, test_fraction=0).test) == 0
    assert len(list(tmp_path.glob(".kdtutor-cache*"))) == 1


def test_a_train_folder_alone(tmp_path):
    pictures(tmp_path / "train", {"a": 5, "b": 5})
    with pytest.raises(FileNotFoundError, match="no folder 'test'.*test_fraction=0.2"):
        load(tmp_path)
    assert len(load(tmp_path, test_fraction=0.2).test) == 2


def test_a_validation_split_off_train_and_test(tmp_path):
    pictures(tmp_path / "train", {"a": 10, "b": 10})
    pictures(tmp_path / "test", {"a": 1, "b": 1}, seed=1)
    data = load(tmp_path, validation_fraction=0.1)
    assert [len(s) for s in data.splits().values()] == [18, 2, 2]


@pytest.mark.parametrize(
    "parts, options, error, message",
    [
        ({"": 2}, {}, FileNotFoundError, "no folder 'train'.* single folder .*test_fraction=0.2"),
        ({"test": 1}, {}, FileNotFoundError, "has no folder 'train'"),
        ({"val": 1}, {}, FileNotFoundError, "has no folder 'train'"),
        ({"train": 1, "val": 1, "valid": 1}, {}, ValueError, "has the folders val and valid"),
        (
            {"train": 1, "test": 1},
            {"test_fraction": 0.2},
            ValueError,
            "has the folder 'test', so test_fraction=0.2 would cut a second",
        ),
        (
            {"train": 1, "val": 1},
            {"validation_fraction": 0.2},
            ValueError,
            "has the folder 'val', so validation_fraction=0.2",
        ),
        ({"": 2}, {"test_fraction": 1.0}, ValueError, "test_fraction=1.0: expected a share"),
        ({"": 2}, {"test_fraction": "a fifth"}, ValueError, "test_fraction='a fifth'"),
        (
            {"": 2},
            {"test_fraction": 0.6, "validation_fraction": 0.4},
            ValueError,
            "leave nothing to train on",
        ),
    ],
)
def test_layouts_that_cannot_be(tmp_path, parts, options, error, message):
    for name, n in parts.items():
        pictures(tmp_path / name, {"a": n, "b": n})
    with pytest.raises(error, match=message):
        load(tmp_path, **options)


def test_classes_that_differ_in_val(tmp_path):
    pictures(tmp_path / "train", {"a": 1, "b": 1})
    pictures(tmp_path / "val", {"a": 1})
    with pytest.raises(ValueError, match="differ between train and val; only in train: b"):
        load(tmp_path)


# Sizes


def striped(tmp_path):
    """Wide pictures of 4 x 8: red, green, green, blue, each two columns wide."""
    colours = np.repeat(np.uint8([[255, 0, 0], [0, 255, 0], [0, 255, 0], [0, 0, 255]]), 2, 0)
    for name in ("train/a", "test/a"):
        picture(tmp_path / name / "0.png", np.broadcast_to(colours, (4, 8, 3)))
    return tmp_path


def test_squash_crop_and_pad(tmp_path):
    folder = striped(tmp_path)
    modes = ("squash", "crop", "pad")
    squash, crop, pad = (load(folder, size=4, resize=mode).train.x[0] for mode in modes)
    assert squash.shape == crop.shape == pad.shape == (3, 4, 4)
    assert squash[0, :, 0].min() > 200 and squash[2, :, 3].min() > 200, "all of it, narrower"
    assert (crop[1] == 255).all() and (crop[[0, 2]] == 0).all(), "the middle, as it is"
    assert (pad[:, [0, 3]] == 0).all() and pad[0, 1:3, 0].min() > 200, "all of it, black around"
    assert torch.equal(load(folder, size=4).train.x[0], squash), "squash is the default"
    caches = sorted(c.name for c in folder.glob(".kdtutor-cache*"))
    assert caches == [f".kdtutor-cache-4x4{end}.safetensors" for end in ("-crop", "-pad", "")]
    assert torch.equal(load(folder, size=4, resize="crop").train.x[0], crop), "from its own cache"


def test_crop_enlarges_what_is_smaller_and_takes_height_and_width(tmp_path):
    folder = striped(tmp_path)
    crop = load(folder, size=(8, 4), resize="crop").train.x[0]
    assert crop.shape == (3, 8, 4) and crop[1].min() > 200
    pad = load(folder, size=(4, 16), resize="pad").train.x[0]
    assert (pad[:, :, :4] == 0).all() and (pad[:, :, 12:] == 0).all() and pad[:, 1, 8].max() == 255


def test_resize_says_how_to_come_to_a_size(tmp_path):
    folder = striped(tmp_path)
    with pytest.raises(ValueError, match="resize='crop' says how images come to a size: pass size"):
        load(folder, resize="crop")
    with pytest.raises(ValueError, match="unknown resize 'cut'.*squash"):
        load(folder, size=4, resize="cut")


def test_normalisation_and_augmentation(tmp_path):
    folder = striped(tmp_path)
    data = load(folder, size=4, mean=(0.5,) * 3, std=(0.25,) * 3, augment=CropFlip(1))
    assert data.mean == (0.5,) * 3 and data.std == (0.25,) * 3 and data.augment == CropFlip(1)
    assert torch.equal(next(data.batches(data.train, 1)).x, data.normalised(data.train.x))


def test_published_names_keep_their_defaults(tmp_path):
    for part in ("train", "test"):
        pictures(tmp_path / "cifar10" / part, {"a": 1, "b": 1})
    assert load("cifar10", root=tmp_path).augment == CropFlip(4)
    data = load("cifar10", root=tmp_path, augment=None, mean=(), std=())
    assert data.augment is None and data.mean == () and data.name == "cifar10"


# Files


@pytest.mark.parametrize("ending", ["tif", "tiff"])
def test_tif_is_read(tmp_path, ending, quiet):
    want = pictures(tmp_path, {"a": 2, "b": 2}, ending=ending)
    assert torch.equal(load(tmp_path, test_fraction=0).train.x, want)


def test_gif_is_its_first_frame(tmp_path, quiet):
    first, second = (Image.new("RGB", (5, 4), c) for c in ((255, 0, 0), (0, 0, 255)))
    (tmp_path / "a").mkdir()
    first.save(tmp_path / "a" / "0.gif", save_all=True, append_images=[second], duration=10)
    x = load(tmp_path, test_fraction=0).train.x
    assert x.shape == (1, 3, 4, 5) and x[0, :, 0, 0].tolist() == [255, 0, 0]


def test_sixteen_bit_tif(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "a" / "0.tif")
    with pytest.raises(ValueError, match="0.tif cannot be read as an image .more than 8 bits"):
        load(tmp_path, test_fraction=0)


def test_what_is_passed_over_is_said_once(tmp_path):
    pictures(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "picture.heic").write_text("no image that is read")
    (tmp_path / "b" / "more").mkdir()
    (tmp_path / "b" / ".DS_Store").write_text("hidden")
    with pytest.warns(UserWarning) as said:
        load(tmp_path, test_fraction=0)
    assert len(said) == 1 and said[0].filename == __file__
    assert "passed over 3 of what lies in the class folders" in str(said[0].message)
    assert "notes.txt: read are files ending in .png" in str(said[0].message)


def test_the_split_of_a_folder_trains_the_same_again(tmp_path):
    pictures(tmp_path, {"a": 12, "b": 12})

    def trained():
        torch.manual_seed(0)
        net = mlp([4], classes=2, inputs=60)
        data = load(tmp_path, test_fraction=0.25, validation_fraction=0.25)
        fit(CrossEntropy(net), data, 2, batch_size=4, progress=False)
        return weights(net)

    assert torch.equal(trained(), trained())


def test_images_beside_the_class_folders_are_named(tmp_path):
    for part in ("train", "test"):
        pictures(tmp_path / part, {"a": 1, "b": 1})
    picture(tmp_path / "train" / "loose.PNG", np.zeros((4, 5, 3)))
    with pytest.warns(UserWarning, match=r"passed over 1 .*loose.PNG"):
        assert len(load(tmp_path).train) == 2


def test_a_class_folder_of_folders_is_no_empty_one(tmp_path):
    for part in ("train", "test"):
        pictures(tmp_path / part / "a", {"images": 2})
    with pytest.raises(ValueError, match=r"holds no images but folders \(images\)"):
        load(tmp_path)


def test_folders_of_other_names_are_named(tmp_path):
    pictures(tmp_path / "train", {"a": 1, "b": 1})
    pictures(tmp_path / "Val", {"a": 1, "b": 1})
    with pytest.raises(FileNotFoundError, match=r"no folder 'test' \(there: Val, train\)"):
        load(tmp_path)


def test_a_size_of_numpys_and_what_is_no_size(tmp_path):
    for part in ("train", "test"):
        pictures(tmp_path / part, {"a": 1, "b": 1})
    assert load(tmp_path, size=np.int64(3)).train.x.shape == (2, 3, 3, 3)
    for size in (8.5, "8", True, (8, 8, 3), (8, 0)):
        with pytest.raises(ValueError, match="expected a positive number of pixels"):
            load(tmp_path, size=size)
