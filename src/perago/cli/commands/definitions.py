"""`perago extract`, `perago workflow`, `perago diff` and `perago register`: write TaskDefs and workflows, compare them
with those on the server, and put them there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.atomic_file import replace_file
from perago.cli import messages
from perago.cli.loading import load_definitions, load_tasks
from perago.cli.messages import Colour, ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Json, Modules, Timeout, argument, option
from perago.cli.rendering import Column, Renderer, print_json
from perago.failure import Failure
from perago.text import count, one_line

if TYPE_CHECKING:
    from perago.configuration import Servers
    from perago.probe import TaskSummary, WorkflowSummary
    from perago.taskdef.compatibility import Change

EXAMPLES = {
    "extract": """\b
Examples:
  perago extract my_tasks.features
  perago extract my_tasks.features --output features.json
  perago extract my_tasks.features --register-list |
    curl -H 'Content-Type: application/json' -d @- $URL/metadata/taskdefs""",
    "workflow": """\b
Examples:
  perago workflow show my_tasks.nightly
  perago workflow print my_tasks.nightly |
    curl -H 'Content-Type: application/json' -d @- $URL/metadata/workflow

`perago check` reports mistakes in the wiring, `perago register` sends workflows
to Conductor.""",
    "diff": """\b
breaking    a workflow, or a caller of a workflow, that works today may fail
compatible  running workflows and their callers are not affected
cosmetic    texts for people

\b
Examples:
  perago diff my_tasks.features
  perago diff my_tasks --json       all task modules below a package""",
    "register": """\b
Examples:
  perago register my_tasks.features my_tasks.clean
  perago register --dry-run my_tasks.features""",
    "schedules": """\b
Examples:
  perago schedules
  perago schedules pause nightly --reason "the source is down"
  perago schedules resume nightly""",
}


# ---------------------------------------------------------------------------------------------- writing


def extract(
    modules: Modules,
    output: Annotated[Path | None, option("--output -o FILE", "Write to FILE, in full or not at all.")] = None,
    register_list: Annotated[
        bool, option("--register-list", "Print a list, as Conductor's register call expects it.")
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Write the TaskDef of a task module as JSON, or a list of TaskDefs if there are several.

    A package means all task modules below it. The same modules always give the same bytes, so you can keep the file
    under version control. Output of a module during its import goes to standard error.
    """
    tasks = load_tasks(modules, timeout, packages=True)
    text = _document(tasks, as_list=register_list)
    if output is None or output == Path("-"):
        sys.stdout.buffer.write(text.encode())
        return
    try:
        if output.exists() and not output.is_file():  # a device or a pipe; a directory refuses the write
            output.write_bytes(text.encode())
        else:
            replace_file(output.resolve(), text.encode())  # replace the target of a symlink, not the link
    except OSError as error:
        raise Failure(f"cannot write {output}: {error.strerror}") from error
    messages.note(f"wrote the TaskDef of {', '.join(task.name for task in tasks)} to {output}")


class Action(StrEnum):
    """Output of `perago workflow`."""

    SHOW = "show"
    PRINT = "print"


