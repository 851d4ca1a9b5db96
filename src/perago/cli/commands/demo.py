"""`perago demo`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli.configuration import require_embedded, valid_settings
from perago.cli.errors import CommandError, ExitCode
from perago.cli.files import check_output, write_tree
from perago.cli.loading import load_tasks
from perago.cli.local_run import plan_for
from perago.cli.parameters import IMPORT_LIMIT
from perago.cli.signals import end_if_told, sigterm_unwinds
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.local.served import ServedServices


SAMPLE = "perago.samples.penguins"
MODULES = (f"{SAMPLE}.clean", f"{SAMPLE}.measure", f"{SAMPLE}.summary")
SLOTS = {f"{SAMPLE}.measure": 3}
"""How many attempts of a task run at the same time, where it is more than one: the fork has three branches."""
PLACES = {
    "penguins-raw.csv": "raw/penguins-raw.csv",
    "penguins.csv": "reference/penguins.csv",
    "SOURCE.md": "SOURCE.md",
}
"""Where the bundled files go in the workspace."""

EXAMPLES = """\b
Examples:
  perago demo
  perago demo --output ./penguins     keep the files that it made

The task modules are perago.samples.penguins.clean, .measure and .summary, and their
workflow is workflow.json beside them: read them as an example of your own."""


def command(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Write the final tree to DIR, which must be new or empty.",
        ),
    ] = None,
) -> None:
    """Run the bundled sample workflow on real data.

    The tables of the Palmer penguins go through three tasks, in worker processes of their own: `penguins.clean` makes
    the field records one tidy table, `penguins.measure` runs for three islands at the same time, and `penguins.summary`
    continues what all three published. Conductor and lakeFS are embedded and served over HTTP on this machine;
    everything else is what runs in production.
    """
    raise typer.Exit(demonstrate(output))


def demonstrate(output: Path | None) -> int:
    """Run the workflow and show what its tasks did; returns the exit code."""
    require_embedded("demo")
    check_output(output)
    summaries = load_tasks(MODULES, IMPORT_LIMIT)
    settings = valid_settings()

    from perago.cli.attempt_view import AttemptView, show_line
    from perago.local import LocalTask, RunFailed, run_workflow, workspace_at
    from perago.local.served import ServedServices

    view = AttemptView(sys.stdout, brief=True)
    with sigterm_unwinds(), ServedServices() as services, as_file(files(SAMPLE) / "data") as data:
        typer.echo(
            "The tables of the Palmer penguins (CC0, Gorman et al. 2014): clean, then three islands at once, then a "
            "summary.\n"
        )
        ref = services.seed({place: data / name for name, place in PLACES.items()}, "The penguins as recorded")
        tasks = [
            LocalTask(
                replace(plan_for(module, summary, settings, services, number), slots=SLOTS.get(module, 1)),
                json.loads(summary.definition),
            )
            for number, (module, summary) in enumerate(zip(MODULES, summaries, strict=True), start=1)
        ]
        payload = {"workspace": workspace_at(ref)}
        try:
            with view:
                ended = run_workflow(services, tasks, workflow_definition(), payload, view, end_if_told)
        except RunFailed as error:
            raise CommandError(ExitCode.FAILURE, f"{error}; see the messages above") from error
        rows = [row for row in ended["tasks"] if row["taskType"] not in ("FORK", "JOIN")]
        _show_results(rows)
        show_line(_commits(services, ref), sys.stdout)
        completed = bool(ended["status"] == "COMPLETED")
        if output is not None and completed:
            write_tree(services.lakefs, view.outcome(rows[-1]).ref, "", output)
    if not completed:
        return ExitCode.FAILURE
    typer.echo(f"\nNext: perago run {MODULES[0]} --help, and docs/authoring.md for tasks of your own.")
    return ExitCode.OK


def workflow_definition() -> dict[str, Any]:
    """The definition of the bundled workflow."""
    found: dict[str, Any] = json.loads((files(SAMPLE) / "workflow.json").read_text("utf-8"))
    return found


def _show_results(rows: Sequence[Mapping[str, Any]]) -> None:
    typer.echo("results")
    for row in rows:
        result = row.get("outputData", {}).get("result")
        typer.echo(f"  {row['referenceTaskName']}: {json_text(result)}")


def _commits(services: ServedServices, ref: str) -> Sequence[Any]:
    """The commit that the workflow began with and what was published on top of it, oldest first."""
    from perago.local.services import BRANCH, REPOSITORY

    published = services.lakefs.history(REPOSITORY, BRANCH, until=ref, limit=100)
    return (services.lakefs.get_commit(REPOSITORY, ref), *reversed(published))
