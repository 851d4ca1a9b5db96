"""`perago demo`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli.commands.run import plan_for
from perago.cli.configuration import require_embedded, valid_settings
from perago.cli.errors import CommandError, ExitCode
from perago.cli.files import check_output, write_tree
from perago.cli.loading import load_tasks
from perago.cli.parameters import IMPORT_LIMIT
from perago.cli.signals import end_if_told, sigterm_unwinds
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.local.served import ServedServices


MODULES = ("perago.samples.penguins.clean", "perago.samples.penguins.features")
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

The task modules are perago.samples.penguins.clean and .features: read them as an
example of your own."""


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

    The tables of the Palmer penguins go through two tasks, each in a worker process of its own: `penguins.clean` makes
    the field records one tidy table, `penguins.features` standardises the measurements. Conductor and lakeFS are
    embedded and served over HTTP on this machine; everything else is what runs in production.
    """
    raise typer.Exit(demonstrate(output))


def demonstrate(output: Path | None) -> int:
    """Run both tasks one after the other and show what they did; returns the exit code."""
    require_embedded("demo")
    check_output(output)
    tasks = load_tasks(MODULES, IMPORT_LIMIT)
    settings = valid_settings()

    from perago.cli.attempt_view import AttemptView, show_history
    from perago.local import LocalStep, RunFailed, run_workflow
    from perago.local.served import ServedServices

    view = AttemptView(sys.stdout)
    with sigterm_unwinds(), ServedServices() as services, as_file(files("perago.samples.penguins") / "data") as data:
        typer.echo(
            "Two tasks on the tables of the Palmer penguins (CC0, Gorman et al. 2014), as a workflow over HTTP.\n"
        )
        ref = services.seed({place: data / name for name, place in PLACES.items()}, "The penguins as recorded")
        steps = [
            LocalStep(plan_for(module, task, settings, services, number), json.loads(task.definition), {}, True)
            for number, (module, task) in enumerate(zip(MODULES, tasks, strict=True), start=1)
        ]
        try:
            with view:
                rows = run_workflow(services, steps, ref, view, end_if_told)["tasks"]
        except RunFailed as error:
            raise CommandError(ExitCode.FAILURE, f"{error}; see the messages above") from error
        outcomes = [view.outcome(row) for row in rows]
        _show_results(rows)
        show_history(_commits(services, ref), sys.stdout)
        if output is not None:
            write_tree(services.lakefs, outcomes[-1].ref, "", output)
    if len(outcomes) < len(steps) or not all(outcome.completed for outcome in outcomes):
        return ExitCode.FAILURE
    typer.echo("\nNext: perago run perago.samples.penguins.clean --help, and docs/authoring.md for tasks of your own.")
    return ExitCode.OK


def _show_results(rows: Sequence[Mapping[str, Any]]) -> None:
    typer.echo("\nresults")
    for row in rows:
        result = row.get("outputData", {}).get("result")
        typer.echo(f"  {row['taskDefName']}: {json_text(result)}")


def _commits(services: ServedServices, ref: str) -> Sequence[Any]:
    from perago.local.services import BRANCH, REPOSITORY

    published = services.lakefs.history(REPOSITORY, BRANCH, until=ref, limit=100)
    return (*published, services.lakefs.get_commit(REPOSITORY, ref))
