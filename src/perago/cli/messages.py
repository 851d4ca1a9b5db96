"""Messages for people, on standard error; colours, and whether `--debug` asks for tracebacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from perago.text import one_line

if TYPE_CHECKING:
    from perago.ports import ServiceError
    from perago.settings import LogFormat, Problem


_LONGEST = 200_000
"""Characters of one message."""


_debug_given = False
_log_format: LogFormat | None = None


class Colour(StrEnum):
    """ANSI codes of text; colors are bold."""

    RED = "1;31"
    GREEN = "1;32"
    YELLOW = "1;33"
    CYAN = "1;36"
    BOLD = "1"
    DIM = "2"


def painted(text: str, colour: Colour, stream: TextIO) -> str:
    """`text` in `colour` if `stream` is a terminal that shows colours and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{colour.value}m{text}\x1b[0m"


def error(message: str, fix: str = "") -> None:
    """Something is wrong. `message` may have further lines; `fix` says what to do."""
    _write("error", Colour.RED, f"{message}\n  fix: {fix}" if fix else message)


def warning(message: str) -> None:
    """Something looks wrong but is carried on with."""
    _write("warning", Colour.YELLOW, message)


def warning_text(message: str) -> str:
    """A warning as it is written, without its end: for what may not wait for the reader of standard error."""
    return _text("warning", Colour.YELLOW, message)


def note(message: str) -> None:
    """Something worth knowing."""
    _write("note", Colour.CYAN, message)


def traceback(text: str) -> None:
    """A traceback, indented like the further lines of a message."""
    if _log_format is not None:
        _write("error", Colour.RED, text)
        return
    sys.stderr.write(f"  {_indented(text.rstrip())}\n")


def configuration_errors(problems: Sequence[Problem]) -> None:
    """Every problem of the configuration, one below the other."""
    error("\n  ".join(["the configuration is not valid", *map(str, problems)]))


def service_words(problem: ServiceError) -> str:
    """Return in one sentence what the service did not do."""
    from perago.ports import AccessDenied

    if isinstance(problem, AccessDenied):
        asked = "" if problem.operation == "answer" else f" when asked to {problem.operation}"
        return f"{problem.service} rejects the credentials{asked}: {problem.detail}"
    return f"{problem.service} did not {problem.operation}: {problem.detail}"


def write_as(form: LogFormat) -> None:
    """From now on messages are lines of a log (docs/workers.md#log-files)."""
    global _log_format
    _log_format = form


_LEVELS = {"error": "ERROR", "warning": "WARNING", "note": "INFO"}


def _write(kind: str, colour: Colour, message: str) -> None:
    sys.stderr.write(f"{_text(kind, colour, message)}\n")
    sys.stderr.flush()


def _text(kind: str, colour: Colour, message: str) -> str:
    if _log_format is None:
        return f"{painted(f'{kind}:', colour, sys.stderr)} {_indented(message)}"
    from perago.worker.logs import rendered, timestamp

    line = {"time": timestamp(), "level": _LEVELS[kind], "pid": os.getpid(), "message": message[:_LONGEST]}
    return rendered(line, _log_format)


def _indented(text: str) -> str:
    """Lines that may hold anything. All but the first are indented, so that none looks like a message of its own."""
    lines = text[:_LONGEST].split("\n")
    cut = [f"… ({len(text):,} characters)"] if len(text) > _LONGEST else []
    return "\n  ".join(one_line(line.removeprefix("  ")) for line in [*lines, *cut])


def remember_debug(given: bool) -> None:
    """Note the option; it may stand before or after the command."""
    global _debug_given
    _debug_given = _debug_given or given


def tracebacks_wanted() -> bool:
    """Whether to show tracebacks."""
    return _debug_given
