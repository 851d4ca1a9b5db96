"""What `perago demo` does: the bundled workflow on its bundled data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perago.cli.boundary import CommandError
from perago.cli.exit_codes import ExitCode
from perago.cli.extras import require_embedded
from perago.cli.loading import load_tasks
from perago.cli.parameters import IMPORT_LIMIT
from perago.cli.running import check_output, plan_for, valid_settings, write_tree
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


def demonstrate(output: Path | None) -> int:
    """Run both tasks one after the other and show what they did; returns the exit code."""
    require_embedded("demo")
    check_output(output)
    tasks = load_tasks(MODULES, IMPORT_LIMIT)
    settings = valid_settings()

    from perago.cli.render.attempt import AttemptView
    from perago.cli.render.history import show_history
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
