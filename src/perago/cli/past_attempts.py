"""Name past attempts on a command line, and find them on the configured servers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.loading import load_task_to_run
from perago.cli.parameters import checked_module
from perago.failure import Failure
from perago.text import listing

if TYPE_CHECKING:
    from perago.configuration import Servers
    from perago.history.attempts import Past, PastAttempt
    from perago.history.replay import Replayable
    from perago.probe import TaskSummary


TaskId = Annotated[
    str | None, typer.Argument(metavar="TASK_ID", show_default=False, help="The id of the attempt in Conductor.")
]
OptionalModule = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE",
        show_default=False,
        help="Import path of the task module. Default: the one below the current directory that declares the task.",
    ),
]
Workflow = Annotated[
    str | None,
    typer.Option("--workflow", metavar="ID", show_default=False, help="Instead of TASK_ID: the id of a workflow."),
]
StepName = Annotated[
    str | None,
    typer.Option(
        "--step", metavar="REF", show_default=False, help="With --workflow: the reference name; its last attempt."
    ),
]


@dataclass(frozen=True, slots=True)
class Named:
    """An attempt as a command line names it: by its task id, or by a workflow and a step of it.

    `module` is None where it is to be looked for; importing it may take `import_limit` seconds.
    """

    task_id: str | None
    module: str | None
    workflow: str | None
    step: str | None
    import_limit: float

    def checked(self) -> Named:
        """The same, with the module in its place: where a workflow is named, it is the first argument.

        Raises:
            typer.BadParameter: no attempt is named, or more than one.
        """
        named = self
        if self.workflow is not None and self.task_id is not None and self.module is None:
            named = replace(self, task_id=None, module=self.task_id)
        if (named.task_id is None) == (named.workflow is None) or (named.workflow is None) != (named.step is None):
            raise typer.BadParameter("name an attempt: its TASK_ID, or --workflow ID --step REF.")
        return named

    def find(self, servers: Servers) -> tuple[Replayable, Past, tuple[str, ...]]:
        """Look up the attempt and its task of today, and return both with the source files of the module.

        Raises:
            typer.BadParameter: the module declares another task.
            CommandError: the module is not valid.
            Failure: several modules might be meant, or the attempt cannot be run again.
            ServiceError: a server did not answer.
        """
        from perago.history.attempts import find_attempt, find_step

        if self.task_id is not None:
            attempt = find_attempt(servers.workflows, self.task_id)
        else:
            attempt = find_step(servers.workflows, str(self.workflow), str(self.step))
        name = module_of(attempt.task_name) if self.module is None else checked_module(self.module)
        task, files = load_task_to_run(name, self.import_limit)
        return *look_up(servers, attempt, name, task), files


def look_up(servers: Servers, attempt: PastAttempt, module: str, task: TaskSummary) -> tuple[Replayable, Past]:
    """Match an attempt with its task of today, warn of breaking changes since, and read what lakeFS has of it.

    Raises:
        typer.BadParameter: the module declares another task.
        NotReplayable: the attempt cannot be run again.
        ServiceError: lakeFS did not answer.
    """
    from perago.history.replay import Replayable

    if task.name != attempt.task_name:
        raise typer.BadParameter(f"{module} declares {task.name}, but the attempt is one of {attempt.task_name}.")
    found = Replayable.matched(attempt, module, task)
    past = found.look_up(servers)
    for line in found.breaking_changes():
        messages.warning(f"the TaskDef has changed since in a way that breaks running workflows: {line}")
    return found, past


def module_of(task_name: str) -> str:
    """Return the module below the current directory that declares a task.

    Raises:
        Failure: no module does, or more than one.
    """
    from perago.history.search import modules_that_declare

    found = modules_that_declare(task_name, Path.cwd())
    if len(found) == 1:
        return found[0]
    words = f"several modules declare it: {listing(list(found))}" if found else "no module here declares it"
    raise Failure(f"the attempt is one of {task_name}, and {words}", "name the MODULE")
