"""The port of a page on this machine: held before anything else is done, so that it is said early if it is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode
from perago.cli.parameters import FRIENDLY_PORT


@contextmanager
def held_port(wanted: int | None) -> Iterator[socket.socket]:
    """A socket that listens on 127.0.0.1.

    Args:
        wanted: the port; 0 for any free one, None for the friendly one or any free one.

    Raises:
        CommandError: the port that was wanted is taken.
    """
    from perago.embedded.http.serve import bound

    try:
        held = bound(FRIENDLY_PORT if wanted is None else wanted)
    except OSError as error:
        if wanted is not None:
            fix = "stop what uses it, choose another one, or let perago choose with --port 0"
            raise CommandError(ExitCode.FAILURE, f"port {wanted} cannot be used: {error.strerror}", fix) from error
        messages.note(f"port {FRIENDLY_PORT} is taken, so another one is used")
        held = bound()
    with held:
        yield held
