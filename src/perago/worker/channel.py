"""One end of the pipe between the supervisor and a slot: whole messages, with a limit on every wait.

The pipe is a pair of connected sockets. The supervisor's end has time-outs on the socket itself: a slot that was
stopped half-way through a message (SIGSTOP, a frozen container) costs the supervisor `IO_LIMIT` seconds once, and
then its life, instead of the whole worker.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from multiprocessing.connection import Connection
from typing import Any

IO_LIMIT = 5
"""Seconds that the supervisor gives a slot to take or complete one message."""


class ChannelError(Exception):
    """The other end is gone, or did not keep up within `IO_LIMIT`. The channel is of no further use."""


class Channel:
    """Sends and receives messages. `send` may be called by several threads, `receive` by one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """The descriptor to watch for readability."""
        return self._connection.fileno()

    def send(self, message: object) -> None:
        """Send one message.

        Raises:
            ChannelError: it may have been sent in part; nothing more can be.
        """
        try:
            with self._sending:
                self._connection.send(message)
        except (OSError, ValueError) as error:
            raise ChannelError(str(error)) from error

    def receive(self) -> Any:
        """The next message, waiting for it.

        Raises:
            ChannelError: there will be none.
        """
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise ChannelError(str(error) or "the other end closed the pipe") from error

    def pending(self) -> bool:
        """Whether `receive` would find something: a message or the end."""
        try:
            return self._connection.poll(0)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close this end. Safe to repeat, and in a forked child, where the lock may be held for ever."""
        with contextlib.suppress(OSError):
            self._connection.close()


def open_channel() -> tuple[Channel, Connection]:
    """The supervisor's end, with time limits, and the connection to hand to the slot."""
    ours, theirs = socket.socketpair()
    limit = struct.pack("ll", IO_LIMIT, 0)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return Channel(Connection(ours.detach())), Connection(theirs.detach())
