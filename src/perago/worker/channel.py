"""The two ends of the pipe between the supervisor and a slot: whole messages, and neither waits for the other for ever.

The pipe is a pair of connected sockets. To a slot goes pickle, from it comes JSON (`messages`): the slot trusts its
supervisor, and the supervisor takes nothing from a slot that it has not checked.

The supervisor's end never waits. It takes the bytes that are there and sends what the slot takes. A slot that stops
within a message, its own or one to it, costs nothing but that slot.

In a slot, one thread does all the writing. A signal that interrupts the author's function, or perago's own code around
it, strikes the main thread, so no message is ever torn.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from queue import SimpleQueue

from perago.worker.messages import (
    MOST_BYTES,
    REPORT_BYTES,
    REPORT_START,
    BadMessage,
    FromSlot,
    ToSlot,
    decode,
    encode_within_limits,
    too_large,
)

IO_LIMIT = 5
"""Seconds that the supervisor gives a slot to continue with a message: to take more of it, or to send more of it."""

_CHUNK = 256 * 1024
_HEADER = struct.Struct("!i")
"""How `multiprocessing.Connection` begins a message of up to 2 GiB: with its length."""


class ChannelError(Exception):
    """The other end is gone, or did not keep up within `IO_LIMIT`. The channel is of no further use."""


class SlotChannel:
    """The slot's end. `send` may be called by any thread and is not disturbed by signals, `receive` by one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._is_broken = False
        threading.Thread(target=self._write, name="perago-messages", daemon=True).start()

    def send(self, message: FromSlot) -> None:
        """Send one message, after those that were sent before.

        Raises:
            ChannelError: the supervisor is gone.
        """
        if self._is_broken:
            raise ChannelError("the supervisor is gone")
        self._queue.put(encode_within_limits(message))

    def receive(self) -> ToSlot:
        """The next message, waiting for it.

        Raises:
            ChannelError: there will be none.
        """
        try:
            message: ToSlot = self._connection.recv()
        except Exception as error:  # the function may have read or written what is not its own
            raise ChannelError(str(error) or "the other end closed the pipe") from error
        return message

    def flush(self) -> None:
        """Wait until everything is sent.

        Raises:
            ChannelError: it could not be; the supervisor is gone, or the function has closed this end.
        """
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait()
        if self._is_broken:
            raise ChannelError("the supervisor is gone")

    def close(self) -> None:
        """Close this end. Safe to repeat, and in a forked child."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _write(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
            elif not self._is_broken:
                try:
                    self._connection.send_bytes(item)
                except (OSError, ValueError):
                    self._is_broken = True


class SupervisorChannel:
    """The supervisor's end; belongs to one thread."""

    def __init__(self, end: socket.socket, limit: int) -> None:
        self._end = end
        self._end.setblocking(False)
        self._limit = limit
        self._buffer = bytearray()
        self._unsent = bytearray()
        self.queued = 0
        """Bytes that were given to `send` so far."""

    def fileno(self) -> int:
        """The descriptor to watch for readability."""
        return self._end.fileno()

    @property
    def begun(self) -> int:
        """Bytes that have come of a message that is not complete."""
        return len(self._buffer)

    @property
    def unsent(self) -> int:
        """Bytes of messages that the slot has not taken yet."""
        return len(self._unsent)

    def send(self, message: ToSlot) -> None:
        """Send one message, as far as the slot takes it now. `flush` sends the rest.

        Raises:
            ChannelError: it may have been sent in part; nothing more can be.
        """
        data = pickle.dumps(message)
        self._unsent += _HEADER.pack(len(data)) + data
        self.queued += _HEADER.size + len(data)
        self.flush()

    def flush(self) -> None:
        """Send what the slot takes now.

        Raises:
            ChannelError: nothing more can be sent.
        """
        try:
            while self._unsent:
                del self._unsent[: self._end.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ChannelError(str(error)) from error

    def receive(self) -> bool:
        """Take bytes that have come, and say whether there were any.

        Raises:
            ChannelError: there will be none.
        """
        try:
            chunk = os.read(self._end.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelError(str(error)) from error
        if not chunk:
            raise ChannelError("the other end closed the pipe")
        self._buffer += chunk
        return True

    def messages(self) -> Iterator[FromSlot]:
        """The messages that are complete by now.

        Raises:
            BadMessage: what came is no message.
        """
        while (data := self._next()) is not None:
            yield decode(data)

    def close(self) -> None:
        """Close this end. Safe to repeat."""
        self._end.close()

    def _next(self) -> bytes | None:
        """The bytes of the next message, once they are complete."""
        if len(self._buffer) < _HEADER.size:
            return None
        (size,) = _HEADER.unpack_from(self._buffer)
        if not 0 < size <= self._limit:
            raise BadMessage(f"bytes that do not begin a message of at most {self._limit:,} bytes")
        start = self._buffer[_HEADER.size : _HEADER.size + len(REPORT_START)]
        if size > MOST_BYTES and not REPORT_START.startswith(start):
            raise BadMessage(too_large(size))
        end = _HEADER.size + size
        if len(self._buffer) < end:
            return None
        data = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return data


def open_channel(max_result_bytes: int) -> tuple[SupervisorChannel, Connection]:
    """The supervisor's end, and the connection to hand to the slot."""
    ours, theirs = socket.socketpair()
    return SupervisorChannel(ours, REPORT_BYTES + max_result_bytes), Connection(theirs.detach())
