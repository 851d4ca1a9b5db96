"""`perago replay` and `capture`: run a past attempt again, or write it as a test case."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.attempt_view import debugging_of, note_tree
from perago.cli.loading import load_task_to_run, valid_settings
from perago.cli.messages import ExitCode
from perago.cli.parameters import (
    IMPORT_LIMIT,
    Pdb,
    Timeout,
    argument,
    check_output,
    checked_module,
    option,
    output_option,
)
from perago.failure import Failure
from perago.processes import sigterm_unwinds
from perago.text import clock, count, json_text, listing

if TYPE_CHECKING:
    from perago.configuration import Servers
    from perago.history.attempts import Past, PastAttempt, PathFilter
    from perago.history.capture import Captured
    from perago.history.replay import Replayable, ReplayResult
    from perago.probe import TaskSummary
    from perago.trees.differences import Differences

CASES = Path("tests/perago_cases")
MAX_BYTES = "20MiB"

EXAMPLES = {
    "replay": """\b
Examples:
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 my_tasks.features --pdb
  perago replay --workflow 6d1b9251-859b-4538-aefb-2cb95105520c --step build
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --set params.min_rows=2 --output ./now

The differences go to standard output, everything else to standard error.
Status 0 means that nothing differs.""",
    "capture": """\b
Examples:
  perago capture 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago capture --workflow 6d1b9251-859b-4538-aefb-2cb95105520c --step build --name monday
  perago capture --workflow 6d1b9251-859b-4538-aefb-2cb95105520c        all its steps
  perago capture 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --only 'raw/2026-11-*/**' --max-bytes 100MiB
  perago capture 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --scrub my_tasks.scrubbing

Prints the case directory that was written. pytest then has a test of it.""",
}

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


def replay(
    task_id: TaskId = None,
    module: OptionalModule = None,
    workflow: Workflow = None,
    step: StepName = None,
    changed: Annotated[
        list[str] | None, option("--set params.NAME=VALUE", "Run it with another value, JSON or text. Can be repeated.")
    ] = None,
    output: Annotated[Path | None, output_option("the tree that would be published")] = None,
    as_json: Annotated[bool, option("--json", "Print all results as JSON (perago help cli).")] = False,
    pdb: Pdb = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run today's code on the input of a past attempt, and show how the outcomes differ.

    perago looks up the attempt on the configured Conductor and its input on the configured lakeFS, and only reads both.
    The function runs here on in-memory services, so nothing is published.
    """
    named = NamedAttempt(task_id, module, workflow, step, timeout).checked()
    edits = [read_edit(text) for text in changed or ()]
    check_output(output)
    settings = valid_settings()
    from perago.cli.attempt_view import AttemptView
    from perago.configuration import Servers
    from perago.history.attempts import differences_to
    from perago.history.replay import Input, replay_attempt, scratch_directory
    from perago.trees.differences import differences

    view = AttemptView(sys.stderr)
    with sigterm_unwinds(), Servers(settings, cached=True) as servers, scratch_directory(settings) as scratch:
        replayable, past, files = named.find(servers)
        for name in ("input", "now", "again"):
            (scratch / name).mkdir()
        task_input = replayable.input(past, servers, scratch / "input", settings)
        task_input = Input(with_edits(task_input.params, edits), task_input.files)
        debugging = debugging_of(files, None, pdb=pdb)
        with contextlib.nullcontext() if debugging else view:
            replayed = replay_attempt(replayable, task_input, settings, scratch / "now", view, debugging, output)
        note_tree(output, replayed.commit)
        differing = differences_to(past, replayed.result, replayable.store(servers), task_input.files)
        unstable: tuple[str, ...] = ()
        if differing and not edits and not debugging:
            second_run = replay_attempt(replayable, task_input, settings, scratch / "again")
            unstable = differences(replayed.result, second_run.result, task_input.files).summary
        _show_replay(replayable, replayed, differing, unstable, as_json=as_json)
    raise typer.Exit(ExitCode.FAILURE if differing else ExitCode.OK)


