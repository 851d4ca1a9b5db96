"""`perago register`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from perago.cli.loading import load_tasks
from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout
from perago.cli.render import register as render

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
    from perago.settings import load_settings

    settings = load_settings()
    conductor = settings.require_conductor()
    from perago.adapters.conductor import ConductorQueue
    from perago.taskdef import compare_definitions

    queue = ConductorQueue(conductor)
    try:
        wanted = [json.loads(task.definition) for task in tasks]
        outdated = []
        for definition in wanted:
            current = queue.get_task_definition(definition["name"])
            differences = () if current is None else compare_definitions(current, definition)
            render.comparison(definition["name"], current is None, differences)
            if current is None or differences:
                outdated.append(definition)
        if outdated and not dry_run:
            queue.register_task_definitions(outdated)
        render.summary(len(outdated), conductor.server_url, dry_run=dry_run)
    finally:
        queue.close()
