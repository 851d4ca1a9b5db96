"""Attempts of the past for the commands that run them again: looked up on the configured servers, only read there."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.configuration import cache_of
from perago.cli.errors import CommandError, ExitCode
from perago.cli.files import prefix_of
from perago.cli.loading import load_task_to_run
from perago.cli.parameters import checked_module
from perago.replay.attempts import NotReplayable, PastAttempt, find_attempt, find_step
from perago.workspace.text import listing, one_line
from perago.workspace.view import View

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorWorkflows
    from perago.adapters.lakefs import LakeFSStore
    from perago.cli.probe import TaskSummary
    from perago.replay.past import Past
    from perago.settings import Settings


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


class Servers:
    """The configured Conductor and lakeFS, each connected when it is first asked. Use it as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = contextlib.ExitStack()
        self._conductor: ConductorWorkflows | None = None
        self._store: LakeFSStore | None = None

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def conductor(self) -> ConductorWorkflows:
        """The Conductor.

        Raises:
            ConfigurationError: none is configured.
        """
        if self._conductor is None:
            from perago.adapters.conductor import ConductorWorkflows

            self._conductor = ConductorWorkflows(self._settings.require_conductor())
            self._open.callback(self._conductor.close)
        return self._conductor

    @property
    def store(self) -> LakeFSStore:
        """The lakeFS.

        Raises:
            ConfigurationError: none is configured.
        """
        if self._store is None:
            from perago.adapters.lakefs import LakeFSStore

            self._store = LakeFSStore(
                self._settings.require_lakefs(),
                threads=self._settings.transfer_threads,
                cache=cache_of(self._settings),
            )
            self._open.callback(self._store.close)
        return self._store

    def store_for(self, task: TaskSummary) -> LakeFSStore | None:
        """The lakeFS, for a task that has a workspace."""
        return None if task.workspace is None else self.store


@contextlib.contextmanager
def refusals_are_told() -> Iterator[None]:
    """An attempt that cannot be run again ends the command.

    Raises:
        CommandError: instead of `NotReplayable`.
    """
    try:
        yield
    except NotReplayable as error:
        raise CommandError(ExitCode.FAILURE, one_line(error.message), error.fix) from error


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


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt, and the task of today that is its successor."""

    attempt: PastAttempt
    module: str
    task: TaskSummary
    files: tuple[str, ...]
    """The module's source files."""

    @property
    def prefix(self) -> str:
        """What the keys of the task's workspace begin with."""
        return prefix_of(self.task)

    def sees(self, path: str) -> bool:
        """Whether a file is part of what the task sees of its workspace."""
        return View(self.task.include, self.task.exclude).sees(path)

    def seed(self, files: Mapping[str, Path]) -> dict[str, str | bytes | Path | None]:
        """Files of the workspace by their keys."""
        return {self.prefix + path: file for path, file in files.items()}

    @property
    def definition(self) -> dict[str, Any]:
        """The TaskDef of today."""
        found: dict[str, Any] = json.loads(self.task.definition)
        return found


def find(servers: Servers, named: Named) -> Found:
    """The attempt that a command line names, and its task of today.

    Raises:
        typer.BadParameter: the module declares another task.
        CommandError: the module is not valid, or several might be meant.
        NotReplayable: there is no such attempt, or it cannot be run again.
        ServiceError: Conductor did not answer.
    """
    if named.task_id is not None:
        attempt = find_attempt(servers.conductor, named.task_id)
    else:
        attempt = find_step(servers.conductor, str(named.workflow), str(named.step))
    name = module_of(attempt.task_name) if named.module is None else checked_module(named.module)
    task, files = load_task_to_run(name, named.import_limit)
    return matched(attempt, name, task, files)


def matched(attempt: PastAttempt, module: str, task: TaskSummary, files: tuple[str, ...]) -> Found:
    """The attempt with a task, which must be its own.

    Raises:
        typer.BadParameter: it is another task's.
        NotReplayable: only one of both has a workspace.
    """
    if task.name != attempt.task_name:
        raise typer.BadParameter(f"{module} declares {task.name}, but the attempt is one of {attempt.task_name}.")
    if (task.workspace is None) != (attempt.workspace is None):
        then, now = ("no ", "a ") if attempt.workspace is None else ("a ", "no ")
        raise NotReplayable(f"task {task.name} had {then}workspace then, and has {now}workspace now")
    return Found(attempt, module, task, files)


def module_of(task_name: str) -> str:
    """The module below the current directory that declares a task.

    Raises:
        CommandError: there is none, or more than one.
    """
    from perago.replay.modules import modules_that_declare

    found = modules_that_declare(task_name, Path.cwd())
    if len(found) == 1:
        return found[0]
    words = f"several modules declare it: {listing(list(found))}" if found else "no module here declares it"
    raise CommandError(ExitCode.FAILURE, f"the attempt is one of {task_name}, and {words}", "name the MODULE")


def look_up_in_lakefs(servers: Servers, found: Found) -> Past:
    """What lakeFS knows of the attempt; says what has changed in the TaskDef since.

    Raises:
        NotReplayable: lakeFS no longer has it.
        ServiceError: lakeFS did not answer.
    """
    from perago.replay.past import look_up

    past = look_up(servers.store_for(found.task), found.attempt, found.prefix)
    for line in breaking_changes(found):
        messages.warning(f"the TaskDef has changed since in a way that breaks running workflows: {line}")
    return past


def breaking_changes(found: Found) -> list[str]:
    """What the TaskDef of today refuses that the one of the time took, a line each."""
    from perago.taskdef.compatibility import Impact, classify

    if found.attempt.definition is None:
        return []
    changes = classify(found.attempt.definition, found.definition)
    return [
        one_line(f"{change.pointer}: {change.reason}")
        for change in changes
        if change.impact is Impact.BREAKING and change.pointer.startswith(("/inputSchema/data", "/outputSchema/data"))
    ]


@contextlib.contextmanager
def scratch_directory(settings: Settings) -> Iterator[Path]:
    """A directory beside those of attempts, on the same disk, removed at the end."""
    with tempfile.TemporaryDirectory(prefix=".perago-replay-", dir=settings.workspace_root) as name:
        yield Path(name)
