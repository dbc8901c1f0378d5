"""Where a run trains, and how networks lie in memory there."""

import os

import torch
from torch import nn

from ..distiller.tensors import CHANNELS_LAST
from ..runs.weights import separate
from .processes import started


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else CUDA where there is one, else the CPU.

    A GPU comes with its number, so that its state can be asked for by device.

    Raises:
        ValueError: for what is no device of torch, and for a GPU that is not there.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None and there and started():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % there}"
    try:
        found = torch.device(device if device is not None else "cuda" if there else "cpu")
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is no device of torch: expected 'cpu', 'cuda' or 'cuda:1', or "
            "nothing, for a GPU where there is one."
        ) from error
    if found.type != "cuda":
        return found
    if not there or (found.index or 0) >= there:
        raise ValueError(
            f"device={device!r}: torch sees {there or 'no'} GPU{'s' * (there > 1)} here. Leave "
            "device out, or see `kdtutor doctor` for what is wrong with the driver."
        )
    return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)


def move(net: nn.Module, device: torch.device) -> None:
    """To the device, kernels of images and volumes in channels last: how convolutions on CPUs and
    tensor cores like them; values do not change.
    """
    net.to(device)
    separate(net)
    for tensor in [*net.parameters(), *net.buffers()]:
        if tensor.ndim in CHANNELS_LAST:
            tensor.data = tensor.data.contiguous(memory_format=CHANNELS_LAST[tensor.ndim])
