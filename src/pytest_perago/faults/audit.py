"""What Python code does to files and processes, by the audit events of the interpreter; code in C is not seen."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.exec")
_NAMES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "sqlite3.connect": 0}
_PASSED_OVER = ("/dev/", "/proc/", sys.prefix, sys.base_prefix)

_active: list[Audit] = []


class Audit:
    """Watches its block.

    Args:
        own: directories that belong to the attempt.
        full_from: from the so many-th opening of a file to write there on, counted from 0, the disk is full. None:
            never.
        moment: tells the number of a moment.
    """

    def __init__(
        self, own: Iterable[Path | None], *, full_from: int | None = None, moment: Callable[[], int] = lambda: 0
    ) -> None:
        self._moment = moment
        self._own = tuple(os.path.join(os.path.realpath(path), "") for path in own if path is not None)  # noqa: PTH118
        self._full_from = full_from
        self._owner = os.getpid()
        self.writes = 0
        """How often a file of the attempt was opened to be written."""
        self.outside: list[Path] = []
        """What was written elsewhere, in order."""
        self.first_outside = 0
        """The moment at which something was first."""
        self.starts_processes = False

    def __enter__(self) -> Audit:
        _install()
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        """Take one event.

        Raises:
            OSError: the disk is full.
        """
        if os.getpid() != self._owner:
            return
        if event in _STARTS:
            self.starts_processes = True
        elif event == "open":
            path, mode, flags = args
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITES)
            if writes:
                self._written(path, is_file=True)
        elif event in _NAMES:
            self._written(args[_NAMES[event]], is_file=False)

    def _written(self, path: Any, *, is_file: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.path.realpath(os.fsdecode(path))
        if any(name.startswith(own) or name + os.sep == own for own in self._own):
            if is_file:
                self.writes += 1
                if self._full_from is not None and self.writes > self._full_from:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        elif not name.startswith(_PASSED_OVER) and "__pycache__" not in name:
            found = Path(name)
            if not self.outside:
                self.first_outside = self._moment()
            if found not in self.outside:
                self.outside.append(found)


def _install() -> None:
    """A hook of the interpreter cannot be taken out again, so there is one, and it does nothing most of the time."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)


_installed: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _active and (event == "open" or event in _NAMES or event in _STARTS):
        _active[-1].note(event, args)
