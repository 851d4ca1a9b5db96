"""`perago send` and `perago input`: start a workflow, or print the input to start one with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from perago.cli import messages
from perago.cli.loading import load_definitions
from perago.cli.messages import ExitCode
from perago.cli.parameters import (
    IMPORT_LIMIT,
    FormerPart,
    Module,
    Place,
    Timeout,
    checked_branch,
    option,
    parts_of_place,
    place_of,
    read_object,
    read_refs,
)
from perago.cli.rendering import Renderer
from perago.conductor_json import rows_of, step_type
from perago.dev import REFERENCE, workflow_definition
from perago.failure import Failure
from perago.ports import OPEN_WORKFLOWS
from perago.processes import raise_pending_signal
from perago.text import count, json_text, one_line, short, strict_json
from perago.workflows.backfill import OUTAGE_LIMIT, POLL_INTERVAL, Backfill, Line, Run, SenderLock
from perago.workflows.picture import task_names
from perago.workflows.waiting import is_wait, signal_name

if TYPE_CHECKING:
    from perago.adapters.conductor.overview import ConductorWorkflows
    from perago.configuration import Servers


_LOG_DELAY = 1.0
"""Seconds for the last lines of a log, which Conductor can show after the end."""
_SHOWN_PROBLEMS = 10
"""Lines of a back-fill that are shown with their mistake."""
_WORKER_WAIT = 5.0
"""Seconds that an attempt waits for a worker before perago mentions it."""

EXAMPLES = {
    "send": """\b
Examples:
  perago send my_tasks.features --branch my-data/main --params '{"min_rows": 1}'
  perago send my_tasks.features --branch my-data/main --params @params.json --follow
  perago send my_tasks.summary --params '{"day": "2026-01-31"}' --follow | jq .total
  perago send my_tasks.nightly --branch my-data/main --workflow nightly
  perago send my_tasks.summary --each days.jsonl --at-most 4

Prints the id of the workflow, or the result with --follow. Status 0 means that the
workflow started, or that it completed with --follow. With --each all must complete;
the same command continues a back-fill that was ended.""",
    "input": """\b
Examples:
  perago input my-data/main --params '{"feature_set": "a"}'
  perago input my-data/main --params @params.json --compact
  perago input my-data/main --ref main~1
  perago input my-data/main --ref @join-output.json
  jq .defaults config.json | perago input my-data/main --params -""",
}


def send(
    module: Module,
    params: Annotated[str, option("--params -p JSON|@FILE|-", "The task's parameters, a JSON object.")] = "{}",
    branch: Annotated[str | None, option("--branch -b REPO/BRANCH", "The branch that the task works on.")] = None,
    name: Annotated[
        str | None,
        option(
            "--workflow NAME", "A workflow of the module. Default: its task alone; without a task, its only workflow."
        ),
    ] = None,
    follow: Annotated[
        bool, option("--follow -f", "Show attempts until the workflow ends. Ctrl-C leaves it running.")
    ] = False,
    file: Annotated[
        Path | None, option("--each FILE", "Back-fill: start one workflow for each line, a JSON object of parameters.")
    ] = None,
    at_most: Annotated[
        int, option("--at-most N", "With --each, the number of workflows that run at the same time.", min=1)
    ] = 1,
    back_fill: Annotated[
        str | None,
        option("--back-fill NAME", "With --each, the name that it is continued by. Default: that of the file."),
    ] = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Start a workflow of one task, or a workflow that the module declares, on the configured Conductor.

    It gets the current head of the branch. The TaskDefs must be registered, and workers must run: `perago start`, or
    `perago dev`. `perago dev` prints the variables that lead to its services.
    """
    if file is None and (at_most != 1 or back_fill is not None):
        raise typer.BadParameter("--at-most and --back-fill are for a back-fill; add --each FILE.")
    sent = _sent(module, name, timeout)
    place = _place(sent, branch)
    if file is not None:
        if follow or params != "{}":
            raise typer.BadParameter(
                "--each takes the parameters from its file, and follows all; omit the other option."
            )
        lines = _lines(file, back_fill, sent, branch)
    else:
        payload = sent.payload(read_object(params))
    from perago.cli.services import branch_head
    from perago.configuration import Servers
    from perago.taskdef.payload import workspace_block

    def complete(payload: dict[str, Any]) -> dict[str, Any]:
        if place is None:
            return payload
        repository, branch_name = place
        block = workspace_block(repository, branch_name, branch_head(repository, branch_name))
        return {**payload, "workspace": block}

    with Servers() as servers:
        for task in sent.tasks:
            if servers.queue.get_task_definition(task) is None:
                message = f"{servers.settings.require_conductor().shown} has no TaskDef {task}; nothing was started"
                raise Failure(message, f"create it with: perago register {sent.workers}")
        if file is not None:
            raise typer.Exit(_back_fill(servers, sent, lines, at_most, complete))
        workflow_id = servers.workflows.start(sent.definition, complete(payload))
        if follow:
            raise typer.Exit(_follow(servers.workflows, workflow_id, FollowView(sys.stderr, sent.workers)))
    sys.stdout.write(f"{workflow_id}\n")


