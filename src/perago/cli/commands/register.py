"""`perago register`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli.commands.diff import print_changes
from perago.cli.loading import load_definitions
from perago.cli.messages import Colour
from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout
from perago.cli.rendering import Renderer
from perago.failure import Failure
from perago.text import count

if TYPE_CHECKING:
    from perago.taskdef.compatibility import Change


EXAMPLES = """\b
Examples:
  perago register my_tasks.features my_tasks.clean
  perago register --dry-run my_tasks.features"""


def command(
    modules: Modules,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a registered version of a workflow that has other steps.")
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Put the TaskDefs and workflows of modules on the Conductor server. A package means all modules below it.

    Shows first what is new, and each changed field with the effect of the change. A new version of a workflow is
    compared with the newest one on the server. Definitions that are already on the server stay as they are.

    If a module is not valid, or a version of a workflow is registered with other steps, perago sends nothing.
    """
    tasks, workflows = load_definitions(modules, timeout)
    from perago.configuration import Servers
    from perago.settings import load_settings
    from perago.taskdef.compatibility import classify
    from perago.taskdef.definition import comparable
    from perago.workflows.registered import compare_with_server

    settings = load_settings()
    with Servers(settings) as servers:
        outdated = []
        for definition in [json.loads(task.definition) for task in tasks]:
            current = servers.queue.get_task_definition(definition["name"])
            changes = () if current is None else classify(*comparable(current, definition))
            print_comparison(definition["name"], current is None, changes)
            if current is None or changes:
                outdated.append(definition)
        missing = []
        for flow in workflows:
            definition = json.loads(flow.definition)
            base, changes = compare_with_server(servers.workflows, definition)
            is_new = base != flow.version
            since = "" if base is None or not is_new else f", compared with version {base}"
            print_comparison(f"{flow.name} version {flow.version}{since}", is_new, changes)
            if changes and not is_new and not overwrite:
                message = f"version {flow.version} of workflow {flow.name} is registered with another definition"
                raise Failure(
                    f"{flow.where}: {message}; nothing was sent", "increase version=, or replace it with --overwrite"
                )
            missing += [definition] if is_new or changes else []
        if outdated and not dry_run:
            servers.queue.register_task_definitions(outdated)
        for definition in [] if dry_run else missing:
            servers.workflows.register_workflow(definition)
    parts = [(outdated, "TaskDef"), (missing, "workflow")]
    what = " and ".join(count(len(found), noun) for found, noun in parts if found)
    server = settings.require_conductor().shown
    done = f"dry run: {what} would be registered on {server}" if dry_run else f"registered {what} on {server}"
    sys.stdout.write(f"{done if what else f'nothing to register on {server}'}\n")


def print_comparison(name: str, is_new: bool, changes: Sequence[Change]) -> None:
    """Compare a definition with the one on the server: print a line, and one for each change."""
    out = Renderer()
    if not is_new and not changes:
        out.line(f"unchanged  {name}")
        return
    word, colour = ("new", Colour.GREEN) if is_new else ("changed", Colour.YELLOW)
    out.line(f"{out.paint(f'{word:9}', colour)}  {name}")
    print_changes(out, changes)
