"""`perago replay`."""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.configuration import valid_settings
from perago.cli.errors import ExitCode
from perago.cli.files import check_output
from perago.cli.local_run import runs_here
from perago.cli.parameters import IMPORT_LIMIT, Pdb, Timeout
from perago.cli.past_attempts import (
    Found,
    Named,
    OptionalModule,
    Servers,
    StepName,
    TaskId,
    Workflow,
    find,
    look_up_in_lakefs,
    refusals_are_told,
    scratch_directory,
)
from perago.cli.signals import sigterm_unwinds
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.cli.replays import Ran
    from perago.testing.remains import Differences

EXAMPLES = """\b
Examples:
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 my_tasks.features --pdb
  perago replay --workflow 6d1b9251-859b-4538-aefb-2cb95105520c --step build
  perago replay 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --set params.min_rows=2 --output ./now

The differences are printed to standard output, everything else to standard error.
Status 0 means that nothing differs."""


def command(
    task_id: TaskId = None,
    module: OptionalModule = None,
    workflow: Workflow = None,
    step: StepName = None,
    changed: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="params.NAME=VALUE",
            show_default=False,
            help="Run it with another value, JSON or a text. May be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Write the tree that would be published to DIR, which must be new or empty.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON (docs/cli.md).")] = False,
    pdb: Pdb = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run the code of today on the input of an attempt of the past, and show what differs from what came of it then.

    The attempt is looked up on the configured Conductor, its input on the configured lakeFS; both are only read. The
    function runs here, on in-memory services: nothing is published.
    """
    named = Named(task_id, module, workflow, step, timeout).checked()
    with refusals_are_told(), sigterm_unwinds():
        raise typer.Exit(replay(named, changed or (), output, as_json=as_json, pdb=pdb))


def replay(named: Named, changed: Sequence[str], output: Path | None, *, as_json: bool, pdb: bool) -> int:
    """Run one attempt again.

    Args:
        named: which.
        changed: as `--set` takes them.
        output: a new or empty directory for the tree.
        as_json: print all of it as JSON.
        pdb: run the function in this terminal, with a debugger where it raises.

    Returns:
        The exit code.

    Raises:
        NotReplayable: there is no such attempt, or it cannot be run again.
        CommandError: module or configuration are not valid.
        ServiceError: a server did not answer.
    """
    edits = [read_edit(text) for text in changed]
    check_output(output)
    settings = valid_settings()
    from perago.cli.attempt_view import AttemptView
    from perago.cli.replays import How, Input, differs_from_itself, fetched, run_again
    from perago.replay.past import differences_to

    with Servers(settings) as servers, scratch_directory(settings) as scratch:
        found = find(servers, named)
        past = look_up_in_lakefs(servers, found)
        store = servers.store_for(found.task)
        for name in ("input", "now", "again"):
            (scratch / name).mkdir()
        given = fetched(found, past, store, scratch / "input", settings)
        given = Input(with_edits(given.params, edits), given.files)
        how = How(settings, here=runs_here(found.files, None, pdb=pdb), post_mortem=pdb)
        ran = run_again(found, given, how, scratch / "now", AttemptView(sys.stderr), output)
        differing = differences_to(past, ran.remains, store, given.files)
        by_itself: tuple[str, ...] = ()
        if differing and not edits and not how.here:
            again = functools.partial(run_again, found, given, how, scratch / "again")
            by_itself = differs_from_itself(ran.remains, given, again)
        _show(found, ran, differing, by_itself, as_json=as_json)
    return ExitCode.FAILURE if differing else ExitCode.OK


def read_edit(text: str) -> tuple[list[str], Any]:
    """Where a `--set` changes the params, and what it puts there: JSON, or else the text itself.

    Raises:
        typer.BadParameter: it is not written as params.NAME=VALUE.
    """
    place, equals, value = text.partition("=")
    root, *names = place.split(".")
    if not equals or root != "params" or not names or "" in names:
        raise typer.BadParameter(
            f"write params.NAME=VALUE, such as params.min_rows=2; not {place!r}.", param_hint="'--set'"
        )
    try:
        return names, json.loads(value)
    except ValueError:
        return names, value


def with_edits(params: Mapping[str, Any], edits: Sequence[tuple[list[str], Any]]) -> dict[str, Any]:
    """The params with the edits made in a copy.

    Raises:
        typer.BadParameter: an edit leads through something that is no object.
    """
    found = copy.deepcopy(dict(params))
    for names, value in edits:
        place: Any = found
        for name in names[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise typer.BadParameter(f"params.{'.'.join(names)}: {name} is no object.", param_hint="'--set'")
        place[names[-1]] = value
    return found


def _show(found: Found, ran: Ran, differing: Differences, by_itself: Sequence[str], *, as_json: bool) -> None:
    """What differs on standard output; what it may come from on standard error."""
    attempt = found.attempt
    if by_itself:
        messages.warning(
            "the function is not deterministic: two runs of today's code on this input differ, too\n  "
            + "\n  ".join(by_itself)
        )
    if as_json:
        report = {
            "task": attempt.task_name,
            "task_id": attempt.task_id,
            "workflow_id": attempt.workflow_id,
            "then": {"status": attempt.status, "reason": attempt.reason or None, "seconds": attempt.seconds},
            "now": {
                "status": ran.row["status"],
                "reason": ran.row.get("reasonForIncompletion"),
                "seconds": round(ran.seconds, 3),
            },
            "same": not differing,
            "deterministic": not by_itself,
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