@dataclass(frozen=True, slots=True)
class Sent:
    """The workflow that is started."""

    label: str
    definition: dict[str, Any]
    tasks: tuple[str, ...]
    """The task types that must be registered."""
    workers: str
    """The modules of its tasks, as an argument of a command."""
    has_workspace: bool
    params_schema: dict[str, Any] | None = None
    """The JSON Schema of the parameters of a task; None for a workflow, whose definition has it."""

    def payload(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the input of the workflow, without its workspace.

        Raises:
            typer.BadParameter: the workflow has no such parameter, one is missing, or one has another type.
        """
        if self.params_schema is not None:
            from perago.taskdef.schema import schema_problems

            if problems := list(schema_problems(self.params_schema, params, formats=True)):
                raise typer.BadParameter(f"{self.label}: {'; '.join(problems)}.")
            return {"params": params}
        from perago.workflows.definition import complete_input

        try:
            return complete_input(self.definition, params)
        except ValueError as error:
            raise typer.BadParameter(f"{error}.") from None


def _sent(module: str, name: str | None, timeout: float) -> Sent:
    tasks, workflows = load_definitions([module], timeout)
    if tasks and name is None:
        task, definition = tasks[0], workflow_definition(tasks[0], "send")
        schema = json.loads(task.definition)["inputSchema"]["data"]["properties"]["params"]
        return Sent(f"task {task.name}", definition, (task.name,), module, task.workspace is not None, schema)
    matching = [flow for flow in workflows if name in (None, flow.name)]
    if len(matching) != 1:
        listed = ", ".join(flow.name for flow in workflows) or "no workflow"
        raise typer.BadParameter(f"{module} declares {listed}; name one as --workflow NAME.")
    (flow,) = matching
    definition = json.loads(flow.definition)
    label, has_workspace = f"workflow {flow.name}", "workspace" in flow.inputs
    return Sent(label, definition, task_names(definition), "MODULE...", has_workspace)


def _place(sent: Sent, branch: str | None) -> tuple[str, str] | None:
    """Return repository and branch; None for a workflow without a workspace."""
    if not sent.has_workspace:
        if branch is not None:
            raise typer.BadParameter(f"{sent.label} has no workspace; omit --branch.")
        return None
    if branch is None:
        raise typer.BadParameter(f"{sent.label} works on a branch; name it as --branch REPO/BRANCH.")
    repository, name = place_of(branch)
    return repository, checked_branch(name)


# ------------------------------------------------------------------------------------------------ a back-fill

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def _lines(file: Path, name: str | None, sent: Sent, branch: str | None) -> list[Line]:
    """Return the lines of a back-fill, whose params are all valid.

    Raises:
        typer.BadParameter: the file or a line of it cannot be read, or has params that are not valid.
    """
    name = name or file.name
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(
            f"{name!r} is not a name of at most 100 letters, digits, dots, - and _; give --back-fill NAME."
        )
    try:
        texts = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {file}: {getattr(error, 'strerror', 'it is not UTF-8')}.") from None
    lines, problems = [], []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            params = strict_json(text)
            if isinstance(params, dict):
                lines.append(Line.of(name, number, sent.payload(params), branch))
            else:
                problems.append(f"line {number}: it is not a JSON object.")
        except (typer.BadParameter, ValueError, RecursionError) as error:
            problems.append(f"line {number}: {error}")
    if problems or not lines:
        more = f"\nand {len(problems) - _SHOWN_PROBLEMS:,} more" if len(problems) > _SHOWN_PROBLEMS else ""
        shown = "\n".join(problems[:_SHOWN_PROBLEMS]) or "it has no line"
        raise Failure(f"nothing was started: {file}\n{shown}{more}", "correct these lines")
    return lines


def _back_fill(
    servers: Servers,
    sent: Sent,
    lines: Sequence[Line],
    at_most: int,
    complete: Callable[[dict[str, Any]], dict[str, Any]],
) -> int:
    """Run a back-fill to its end, and print a summary."""
    from perago.settings import state_directory

    def start(line: Line) -> str:
        payload = complete(dict(line.params))
        lock.started()
        return servers.workflows.start(sent.definition, payload, line.correlation_id)

    def sleep(seconds: float) -> None:
        raise_pending_signal()
        time.sleep(seconds)

    name, server = sent.definition["name"], servers.settings.require_conductor()
    identity = f"{server.server_url} {name} {lines[0].correlation_id.partition(':')[0]}"
    lock = SenderLock(state_directory() / "back-fills" / hashlib.sha256(identity.encode()).hexdigest())
    back_fill = Backfill(servers.workflows, name, lines, at_most, start, sleep)
    out = Renderer(sys.stderr)
    with lock.hold() as doubt:
        sleep(doubt)
        out.begin("back-fill")
        try:
            for run in back_fill.run(lambda error: out.doing(messages.service_words(error))):
                ended = sum(bool(runs) and not any(run.is_open for run in runs) for runs in back_fill.runs.values())
                progress = f"{ended:,} of {len(lines):,} lines have ended, {back_fill.open_runs:,} run"
                out.doing(progress)
                if run is not None:
                    status = f"line {run.line.number} {out.status(run.status)} {one_line(run.workflow_id)}"
                    out.line(f"{status} ({progress})")
        except BaseException:
            running = count(back_fill.open_runs, "workflow")
            messages.note(f"{running} of the back-fill may still run; the same command continues it")
            raise
        finally:
            out.end()
    return _summary(servers.workflows, [run for runs in back_fill.runs.values() for run in runs], len(lines))


def _summary(workflows: ConductorWorkflows, runs: Sequence[Run], lines: int) -> int:
    """Print what a back-fill did, with the reason of each failure and the command that goes on after it."""
    from perago.workflows.recovery import retry_refusal

    out = Renderer()
    failures = [run for run in runs if run.status != "COMPLETED"]
    out.line(f"{count(lines, 'line')}: {len(runs) - len(failures):,} completed, {len(failures):,} failed")
    for run in failures:
        out.line(f"line {run.line.number} {out.status(run.status)}: {one_line(run.reason) or 'without a reason'}")
        command = "rerun" if retry_refusal(dict(workflows.workflow(run.workflow_id))) else "retry"
        out.line(f"  perago {command} {one_line(run.workflow_id)}")
    return ExitCode.FAILURE if failures else ExitCode.OK


def _follow(workflows: ConductorWorkflows, workflow_id: str, view: FollowView) -> int:
    """Show the workflow until it has ended, and print the result."""
    view.started(workflow_id)
    try:
        workflow = _to_the_end(workflows, workflow_id, view)
    except BaseException:
        messages.note(f"workflow {workflow_id} continues to run")
        raise
    view.ended(workflow)
    if workflow["status"] != "COMPLETED":
        return ExitCode.FAILURE
    sys.stdout.write(json_text(workflow.get("output", {}).get("result"), indent=2) + "\n")
    return ExitCode.OK


def _to_the_end(workflows: ConductorWorkflows, workflow_id: str, view: FollowView) -> Mapping[str, Any]:
    heard = time.monotonic()
    while True:
        raise_pending_signal()
        workflow = _read_status(workflows, workflow_id, view, heard)
        if workflow is not None:
            heard = time.monotonic()
            if workflow["status"] not in OPEN_WORKFLOWS:
                time.sleep(_LOG_DELAY)
                return _read_status(workflows, workflow_id, view, heard) or workflow
        time.sleep(POLL_INTERVAL)


def _read_status(
    workflows: ConductorWorkflows, workflow_id: str, view: FollowView, heard: float
) -> Mapping[str, Any] | None:
    """Return the workflow, and show its news. Return None if Conductor does not answer, as during a restart."""
    from perago.ports import Unavailable

    try:
        workflow = workflows.workflow(workflow_id)
        _show(workflows, workflow, view)
    except Unavailable as error:
        if time.monotonic() - heard > OUTAGE_LIMIT:
            raise
        view.silent(messages.service_words(error))
        return None
    return workflow


def _show(workflows: ConductorWorkflows, workflow: Mapping[str, Any], view: FollowView, above: str = "") -> None:
    """Show the attempts of a workflow and of its sub-workflows, below the names of the steps `above` them."""
    for row in rows_of(workflow):
        part = row.get("subWorkflowId")
        if not part:
            view.attempt(row, workflows.log(row["taskId"]), above)
        elif part not in view.ended_parts:
            inner = workflows.workflow(part)
            _show(workflows, inner, view, f"{above}{row['referenceTaskName']} > ")
            if inner["status"] not in OPEN_WORKFLOWS:
                view.ended_parts.add(part)


class FollowView:
    """Prints a line for each change of an attempt, and each line of its log."""

    def __init__(self, stream: TextIO, workers: str) -> None:
        self._out = Renderer(stream)
        self._workers = workers
        self._statuses: dict[str, str] = {}
        self._entries: dict[str, int] = {}
        """The number of shown entries of each attempt's log."""
        self._waiting: dict[str, float] = {}
        """Since when each attempt waits for a worker; infinite once perago has mentioned it."""
        self._silence = ""
        self.ended_parts: set[str] = set()
        """The ids of sub-workflows that have ended, and whose attempts were shown."""

    def started(self, workflow_id: str) -> None:
        """Show that the workflow exists."""
        self._write(f"started workflow {workflow_id}")

    def silent(self, problem: str) -> None:
        """Report once for each reason that Conductor did not answer."""
        if problem != self._silence:
            self._write(f"{problem}; perago asks again")
        self._silence = problem

    def attempt(self, row: Mapping[str, Any], log: Sequence[str], above: str = "") -> None:
        """Show the current state of one attempt, whose name comes after `above`."""
        self._silence = ""
        task_id, status = row["taskId"], row["status"]
        if step_type(row) != "SIMPLE":  # Conductor does the step itself
            if is_wait(row) and status == "IN_PROGRESS" and task_id not in self._statuses:
                self._statuses[task_id] = status
                name, workflow_id = signal_name(row), row["workflowInstanceId"]
                self._write(f"{above}{name} waits for a signal: perago signal {workflow_id} {name} --params ...")
            return
        reference = row["referenceTaskName"]
        step = row["taskDefName"] if reference == REFERENCE else f"{reference} ({row['taskDefName']})"
        name = f"{above}{step} attempt {int(row.get('retryCount') or 0) + 1}"
        if status == "SCHEDULED":
            self._wait(task_id, name, float(row.get("startDelayInSeconds") or 0))
            return
        if task_id not in self._statuses:
            self._write(f"{name} is with worker {row.get('workerId') or 'unknown'}")
            self._statuses[task_id] = "IN_PROGRESS"
        for entry in log[self._entries.get(task_id, 0) :]:
            for line in entry.splitlines():
                self._write(f"  | {line}")
        self._entries[task_id] = len(log)
        if status not in ("IN_PROGRESS", self._statuses[task_id]):
            self._statuses[task_id] = status
            self._write(f"{name}: ", status, row.get("reasonForIncompletion"))

    def ended(self, workflow: Mapping[str, Any]) -> None:
        """Show that the workflow has ended."""
        was_reported = any(row.get("reasonForIncompletion") for row in rows_of(workflow))
        place = workflow.get("output", {}).get("workspace")
        commit = f"workspace at commit {short(head)}" if (head := self._head(place)) else None
        reason = None if was_reported else workflow.get("reasonForIncompletion")
        self._write("workflow ", workflow["status"], reason or commit)

    def _head(self, place: Any) -> str | None:
        """Return the newest commit of a workspace block, whose ref is a list after a fork, a loop or a switch."""
        from perago.ports import ServiceError
        from perago.taskdef.payload import commits_of

        if not isinstance(place, dict) or not isinstance(place.get("repository"), str):
            return None
        commits = commits_of(place.get("ref"), place["repository"], [])
        with contextlib.suppress(Failure, ServiceError):  # the workflow has ended all the same
            return newest_commit(place["repository"], commits) if len(commits) > 1 else next(iter(commits), None)
        return None

    def _wait(self, task_id: str, name: str, delay: float) -> None:
        since = self._waiting.get(task_id)
        if since is None:
            later = f" in {delay:g} s" if delay else ""
            self._write(f"{name} waits for a worker{later}")
            self._waiting[task_id] = time.monotonic() + delay
        elif time.monotonic() - since > _WORKER_WAIT:
            self._write(f"no worker has taken it yet; is one running? perago start {self._workers}")
            self._waiting[task_id] = float("inf")

    def _write(self, text: str, status: str = "", more: str | None = None) -> None:
        shown = self._out.status(status) if status else ""
        self._out.line(f"{one_line(text)}{shown}{': ' + one_line(more) if more else ''}")


# ------------------------------------------------------------------------------------------------ the input of a task


def input(  # noqa: A001 - the name of the command
    place: Place,
    former: FormerPart = None,
    params: Annotated[str, option("--params JSON|@FILE|-", "The parameters: JSON, a file, or standard input.")] = "{}",
    ref: Annotated[
        str | None,
        option(
            "--ref COMMIT|JSON|@FILE|-",
            "A commit instead of the head: its id, or main~1 or main^. Of a list of ids, or of the output of a JOIN, "
            "perago takes the commit that continues all others.",
        ),
    ] = None,
    compact: Annotated[bool, option("--compact", "Print a single line.")] = False,
) -> None:
    """Print the input of a task, ready to start a workflow with.

    The reference is the head of the branch, or the commit of --ref. The input is stale if another client advances the
    branch before the task has published, so print it right before you use it.
    """
    from perago.cli.services import branch_head, resolved_commit
    from perago.taskdef.payload import workspace_block

    repository, branch = parts_of_place(place, former)
    checked_branch(branch)
    task_params = read_object(params)
    commits = read_refs(ref, repository, lambda text: resolved_commit(repository, text)) if ref is not None else ()
    head = newest_commit(repository, commits) if commits else branch_head(repository, branch)
    payload = {"workspace": workspace_block(repository, branch, head), "params": task_params}
    text = json_text(payload, indent=None if compact else 2)
    sys.stdout.buffer.write(f"{text}\n".encode())


def newest_commit(repository: str, commits: Sequence[str]) -> str:
    """Return the commit that continues all others, as an attempt finds it. A single commit must exist.

    Raises:
        Failure: there is no such commit, or lakeFS does not have one of the commits.
    """
    from perago.attempt.joins import PAGE, NotOneLine, newest_of
    from perago.configuration import Servers
    from perago.ports import NotFound

    with Servers() as servers:
        try:
            return newest_of(commits, lambda commit: servers.store.ancestry(repository, commit, limit=PAGE))
        except NotOneLine as error:
            raise Failure(str(error)) from error
        except NotFound as error:
            message = f"{servers.settings.require_lakefs().shown} does not have all of these commits: {error.detail}"
            raise Failure(message, "check the repository, the ids and LAKECTL_SERVER_ENDPOINT_URL") from error
