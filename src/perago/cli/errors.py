"""How a command ends that did not work: its exit code and its message (docs/design/contract.md 5)."""

from __future__ import annotations

from enum import IntEnum


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


class CommandError(Exception):
    """Ends a command with `exit_code`. Without a message everything has been said already."""

    def __init__(self, exit_code: ExitCode, message: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.fix = fix
