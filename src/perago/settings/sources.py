"""Where values come from (the environment, then `.env`), and the problems that name their place.

`.env` is parsed by python-dotenv, so quotes, comments, `export` and `${NAME}` mean what they mean everywhere.
What is added here is the line of every variable, because a message without a place makes people search.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from perago.secret_names import looks_secret
from perago.settings.mask import Mask, secrets_in


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


DOTENV = ".env"
SECRET_VARIABLES = ("CONDUCTOR_AUTH_SECRET", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")

ADDRESS_VARIABLES = ("CONDUCTOR_SERVER_URL", "LAKECTL_SERVER_ENDPOINT_URL")

_LONG_HEADER = 8
"""Characters from which a header of a collector is a secret, whatever its name: `x-honeycomb-team`."""

_taken: dict[str, str] = {}
"""What `take_from_environment` took."""


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
    """What the environment and the current directory's `.env` say now. A `.env` further up is not searched."""
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
