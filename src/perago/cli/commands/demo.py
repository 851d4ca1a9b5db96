"""`perago demo`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from perago.cli.loading import load_tasks, valid_settings
from perago.cli.messages import ExitCode
from perago.cli.parameters import IMPORT_LIMIT, check_output, output_option
from perago.failure import Failure
from perago.processes import end_if_told, sigterm_unwinds
from perago.text import json_text

SAMPLE = "perago.samples.penguins"
MODULES = (f"{SAMPLE}.clean", f"{SAMPLE}.measure", f"{SAMPLE}.summary")
SLOTS = {f"{SAMPLE}.measure": 3}
"""Maximum number of concurrent attempts of a task, because the fork has three branches."""
PLACES = {
    "penguins-raw.csv": "raw/penguins-raw.csv",
    "penguins.csv": "reference/penguins.csv",
    "SOURCE.md": "SOURCE.md",
}
"""The place of each bundled file in the workspace."""

EXAMPLES = """\b
Examples:
  perago demo
  perago demo --output ./penguins     keep the files that it made

The task modules are perago.samples.penguins.clean, .measure and .summary. Their
workflow is perago.samples.penguins.workflow. Read them as an example for your own."""


def command(output: Annotated[Path | None, output_option("the final tree")] = None) -> None:
    """Run the bundled sample workflow on real data.

    The tables of the Palmer penguins go through three tasks in worker processes. `penguins.clean` makes one tidy table
    of the field records, `penguins.measure` runs for three islands at the same time, and `penguins.summary` continues
    their publications. Conductor and lakeFS are embedded and served over HTTP on this machine. Everything else is the
    same as in production.
    """
    from perago.embedded.services import EmbeddedServices, require_embedded

    require_embedded("demo")
    check_output(output)
    summaries = load_tasks(MODULES, IMPORT_LIMIT)
    settings = valid_settings(local=True)

    from perago.cli.attempt_view import AttemptView, note_tree, show_line
    from perago.history.running import plan_for, write_tree
    from perago.local import BRANCH, REPOSITORY, LocalTask, RunFailed, run_workflow
    from perago.samples.penguins.workflow import penguins
    from perago.taskdef.payload import workspace_block

    view = AttemptView(sys.stdout, brief=True)
    services = EmbeddedServices.for_workers(over_http=True)
    with sigterm_unwinds(), services, as_file(files(SAMPLE) / "data") as data:
        steps = "clean, then three islands at the same time, then a summary"
        typer.echo(f"The tables of the Palmer penguins (CC0, Gorman et al. 2014): {steps}.\n")
        tables = {place: data / name for name, place in PLACES.items()}
        ref = services.lakefs.seed(REPOSITORY, BRANCH, tables, message="The penguins as recorded").id
        tasks = []
        for number, (module, summary) in enumerate(zip(MODULES, summaries, strict=True), start=1):
            plan = replace(plan_for(module, summary, settings, services, number), slots=SLOTS.get(module, 1))
            tasks.append(LocalTask(plan, json.loads(summary.definition)))
        payload = {"workspace": workspace_block(REPOSITORY, BRANCH, ref)}
        try:
            with view:
                ended = run_workflow(services, tasks, penguins.definition(), payload, view, end_if_told)
        except RunFailed as error:
            raise Failure(f"{error}; see the messages above") from error
        rows = [row for row in ended["tasks"] if row["taskType"] not in ("FORK", "JOIN")]
        typer.echo("results")
        for row in rows:
            typer.echo(f"  {row['referenceTaskName']}: {json_text(row.get('outputData', {}).get('result'))}")
        published = services.lakefs.history(REPOSITORY, BRANCH, until=ref, limit=100)
        show_line((services.lakefs.get_commit(REPOSITORY, ref), *reversed(published)), sys.stdout)
        if output is not None and ended["status"] == "COMPLETED":
            commit = rows[-1]["outputData"]["workspace"]["ref"]
            write_tree(services.lakefs, commit, "", output)
            note_tree(output, commit)
    if ended["status"] != "COMPLETED":
        raise typer.Exit(ExitCode.FAILURE)
    typer.echo(f"\nNext: perago run {MODULES[0]} --help, and perago help write-a-task for tasks of your own.")
