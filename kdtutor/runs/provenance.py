"""Where a run ran: versions and device, for provenance."""

import platform

import torch


def environment(device: torch.device) -> dict:
    """Versions and device, for provenance."""
    from .. import __version__

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "kdtutor": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type}:{name}",
        "threads": torch.get_num_threads(),
    }
