"""Sources of the configuration: the environment, `.env`, and the default directories. Also the types of the values.

`.env` is parsed by python-dotenv, so quotes, comments, `export` and `${NAME}` work as usual. This module adds the line
of every variable, so that messages can name the place.

The roots of attempt directories and of logs belong to the user alone. `check_roots` changes nothing, `prepare_roots`
creates what is missing. Both apply the same rules, so what `perago check` accepts, `perago start` can use.

No other user may be able to replace a root with their own directory. So every directory on the way is checked,
including those of symlinks. The members of a group cannot be determined reliably, because directory services list none.
So a directory that is writable for its group is refused like one that is writable for all, as ssh does with the
directory of its keys.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from pydantic import SecretStr

from perago.secret_names import looks_secret
from perago.settings.mask import Mask, secrets_in, shown_address


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem to correct.

    `variable` is the variable's name, `where` its origin (`"environment"`, `".env:4"`, `""` for a variable that is not
    set), `message` the problem, `fix` the correction. None of them ever contains a secret.
    """

    variable: str
    where: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        advice = f" {self.fix}" if self.fix else ""
        return f"{self.variable}{place}: {self.message}.{advice}"


class ConfigurationError(Exception):
    """The configuration cannot be used. `details` holds every problem found, `problems` the same as text.

    `warnings` are the warnings of `Settings`.
    """

    def __init__(self, details: Iterable[Problem], warnings: Iterable[str] = ()) -> None:
        self.details: tuple[Problem, ...] = tuple(details)
        self.warnings: tuple[str, ...] = tuple(warnings)
        self.problems: tuple[str, ...] = tuple(str(problem) for problem in self.details)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.details, self.warnings))


# ------------------------------------------------------------------------------ types of values


class PublishFence(StrEnum):
    """The strictness about the server-side publish fence."""

    AUTO = "auto"
    """The first publication to a branch without the fence installs it. A server that does not run hooks causes a
    warning."""
    REQUIRED = "required"
    """As `auto`, but nothing is published if the server does not run hooks."""
    OFF = "off"
    """Nothing is installed, and no server is challenged. An existing fence still works."""


class LogFormat(StrEnum):
    """The form in which a worker writes its log to standard error (docs/workers.md#log-files)."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """One JSON object a line, with the fields of the log files."""


class Upkeep(StrEnum):
    """A part of the maintenance that a worker does in the background (docs/configuration.md)."""

    DIRECTORIES = "directories"
    """Attempt directories of workers that were killed."""
    BRANCHES = "branches"
    """Staging branches of attempts that have ended, as `perago gc` finds them."""
    CACHE = "cache"
    """The cache of objects is kept to its limit."""
    LOGS = "logs"
    """Log files that are too old or too many."""


ALL_UPKEEP = frozenset(Upkeep)


@dataclass(frozen=True, slots=True)
class ConductorSettings:
    """The address of Conductor, and credentials. The two credentials are both set or both None."""

    server_url: str = field(repr=False)
    auth_key: str | None = field(default=None, repr=False)
    auth_secret: SecretStr | None = None

    @property
    def shown(self) -> str:
        """The address for people."""
        return shown_address(self.server_url)


@dataclass(frozen=True, slots=True)
class LakeFSSettings:
    """The address of lakeFS, and credentials."""

    endpoint_url: str = field(repr=False)
    access_key_id: str = field(repr=False)
    secret_access_key: SecretStr

    @property
    def shown(self) -> str:
        """The address for people."""
        return shown_address(self.endpoint_url)


def default_worker_id_prefix(module: str) -> str:
    """The worker id prefix of a task module: its import path reduced to ASCII letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", module) or "worker"


# ------------------------------------------------------------------------------ the environment and `.env`

