"""Other people's networks come from configurations, with random weights: nothing here may reach for
the network.
"""

import os
import socket

# Before transformers and timm are imported: their hub then looks at the disk alone.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """An attempt to reach a host fails the test that made it; a path names a process of our own."""

    def watched(connect):
        def connected(self, address):
            assert not isinstance(address, tuple), f"a test wanted to connect to {address}"
            return connect(self, address)

        return connected

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, watched(getattr(socket.socket, name)))
