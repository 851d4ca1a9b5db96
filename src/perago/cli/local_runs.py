"""Ports of pages on this machine, and debuggers of functions that run in this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from perago.cli import messages
from perago.cli.parameters import FRIENDLY_PORT
from perago.failure import Failure

if TYPE_CHECKING:
    from perago.history.running import Debugging

_EMBEDDED = ("starlette", "uvicorn", "jinja2")
"""Packages of the extra `embedded` that serving needs."""


def require_embedded(command: str) -> None:
    """Raise a Failure unless the extra `embedded` is installed."""
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        message = f"perago {command} serves over HTTP, but {' and '.join(missing)} cannot be found"
        raise Failure(message, f"pip install {' '.join(missing)}")


@contextmanager
def held_port(wanted: int | None) -> Iterator[socket.socket]:
    """Listen on 127.0.0.1 first, so that a taken port is reported early.

    Args:
        wanted: the port; 0 for any free one, None for the friendly one or any free one.

    Raises:
        Failure: the wanted port is taken.
    """
    from perago.embedded.http.loopback import bound

    try:
        held = bound(FRIENDLY_PORT if wanted is None else wanted)
    except OSError as error:
        if wanted is not None:
            fix = "stop the program that uses it, choose another port, or let perago choose one with --port 0"
            raise Failure(f"port {wanted} cannot be used: {error.strerror}", fix) from error
        messages.note(f"port {FRIENDLY_PORT} is taken; perago uses a free one")
        held = bound()
    with held:
        yield held


def debugging_of(files: Sequence[str], params: str | None, *, pdb: bool) -> Debugging | None:
    """Return how the function runs in this process, with the terminal; None if it runs in a worker process.

    Args:
        files: the module's source files, which can have a breakpoint.
        params: the value of `--params`.
        pdb: whether a debugger was asked for.

    Raises:
        typer.BadParameter: standard input cannot be both the params and the debugger's terminal.
    """
    from perago.history.running import Debugging, breakpoint_in

    place = breakpoint_in(files)
    if not pdb and place is None:
        return None
    if params == "-":
        raise typer.BadParameter("the debugger needs standard input; use @FILE.", param_hint="'--params'")
    if not pdb:
        messages.note(f"the task runs in this process, because of the breakpoint at {place}")
    return Debugging(post_mortem=pdb, all_frames=messages.tracebacks_wanted())
