"""`perago dev`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.configuration import valid_settings
from perago.cli.dev.workflows import BRANCH, REPOSITORY, seed
from perago.cli.errors import CommandError, ExitCode
from perago.cli.loading import able_to_run, report
from perago.cli.local_services import held_port, require_embedded
from perago.cli.parameters import IMPORT_LIMIT, Modules, Port, Timeout
from perago.failure import Failure
from perago.signals import sigterm_unwinds

if TYPE_CHECKING:
    from perago.embedded.services import EmbeddedServices
    from perago.probe import Probed
    from perago.settings import Settings


LONGEST_POLL = 0.5
"""Seconds: what a worker that has nothing to do may still take to notice that it is to stop."""

EXAMPLES = """\b
Examples:
  perago dev my_tasks.features
  perago dev my_tasks.clean my_tasks.features -w ./sample
  perago dev my_tasks.features -w ./sample --state .perago-dev   to be continued

Then paste the curl line that it prints, and open the page to see what happens.
Edit a module: its worker is restarted when no attempt is running. Ctrl-C lets
running attempts finish, a second one cancels them."""


def command(
    modules: Modules,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            metavar="DIR",
            show_default=False,
            help="Files to commit to branch main of the repository dev; DIR is only read.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, max=99, help="Attempts at a time, for each module.")
    ] = 1,
    port: Port = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            show_default=False,
            help="Keep everything in DIR and go on from there the next time. Default: nothing is kept.",
        ),
    ] = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Develop task modules on an embedded Conductor and lakeFS.

    Starts both on this machine with a page to watch them, registers the TaskDefs, makes a workflow of one task
    for every module, and runs real workers, which are restarted when their module changes. Prints where everything
    is and the lines that start a workflow. It speaks to no other server, even if one is configured.
    """
    begun = time.monotonic()
    require_embedded("dev")
    if workspace is not None and not workspace.is_dir():
        raise typer.BadParameter(f"--workspace {workspace} is not a directory.")
    with sigterm_unwinds(), held_port(port) as held:
        probed, settings = _valid_modules(modules, timeout)
        from perago.cli.dev.session import Session
        from perago.console import console_of
        from perago.embedded.services import EmbeddedServices

        samples: dict[str, Any] = {}
        services = EmbeddedServices(
            held=held,
            page=partial(console_of, worker_logs=settings.log_root, samples=samples),
            state=state,
            on_problem=messages.warning,
            longest_poll=LONGEST_POLL,
        )
        with _entered(services):
            seed(services, workspace)
            environment = _environment(services, settings.allowed_workspaces)
            session = Session(services, probed, jobs, environment, timeout, samples)
            code = session.run(begun, state)
    raise typer.Exit(code)


@contextmanager
def _entered(services: EmbeddedServices) -> Iterator[None]:
    """Serve, or say why the state cannot be used."""
    from perago.embedded.persistence import StateError

    with ExitStack() as stack:
        try:
            stack.enter_context(services)
        except StateError as error:
            raise Failure(f"--state: {error}") from error
        yield


def _valid_modules(modules: Sequence[str], import_limit: float) -> tuple[Sequence[Probed], Settings]:
    from perago.probe import probing

    with probing(modules, import_limit, packages=True) as results:
        settings = valid_settings()
        import perago.embedded.services  # noqa: F401 - while the child processes are busy

        probed = able_to_run(results())
    if not report(probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    return probed, settings


def _environment(services: EmbeddedServices, allowed_workspaces: tuple[str, ...] | None) -> Mapping[str, str]:
    """The environment of the workers: ours, but with these services, and no proxy on the way to them. Its own branch is
    one that they may always work on. They write no bytecode, which might be of a file that is being edited."""
    from perago.authoring.task import asked_for
    from perago.settings import whole_environment

    bypassed = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1")))
    own = {**services.environment(), "no_proxy": bypassed, "NO_PROXY": bypassed, "PYTHONDONTWRITEBYTECODE": "1"}
    own["PERAGO_CACHE_MAX_BYTES"] = "0"  # lakeFS is on this machine: a cache would only be a second copy
    if allowed_workspaces is not None:
        own["PERAGO_ALLOWED_WORKSPACES"] = ",".join((*allowed_workspaces, f"{REPOSITORY}/{BRANCH}"))
    return {**os.environ, **asked_for(whole_environment(), ["OTEL_*"]), **own}