def read_edit(text: str) -> tuple[list[str], Any]:
    """Return which params a `--set` changes, and the new value: JSON, or the text itself.

    Raises:
        typer.BadParameter: it is not written as params.NAME=VALUE.
    """
    place, equals, value = text.partition("=")
    root, *names = place.split(".")
    if not equals or root != "params" or not names or "" in names:
        problem = f"{place!r} is not params.NAME; write params.NAME=VALUE, such as params.min_rows=2."
        raise typer.BadParameter(problem, param_hint="'--set'")
    try:
        return names, json.loads(value)
    except ValueError:
        return names, value


def with_edits(params: Mapping[str, Any], edits: Sequence[tuple[list[str], Any]]) -> dict[str, Any]:
    """Return a copy of the params with the edits.

    Raises:
        typer.BadParameter: a part of the name is not an object.
    """
    edited = copy.deepcopy(dict(params))
    for names, value in edits:
        place: Any = edited
        for name in names[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise typer.BadParameter(f"params.{'.'.join(names)}: {name} is not an object.", param_hint="'--set'")
        place[names[-1]] = value
    return edited


def _show_replay(
    replayable: Replayable, replayed: ReplayResult, differing: Differences, unstable: Sequence[str], *, as_json: bool
) -> None:
    """Print the differences on standard output, and their likely cause on standard error."""
    attempt = replayable.attempt
    if unstable:
        title = "the function is not deterministic: two runs of today's code on this input also differ"
        messages.warning("\n  ".join([title, *unstable]))
    if as_json:
        reason = replayed.row.get("reasonForIncompletion")
        report = {
            "task": attempt.task_name,
            "task_id": attempt.task_id,
            "workflow_id": attempt.workflow_id,
            "then": {"status": attempt.status, "reason": attempt.reason or None, "seconds": attempt.seconds},
            "now": {"status": replayed.row["status"], "reason": reason, "seconds": round(replayed.seconds, 3)},
            "same": not differing,
            "deterministic": not unstable,
            "differences": differing.as_json(),
        }
        sys.stdout.write(json_text(report, indent=2) + "\n")
        return
    if not differing:
        sys.stdout.write(f"same as then: {attempt.task_name} {attempt.ending}, task {attempt.task_id}\n")
        return
    sys.stdout.write(f"different from task {attempt.task_id}:\n")
    for line in differing.lines():
        sys.stdout.write(f"  {line}\n")


def capture(
    task_id: TaskId = None,
    module: OptionalModule = None,
    workflow: Workflow = None,
    step: StepName = None,
    only: Annotated[list[str] | None, option("--only GLOB", "Only these input files. Can be repeated.")] = None,
    max_bytes: Annotated[str, option("--max-bytes SIZE", "The limit of all input files together.")] = MAX_BYTES,
    name: Annotated[
        str | None, option("--name NAME", "The name of the case. Default: day and start of the task id.")
    ] = None,
    output: Annotated[Path, option("--output -o DIR", "The directory of all cases: DIR/<task>/<name>/.")] = CASES,
    scrub: Annotated[
        str | None,
        option("--scrub MODULE", "A module with scrub hooks. Default: [tool.perago] scrub in pyproject.toml."),
    ] = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Write a past attempt, or a past run of a workflow, as a test case: params, input files, result, published files.

    Without --step, --workflow means the run with all its steps. perago finds it on the configured Conductor and its
    files on the configured lakeFS, and only reads both. It redacts values that look like secrets. It writes nothing
    until it has fetched everything.
    """
    if task_id is None and workflow is None:
        raise typer.BadParameter("name an attempt by TASK_ID or --workflow ID --step REF, or a run by --workflow ID.")
    is_run = workflow is not None and step is None and task_id is None
    named = None if is_run else NamedAttempt(task_id, module, workflow, step, timeout).checked()
    limit = _size(max_bytes)
    chosen = _chosen(only or [])
    if name is not None and (not name.strip(".") or "/" in name or name.startswith(".") or not name.isprintable()):
        raise typer.BadParameter("must be the name of a directory.", param_hint="'--name'")
    settings = valid_settings()
    from perago.configuration import Servers
    from perago.history.capture import CaptureOptions, Scrubber, find_run, load_hooks
    from perago.history.capture import capture as write_case

    scrub = scrub or _configured_hooks(Path("pyproject.toml"))
    hooks = load_hooks(scrub) if scrub is not None else {}
    with sigterm_unwinds(), Servers(settings, cached=True) as servers:
        if named is None:
            run = find_run(servers.workflows, str(workflow))
            store = None if run.run.workspace is None else servers.store
            past, cases, task = run.look_up(store), run.cases, run.run.task_name
            scope: dict[str, Any] = {"definition": run.schemas, "secrets": run.secrets()}
        else:
            replayable, past, _ = named.find(servers)
            store, cases, task = replayable.store(servers), replayable.task.name, replayable.task.name
            scope = {"definition": json.loads(replayable.task.definition), "sees": replayable.sees}
        safe = "".join(character for character in past.attempt.task_id if character.isalnum())
        name = name or f"{clock(past.attempt.started)[:10]}-{safe[:8]}"
        target = output / cases / name
        options = CaptureOptions(target, Scrubber(task, hooks), chosen=chosen, max_bytes=limit, **scope)
        try:
            captured = write_case(store, past, options)
        except OSError as error:
            raise Failure(f"cannot write {target}: {error.strerror or error}; nothing was written") from error
    _show_captured(captured)


def _configured_hooks(file: Path) -> str | None:
    """Return the module of the scrub hooks that the project configures.

    Raises:
        Failure: the file cannot be read, because a hook that is skipped would leak data.
    """
    if not file.exists():
        return None
    try:
        module = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("perago", {}).get("scrub")
    except (OSError, ValueError, AttributeError) as error:
        message = f"{file} may name scrub hooks, but cannot be read: {error}"
        raise Failure(message, "correct it, or give --scrub MODULE") from error
    if module is not None and not isinstance(module, str):
        message = f'{file}: scrub in [tool.perago] must be the import path of a module, such as "my_tasks.scrubbing"'
        raise Failure(message)
    return module


def _size(text: str) -> int:
    from perago.settings.variables import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="'--max-bytes'") from None


def _chosen(patterns: list[str]) -> PathFilter:
    from perago.authoring.workspace import canonical_pattern
    from perago.history.attempts import everything
    from perago.workspace.keys import compile_glob

    try:
        compiled = [compile_glob(canonical_pattern(pattern)) for pattern in patterns]
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="'--only'") from None
    if not compiled:
        return everything
    return lambda path: any(pattern.fullmatch(path) for pattern in compiled)


def _show_captured(captured: Captured) -> None:
    """Print the directory on standard output, and notes about its contents on standard error."""
    left = f", {captured.left_out:,} omitted" if captured.left_out else ""
    rest = captured.published - captured.complete
    large = f", {rest:,} of them only by size and hash" if rest else ""
    from perago.history.redaction import token_scanner

    messages.note(f"{count(captured.files, 'input file')}{left}; {count(captured.published, 'published file')}{large}")
    if token_scanner() is None:
        messages.note(
            "only perago's own list of tokens was searched; for more, install the extra secrets (perago help install)"
        )
    if captured.redacted:
        messages.warning(f"redacted, because they look like secrets: {listing(list(captured.redacted))}")
    if captured.replaced:
        messages.warning(f"replaced by the scrub hooks: {listing(list(captured.replaced))}")
    if captured.replaced or captured.redacted or captured.left_out:
        advice = "if the test differs without them, record the new outcome: pytest --perago-update=all"
        messages.note(f"the outcome was recorded with all values and files; {advice}")
    sys.stdout.write(f"{captured.directory}\n")
