"""Observe the effects of a call of a task function: its output, the files next to its workspace and elsewhere, and the
secrets that it prints.

The directories around the workspace, the current directory with its contents, and the top of the home directory are
read before and after the call. Files of Python, pytest and their tools are ignored. An audit hook notes the files that
the call itself opens elsewhere. Such a file outlives the attempt, so a later call may behave differently because of it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, SecretBytes, SecretStr

from perago.text import LISTED, listing
from perago.workspace.scan import open_file, scan_tree
from pytest_perago.confinement import patched

_EXCERPT = 60
_BEFORE = 20
"""Number of bytes that are shown before the first difference."""
_MOST_EXCERPTS = 3


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a call or an attempt: the result as JSON and files by paths or keys; or the reason why it
    failed."""

    result: Any
    files: Mapping[str, bytes]
    problem: str = ""

    def difference(self, other: Output, first: str = "first run", second: str = "second run") -> list[tuple[str, str]]:
        """Return the differences, as facts of a failure.

        Args:
            other: the state after the second call. first, second: the names of the two.
        """
        facts = []
        if self.problem != other.problem:
            facts += [(first, self.problem or "completed"), (second, other.problem or "completed")]
        if self.result != other.result:
            facts += [(first, repr(self.result)), (second, repr(other.result))]
        missing, extra = sorted(self.files.keys() - other.files.keys()), sorted(other.files.keys() - self.files.keys())
        if missing or extra:
            facts += [(first, listing(missing) or "no other file"), (second, listing(extra) or "no other file")]
        for key in self.changed(other)[:_MOST_EXCERPTS]:
            mine, two = self.files[key], other.files[key]
            pairs = enumerate(zip(mine, two, strict=False))
            difference = next((index for index, (a, b) in pairs if a != b), min(len(mine), len(two)))
            start = max(0, difference - _BEFORE)
            facts += [(first, f"{key}: {_excerpt(mine, start)}"), (second, f"{key}: {_excerpt(two, start)}")]
        return facts

    def changed(self, other: Output) -> list[str]:
        """Return the files of both outputs whose contents differ, sorted."""
        return [key for key in sorted(self.files.keys() & other.files.keys()) if self.files[key] != other.files[key]]

    def without(self, *ids: str) -> Output:
        """Return the output without the ids of the attempt."""

        def replaced(content: bytes) -> bytes:
            for number, identifier in enumerate(ids):
                content = content.replace(identifier.encode(), b"<id %d>" % number)
            return content

        result = json.loads(replaced(json.dumps(self.result).encode()))
        return Output(result, {key: replaced(content) for key, content in self.files.items()}, self.problem)

    def named(self, other: Output) -> str:
        """Describe the differences briefly: names of files, and the result."""
        names = sorted({*self.changed(other), *(self.files.keys() ^ other.files.keys())})
        shown = [*names[:LISTED], f"{len(names) - LISTED} more files"] if len(names) > LISTED else names
        return ", ".join([*shown, *(["the result"] if self.result != other.result else [])])


def read_files(root: Path) -> dict[str, bytes]:
    """Read the regular files below a directory, without following links."""
    contents = {}
    for path in scan_tree(root).files:
        with os.fdopen(open_file(root, path), "rb") as file:
            contents[path] = file.read()
    return contents


def _excerpt(content: bytes, start: int) -> str:
    part = content[start : start + _EXCERPT]
    if len(part) == len(content):
        return repr(content)
    return f"{'...' if start else ''}{part!r}... ({len(content):,} bytes)"


_MOST_DIRECTORIES = 100
_MOST_ENTRIES = 500
_MOST_DESCRIPTORS = 1024
_LEVELS_ABOVE = 2
"""Number of directories above a workspace that belong to its attempt or to the root of all attempts."""

_TOOLS = re.compile(
    r"__pycache__|.*\.pyc|\.pytest_cache|\.coverage.*|coverage\.xml|htmlcov|\.hypothesis|\.mypy_cache|\.ruff_cache|\.git"
    r"|\.perago-attempt\.json"
)
_NEVER_INSIDE = ("venv", "node_modules", "site-packages")

