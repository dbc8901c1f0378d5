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
    """An attempt to connect fails the test that made it."""

    def refused(self, address, *_):
        raise AssertionError(f"a test of tests/field wanted to connect to {address!r}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
