"""Augmentations of a user's own: training images are of the same kind as test images, each has a
view of its own, and what cannot be right is an error.
"""

import pytest
import torch
from torchvision.transforms import v2

from kdtutor import fit
from kdtutor.datasets import Data, Split, per_image
from kdtutor.methods import CrossEntropy
from kdtutor.models import mlp

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)
X = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
Y = torch.arange(40) % 2


def data(augment, x=X, **settings):
    return Data("own", ("a", "b"), Split(x, Y), Split(x, Y), augment, **settings)


def trained_on(d):
    order = torch.Generator().manual_seed(0)
    return torch.cat([b.x for b in d.batches(d.train, 10, shuffle=order, augment=True)])


@pytest.mark.parametrize("norm", [{}, {"mean": MEAN, "std": STD}])
@pytest.mark.parametrize(
    "same",
    [
        lambda x: x.float() / 255,
        lambda x: x.clone(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Compose([v2.RandomHorizontalFlip(0), v2.ToDtype(torch.float32, scale=True)]),
    ],
)
def test_floats_in_0_to_1_and_bytes_become_what_test_images_are(same, norm):
    d = data(same, **norm)
    plain = data(None, **norm)
    assert torch.allclose(trained_on(d), trained_on(plain), atol=1e-6)
    tested = next(iter(d.batches(d.test, 40))).x
    assert torch.allclose(tested.sort(0).values, trained_on(d).sort(0).values, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.float(),  # mixup of bytes
        lambda x: x.float().lerp(x.float().flip(0), 0.3),
        lambda x: (x.float() / 255 - 0.5) / 0.25,  # normalised already
    ],
)
def test_floats_of_another_scale_are_an_error_before_the_first_step(wrong):
    with pytest.raises(ValueError, match=r"made floats from .* expected bytes .* Divide by 255"):
        trained_on(data(wrong))
    net = mlp([4], inputs=(3, 8, 8), classes=2)
    with pytest.raises(ValueError, match="Divide by 255"):
        fit(CrossEntropy(net), data(wrong), 1, batch_size=10, progress=False)


@pytest.mark.parametrize("wrong", [lambda x: x[:3], lambda x: x[0], lambda x: list(x), lambda x: 0])
def test_a_batch_of_another_size_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"takes a whole batch .*per_image"):
        trained_on(data(wrong))


@pytest.mark.parametrize(
    "wrap", [lambda t: t, per_image, lambda t: v2.Compose([t]), lambda t: v2.RandomApply([t], 0.9)]
)
def test_torchvision_s_transforms_give_each_image_a_view_of_its_own(wrap):
    torch.manual_seed(0)
    one = X[:1].expand(40, -1, -1, -1).contiguous()
    flipped = trained_on(data(wrap(v2.RandomHorizontalFlip()), one))
    assert len(torch.unique(flipped.flatten(1), dim=0)) == 2
    cropped = trained_on(data(wrap(v2.RandomCrop(8, padding=2)), one))
    assert len(torch.unique(cropped.flatten(1), dim=0)) > 5


def test_float_images_are_normalised_as_bytes_are():
    floats = data(None, X.float() / 255, mean=MEAN, std=STD)
    expected = data(None, mean=MEAN, std=STD)
    assert torch.allclose(trained_on(floats), trained_on(expected), atol=1e-5)
    assert torch.allclose(floats.normalised(X / 255), expected.normalised(X), atol=1e-5)
    assert torch.allclose(trained_on(data(None, X.float() / 255)), trained_on(data(None)))
    before = floats.train.x.clone()
    trained_on(floats)
    assert torch.equal(floats.train.x, before), "normalising leaves what is in memory as it is"


def test_float64_stays_float64():
    assert trained_on(data(None, X.double() / 255, mean=MEAN, std=STD)).dtype == torch.float64


def test_the_same_seed_gives_the_same_views():
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        net = mlp([4], inputs=(3, 8, 8), classes=2)
        d = data(v2.RandomCrop(8, padding=2))
        fit(CrossEntropy(net), d, 2, batch_size=10, validation=0, progress=False)
        ends.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*ends)


def test_float_images_and_a_mean_of_other_ones():
    with pytest.raises(ValueError, match="for 2 channels, and the images have 3"):
        data(None, X / 255, mean=(0.5, 0.5), std=(0.25, 0.25))
    with pytest.warns(
        UserWarning, match=r"own are floats from 0 to 255.*divide the images by 255"
    ) as said:
        data(None, X.float(), mean=MEAN, std=STD)
    assert said[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_float_images_of_their_own_units_are_told_of_nothing():
    data(None, X / 255, mean=MEAN, std=STD)
    data(None, X.float())
    data(None, X.float(), mean=(127.0,) * 3, std=(60.0,) * 3)
    data(None, X.float() - 128, mean=MEAN, std=STD)


def test_a_sequence_of_modules_draws_for_each_image_too():
    ramp = (torch.arange(8).view(1, 1, 1, 8).expand(40, 3, 8, 8) * 30).byte()
    moved = torch.nn.Sequential(v2.RandomHorizontalFlip(), v2.RandomCrop(8, padding=2))
    assert len({x.numpy().tobytes() for x in trained_on(data(moved, ramp)).contiguous()}) > 8


def test_several_transforms_in_a_list_are_refused_when_the_data_are_made():
    with pytest.raises(ValueError, match=r"is a list; expected a function .*v2.Compose"):
        data([v2.RandomHorizontalFlip()])


@pytest.mark.parametrize("change", [v2.Normalize(MEAN, STD), lambda x: x @ torch.ones(3, 3)])
def test_what_a_transform_refuses_is_one_sentence(change):
    with pytest.raises(ValueError, match=r"cannot take a batch of uint8 of shape \(10, 3, 8, 8\)"):
        trained_on(data(change))
