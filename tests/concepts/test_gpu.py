"""Entropy maps on a GPU are those of the CPU, where nothing is drawn."""

import pytest
import torch
from small import blobs, net

from kdtutor.concepts import entropy_map, first_order_map


@pytest.mark.parametrize("make", [first_order_map, entropy_map])
def test_maps_of_a_gpu(make, gpu):
    if make is entropy_map and gpu.type != "cuda":
        pytest.skip("the stand-in has no random numbers of its own")
    images, network = blobs(side=8).test.x[:4].float() / 255, net(side=8).eval()
    here, there = (
        make(network.to(device), images.to(device), "fc1", grid=4, progress=False)
        for device in ("cpu", gpu)
    )
    assert here.sigma.shape == there.sigma.shape == (4, 4, 4)
    if make is first_order_map:
        assert torch.allclose(here.sigma, there.sigma, rtol=1e-2)
    # The descent draws its noise on the device: another one, but of the same law.
    ranks = torch.corrcoef(
        torch.stack([m.entropy.flatten().argsort().argsort().float() for m in (here, there)])
    )
    assert ranks[0, 1] > 0.8