DOTENV = ".env"
SECRET_VARIABLES = ("CONDUCTOR_AUTH_SECRET", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")

ADDRESS_VARIABLES = ("CONDUCTOR_SERVER_URL", "LAKECTL_SERVER_ENDPOINT_URL")

_LONG_HEADER = 8
"""Minimum length from which any header of a collector counts as a secret, for example `x-honeycomb-team`."""

_taken: dict[str, str] = {}
"""The variables that `take_from_environment` has moved here."""


@dataclass(frozen=True, slots=True)
class DotEnv:
    """The variables of one `.env` file that are set and not empty, and the line of each."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """All variables that are set and not empty; the environment wins over `.env`."""

    environment: Mapping[str, str] = field(repr=False)
    dotenv: DotEnv

    @property
    def values(self) -> dict[str, str]:
        return {**self.dotenv.values, **self.environment}

    def origin(self, name: str) -> str:
        """`"environment"`, `".env:4"`, or `""` for a variable that is not set."""
        if name in self.environment:
            return "environment"
        return f"{DOTENV}:{self.dotenv.lines[name]}" if name in self.dotenv.values else ""


def read_sources() -> Sources:
    """Read the environment and the current directory's `.env`. A `.env` further up is not searched."""
    environment = {name: value for name, value in whole_environment().items() if value}
    return Sources(environment, _read_dotenv(Path(DOTENV)))


def take_from_environment(names: Iterable[str]) -> None:
    """Move variables out of the environment of this process, so that child processes do not inherit them. They stay
    part of the configuration. Call this before the first thread starts, because C libraries read the environment
    without a lock."""
    _taken.update({name: os.environ.pop(name) for name in names})


def whole_environment() -> dict[str, str]:
    """The environment of this process and the variables that were taken from it."""
    return {**_taken, **os.environ}


def configured_mask() -> Mask:
    """Return the mask of the configured secrets, those in addresses too, and of others by their forms and names.

    Works with an invalid configuration.
    """
    values = read_sources().values.items()
    return Mask((secret for name, value in values for secret in _secrets_of(name, value)), by_form=True)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """Yield the secrets in the value of a variable. OpenTelemetry quotes headers that it does not understand, and the
    address of a collector that does not answer."""
    if name in SECRET_VARIABLES:
        yield value
    elif name in ADDRESS_VARIABLES:
        yield from secrets_in(value)
    elif fnmatchcase(name, "OTEL_EXPORTER_OTLP_*HEADERS"):
        for header in value.split(","):
            key, _, content = header.partition("=")
            for text in {(content or key).strip(), unquote(content or key).strip()}:
                if looks_secret(key) or len(text) >= _LONG_HEADER:
                    yield text
                    yield from text.split()[1:]  # without `Bearer`
    elif name.startswith("OPENLINEAGE_"):
        yield from secrets_in(value)
        if looks_secret(name):
            yield value
        with contextlib.suppress(ValueError):  # a value may be JSON
            document = json.loads(value)
            yield from (
                (str(text) for key, text in document.items() if looks_secret(key)) if isinstance(document, dict) else ()
            )
    elif fnmatchcase(name, "OTEL_EXPORTER_OTLP_*ENDPOINT"):
        yield from (value.rpartition("@")[0].partition("//")[2], value.partition("?")[2], *secrets_in(value))


def mask_secrets(text: str) -> str:
    """Return `text`, such as the message of a task module, with the configured secrets redacted."""
    return configured_mask()(text)


def _read_dotenv(path: Path) -> DotEnv:
    if path.is_dir() or not os.path.lexists(path):  # a directory of that name is a virtual environment
        return DotEnv()
    if not path.is_file():  # passing over settings that a user relies on would be worse than stopping
        what = f"is a symlink to {path.readlink()}, which is not a file" if path.is_symlink() else "is not a file"
        return DotEnv(problems=(Problem(DOTENV, DOTENV, what, "Put a file there, or remove it."),))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return DotEnv(problems=(Problem(DOTENV, DOTENV, "not UTF-8", "Save the file as UTF-8."),))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return DotEnv(problems=(Problem(DOTENV, DOTENV, reason, "Make it readable, or remove it."),))
    return _parse_dotenv(text)


def _parse_dotenv(text: str) -> DotEnv:
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    lines: dict[str, int] = {}
    problems: list[Problem] = []
    readable: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original.string
        leading = original[: len(original) - len(original.lstrip())]
        line = binding.original.line + leading.count("\n")
        if binding.error:
            fix = "Write NAME=value, put values with blanks or # into quotes, and close every quote."
            problems.append(Problem(DOTENV, f"{DOTENV}:{line}", "this line cannot be understood", fix))
            continue
        readable.append(original)
        if binding.key is not None:
            lines[binding.key] = line
    values = dotenv_values(stream=io.StringIO("".join(readable)))
    return DotEnv({name: value for name, value in values.items() if value}, lines, tuple(problems))


WORKSPACE_ROOT = "PERAGO_WORKSPACE_ROOT"
LOG_ROOT = "PERAGO_LOG_ROOT"

_PRIVATE = 0o700
_MOST_LINKS = 40
"""The limit of Linux."""


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
    """Return the directory of perago's state between commands. It may not exist yet.

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


class Roots(Protocol):
    """The settings that name the roots."""

    @property
    def workspace_root(self) -> Path: ...

    @property
    def log_root(self) -> Path: ...


def check_roots(settings: Roots) -> tuple[Problem, ...]:
    """Return the reasons why `prepare_roots` would fail. Create nothing.

    A read-only file system is not such a reason, because a worker waits until it can write there.
    """
    problems = []
    for variable, path in _roots(settings):
        try:
            problem = own_directory_problem(path, now=False)
        except OSError as error:
            problem = f"cannot be used: {error.strerror}"
        if problem:
            problems.append(_problem(variable, path, problem))
    return tuple(problems)


def prepare_roots(settings: Roots) -> None:
    """Create the missing directories of both roots, readable by the user only, unless the file system is read-only.

    Raises:
        ConfigurationError: a root cannot be created or used.
    """
    problems = check_roots(settings)
    if problems:
        raise ConfigurationError(problems)
    for variable, path in _roots(settings):
        try:
            for directory in reversed([ancestor for ancestor in (path, *path.parents) if not ancestor.exists()]):
                directory.mkdir(mode=_PRIVATE, exist_ok=True)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise ConfigurationError([_problem(variable, path, f"cannot be created: {error.strerror}")]) from None
    problems = check_roots(settings)  # another user may have made what did not exist at the first check
    if problems:
        raise ConfigurationError(problems)


def _roots(settings: Roots) -> tuple[tuple[str, Path], ...]:
    return (WORKSPACE_ROOT, settings.workspace_root), (LOG_ROOT, settings.log_root)


def _problem(variable: str, path: Path, problem: str) -> Problem:
    fix = f"Set {variable} to a directory of your own, or to a new one; perago creates it."
    return Problem(variable, read_sources().origin(variable) or "default", f"{path} {problem}", fix)


def own_directory_problem(path: Path, *, now: bool = True) -> str | None:
    """Return the reason why `path` cannot be a directory that only the user can write to, or None. It need not exist.
    Unless it is needed `now`, its file system can be read-only.

    Raises:
        OSError: the path cannot be checked.
    """
    return _own_problem(path, now) or open_to_others(path)


def _own_problem(path: Path, now: bool) -> str | None:
    if _exists(path):
        return _existing_problem(path, now)
    parent = next(ancestor for ancestor in path.parents if _exists(ancestor))
    if not parent.is_dir():
        return f"cannot be created, because {parent} is not a directory"
    if not _is_writable(parent, now):
        return f"cannot be created, because {parent} is not writable"
    return None


def _exists(path: Path) -> bool:
    """Whether an entry of that name exists.

    Raises:
        OSError: it cannot exist, for example because the name is too long.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_writable(directory: Path, now: bool) -> bool:
    is_read_only = os.statvfs(directory).f_flag & os.ST_RDONLY and not now
    return os.access(directory, os.X_OK if is_read_only else os.W_OK | os.X_OK)


def _existing_problem(path: Path, now: bool) -> str | None:
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
    """Return how another user could replace `path`, or None. The path need not exist.

    In a directory with the sticky bit, such as `/tmp`, only the owner of an entry can replace it. So such a directory
    of root or of the user is safe for entries of these two.

    Raises:
        OSError: the path cannot be checked, or has too many symlinks.
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
    """The user and root. In a user namespace without root, files of root belong to the overflow user."""
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
