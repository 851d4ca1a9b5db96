"""Watch which files a call of author's code writes and reads outside of its attempt, and remove those that it creates.

A file outside of the attempt outlives it, so a later call may behave differently because of it.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_perago.conditions import patched

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.exec")
_NAMES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "sqlite3.connect": 0}
_PASSED_OVER = ("/dev/", "/proc/", sys.prefix, sys.base_prefix)
_IN_MEMORY = "/dev/shm/"  # noqa: S108 - files of attempts in tests lie there
_ASIDE = ".perago-aside"
_LARGEST = 1024**2
"""Bytes of a file that can be a mark of an earlier run. Larger ones are caches, which are slow to make again."""
_SHARED = tuple(
    {os.path.join(os.path.realpath(place), "") for place in ("/tmp", "/var/tmp", _IN_MEMORY, tempfile.gettempdir())}  # noqa: S108, PTH118
)
"""The directories for temporary files of all processes, with a slash at the end."""

_active: list[Audit] = []
_installed: list[bool] = []
_created: set[Path] = set()
"""Files that calls have created outside of their attempts, since they were last removed."""
_outliving: set[Path] = set()
"""Files that change what later calls do, wherever they are."""


def is_shared(path: Path) -> bool:
    """Whether a path is in a directory for temporary files of all processes."""
    return str(path).startswith(_SHARED)


class Audit:
    """Watches its block.

    Args:
        own: directories that belong to the attempt.
        full_from: from the so many-th opening of a file to write there on, counted from 0, the disk is full. None:
            never.
        position: returns how many calls the author's code has made.
    """

    def __init__(
        self, own: Iterable[Path | None], *, full_from: int | None = None, position: Callable[[], int] = lambda: 0
    ) -> None:
        self._position = position
        self._own = tuple(os.path.join(os.path.realpath(path), "") for path in own if path is not None)  # noqa: PTH118
        self._full_from = full_from
        self._owner = os.getpid()
        self.writes: int = 0
        """The number of times that a file of the attempt was opened to be written."""
        self.outside: list[Path] = []
        """The files that were written elsewhere, in order."""
        self.read: set[Path] = set()
        """The files in shared temporary directories that were opened to be read."""
        self.first_outside: int = 0
        """The number of calls of the author's code before the first."""
        self.starts_processes: bool = False

    def __enter__(self) -> Audit:
        if not _installed:  # a hook cannot be taken out again, so there is one, which does nothing most of the time
            sys.addaudithook(_hook)
            _installed.append(True)
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
            else:
                self.looked_at(path)
        elif event in _NAMES:
            self._written(args[_NAMES[event]], is_file=False)

    def looked_at(self, path: Any) -> None:
        """Note a file in a shared temporary directory that the code reads, or asks for."""
        if isinstance(path, str | bytes | os.PathLike):
            name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - it runs for each file that is opened
            if name.startswith(_SHARED) and not name.startswith(self._own):
                self.read.add(Path(name))

    def _written(self, path: Any, *, is_file: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.path.realpath(os.fsdecode(path))
        if any(name.startswith(own) or name + os.sep == own for own in self._own):
            if is_file:
                self.writes += 1
                if self._full_from is not None and self.writes > self._full_from:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        elif (name.startswith(_IN_MEMORY) or not name.startswith(_PASSED_OVER)) and "__pycache__" not in name:
            found = Path(name)
            if not self.outside:
                self.first_outside = self._position()
            if found not in self.outside:
                self.outside.append(found)
                if not os.path.lexists(name):
                    _created.add(found)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _active and (event == "open" or event in _NAMES or event in _STARTS):
        _active[-1].note(event, args)


@contextmanager
def noting_questions(audit: Audit) -> Iterator[None]:
    """Let an audit note the files that code in the block asks for with `os.stat` and the like, as `Path.exists` does.
    Python has no audit event for them."""
    names = ("stat", "lstat", "access")
    former = {name: getattr(os, name) for name in names}

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(path: Any, *args: Any, **kwargs: Any) -> Any:
            audit.looked_at(path)
            return real(path, *args, **kwargs)

        return ask

    groups = [os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks]
    asking = {name: noted(real) for name, real in former.items()}
    added = [(group, asking[name]) for group in groups for name in names if former[name] in group]
    for group, function in added:  # shutil asks them what a function can do
        group.add(function)
    try:
        with patched(os, **asking):
            yield
    finally:
        for group, function in added:
            group.discard(function)


def may_outlive(audits: Iterable[Audit], project: Collection[Path], *, everywhere: bool) -> list[Path]:
    """Return the files outside of their attempts that can change what a later call does, sorted.

    These are the files in shared temporary directories that calls wrote or read, without those of the project. With
    `everywhere`, they include files that the calls created in other places.
    """
    found: set[Path] = set()
    for audit in audits:
        found |= {path for path in (*audit.outside, *audit.read) if is_shared(path)}
        found |= {path for path in audit.outside if everywhere and path in _created}
    return sorted(
        path
        for path in found
        if not path.is_symlink()
        and (path.exists() if path in _created else path.is_file() and path.stat().st_size <= _LARGEST)
        and not any(path.is_relative_to(place) for place in project)
    )


@contextmanager
def moved_aside(paths: Iterable[Path]) -> Iterator[None]:
    """Hide files from the calls in the block. What these write in their places is removed at the end."""
    moved = []
    try:
        for path in paths:
            with suppress(OSError):  # it belongs to another user
                path.rename(path.with_name(path.name + _ASIDE))
                moved.append((path, path in _created))
        yield
    finally:
        for path, is_ours in moved:
            _remove(path)
            path.with_name(path.name + _ASIDE).rename(path)
            if not is_ours:  # it was there before all calls, and stays
                _created.discard(path)


def remember_outliving(paths: Iterable[Path]) -> None:
    """Have these files removed wherever a call creates them, because they change later verdicts."""
    _outliving.update(paths)


def remove_created(project: Path) -> None:
    """Remove what calls have created in shared temporary directories, so that no verdict depends on earlier tests.
    Files of the project stay, wherever it is."""
    for path in sorted(_created, reverse=True):
        # A directory may belong to a library that goes on using it, such as that of multiprocessing.
        is_temporary = is_shared(path) and path.is_file() and not path.is_relative_to(project)
        if path in _outliving or is_temporary:
            _remove(path)
    _created.clear()


def _remove(path: Path) -> None:
    with suppress(OSError):  # it is gone, or not empty
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