def workflow(
    action: Annotated[Action, argument("show|print", "show: the steps as a tree; print: Conductor's JSON.")],
    modules: Modules,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Show the steps of the workflows that modules declare, or write them as JSON.

    A package means all modules below it. The same modules always give the same JSON: one definition, or a list if there
    are several.
    """
    _, workflows = load_definitions(modules, timeout)
    if not workflows:
        raise Failure(f"{', '.join(modules)} declares no workflow", "declare one with @workflow of perago.workflows")
    if action is Action.SHOW:
        from perago.workflows.picture import picture_of

        sys.stdout.write(
            "\n\n".join(picture_of(json.loads(flow.definition)) + _schedule_line(flow) for flow in workflows) + "\n"
        )
    else:
        sys.stdout.write(_document(workflows))


def _schedule_line(flow: WorkflowSummary) -> str:
    if flow.schedule is None:
        return ""
    line = f"\n  schedule: {one_line(flow.schedule['cronExpression'])} {one_line(flow.schedule['zoneId'])}"
    request = flow.schedule["startWorkflowRequest"]
    if "workflowDef" not in request:
        return line
    place = request["input"]["workspace"]
    return f"{line} on {place['repository']}/{place['branch']}, by {request['name']}"


def _document(declared: Sequence[TaskSummary | WorkflowSummary], *, as_list: bool = False) -> str:
    """Return the definition as JSON, or a list of several."""
    if len(declared) == 1 and not as_list:
        return declared[0].definition
    return json.dumps([json.loads(summary.definition) for summary in declared], indent=2, ensure_ascii=False) + "\n"


# -------------------------------------------------------------------------------- comparing with the server


@dataclass(frozen=True, slots=True)
class Compared:
    """A definition of a module, and its differences to the one on the server."""

    name: str
    definition: dict[str, Any]
    is_new: bool
    """Whether the server does not have it. A new version of a workflow is compared with the newest one there."""
    changes: tuple[Change, ...] | None
    """None: there is nothing to compare with."""
    workflow: WorkflowSummary | None = None
    schedule: str | None = None
    """The name of a schedule, whose definition is empty if its workflow no longer declares it."""


def _compared(
    servers: Servers, tasks: Sequence[TaskSummary], workflows: Sequence[WorkflowSummary]
) -> Iterator[Compared]:
    from perago.taskdef.compatibility import classify
    from perago.taskdef.definition import comparable
    from perago.workflows.registered import compare_with_server

    for task in tasks:
        registered, here = servers.queue.get_task_definition(task.name), json.loads(task.definition)
        changes = None if registered is None else classify(*comparable(registered, here))
        yield Compared(task.name, here, registered is None, changes)
    for flow in workflows:
        definition = json.loads(flow.definition)
        base, since = compare_with_server(servers.workflows, definition)
        with_which = "" if base in (None, flow.version) else f", compared with version {base}"
        name = f"{definition['name']} version {flow.version}{with_which}"
        yield Compared(name, definition, base != flow.version, None if base is None else tuple(since), flow)
    if workflows:
        yield from _compared_schedules(servers, workflows)


def _compared_schedules(servers: Servers, workflows: Sequence[WorkflowSummary]) -> Iterator[Compared]:
    from perago.ports import NotFound
    from perago.workflows.schedule import removed_schedule, schedule_changes

    try:
        by_name = {row.get("name"): row for row in servers.workflows.schedules()}
    except NotFound as error:
        flow = next((flow for flow in workflows if flow.schedule is not None), None)
        if flow is None:
            return
        server = servers.settings.require_conductor().shown
        message = f"{flow.where}: workflow {flow.name} has a schedule, but the scheduler of {server} is off"
        raise Failure(f"{message}; nothing was sent", "set conductor.scheduler.enabled=true on the server") from error
    for flow in workflows:
        registered = by_name.get(flow.name)
        name = f"schedule of {flow.name}"
        if flow.schedule is not None:
            changes = None if registered is None else schedule_changes(registered, flow.schedule)
            definition = {**flow.schedule, "paused": bool(registered and registered.get("paused"))}
            yield Compared(name, definition, registered is None, changes, flow, flow.name)
        elif registered is not None:
            yield Compared(name, {}, False, (removed_schedule(registered),), flow, flow.name)


def diff(modules: Modules, as_json: Json = False, timeout: Timeout = IMPORT_LIMIT) -> None:
    """Compare TaskDefs and workflows of modules with those on the Conductor server, and say what each change means.

    A version of a workflow that is not registered is compared with the newest one. Changes nothing. Exit code 0: all
    are the same; 1: one differs, or is not registered.
    """
    tasks, workflows = load_definitions(modules, timeout)
    from perago.configuration import Servers

    with Servers() as servers:
        changes_by_name = {comparison.name: comparison.changes for comparison in _compared(servers, tasks, workflows)}
    if as_json:
        print_json({name: _changes_json(changes) for name, changes in changes_by_name.items()})
    else:
        out = Renderer()
        for name, changes in changes_by_name.items():
            word = "not registered" if changes is None else "changed" if changes else "unchanged"
            out.line(f"{word:14}  {name}")
            print_changes(out, changes or ())
    if any(changes != () for changes in changes_by_name.values()):
        raise typer.Exit(ExitCode.FAILURE)


def _changes_json(changes: tuple[Change, ...] | None) -> dict[str, Any]:
    from perago.taskdef.definition import ABSENT

    rows = [
        {
            "path": change.pointer,
            "class": change.word,
            "reason": change.reason,
            "registered": {} if change.old is ABSENT else {"value": change.old},
            "here": {} if change.new is ABSENT else {"value": change.new},
        }
        for change in changes or ()
    ]
    return {"registered": changes is not None, "changes": rows}


_COLOURS = {"breaking": Colour.RED, "compatible": Colour.GREEN, "cosmetic": Colour.CYAN}


def print_changes(out: Renderer, changes: Iterable[Change]) -> None:
    """Print a line for each change, with its effect."""
    for change in changes:
        word = out.paint(f"{change.word:10}", _COLOURS[change.word])
        out.entry(f"  {word}  ", [f"{one_line(change.difference)} ({one_line(change.reason)})"], width=14)


def register(
    modules: Modules,
    dry_run: Annotated[bool, option("--dry-run", "Show what would change, and change nothing.")] = False,
    overwrite: Annotated[
        bool, option("--overwrite", "Replace a registered version of a workflow that has other steps.")
    ] = False,
    prune: Annotated[bool, option("--prune", "Remove schedules that the workflows no longer declare.")] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Put the TaskDefs and workflows of modules on the Conductor server. A package means all modules below it.

    Shows first what is new, and each changed field with the effect of the change. A new version of a workflow is
    compared with the newest one on the server. Definitions that are already on the server stay as they are.

    If a module is not valid, or a version of a workflow is registered with other steps, perago sends nothing.
    """
    tasks, workflows = load_definitions(modules, timeout)
    from perago.configuration import Servers

    with Servers() as servers:
        outdated: list[dict[str, Any]] = []
        missing: list[dict[str, Any]] = []
        schedules: list[dict[str, Any]] = []
        removed: list[str] = []
        for comparison in _compared(servers, tasks, workflows):
            print_comparison(comparison.name, comparison.is_new, comparison.changes or ())
            if comparison.schedule and comparison.definition:
                Renderer().entry("", [f"next: {_next_times(comparison.definition)}"])
            if not comparison.is_new and not comparison.changes:
                continue
            if comparison.schedule:
                if comparison.definition:
                    schedules.append(comparison.definition)
                elif prune:
                    removed.append(comparison.schedule)
                continue
            if comparison.workflow is None:
                outdated.append(comparison.definition)
                continue
            if not comparison.is_new and not overwrite:
                flow, fix = comparison.workflow, "increase version=, or replace it with --overwrite"
                name = comparison.definition["name"]
                message = f"version {flow.version} of workflow {name} is registered with another definition"
                raise Failure(f"{flow.where}: {message}; nothing was sent", fix)
            missing.append(comparison.definition)
        _require_handlers(servers, missing, workflows)
        if not dry_run:
            if outdated:
                servers.queue.register_task_definitions(outdated)
            for definition in missing:
                servers.workflows.register_workflow(definition)
            for definition in schedules:
                servers.workflows.save_schedule(definition)
            for name in removed:
                servers.workflows.delete_schedule(name)
    parts: list[tuple[Sequence[object], str]] = [
        (outdated, "TaskDef"),
        (missing, "workflow"),
        (schedules, "schedule"),
        (removed, "removed schedule"),
    ]
    what = " and ".join(count(len(rows), noun) for rows, noun in parts if rows)
    server = servers.settings.require_conductor().shown
    done = f"dry run: {what} would be registered on {server}" if dry_run else f"registered {what} on {server}"
    sys.stdout.write(f"{done if what else f'nothing to register on {server}'}\n")


def _require_handlers(
    servers: Servers, definitions: Sequence[Mapping[str, Any]], workflows: Sequence[WorkflowSummary]
) -> None:
    """Refuse a workflow whose failure would start a workflow that does not exist: the server checks no handler.

    Raises:
        Failure: the server does not have it, and it is not registered now.
    """
    here = {(flow.name, flow.version) for flow in workflows}
    for definition in definitions:
        name, version = definition.get("failureWorkflow"), definition.get("failureWorkflowVersion")
        if name and (name, version) not in here and version not in servers.workflows.workflow_versions(name):
            problem = f"workflow {definition['name']} starts {name} version {version} after a failure, "
            problem += "which is not registered; nothing was sent"
            raise Failure(problem, f"register the module of {name}, too")


def _next_times(schedule: Mapping[str, Any]) -> str:
    from perago.workflows.schedule import next_times

    if schedule.get("paused"):
        return "none, because it is paused"
    times = next_times(schedule, datetime.now(UTC))
    return ", ".join(time.strftime("%Y-%m-%d %H:%M %Z") for time in times) or "none: Conductor does not fire this cron"


SCHEDULES: Sequence[Column[Mapping[str, Any]]] = (
    Column(
        "NAME",
        "the name, which is that of its workflow if perago has registered it",
        lambda row: one_line(str(row["name"])),
    ),
    Column("CRON", "seconds first", lambda row: one_line(str(row.get("cronExpression") or "-"))),
    Column("ZONE", "", lambda row: one_line(str(row.get("zoneId") or "UTC"))),
    Column("NEXT", "the next times", _next_times),
)


class ScheduleAction(StrEnum):
    """Actions of `perago schedules`."""

    LIST = "list"
    PAUSE = "pause"
    RESUME = "resume"


def schedules(
    action: Annotated[ScheduleAction, argument("ACTION", "list, pause or resume.")] = ScheduleAction.LIST,
    name: Annotated[str | None, argument("NAME", "The schedule, which has the name of its workflow.")] = None,
    reason: Annotated[str, option("--reason TEXT", "The reason that Conductor keeps.")] = "paused with perago",
    as_json: Json = False,
) -> None:
    """List the schedules of the configured Conductor, or pause or resume one.

    Times that pass while a schedule is paused are not made up.
    """
    from perago.configuration import Servers
    from perago.ports import NotFound

    if (action is ScheduleAction.LIST) != (name is None):
        raise typer.BadParameter("pause and resume take the name of a schedule, and list takes none.")
    with Servers() as servers:
        try:
            rows = servers.workflows.schedules()
        except NotFound as error:
            server = servers.settings.require_conductor().shown
            fix = "set conductor.scheduler.enabled=true on the server"
            raise Failure(f"the scheduler of {server} is off", fix) from error
        if name is not None:
            row = next((row for row in rows if row.get("name") == name), None)
            if row is None:
                raise Failure(f"there is no schedule {name}", "perago schedules lists them")
            is_paused = bool(row.get("paused"))
            if action is ScheduleAction.PAUSE and not is_paused:
                servers.workflows.pause_schedule(name, reason)
            elif action is ScheduleAction.RESUME and is_paused:  # Conductor answers 404 for one that is not paused
                servers.workflows.resume_schedule(name)
            rows = [{**row, "paused": action is ScheduleAction.PAUSE}]
    if as_json:
        print_json({"schedules": rows})
    elif rows:
        Renderer().table(SCHEDULES, rows)
    else:
        Renderer().line("there is no schedule")


def print_comparison(name: str, is_new: bool, changes: Sequence[Change]) -> None:
    """Compare a definition with the one on the server: print a line, and one for each change."""
    out = Renderer()
    if not is_new and not changes:
        out.line(f"unchanged  {name}")
        return
    word, colour = ("new", Colour.GREEN) if is_new else ("changed", Colour.YELLOW)
    out.line(f"{out.paint(f'{word:9}', colour)}  {name}")
    print_changes(out, changes)
