"""`perago console`."""

from __future__ import annotations

import secrets
import signal
import sys
from queue import SimpleQueue

from perago.cli import messages
from perago.cli.messages import Colour, painted
from perago.cli.parameters import FRIENDLY_PORT, Port, Utc
from perago.processes import heard, sigterm_unwinds

EXAMPLES = """\b
The pages only read. The printed address contains a token, and opens on this
machine only. To open it from another machine, forward the port (ssh -L).

\b
Examples:
  perago console
  perago console --port 0"""


def command(port: Port = None, utc: Utc = False) -> None:  # noqa: ARG001 - the callback of `utc` has the effect
    """Show workflows, attempts, publications and files of the configured servers in a browser.

    If a server does not answer, the pages say so and show the data of the other one. Logs and steps of attempts are
    shown if their workers ran on this machine. Ctrl-C ends the console.
    """
    from perago.embedded.services import require_embedded

    require_embedded("console")
    from perago.embedded.http.loopback import held_port, serve
    from perago.settings import load_settings

    settings = load_settings()
    for text in settings.warnings:
        messages.warning(text)
    if settings.lakefs is None:
        settings.require_conductor()
    with sigterm_unwinds(), held_port(port, FRIENDLY_PORT, messages.note) as held:
        from perago.console import console_of_servers

        signals: SimpleQueue[signal.Signals] = SimpleQueue()
        token = secrets.token_urlsafe(16)
        with console_of_servers(settings, token) as app, serve(app, held=held) as url, heard(signals.put):
            title = painted("perago console is ready", Colour.GREEN, sys.stdout)
            sys.stdout.write(f"{title}, Ctrl-C ends it\n\n  page  {url}/{token}/\n")
            sys.stdout.flush()
            signals.get()
