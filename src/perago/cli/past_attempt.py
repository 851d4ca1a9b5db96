"""A past attempt as the command line names it: by its task id, or by a workflow and its step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.loading import load_task_to_run
from perago.cli.parameters import argument, checked_module, option

if TYPE_CHECKING:
    from perago.configuration import Servers
    from perago.history.attempts import Past, PastAttempt
    from perago.history.replay import Replayable
    from perago.probe import TaskSummary


TaskId = Annotated[str | None, argument("TASK_ID", "The id of the attempt in Conductor.")]
OptionalModule = Annotated[
    str | None,
    argument(
        "MODULE",
        "Import path of the task module. Default: the module below the current directory that declares the task.",
    ),
]
Workflow = Annotated[str | None, option("--workflow ID", "Instead of TASK_ID: the id of a workflow.")]
StepName = Annotated[
    str | None, option("--step REF", "With --workflow: the reference name of a step, for its last attempt.")
]


@dataclass(frozen=True, slots=True)
class NamedAttempt:
    """An attempt as the command line names it: a task id, or a workflow and its step.

    perago looks for the module if it is None. Importing a module may take `import_limit` seconds.
    """

    task_id: str | None
    module: str | None
    workflow: str | None
    step: str | None
    import_limit: float

    def checked(self) -> NamedAttempt:
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
    replayable = Replayable.matched(attempt, module, task)
    past = replayable.look_up(servers)
    for line in replayable.breaking_changes():
        messages.warning(f"since that attempt, the TaskDef has changed in a way that breaks running workflows: {line}")
    return replayable, past
