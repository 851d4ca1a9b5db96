"""Ports, directories and debuggers of the commands that run attempts or serve pages on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
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
    """Make sure that services can be served over HTTP.

    Raises:
        Failure: the extra `embedded` is not installed.
    """
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        message = f"perago {command} serves over HTTP, but {' and '.join(missing)} cannot be found"
        raise Failure(message, f"pip install {' '.join(missing)}")


@contextmanager
def held_port(wanted: int | None) -> Iterator[socket.socket]:
    """Listen on 127.0.0.1 before anything else is done, so that a taken port is reported early.

    Args:
        wanted: the port; 0 for any free one, None for the friendly one or any free one.

    Raises:
        Failure: the port that was wanted is taken.
    """
    from perago.embedded.http.loopback import bound

    try:
        held = bound(FRIENDLY_PORT if wanted is None else wanted)
    except OSError as error:
        if wanted is not None:
            fix = "stop what uses it, choose another one, or let perago choose with --port 0"
            raise Failure(f"port {wanted} cannot be used: {error.strerror}", fix) from error
        messages.note(f"port {FRIENDLY_PORT} is taken, so another one is used")
        held = bound()
    with held:
        yield held


def check_output(output: Path | None) -> None:
    """Refuse a directory that has something in it.

    Raises:
        typer.BadParameter: nothing may be overwritten.
    """
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(f"--output {output} exists and is not an empty directory; nothing was run.")


def note_tree(output: Path | None, commit: str | None) -> None:
    """Report whether the published tree was written to `--output`. `commit` is what was published."""
    if output is not None:
        written = f"wrote the published tree to {output}"
        messages.note(written if commit else f"nothing was published, so {output} was not written")


def debugging_of(files: Sequence[str], params: str | None, *, pdb: bool) -> Debugging | None:
    """Return how the function runs in this process, with the terminal; None if it runs in a worker process.

    Args:
        files: the module's source files, which may have a breakpoint.
        params: as `--params` takes them.
        pdb: a debugger was asked for.

    Raises:
        typer.BadParameter: it should run here, but standard input had the params.
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