Stamp: TypeAlias = tuple[int, int, int] | None
"""Return size, modification time and inode of a file. None for a directory, whose entries matter more than its time."""


class NearbyFiles:
    """A record of the files around a workspace or, without a workspace, around the current directory."""

    def __init__(self, workspace: Path | None) -> None:
        self._here, self._home = _directory(Path.cwd), _directory(Path.home)
        above = workspace.resolve().parents[:_LEVELS_ABOVE] if workspace is not None else ()
        self._attempt, self._workspace = ("", "") if workspace is None else (str(above[0]), workspace.name)
        self._directories_above = frozenset(str(directory) for directory in above)
        self._own = set(_open_files())
        self._entries_of = {directory: self._entries(directory) for directory in self._directories_above}
        if self._home != self._here:
            self._entries_of[str(self._home)] = self._entries(str(self._home))
        self._scan_below(str(self._here))

    def differences(self) -> dict[Path, bool]:
        """Return the paths that have appeared (True) or changed (False) since. Files in a new directory are not
        listed."""
        paths: dict[Path, bool] = {}
        for directory, before in self._entries_of.items():
            for name, stamp in self._entries(directory).items():
                if name not in before:
                    paths[Path(directory, name)] = True
                elif stamp != before[name] and stamp is not None and stamp[2] not in self._own:
                    paths[Path(directory, name)] = False
        return paths

    def confirmed(self, first: dict[Path, bool], second: dict[Path, bool], *, is_alone: bool) -> list[Path]:
        """Return the paths that the function wrote, sorted. Other processes can write to the same directories, but not
        to those of the attempt. So a path that was only changed, or that appeared while this process was not `alone`,
        must come from a call that found it `again`, too. A changed file that another process has open is a log of that
        process, such as the one of `pytest | tee log`."""
        places = {path.parent for path in second} | set(second)
        written = sorted(
            path
            for path, is_new in first.items()
            if (is_new and is_alone) or str(path.parent) in self._directories_above or places & {path, path.parent}
        )
        logs = set() if all(first[path] for path in written) else _inodes_written_elsewhere()
        inodes = {path: stamp[2] for path in written if (stamp := self._entries(str(path.parent)).get(path.name))}
        return [path for path in written if first[path] or inodes.get(path) not in logs]

    def shown(self, path: Path) -> str:
        """A path as the author knows it."""
        if str(path.parent) in self._directories_above:
            return f"{path.name} beside the workspace"
        if path.is_relative_to(self._here):
            return f"{path.relative_to(self._here)} in the current directory"
        return f"~/{path.relative_to(self._home)}"

    def _scan_below(self, top: str) -> None:
        """Yield the files, nearest directories first, because the limits can cut a large project."""
        passed_over = {tempfile.gettempdir(), str(self._home), *self._directories_above} - {top}
        pending, entries = [top], 0
        while pending and len(self._entries_of) < _MOST_DIRECTORIES and entries < _MOST_ENTRIES:
            directory = pending.pop(0)
            stamps = self._entries(directory)
            if directory != top and (directory in passed_over or "pyvenv.cfg" in stamps):
                continue
            self._entries_of[directory] = stamps
            entries += len(stamps)
            below = sorted(name for name, stamp in stamps.items() if stamp is None and not name.startswith("."))
            pending += [f"{directory}/{name}" for name in below if name not in _NEVER_INSIDE]

    def _entries(self, directory: str) -> dict[str, Stamp]:
        is_home = directory == str(self._home)
        stamps: dict[str, Stamp] = {}
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if _TOOLS.fullmatch(entry.name) or (is_home and entry.name.startswith(".")):
                    continue
                with suppress(OSError):
                    status = None if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False)
                    stamps[entry.name] = status and (status.st_size, status.st_mtime_ns, status.st_ino)
        if directory == self._attempt:
            stamps.pop(self._workspace, None)
        return stamps


