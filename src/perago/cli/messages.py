"""Messages on standard error, and the exit codes of commands."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, TextIO

from perago.failure import Failure
from perago.processes import sigint_noted
from perago.text import lines_of

if TYPE_CHECKING:
    from perago.ports import ServiceError
    from perago.settings import LogFormat, Problem


_LONGEST = 200_000
"""The largest number of characters of one message."""
_CREDENTIALS = {
    "Conductor": "CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET",
    "lakeFS": "LAKECTL_CREDENTIALS_ACCESS_KEY_ID and LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
}

_debug_given = False
_log_format: LogFormat | None = None


class ExitCode(IntEnum):
    """The exit codes of every command. docs/cli.md explains them to users."""

    OK = 0
    """The command succeeded, or a worker that was asked to stop has drained."""
    FAILURE = 1
    """The command failed for a reason that has no code of its own."""
    USAGE = 2
    """The command line is wrong, or the command does not exist on this system."""
    INVALID_MODULE = 3
    """A task module cannot be imported, or its declaration is not valid."""
    INVALID_CONFIGURATION = 4
    """The environment, `.env` or a root directory is not valid."""
    UNREACHABLE = 5
    """Conductor or lakeFS does not answer, or does not accept the credentials."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
    TERMINATED = 143
    """Ended by SIGTERM."""


class CommandError(Failure):
    """Ends a command with `exit_code`. Without a message, everything has been reported already."""

    def __init__(self, exit_code: ExitCode, message: str = "", fix: str = "") -> None:
        super().__init__(message, fix)
        self.exit_code = exit_code


class Colour(StrEnum):
    """ANSI codes of text; colors are bold."""

    RED = "1;31"
    GREEN = "1;32"
    YELLOW = "1;33"
    CYAN = "1;36"
    BOLD = "1"
    DIM = "2"


