"""What surrounds a worker: its process, its disk, the reader of what it prints, and a client of its pages."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from perago.worker.sending import LineWriter, terminal_omission

IMPORT_ROOT = Path(__file__).parents[(__package__ or "").count(".") + 1]


PID_1 = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def can_unshare() -> bool:
    try:
        return subprocess.run([*PID_1, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Reader:
    """The other end of a pipe, and what came out of it."""

    def __init__(self) -> None:
        self._end, self.write_end = os.pipe()
        self.data = bytearray()
        self._thread = threading.Thread(target=self._read)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._end, 65_536):
            self.data += chunk

    def rest(self) -> bytes:
        """Everything, once the writer is done."""
        os.close(self.write_end)
        if not self._thread.ident:
            self.start()
        self._thread.join()
        os.close(self._end)
        return bytes(self.data)


@contextmanager
def line_writer(reader: Reader, missing: Callable[[int], str] = terminal_omission) -> Iterator[LineWriter]:
    with os.fdopen(reader.write_end, "w", encoding="utf-8", closefd=False) as stream:
        writer = LineWriter(stream, missing)
        yield writer
        writer.close()


def fill(descriptor: int) -> None:
    """Write to a pipe or a terminal until it takes no more."""
    os.set_blocking(descriptor, False)
    for size in (65_536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * size)
    os.set_blocking(descriptor, True)


def get(url: str) -> tuple[int, bytes]:
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


@contextlib.contextmanager
def mounted(directory: Path, megabytes: int) -> Iterator[Path]:
    """A small disk of its own, where this user may mount one."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(directory)]
    try:
        made = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def room_for_files(number: int) -> Iterator[None]:
    """This process may open so many more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(number):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
