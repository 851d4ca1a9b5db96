"""`perago dev` and `perago console`: show embedded services or the configured servers on a page."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.loading import able_to_run, importing, report, valid_settings
from perago.cli.messages import Colour, CommandError, ExitCode, painted
from perago.cli.parameters import FRIENDLY_PORT, IMPORT_LIMIT, Modules, Port, Timeout, Utc, option
from perago.cli.rendering import Renderer
from perago.dev import BRANCH, REPOSITORY, head, seed
from perago.failure import Failure
from perago.processes import heard, sigterm_unwinds
from perago.text import count, one_line, short

if TYPE_CHECKING:
    from perago.embedded.services import EmbeddedServices
    from perago.probe import Probed, TaskSummary, WorkflowSummary
    from perago.settings import Settings


LONGEST_POLL = 0.5
"""Seconds after which an idle worker notices that it must stop."""

EXAMPLES = {
    "dev": """\b
Examples:
  perago dev my_tasks.features
  perago dev my_tasks.clean my_tasks.features -w ./sample
  perago dev my_tasks.features -w ./sample --state .perago-dev   kept for the next time

Paste the printed lines into another terminal, and open the page to see what
happens. Edit a module, and its worker restarts when no attempt is running.
Ctrl-C lets running attempts finish; a second one cancels them.""",
    "console": """\b
The pages only read. The printed address contains a token, and opens on this
machine only. To open it from another machine, forward the port (ssh -L).

\b
Examples:
  perago console
  perago console --port 0""",
}


def dev(
    modules: Modules,
    workspace: Annotated[
        Path | None,
        option("--workspace -w DIR", "Files to commit to branch main of the repository dev. perago only reads DIR."),
    ] = None,
    jobs: Annotated[int, option("--jobs -j N", "Attempts at a time, for each module.", min=1, max=99)] = 1,
    port: Port = None,
    state: Annotated[
        Path | None,
        option("--state DIR", "Keep everything in DIR, and continue from there the next time. Default: keep nothing."),
    ] = None,
    curl: Annotated[
        bool, option("--curl", "Print lines for curl, too, which start a workflow on the current commit.")
    ] = False,
    utc: Utc = False,  # noqa: ARG001 - its callback has the effect
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Develop task modules on an embedded Conductor and lakeFS.

    Starts both on this machine with a page to watch them. Registers TaskDefs and workflows, and makes a workflow of
    one task for each task module. Runs real workers, which restart when their module changes. Prints all addresses and
    the lines that start a workflow. It uses no other server, even if one is configured.
    """
    begun = time.monotonic()
    from perago.embedded.services import EmbeddedServices, require_embedded

    require_embedded("dev")
    from perago.embedded.http.loopback import held_port

    if workspace is not None and not workspace.is_dir():
        raise typer.BadParameter(f"--workspace {workspace} is not a directory.")
    with sigterm_unwinds(), held_port(port, FRIENDLY_PORT, messages.note) as held:
        probed, settings = _valid_modules(modules, timeout)
        from perago.console import console_of
        from perago.dev import Session
        from perago.embedded.persistence import StateError

        samples: dict[str, Any] = {}
        page = partial(console_of, worker_logs=settings.log_root, samples=samples)
        services = EmbeddedServices(
            held=held, page=page, state=state, on_problem=messages.warning, longest_poll=LONGEST_POLL
        )
        with ExitStack() as stack:
            try:
                stack.enter_context(services)
            except StateError as error:
                raise Failure(f"--state: {error}") from error
            seed(services, workspace)
            environment = _environment(services, settings.allowed_workspaces)
            view = DevView([module.module for module in probed], curl=curl)
            session = Session(services, probed, jobs, environment, timeout, samples, view)

            def show_ready() -> None:
                view.ready(services, begun, state)
                session.show_starts()
                view.page(services.url)

            code = session.run(show_ready)
            view.stopped(state)
    raise typer.Exit(code)


def console(port: Port = None, utc: Utc = False) -> None:  # noqa: ARG001 - its callback has the effect
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


