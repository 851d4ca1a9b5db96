"""The two directories perago writes to by itself: attempt directories and logs.

Both belong to the user alone. `check_roots` looks without touching anything, `prepare_roots` creates; they agree
on what is acceptable, so what `perago check` accepts, `perago start` can use.

No other user may be able to put a directory of theirs in the place of a root, so every directory on the way counts,
those of symlinks included. A group may hold anybody, and which groups hold one user only cannot be known for certain
(directory services list no members), so a directory that its group may write to is refused like one that all may
write to, as ssh does with the directory of its keys.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from perago.settings.sources import ConfigurationError, Problem

if TYPE_CHECKING:
    from perago.settings.variables import Settings
from perago.settings.sources import read_sources

WORKSPACE_ROOT = "PERAGO_WORKSPACE_ROOT"
LOG_ROOT = "PERAGO_LOG_ROOT"

_PRIVATE = 0o700
_MOST_LINKS = 40
"""As Linux has it."""


def default_workspace_root() -> Path:
    """Return the root of attempt directories for users without `PERAGO_WORKSPACE_ROOT`. It is in the cache directory.

    Raises:
        ConfigurationError: there is no home directory.
    """
    from platformdirs import user_cache_path

    return _in_home(WORKSPACE_ROOT, user_cache_path) / "workspaces"


def default_log_root() -> Path:
    """Return the root of logs for users without `PERAGO_LOG_ROOT`.

    Raises:
        ConfigurationError: there is no home directory.
    """
    from platformdirs import user_state_path

    return _in_home(LOG_ROOT, user_state_path) / "logs"


def state_directory() -> Path:
    """Return the directory for what perago remembers from one command to the next. It may not exist yet.

    Raises:
        ConfigurationError: there is no home directory.
    """
    from platformdirs import user_state_path

    return _in_home("HOME", user_state_path)


def _in_home(variable: str, locate: Callable[..., Path]) -> Path:
    try:
        path = locate("perago", appauthor=False)
    except RuntimeError:
        path = Path()
    if not path.is_absolute():
        fix = f"Set {variable} to a directory of your own."
        raise ConfigurationError([Problem(variable, "", "not set, and there is no home directory for a default", fix)])
    return path


def check_roots(settings: Settings) -> tuple[Problem, ...]:
    """Return what would keep `prepare_roots` from succeeding. Create nothing.

    A file system that is read-only is no such problem: a worker takes no work until it can write there.
    """
    return tuple(_problems(settings))


def prepare_roots(settings: Settings) -> None:
    """Create what is missing of both roots, readable by the user alone, unless the file system is read-only.

    Raises:
        ConfigurationError: a root cannot be created or used.
    """
    problems = check_roots(settings)
    if problems:
        raise ConfigurationError(problems)
    for variable, path in _roots(settings):
        try:
            _create(path)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise ConfigurationError([_problem(variable, path, f"cannot be created: {error.strerror}")]) from None
    problems = check_roots(settings)  # what did not exist at the first look was perhaps made by another user meanwhile
    if problems:
        raise ConfigurationError(problems)


def _roots(settings: Settings) -> tuple[tuple[str, Path], ...]:
    return (WORKSPACE_ROOT, settings.workspace_root), (LOG_ROOT, settings.log_root)


def _problems(settings: Settings) -> Iterator[Problem]:
    for variable, path in _roots(settings):
        try:
            trouble = own_directory_trouble(path, now=False)
        except OSError as error:
            trouble = f"cannot be used: {error.strerror}"
        if trouble:
            yield _problem(variable, path, trouble)


def _problem(variable: str, path: Path, trouble: str) -> Problem:
    fix = f"Set {variable} to a directory of your own, or to a new one; perago creates it."
    return Problem(variable, read_sources().origin(variable) or "default", f"{path} {trouble}", fix)


def own_directory_trouble(path: Path, *, now: bool = True) -> str | None:
    """Return why `path` cannot be a directory that the user alone writes to; None if it can. It need not exist. Unless
    it is needed `now`, its file system may be read-only.

    Raises:
        OSError: the path cannot be checked.
    """
    return _own_trouble(path, now) or open_to_others(path)


def _own_trouble(path: Path, now: bool) -> str | None:
    if _exists(path):
        return _existing_trouble(path, now)
    parent = next(ancestor for ancestor in path.parents if _exists(ancestor))
    if not parent.is_dir():
        return f"cannot be created, because {parent} is not a directory"
    if not _is_writable(parent, now):
        return f"cannot be created, because {parent} is not writable"
    return None


def _exists(path: Path) -> bool:
    """Whether there is anything of that name.

    Raises:
        OSError: there cannot be, as for a name that is too long.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_writable(directory: Path, now: bool) -> bool:
    is_read_only = os.statvfs(directory).f_flag & os.ST_RDONLY and not now
    return os.access(directory, os.X_OK if is_read_only else os.W_OK | os.X_OK)


