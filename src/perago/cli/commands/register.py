"""`perago register`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli.loading import load_tasks
from perago.cli.messages import Colour, painted
from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout
from perago.text import count, one_line

if TYPE_CHECKING:
    from perago.taskdef import Difference


EXAMPLES = """\b
Examples:
  perago register my_tasks.features my_tasks.clean
  perago register --dry-run my_tasks.features"""


def command(
    modules: Modules,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Put the TaskDefs of task modules on the Conductor server. A package means all task modules below it.

    Says first what is new and what changes, field by field. TaskDefs that are on the server already are left alone.
    If one of the modules is not valid, nothing is sent.
    """
    tasks = load_tasks(modules, timeout, packages=True)
    from perago.configuration import Servers
    from perago.settings import load_settings
    from perago.taskdef import compare_definitions

    settings = load_settings()
    with Servers(settings) as servers:
        outdated = []
        for definition in [json.loads(task.definition) for task in tasks]:
            current = servers.queue.get_task_definition(definition["name"])
            differences = () if current is None else compare_definitions(current, definition)
            print_comparison(definition["name"], current is None, differences)
            if current is None or differences:
                outdated.append(definition)
        if outdated and not dry_run:
            servers.queue.register_task_definitions(outdated)
    sys.stdout.flush()
    what, server = count(len(outdated), "TaskDef"), settings.require_conductor().shown
    if not outdated:
        sys.stdout.write(f"nothing to register on {server}\n")
    elif dry_run:
        sys.stdout.write(f"dry run: {what} would be registered on {server}\n")
    else:
        sys.stdout.write(f"registered {what} on {server}\n")


def print_comparison(name: str, is_new: bool, differences: Sequence[Difference]) -> None:
    """One TaskDef against what the server has: a line, and one for every difference."""
    kind, colour = ("new", Colour.GREEN) if is_new else ("changed", Colour.YELLOW)
    if not is_new and not differences:
        sys.stdout.write(f"unchanged  {name}\n")
        return
    sys.stdout.write(f"{painted(f'{kind:9}', colour, sys.stdout)}  {name}\n")
    for difference in differences:
        sys.stdout.write(f"  {one_line(difference.text)}\n")
