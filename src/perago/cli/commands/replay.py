"""`perago replay`."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.attempt_view import debugging_of, note_tree
from perago.cli.loading import valid_settings
from perago.cli.messages import ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Pdb, Timeout, check_output, option, output_option
from perago.cli.past_attempt import NamedAttempt, OptionalModule, StepName, TaskId, Workflow
from perago.processes import sigterm_unwinds
from perago.text import json_text

if TYPE_CHECKING:
    from perago.history.replay import Replayable, ReplayResult
    from perago.trees.differences import Differences

EXAMPLES = """\b
Examples:
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 my_tasks.features --pdb
  perago replay --workflow 6d1b9251-859b-4538-aefb-2cb95105520c --step build
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --set params.min_rows=2 --output ./now

The differences go to standard output, everything else to standard error.
Status 0 means that nothing differs."""


def command(
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
        _show(replayable, replayed, differing, unstable, as_json=as_json)
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


def _show(
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