def _open_files() -> Iterator[int]:
    """Return the inodes of files that this process has open, such as its redirected output or a log."""
    for descriptor in range(_MOST_DESCRIPTORS):
        with suppress(OSError):
            yield os.fstat(descriptor).st_ino


def _inodes_written_elsewhere() -> set[int]:
    """Return the inodes of files that other processes have open for writing. Empty without /proc."""
    inodes = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it was closed
            if descriptor.parts[2] != str(os.getpid()) and descriptor.lstat().st_mode & stat.S_IWUSR:
                inodes.add(descriptor.stat().st_ino)
    return inodes


_SHORTEST_SECRET = 6
"""Minimum length of a secret that is searched, because shorter ones occur inside other words."""


def secrets_of(value: Any, name: str = "params") -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each `SecretStr` and `SecretBytes` in a model."""
    if isinstance(value, SecretStr | SecretBytes):
        secret = value.get_secret_value()
        text = secret.decode(errors="replace") if isinstance(secret, bytes) else secret
        if len(text) >= _SHORTEST_SECRET:
            yield name, text
    elif isinstance(value, BaseModel):
        for field, member in value:
            yield from secrets_of(member, f"{name}.{field}")
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from secrets_of(member, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple | set | frozenset):
        for member in value:
            yield from secrets_of(member, name)


class _Tee:
    """A stream that passes all texts on, and records them."""

    def __init__(self, stream: Any, texts: list[str]) -> None:
        self._stream = stream
        self._texts = texts

    def write(self, text: str) -> Any:
        self._texts.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printed() -> Iterator[list[str]]:
    """Yield the texts that Python code prints and logs in the block. The texts are printed, too."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(f"{handler.format(record)}\n")  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with redirect_stdout(_Tee(sys.stdout, texts)), redirect_stderr(_Tee(sys.stderr, texts)):
            yield texts
    finally:
        root.removeHandler(handler)


def _directory(find: Callable[[], Path]) -> Path:
    """A directory, or a path without entries."""
    try:
        return find().resolve()
    except (OSError, RuntimeError):
        return Path(os.devnull)


# ------------------------------------------------------------------------------------ files outside of an attempt

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.exec")
_NAMES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "sqlite3.connect": 0}
_PASSED_OVER = ("/dev/", "/proc/", sys.prefix, sys.base_prefix)
_IN_MEMORY = "/dev/shm/"  # noqa: S108 - files of attempts in tests lie there
_HIDDEN_SUFFIX = ".perago-aside"
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
        position: returns how many calls user code has made.
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
        """The number of calls of user code before the first."""
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
                self.note_read(path)
        elif event in _NAMES:
            self._written(args[_NAMES[event]], is_file=False)

    def note_read(self, path: Any) -> None:
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
            file = Path(name)
            if not self.outside:
                self.first_outside = self._position()
            if file not in self.outside:
                self.outside.append(file)
                if not os.path.lexists(name):
                    _created.add(file)


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
            audit.note_read(path)
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
    paths: set[Path] = set()
    for audit in audits:
        paths |= {path for path in (*audit.outside, *audit.read) if is_shared(path)}
        paths |= {path for path in audit.outside if everywhere and path in _created}
    return sorted(
        path
        for path in paths
        if not path.is_symlink()
        and (path.exists() if path in _created else path.is_file() and path.stat().st_size <= _LARGEST)
        and not any(path.is_relative_to(place) for place in project)
    )


@contextmanager
def hidden_files(paths: Iterable[Path]) -> Iterator[None]:
    """Hide files from the calls in the block. What these write in their places is removed at the end."""
    moved = []
    try:
        for path in paths:
            with suppress(OSError):  # it belongs to another user
                path.rename(path.with_name(path.name + _HIDDEN_SUFFIX))
                moved.append((path, path in _created))
        yield
    finally:
        for path, is_ours in moved:
            _remove(path)
            path.with_name(path.name + _HIDDEN_SUFFIX).rename(path)
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
