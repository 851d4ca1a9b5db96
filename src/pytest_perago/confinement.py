"""What code of authors may do to the process of the test: print, but not close the output, and not end the process; and
start processes, but not leave them.

A worker runs a function in a process of its own, and loses no more than that process. Here the process is pytest's:
a closed output would break every test that follows, and `os._exit` would end the session without a word.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from perago.driver.processes import Process


class ProcessEnded(BaseException):
    """`os._exit` was called. Not an Exception, so that `except Exception` does not swallow it."""


ProcessEnded.__module__ = "builtins"  # authors know `os._exit`, not this


class OpenText(io.TextIOWrapper):
    """Text output to bytes that have another owner: author's code can close neither, also not by dropping a wrapper."""

    def __init__(self, target: IO[bytes], *, encoding: str = "utf-8", errors: str = "backslashreplace") -> None:
        super().__init__(_OpenBytes(target), encoding=encoding, errors=errors, newline="", write_through=True)

    def close(self) -> None:
        """Only flush."""
        self.flush()


class _OpenBytes(io.BufferedIOBase):
    def __init__(self, target: IO[bytes]) -> None:
        self._target = target

    @property
    def name(self) -> str:
        """As the standard streams have it."""
        return str(getattr(self._target, "name", "<output>"))

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._target.write(data)

    def flush(self) -> None:
        with suppress(ValueError):  # the owner has closed it, long after the code of the author
            self._target.flush()

    def fileno(self) -> int:
        return self._target.fileno()

    def isatty(self) -> bool:
        return self._target.isatty()

    def close(self) -> None:
        self.flush()


@contextmanager
def confined() -> Iterator[None]:
    """While code of the author runs: an output that stays open, even if it is closed, and no end of the process."""
    outputs = sys.stdout, sys.stderr
    end = os._exit
    sys.stdout, sys.stderr = map(_kept_open, outputs)
    os._exit = _refuser(end)
    try:
        yield
    finally:
        os._exit = end
        for output in (sys.stdout, sys.stderr):
            with suppress(Exception):
                output.flush()
        sys.stdout, sys.stderr = outputs


def _kept_open(stream: Any) -> Any:
    """The stream, such that `close` does not close it; as it is if it is no text over bytes."""
    buffer = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or buffer is None:
        return stream
    stream.flush()
    return OpenText(buffer, encoding=stream.encoding, errors=stream.errors or "backslashreplace")


def _refuser(end: Any) -> Any:
    owner = os.getpid()
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}

    def refuse(status: int) -> NoReturn:
        if os.getpid() != owner:  # a child, such as multiprocessing's, ends this way
            end(status)
        if threading.get_ident() in others:  # no code of the author, but pytest-timeout's last resort
            end(status)
        raise ProcessEnded(f"os._exit({status}) would end the whole worker process; raise an exception instead")

    return refuse


_SETTLE = 0.1
"""Seconds that a process gets which is about to end."""


@contextmanager
def leaving_no_process() -> Iterator[list[str]]:
    """Around a task function: what it leaves running is ended, and the list then has its command lines. Cheap where
    this process has no child. Linux only; elsewhere the list stays empty."""
    from perago.driver.processes import adopting_orphans, end_processes

    left: list[str] = []
    before = {process.pid for process in _children()}
    with adopting_orphans():
        try:
            yield left
        finally:
            deadline = time.monotonic() + _SETTLE
            while (found := _children(but=before)) and time.monotonic() < deadline:
                time.sleep(0.005)
            left += [f"{process.command_line()} (pid {process.pid})" for process in found]
            if found:
                end_processes(lambda: _children(but=before))
            for process in found:
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)


def _children(but: Collection[int] = ()) -> list[Process]:
    """What descends from this process, without the helpers of multiprocessing, which stay for good."""
    from perago.driver.processes import descendants, running_processes

    try:  # much cheaper than a look at all processes
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return []
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    helpers = (getattr(tracker, "_pid", None) or 0, getattr(server, "_forkserver_pid", None) or 0)
    return descendants(os.getpid(), running_processes(), but={*but, *helpers})