def painted(text: str, colour: Colour, stream: TextIO) -> str:
    """Return `text` in a color if `stream` is a terminal that shows colors and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{colour.value}m{text}\x1b[0m"


def error(message: str, fix: str = "") -> None:
    """Report an error. `message` can have several lines; `fix` says what to do."""
    _write("error", Colour.RED, f"{message}\n  fix: {fix}" if fix else message)


def warning(message: str) -> None:
    """Report something that looks wrong. The command continues."""
    _write("warning", Colour.YELLOW, message)


def warning_text(message: str) -> str:
    """Return a warning without its line end, for code that must not wait for the reader of standard error."""
    return _text("warning", Colour.YELLOW, message)


def note_text(message: str) -> str:
    """Return a note without its line end."""
    return _text("note", Colour.CYAN, message)


def note(message: str) -> None:
    """Report something that is good to know."""
    _write("note", Colour.CYAN, message)


def traceback(text: str) -> None:
    """Print a traceback, indented like the further lines of a message."""
    if _log_format is not None:
        _write("error", Colour.RED, text)
        return
    sys.stderr.write(f"  {_indented(text.rstrip())}\n")


def configuration_errors(problems: Sequence[Problem]) -> None:
    """Report every problem of the configuration, one below the other."""
    error("\n  ".join(["the configuration is not valid", *map(str, problems)]))


def service_words(problem: ServiceError) -> str:
    """Describe in one sentence what a service did not do."""
    from perago.ports import AccessDenied, Forbidden

    if isinstance(problem, Forbidden):
        return f"{problem.service} does not permit these credentials to {problem.operation}: {problem.detail}"
    if isinstance(problem, AccessDenied):
        asked = "" if problem.operation == "answer" else f" when asked to {problem.operation}"
        return f"{problem.service} rejects the credentials{asked}: {problem.detail}"
    return f"{problem.service} did not {problem.operation}: {problem.detail}"


def write_as(form: LogFormat) -> None:
    """Write messages as lines of a log from now on."""
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
    """Indent all lines but the first, so that no text from outside looks like a message."""
    return "\n  ".join(line.removeprefix("  ") for line in lines_of(text, _LONGEST))


def remember_debug(is_set: bool) -> None:
    """Note that `--debug` was given, before or after the command."""
    global _debug_given
    _debug_given = _debug_given or is_set


def tracebacks_wanted() -> bool:
    """Whether to show tracebacks."""
    return _debug_given


# ------------------------------------------------------------------------------------- errors of commands


@contextlib.contextmanager
def error_boundary() -> Iterator[None]:
    """Run a command in this block. Exceptions become a message and the exit status of this process.

    Usage errors and orderly exits belong to Typer and pass through.
    """
    try:
        with sigint_noted():
            yield
            sys.stdout.flush()
    except KeyboardInterrupt:
        # If the interrupt hit code made from text (a dataclass), Python remembers it and ends by SIGINT after all,
        # which a shell shows as the same 130.
        error("interrupted")
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:  # the reader of the output has closed it
        _drop_unwritable_output()
        raise SystemExit(ExitCode.FAILURE) from None
    except Exception as raised:
        # Usage errors and `Exit` of Typer. New versions have their own copy of Click, so the module tells the class.
        if type(raised).__module__.partition(".")[0] in ("typer", "click"):
            raise
        if _debug_given:
            from traceback import format_exception

            from perago.settings import mask_secrets

            traceback(mask_secrets("".join(format_exception(raised))))
        _drop_unwritable_output()
        raise SystemExit(_report(raised)) from None


def _report(raised: Exception) -> ExitCode:
    """Print what happened, and return the exit code."""
    if isinstance(raised, CommandError):
        if raised.message:
            error(raised.message, raised.fix)
        return raised.exit_code
    if isinstance(raised, Failure):
        error(raised.message, raised.fix)
        return ExitCode.FAILURE
    if isinstance(raised, OSError) and raised.strerror:
        error(f"{raised.filename}: {raised.strerror}" if raised.filename else raised.strerror)
        return ExitCode.FAILURE

    from perago.authoring import TaskDefinitionError
    from perago.ports import AccessDenied, ServiceError, Unavailable
    from perago.settings import ConfigurationError, mask_secrets

    match raised:
        case TaskDefinitionError():
            error(str(raised))
            return ExitCode.INVALID_MODULE
        case ConfigurationError():
            configuration_errors(raised.details)
            return ExitCode.INVALID_CONFIGURATION
        case ServiceError():
            error(service_words(raised), advice(raised))
            return ExitCode.UNREACHABLE if isinstance(raised, Unavailable | AccessDenied) else ExitCode.FAILURE
    what = mask_secrets(f"unexpected {type(raised).__name__}: {raised}")
    error(what, "run it again with --debug to see the traceback")
    return ExitCode.FAILURE


def _drop_unwritable_output() -> None:
    """Point standard output elsewhere if nobody reads it, so that Python's last flush does not fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _origins(*variables: str) -> str:
    """Return where these variables were set, in parentheses, such as ` (.env:4)`; empty if none of them is set."""
    from perago.settings.sources import read_sources

    sources = read_sources()
    places = ", ".join(dict.fromkeys(filter(None, map(sources.origin, variables))))
    return f" ({places})" if places else ""


def advice(problem: ServiceError) -> str:
    """Return what to do about a service that did not answer as expected; empty if there is no advice."""
    from perago.ports import AccessDenied, Forbidden, RateLimited, Unavailable, Untrusted
    from perago.settings import ConfigurationError, load_settings

    try:
        settings = load_settings()
    except ConfigurationError:
        return ""
    if problem.service == "Conductor" and settings.conductor is not None:
        where = f"CONDUCTOR_SERVER_URL={settings.conductor.shown}"
        if not where.endswith("/api") and "status 404" in problem.detail:
            set_in = _origins("CONDUCTOR_SERVER_URL")
            return f"add /api to the address, because Conductor's API is usually below it: {where}/api{set_in}"
    elif problem.service == "lakeFS" and settings.lakefs is not None:
        where = f"LAKECTL_SERVER_ENDPOINT_URL={settings.lakefs.shown}"
    else:
        return ""
    where += _origins(where.partition("=")[0])
    if isinstance(problem, Forbidden):
        return f"ask an administrator of lakeFS for it ({where}); perago help deploy has policies"
    if isinstance(problem, AccessDenied):
        credentials = _CREDENTIALS[problem.service]
        return f"check that {credentials}{_origins(*credentials.split(' and '))} belong to {where}"
    if isinstance(problem, RateLimited):
        return f"wait, or raise the request limit of the server or of a proxy in front of it: {where}"
    if isinstance(problem, Untrusted):
        from perago.settings.network import ca_bundle

        trusted = ca_bundle() or "the file that SSL_CERT_FILE or REQUESTS_CA_BUNDLE names"
        return f"check the host and the expiry of its certificate, and that {trusted} has its authority: {where}"
    if isinstance(problem, Unavailable):
        return f"check that the server runs and that the address is right: {where}"
    return ""