def _valid_modules(modules: Sequence[str], import_limit: float) -> tuple[Sequence[Probed], Settings]:
    from perago.probe import probing

    with probing(modules, import_limit, packages=True, workflows=True, waiting=importing) as results:
        settings = valid_settings(local=True)
        import perago.embedded.services  # noqa: F401 - while the child processes are busy

        probed = able_to_run(results())
    if not report(probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    return probed, settings


def _environment(services: EmbeddedServices, allowed_workspaces: tuple[str, ...] | None) -> Mapping[str, str]:
    """Return the environment of the workers: this process's own with these services, without a proxy for them, and with
    the branch of `dev` allowed. Workers write no bytecode, because it could be that of a file in the middle of an
    edit."""
    from perago.authoring.task import asked_for
    from perago.settings import whole_environment

    bypassed = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1")))
    own = {**services.environment(), "no_proxy": bypassed, "NO_PROXY": bypassed, "PYTHONDONTWRITEBYTECODE": "1"}
    own["PERAGO_CACHE_MAX_BYTES"] = "0"  # lakeFS is on this machine: a cache would only be a second copy
    if allowed_workspaces is not None:
        own["PERAGO_ALLOWED_WORKSPACES"] = ",".join((*allowed_workspaces, f"{REPOSITORY}/{BRANCH}"))
    return {**os.environ, **asked_for(whole_environment(), ["OTEL_*"]), **own}


class DevView:
    """Prints to standard output. Lines about a module begin with its shortest unambiguous name."""

    def __init__(self, modules: Sequence[str], *, curl: bool) -> None:
        self._curl = curl
        self._out = Renderer()
        names = [module.rpartition(".")[2] for module in modules]
        if len(set(names)) < len(names):
            names = list(modules)
        width, colours = max(map(len, names)), cycle((Colour.CYAN, Colour.GREEN, Colour.YELLOW))
        prefixes = [painted(f"{name:{width}} |", next(colours), sys.stdout) for name in names]
        self._prefixes = dict(zip(modules, prefixes, strict=True))

    def starting(self, workers: int) -> None:
        """Show that workers are starting, on a terminal until `ready` or `stopping`."""
        text = f"starting {count(workers, 'worker')}"
        self._write(text)
        self._out.begin(f"{text}: importing their modules")

    def ready(self, services: EmbeddedServices, begun: float, state: Path | None) -> None:
        """Show that the services run and all workers poll.

        Args:
            services: the services.
            begun: the start time, by the monotonic clock.
            state: the directory of `--state`, if it was given.
        """
        self._out.end()
        title = painted(f"perago dev is ready after {time.monotonic() - begun:.2f} s", Colour.GREEN, sys.stdout)
        storage = f"kept in {state}" if state is not None else "deleted at the end; --state DIR keeps it"
        lines = [
            f"{title}, Ctrl-C ends it",
            "",
            f"  Conductor   {services.conductor_url}",
            f"  lakeFS      {services.lakefs_url}  repository {REPOSITORY}, branch {BRANCH} at {short(head(services))}",
            f"  everything  {storage}",
            "",
            "For perago, lakectl and curl in other terminals (these keys work for nothing else):",
            *(f"  export {name}={shlex.quote(value)}" for name, value in services.environment().items()),
        ]
        self._write("\n".join(lines))

    def start(self, task: TaskSummary, once: str, always: str) -> None:
        """Print how to start a workflow at any time, and with curl now."""
        origin = "the parameters of its first example" if task.example is not None else "parameters to fill in"
        newest = "" if task.workspace is None else f", on the newest commit of {BRANCH}"
        text = f"\nStart {task.name} with {origin}{newest}, with the variables above:\n  {always}"
        if self._curl:
            text += f"\nor, without them{', on its current commit' if newest else ''}:\n  {once}"
        self._write(text)

    def start_workflow(self, flow: WorkflowSummary, line: str) -> None:
        """Print how a workflow that the module declares is started."""
        self._write(f"\nStart workflow {flow.name} version {flow.version}, with the variables above:\n  {line}")

    def page(self, url: str) -> None:
        """Print the address of the page."""
        self._write(f"\n  page        {url}/")

    def line(self, module: str, text: str) -> None:
        """Show one line about a module."""
        self._write(f"{self._prefixes[module]} {one_line(text)}")

    def stopping(self, signals: int) -> None:
        """Show the reaction to the first, second or third signal."""
        self._out.end()
        texts = ("stopping; running attempts may finish; Ctrl-C again cancels", "canceling; Ctrl-C again kills")
        self._write(texts[signals - 1] if signals <= len(texts) else "killing")

    def problem(self, probed: Probed) -> None:
        """Show why a module cannot be used."""
        self._out.end()
        report([probed])

    def stopped(self, state: Path | None) -> None:
        """Show that everything has ended."""
        self._out.end()
        self._write("stopped" if state is None else f"stopped; everything is in {state}")

    def _write(self, text: str) -> None:
        """Print. A reader that closes the output does not stop the command."""
        try:
            self._out.line(text)
        except OSError:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for good
            self._out = Renderer()
