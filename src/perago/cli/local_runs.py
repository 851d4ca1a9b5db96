"""Helpers of commands that run attempts or serve pages on this machine: past attempts, debuggers and ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from perago.cli import messages
from perago.cli.loading import load_task_to_run
from perago.cli.parameters import FRIENDLY_PORT, checked_module
from perago.failure import Failure
from perago.records import dataclass, replace

if TYPE_CHECKING:
    from perago.configuration import Servers
    from perago.history.attempts import Past, PastAttempt
    from perago.history.replay import Replayable
    from perago.history.running import Debugging
    from perago.probe import TaskSummary

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


# ---------------------------------------------------------------------------------------- past attempts


@dataclass(frozen=True, slots=True)
class Named:
    """An attempt as the command line names it: a task id, or a workflow and its step.

    perago looks for the module if it is None. Importing a module may take `import_limit` seconds.
    """

    task_id: str | None
    module: str | None
    workflow: str | None
    step: str | None
    import_limit: float

    def checked(self) -> Named:
        """Return the same with the module in its place: after `--workflow`, it is the first argument.

        Raises:
            typer.BadParameter: no attempt is named, or more than one.
        """
        named = self
        if self.workflow is not None and self.task_id is not None and self.module is None:
            named = replace(self, task_id=None, module=self.task_id)
        if (named.task_id is None) == (named.workflow is None) or (named.workflow is None) != (named.step is None):
            raise typer.BadParameter("name an attempt by its TASK_ID, or by --workflow ID --step REF.")
        return named

    def find(self, servers: Servers) -> tuple[Replayable, Past, tuple[str, ...]]:
        """Look up the attempt and today's task. Return both, and the source files of the module.

        Raises:
            typer.BadParameter: the module declares another task.
            CommandError: the module is not valid.
            Failure: no module or several modules declare the task, or the attempt cannot run again.
            ServiceError: a server did not answer.
        """
        from perago.history.attempts import find_attempt, find_step, module_of

        if self.task_id is not None:
            attempt = find_attempt(servers.workflows, self.task_id)
        else:
            attempt = find_step(servers.workflows, str(self.workflow), str(self.step))
        name = module_of(attempt.task_name, Path.cwd()) if self.module is None else checked_module(self.module)
        task, files = load_task_to_run(name, self.import_limit)
        return *look_up(servers, attempt, name, task), files


def look_up(servers: Servers, attempt: PastAttempt, module: str, task: TaskSummary) -> tuple[Replayable, Past]:
    """Match an attempt with today's task, warn of breaking changes, and read its input and publication.

    Raises:
        typer.BadParameter: the module declares another task.
        NotReplayable: the attempt cannot run again.
        ServiceError: lakeFS did not answer.
    """
    from perago.history.replay import Replayable

    if task.name != attempt.task_name:
        raise typer.BadParameter(f"{module} declares {task.name}, but the attempt is one of {attempt.task_name}.")
    found = Replayable.matched(attempt, module, task)
    past = found.look_up(servers)
    for line in found.breaking_changes():
        messages.warning(f"since that attempt, the TaskDef has changed in a way that breaks running workflows: {line}")
    return found, past
