"""Loaded last, only by the fork server, for its effects on that process.

It imports the modules that every slot needs. Slots share the server's memory until they write to it, and freezing keeps
the garbage collector from writing to preloaded objects. The server is also the reaper of the descendants of killed
slots. Without a supervisor, it ends after the last slot, together with everything that slots have left.

A failed fork would end multiprocessing's server and thereby all slots. This server answers such a request with the
negative error number and continues.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import socket
import warnings
from multiprocessing import forkserver, reduction

from perago.processes import adopt_orphans
from perago.worker.slot_process import end_descendants

adopt_orphans()
_server = os.getpid()
_last_slot, _slot_lives = os.pipe()
os.set_blocking(_slot_lives, False)  # a function may write to any descriptor
_held = open(_slot_lives, "wb", buffering=0)  # noqa: PTH123, SIM115 - for a `close` that may be repeated
_fork, _recvfds = os.fork, reduction.recvfds
_request: list[int] = []
"""The descriptors of the last request. The answer goes to the second one."""


def _receive(sock: socket.socket, size: int) -> list[int]:
    _request[:] = _recvfds(sock, size)
    return list(_request)


def _fork_or_answer() -> int:
    try:
        return _fork()
    except OSError as error:
        forkserver.write_signed(_request[1], -(error.errno or 1))
        for descriptor in _request:
            os.close(descriptor)
        raise ConnectionAbortedError(errno.ECONNABORTED, "fork") from error  # the error that the server ignores


def _settle_in_slot() -> None:
    if os.getppid() == _server:
        os.fork, reduction.recvfds = _fork, _recvfds
    else:
        _held.close()


@atexit.register
def _end_what_slots_left() -> None:
    """Wait for the end of the last slot. Slots hold the pipe, and processes that they start do not."""
    _held.close()
    while os.read(_last_slot, 4096):
        pass
    end_descendants()


os.register_at_fork(after_in_child=_settle_in_slot)
os.fork, reduction.recvfds = _fork_or_answer, _receive
warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")  # of an orphan

gc.collect()
gc.freeze()
