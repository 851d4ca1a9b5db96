"""Values of the configuration: their types, where they come from (the environment, then `.env`), and what is wrong.

`.env` is parsed by python-dotenv, so quotes, comments, `export` and `${NAME}` mean what they mean everywhere.
What is added here is the line of every variable, because a message without a place makes people search.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr

from perago.secret_names import looks_secret
from perago.settings.mask import Mask, secrets_in, shown_address


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right.

    `variable` is the variable's name, `where` its origin (`"environment"`, `".env:4"`, `""` for a variable that
    is not set), `message` what is wrong, `fix` what to do. None of them ever holds a secret.
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
    """The configuration cannot be used. `details` holds every problem found, `problems` the same as text."""

    def __init__(self, details: Iterable[Problem]) -> None:
        self.details = tuple(details)
        self.problems = tuple(str(problem) for problem in self.details)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.details,))


# ------------------------------------------------------------------------------ types of values


class PublishFence(StrEnum):
    """A policy: how strictly a publication insists on the server-side publish fence."""

    AUTO = "auto"
    """The first publication to a branch without the fence brings it along. A server that does not run hooks is warned
    about."""
    REQUIRED = "required"
    """The same, and nothing is published through a server that does not run hooks."""
    OFF = "off"
    """Nothing is brought along, and no server is tried. A fence that is there still works."""


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
    """Staging branches of attempts that are over, as `perago gc` finds them."""
    CACHE = "cache"
    """The cache of objects is kept to its limit."""
    LOGS = "logs"
    """Log files past their time, or too many of them."""


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
"""Characters from which a header of a collector is a secret, whatever its name: `x-honeycomb-team`."""

_taken: dict[str, str] = {}
"""The variables that `take_from_environment` took."""


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
    """Move variables out of the environment of this process, so that no process that it starts inherits them. They
    stay part of the configuration. Before the first thread: C libraries read the environment without a lock."""
    _taken.update({name: os.environ.pop(name) for name in names})


def whole_environment() -> dict[str, str]:
    """The environment of this process with what was taken from it."""
    return {**_taken, **os.environ}


def configured_mask() -> Mask:
    """Strike out the configured secrets, those in addresses too. Works with an invalid configuration."""
    return Mask(secret for name, value in read_sources().values.items() for secret in _secrets_of(name, value))


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
    elif fnmatchcase(name, "OTEL_EXPORTER_OTLP_*ENDPOINT"):
        yield from (value.rpartition("@")[0].partition("//")[2], value.partition("?")[2], *secrets_in(value))


def mask_secrets(text: str) -> str:
    """`text`, which others wrote, such as a task module at import, with the configured secrets struck out."""
    return configured_mask()(text)


def _read_dotenv(path: Path) -> DotEnv:
    if path.is_dir() or not os.path.lexists(path):  # a directory of that name is a virtual environment
        return DotEnv()
    if not path.is_file():  # passing over settings that a user relies on would be worse than stopping
        what = f"is a symlink to {path.readlink()}, which is no file" if path.is_symlink() else "is not a file"
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
            problems.append(_bad_line(line))
            continue
        readable.append(original)
        if binding.key is not None:
            lines[binding.key] = line
    values = dotenv_values(stream=io.StringIO("".join(readable)))
    return DotEnv({name: value for name, value in values.items() if value}, lines, tuple(problems))


def _bad_line(line: int) -> Problem:
    fix = "Write NAME=value, put values with blanks or # into quotes, and close every quote."
    return Problem(DOTENV, f"{DOTENV}:{line}", "this line cannot be understood", fix)
