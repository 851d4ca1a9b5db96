"""Turn what a command raises into a message on standard error and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

from perago.cli import messages
from perago.failure import Failure
from perago.processes import sigint_noted
from perago.text import one_line

if TYPE_CHECKING:
    from perago.ports import ServiceError


class ExitCode(IntEnum):
    """The exit codes of every command. docs/cli.md explains them to users."""

    OK = 0
    """Done; also a worker that was asked to stop and drained."""
    FAILURE = 1
    """It did not work, for a reason that none of the others names."""
    USAGE = 2
    """The command line is wrong, or the command does not exist on this system."""
    INVALID_MODULE = 3
    """A task module cannot be imported, or what it declares is not valid."""
    INVALID_CONFIGURATION = 4
    """The environment or `.env`; also a root directory that cannot be used."""
    UNREACHABLE = 5
    """Conductor or lakeFS does not answer, or does not accept the credentials."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
    TERMINATED = 143
    """Ended by SIGTERM."""


class CommandError(Failure):
    """Ends a command with `exit_code`. Without a message everything has been reported already."""

    def __init__(self, exit_code: ExitCode, message: str = "", fix: str = "") -> None:
        super().__init__(message, fix)
        self.exit_code = exit_code


_CREDENTIALS = {
    "Conductor": "CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET",
    "lakeFS": "LAKECTL_CREDENTIALS_ACCESS_KEY_ID and LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
}


@contextlib.contextmanager
def error_boundary() -> Iterator[None]:
    """Run a command inside; whatever it raises becomes a message and the exit status of this process.

    Usage errors and orderly exits are Typer's and pass through.
    """
    try:
        with sigint_noted():
            yield
            sys.stdout.flush()
    except KeyboardInterrupt:
        # Where the interrupt met code made from text (a dataclass), Python remembers it and ends by SIGINT after all,
        # which a shell shows as the same 130.
        messages.error("interrupted")
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output is gone, and knows that it is
        _drop_unwritable_output()
        raise SystemExit(ExitCode.FAILURE) from None
    except Exception as error:
        # Usage errors and `Exit` of Typer. Newer versions have their own copy of Click, so the module tells the class.
        if type(error).__module__.partition(".")[0] in ("typer", "click"):
            raise
        if messages.tracebacks_wanted():
            import traceback

            from perago.settings import mask_secrets

            messages.traceback(mask_secrets("".join(traceback.format_exception(error))))
        _drop_unwritable_output()
        raise SystemExit(_report(error)) from None


def _report(error: Exception) -> ExitCode:
    """Print what happened, and return the exit code."""
    if isinstance(error, CommandError):
        if error.message:
            messages.error(error.message, error.fix)
        return error.exit_code
    if isinstance(error, Failure):
        messages.error(one_line(error.message), error.fix)
        return ExitCode.FAILURE

    if isinstance(error, OSError) and error.strerror:
        messages.error(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        return ExitCode.FAILURE

    from perago.authoring import TaskDefinitionError
    from perago.ports import AccessDenied, ServiceError, Unavailable
    from perago.settings import ConfigurationError, mask_secrets

    match error:
        case TaskDefinitionError():
            messages.error(str(error))
            return ExitCode.INVALID_MODULE
        case ConfigurationError():
            messages.configuration_errors(error.details)
            return ExitCode.INVALID_CONFIGURATION
        case ServiceError():
            messages.error(messages.service_words(error), advice(error))
            return ExitCode.UNREACHABLE if isinstance(error, Unavailable | AccessDenied) else ExitCode.FAILURE
    text = mask_secrets(f"unexpected {type(error).__name__}: {error}")
    messages.error(text, "run it again with --debug to see where")
    return ExitCode.FAILURE


def _drop_unwritable_output() -> None:
    """If standard output takes nothing more, point it elsewhere, so that Python's last flush finds no fault."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def advice(error: ServiceError) -> str:
    """Return the advice for the message about `error`; empty where there is nothing to advise."""
    from perago.ports import AccessDenied, Unavailable

    where = _address(error.service)
    if error.service == "Conductor" and where and not where.endswith("/api") and "404" in error.detail:
        return f"the address of Conductor's API usually ends in /api: {where}"
    if not where:
        return ""
    if isinstance(error, AccessDenied):
        return f"check {_CREDENTIALS[error.service]}, and that they belong to {where}"
    if isinstance(error, Unavailable):
        return f"check that the server runs, and that it is the right one: {where}"
    return ""


def _address(service: str) -> str:
    """`VARIABLE=url` of a configured service. The configuration was valid: a service was asked."""
    from perago.settings import ConfigurationError, load_settings

    try:
        settings = load_settings()
    except ConfigurationError:
        return ""
    if service == "Conductor" and settings.conductor is not None:
        return f"CONDUCTOR_SERVER_URL={settings.conductor.shown}"
    if service == "lakeFS" and settings.lakefs is not None:
        return f"LAKECTL_SERVER_ENDPOINT_URL={settings.lakefs.shown}"
    return ""
