"""The two directories perago writes to by itself: attempt directories and logs (contract 6).

Both belong to the user alone. `check_roots` looks without touching anything, `prepare_roots` creates; they agree
on what is acceptable, so what `perago check` accepts, `perago start` can use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from perago.settings.errors import ConfigurationError, Problem
from perago.settings.sources import read_sources
from perago.settings.values import Settings

WORKSPACE_ROOT = "PERAGO_WORKSPACE_ROOT"
LOG_ROOT = "PERAGO_LOG_ROOT"

_PRIVATE = 0o700


def default_workspace_root() -> Path:
    """Where attempt directories go unless `PERAGO_WORKSPACE_ROOT` says otherwise: they are only ever a cache.

    Raises:
        ConfigurationError: there is no home directory.
    """
    from platformdirs import user_cache_path

    return _in_home(WORKSPACE_ROOT, user_cache_path) / "workspaces"


def default_log_root() -> Path:
    """Where logs go unless `PERAGO_LOG_ROOT` says otherwise.

    Raises:
        ConfigurationError: there is no home directory.
    """
    from platformdirs import user_state_path

    return _in_home(LOG_ROOT, user_state_path) / "logs"


def state_directory() -> Path:
    """Where perago remembers something from one command to the next. Not made yet.

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
    """What would keep `prepare_roots` from succeeding. Creates nothing."""
    return tuple(_problems(settings))


def prepare_roots(settings: Settings) -> None:
    """Create what is missing of both roots, readable by the user alone.

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
            raise ConfigurationError([_problem(variable, path, f"cannot be created: {error.strerror}")]) from None


def _roots(settings: Settings) -> tuple[tuple[str, Path], ...]:
    return (WORKSPACE_ROOT, settings.workspace_root), (LOG_ROOT, settings.log_root)


def _problems(settings: Settings) -> Iterator[Problem]:
    for variable, path in _roots(settings):
        try:
            trouble = _trouble(path)
        except OSError as error:
            trouble = f"cannot be used: {error.strerror}"
        if trouble:
            yield _problem(variable, path, trouble)


def _problem(variable: str, path: Path, trouble: str) -> Problem:
    fix = f"Set {variable} to a directory of your own, or to a new one; perago creates it."
    return Problem(variable, read_sources().origin(variable) or "default", f"{path} {trouble}", fix)


def _trouble(path: Path) -> str | None:
    if _exists(path):
        return _existing_trouble(path)
    parent = next(ancestor for ancestor in path.parents if _exists(ancestor))
    if not parent.is_dir():
        return f"cannot be created, because {parent} is not a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
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


def _existing_trouble(path: Path) -> str | None:
    through = f" (a symlink to {path.readlink()})" if path.is_symlink() else ""
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"is a symlink to {path.readlink()}, which does not exist"
    if not stat.S_ISDIR(status.st_mode):
        return f"is not a directory{through}"
    if os.name == "posix" and status.st_uid != os.geteuid():
        return f"belongs to another user{through}"
    if os.name == "posix" and status.st_mode & stat.S_IWOTH:
        return f"can be written by everybody{through}"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return f"is not writable{through}"
    return None


def _create(path: Path) -> None:
    missing = [ancestor for ancestor in (path, *path.parents) if not ancestor.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=_PRIVATE, exist_ok=True)
