"""Data as people have them: loaders, folders, arrays, tables, other libraries' transforms."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision.transforms import v2

from kdtutor.datasets import Data, Split, load
from kdtutor.methods import CRD, RKD, CrossEntropy, Hinton
from tests.field.nets import conv, first, images, mobilenet, train

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

# Augmentation


def test_03_a_transform_that_returns_floats_is_normalised_like_the_test_images():
    data = images(augment=v2.ToDtype(torch.float32, scale=True), mean=MEAN, std=STD)
    changed, plain = (
        next(data.batches(data.train, 8, augment=augment)).x for augment in (True, False)
    )
    assert torch.allclose(changed, plain, atol=1e-6)
    column = lambda values: torch.tensor(values).view(-1, 1, 1)
    expected = (data.train.x[:8] / 255 - column(MEAN)) / column(STD)
    assert torch.allclose(changed, expected, atol=1e-5)


def test_03_floats_of_another_scale_are_refused():
    mixed = lambda x: 0.7 * x.float() + 0.3 * x.float().roll(1, 0)
    data = images(augment=mixed)
    with pytest.raises(ValueError, match=r"made floats from .* floats in \[0, 1\]"):
        train(CrossEntropy(conv()), data)


@pytest.mark.parametrize("crops", [False, True])
def test_04_torchvisions_transforms_draw_anew_for_every_image(crops):
    transform = v2.RandomHorizontalFlip()
    if crops:
        transform = v2.Compose([v2.RandomCrop(32, padding=4), transform])
    one = images(1).train.x
    part = Split(one.repeat(64, 1, 1, 1), torch.zeros(64, dtype=torch.long))
    data = Data("same", 2, part, part, augment=transform)
    x = next(data.batches(part, 64, augment=True)).x
    distinct = len(torch.unique(x, dim=0))
    assert distinct > 20 if crops else distinct == 2


# Loaders


def pairs(n: int = 24) -> TensorDataset:
    data = images(n)
    return TensorDataset(data.train.x / 255, data.train.y)


def test_26_a_loader_handed_to_fit_is_one_clear_error():
    with pytest.raises(TypeError, match="data is a DataLoader; expected"):
        train(CrossEntropy(conv()), DataLoader(pairs(), 8))


def test_26_a_loader_becomes_data_and_trains_on_the_same_numbers():
    from kdtutor.datasets import from_loaders

    loader = DataLoader(pairs(), batch_size=24)
    data = from_loaders(loader, loader, name="mine", classes=10)
    net = conv()
    start = {k: v.clone() for k, v in net.state_dict().items()}
    expected = F.cross_entropy(net.train()(pairs().tensors[0]), pairs().tensors[1]).item()
    net.load_state_dict(start)
    history = train(CrossEntropy(net), data, batch_size=24)
    assert history.rows[0]["ce"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= history.result["test_accuracy_last"] <= 1
    assert train(RKD(conv(), mobilenet()), data, batch_size=24).status == "finished"


class Endless(IterableDataset):
    """Pairs whose places nobody knows."""

    def __iter__(self):
        return iter(pairs())


def test_26_crd_finds_which_image_it_sees_or_says_that_it_cannot():
    from kdtutor.datasets import from_loaders

    method = lambda: CRD(conv(), conv(), negatives=8, example=torch.rand(2, 3, 32, 32))
    data = from_loaders(DataLoader(pairs(), 8, shuffle=True), name="mine", classes=10)
    assert train(method(), data).status == "finished"
    data = from_loaders(DataLoader(Endless(), 8), name="stream", classes=10, steps_per_epoch=3)
    with pytest.raises((ValueError, TypeError), match=r"CRD|index"):
        train(method(), data)


# Folders


@pytest.fixture
def folder(tmp_path):
    """Writes <part>/<class>/<i>.png of random images and returns where."""

    def write(**parts):
        g = np.random.default_rng(0)
        for part, n in parts.items():
            for name in "cat", "dog":
                (tmp_path / part / name).mkdir(parents=True)
                for i in range(n):
                    pixels = g.integers(0, 256, (12, 10, 3), np.uint8)
                    Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
        return tmp_path

    return write


def test_27_a_folder_with_val_instead_of_test(folder):
    data = load(folder(train=4, val=2))
    held = data.validation if data.validation is not None else data.test
    assert (len(data.train), len(held), data.classes) == (8, 4, ("cat", "dog"))
    net = conv(2)
    assert train(CrossEntropy(net), data, batch_size=4).status == "finished"


def test_27_a_folder_with_train_val_and_test(folder):
    data = load(folder(train=4, val=2, test=3), size=8, resize="crop")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [8, 4, 6]
    assert data.train.x.shape == (8, 3, 8, 8)
    history = train(Hinton(conv(2), conv(2)), data, batch_size=4, validation=data.validation)
    assert "val_accuracy" in history.rows[0]


def test_27_a_folder_without_either_says_what_is_expected(folder):
    with pytest.raises((FileNotFoundError, ValueError), match=r"train"):
        load(folder(images=4))


# Arrays and tables


@pytest.mark.parametrize(
    "y",
    [
        (np.arange(24) % 3).astype(np.int32),
        (np.arange(24) % 3).astype(np.uint8),
        pd.Series(np.arange(24) % 3, name="label", index=range(100, 124)),
        torch.arange(24) % 3,
    ],
)
def test_28_labels_of_numpy_and_pandas(y):
    x = np.random.default_rng(0).random((24, 3, 32, 32), np.float32)
    data = Data("mine", 3, Split(x, y), Split(x, y))
    net = conv(3)
    expected = F.cross_entropy(net(torch.from_numpy(x)), torch.arange(24) % 3).item()
    history = train(CrossEntropy(net), data, batch_size=24)
    assert history.rows[0]["ce"] == pytest.approx(expected, rel=1e-5)


def test_28_columns_of_labels_text_and_float64():
    x, y = np.random.default_rng(0).random((24, 3, 32, 32)), np.arange(24) % 3
    for labels in (y[:, None], y == 1, np.array(["a", "b", "c"])[y], torch.from_numpy(y).int()):
        data = Data.from_tensors(x, labels)
        assert data.train.x.dtype == torch.float32 and data.train.y.dtype == torch.int64
        assert data.train.y.tolist() == (y == 1 if labels.dtype == bool else y).tolist()
        assert len(data.classes) == (2 if labels.dtype == bool else 3)
    assert train(CrossEntropy(conv(3)), Data.from_tensors(x, y), test=False).status == "finished"
    with pytest.raises(ValueError, match=r"Regression"):
        Data.from_tensors(x, y / 2)


def test_28_images_with_their_channels_last_are_refused():
    x = np.zeros((24, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(N, H, W, C\); expected \(N, C, H, W\)"):
        Data.from_tensors(x, np.arange(24) % 3)


@pytest.mark.parametrize("y, said", [(["cat", "dog"] * 12, "list"), (None, "labels")])
def test_28_labels_that_are_none_of_these(y, said):
    with pytest.raises((ValueError, TypeError), match=said):
        data = Data("mine", 2, Split(images().train.x, y))
        train(CrossEntropy(conv(2)), data)


def test_28_without_a_test_set_nothing_is_tested():
    data = images()
    alone = Data("alone", 10, data.train)
    assert "test_accuracy_last" not in train(CrossEntropy(conv()), alone).result
    assert len(first(alone).x) == 8
