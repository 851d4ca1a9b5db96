"""What `perago dev` does, from the first look at the modules to the end of the last process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perago.cli.boundary import CommandError
from perago.cli.dev.seeding import seed
from perago.cli.dev.session import Session
from perago.cli.dev.workflows import BRANCH, REPOSITORY
from perago.cli.exit_codes import ExitCode
from perago.cli.extras import require_embedded
from perago.cli.probe import probing
from perago.cli.render import messages
from perago.cli.render import modules as render
from perago.cli.running import valid_settings
from perago.cli.signals import sigterm_unwinds

if TYPE_CHECKING:
    from perago.cli.probe import Probed
    from perago.embedded.http.services import EmbeddedServices
    from perago.settings import Settings

FRIENDLY_PORT = 7777
LONGEST_POLL = 0.5
"""Seconds: what a worker that has nothing to do may still take to notice that it is to stop."""


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What was asked for on the command line."""

    modules: tuple[str, ...]
    workspace: Path | None
    slots: int
    port: int | None
    """0 for any, None for the friendly one or any."""
    state: Path | None
    import_limit: float


def develop(options: DevOptions) -> int:
    """Serve, run workers and reload them until told to stop; returns the exit code.

    Raises:
        CommandError: modules, configuration, workspace, port or state cannot be used; nothing was started.
    """
    begun = time.monotonic()
    require_embedded("dev")
    if options.workspace is not None and not options.workspace.is_dir():
        raise typer.BadParameter(f"--workspace {options.workspace} is not a directory.")
    with sigterm_unwinds(), _held_port(options.port) as held:
        probed, settings = _valid_modules(options)
        from perago.console import console_of
        from perago.embedded.http.services import EmbeddedServices

        samples: dict[str, Any] = {}
        services = EmbeddedServices(
            held=held,
            page=partial(console_of, worker_logs=settings.log_root, samples=samples),
            state=options.state,
            on_problem=messages.warning,
            longest_poll=LONGEST_POLL,
        )
        with _entered(services):
            seed(services, options.workspace)
            environment = _environment(services, settings.allowed_workspaces)
            session = Session(services, probed, options.slots, environment, options.import_limit, samples)
            return session.run(begun, options.state)


@contextmanager
def _entered(services: EmbeddedServices) -> Iterator[None]:
    """Serve, or say why the state cannot be used."""
    from perago.embedded.persistence import StateError

    with ExitStack() as stack:
        try:
            stack.enter_context(services)
        except StateError as error:
            raise CommandError(ExitCode.FAILURE, f"--state: {error}") from error
        yield


def _valid_modules(options: DevOptions) -> tuple[Sequence[Probed], Settings]:
    with probing(options.modules, options.import_limit, packages=True) as results:
        settings = valid_settings()
        import perago.embedded.http.services  # noqa: F401 - while the child processes are busy

        probed = results()
    if not render.report(probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    return probed, settings


@contextmanager
def _held_port(wanted: int | None) -> Iterator[socket.socket]:
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


def _environment(services: EmbeddedServices, allowed_workspaces: tuple[str, ...] | None) -> Mapping[str, str]:
    """The environment of the workers: ours, but with these services, and no proxy on the way to them. Its own branch is
    one that they may always work on. They write no bytecode, which might be of a file that is being edited."""
    bypassed = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1")))
    own = {**services.environment(), "no_proxy": bypassed, "NO_PROXY": bypassed, "PYTHONDONTWRITEBYTECODE": "1"}
    if allowed_workspaces is not None:
        own["PERAGO_ALLOWED_WORKSPACES"] = ",".join((*allowed_workspaces, f"{REPOSITORY}/{BRANCH}"))
    return {**os.environ, **own}