def _existing_trouble(path: Path, now: bool) -> str | None:
    through = f" (a symlink to {path.readlink()})" if path.is_symlink() else ""
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"is a symlink to {path.readlink()}, which does not exist"
    if not stat.S_ISDIR(status.st_mode):
        return f"is not a directory{through}"
    if status.st_uid != os.geteuid():
        return f"belongs to another user ({_owner_and_mode(status)}){through}"
    if not (os.access(path, os.R_OK) and _is_writable(path, now)):
        return f"is not writable{through}"
    return None


def open_to_others(path: Path) -> str | None:
    """Return how another user could replace `path`, which need not exist; None if no other user can.

    In a directory with the sticky bit, as `/tmp` is, only the owner of an entry may replace it. So such a directory of
    the system or of the user is safe for an entry that belongs to one of the two.

    Raises:
        OSError: the way cannot be looked at, or has too many symlinks.
    """
    trusted = _trusted_users()
    for place, status, is_last in _way(path):
        if status.st_uid not in trusted:
            return f"is not safe, because {place} belongs to another user ({_owner_and_mode(status)})"
        if stat.S_ISLNK(status.st_mode) or not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            continue
        if is_last or not status.st_mode & stat.S_ISVTX:
            return _writable_by_others(path, place, status)
    return None


def _writable_by_others(path: Path, place: Path, status: os.stat_result) -> str:
    by_all = status.st_mode & stat.S_IWOTH
    which = "it" if place == path else str(place)
    who, mode = ("everybody", "go-w") if by_all else ("its group", "g-w")
    if status.st_mode & stat.S_ISVTX:  # a directory that users share on purpose, such as /tmp
        advice = f"a directory below it, such as {shlex.quote(str(place / 'perago'))}, is safe"
    else:
        advice = f"if it is yours alone, run chmod {mode} {shlex.quote(str(place))}"
    return f"is not safe, because {which} can be written by {who} ({_owner_and_mode(status)}); {advice}"


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Yield the places on the way to `path`, symlinks and their targets included, as far as they exist.

    The last one of an existing path is marked.
    """
    place, rest, links = Path("/"), [*path.absolute().parts[1:]], 0
    yield place, place.lstat(), not rest
    while rest:
        name = rest.pop(0)
        entry = place.parent if name == ".." else place / name
        try:
            status = entry.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(status.st_mode):
            yield entry, status, False
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = entry.readlink()
            place = Path("/") if target.is_absolute() else place
            rest[:0] = target.parts[target.is_absolute() :]
        else:
            place = entry
            yield place, status, not rest


def _trusted_users() -> frozenset[int]:
    """The user and root. In a user namespace without root, what belongs to root shows up as the overflow user's."""
    trusted = {0, os.geteuid()}
    with contextlib.suppress(OSError, ValueError):
        mapped = [line.split()[0] for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if "0" not in mapped:
            trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text()))
    return frozenset(trusted)


def _owner_and_mode(status: os.stat_result) -> str:
    import pwd  # not on Windows, where settings can be read, and where there are no such owners

    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    return f"owner {owner}, mode {stat.S_IMODE(status.st_mode):04o}"


def _create(path: Path) -> None:
    missing = [ancestor for ancestor in (path, *path.parents) if not ancestor.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=_PRIVATE, exist_ok=True)
