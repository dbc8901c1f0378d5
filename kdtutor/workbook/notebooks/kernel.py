"""A kernel's client that cannot sleep through an answer.

An output widget writes to the shell channel while the client waits on it for the cell's reply. A
ZeroMQ socket announces "there is something to read" once: a write that comes between takes the
announcement, and the client waits for ever for a reply that is there (about one run in twenty on a
busy machine). So this client looks again, five times a second."""

from queue import Empty
from time import monotonic

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from traitlets import Type

LOOK = 0.2  # seconds


class WakefulChannel(AsyncZMQSocketChannel):
    async def get_msg(self, timeout: float | None = None) -> dict:
        """The next message.

        Args:
            timeout: Seconds; None: wait for ever.

        Returns:
            The message.

        Raises:
            queue.Empty: After ``timeout`` seconds without one.
        """
        end = float("inf") if timeout is None else monotonic() + timeout
        while True:
            left = end - monotonic()
            try:
                return await super().get_msg(timeout=max(0.0, min(LOOK, left)))
            except Empty:
                if left <= LOOK:
                    raise


class WakefulClient(AsyncKernelClient):
    shell_channel_class = Type(WakefulChannel)


class WakefulManager(AsyncKernelManager):
    """For ``NotebookClient(kernel_manager_class=WakefulManager)``."""

    client_factory = Type(WakefulClient)
