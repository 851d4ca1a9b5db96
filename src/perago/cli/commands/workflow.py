"""`perago workflow`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from perago.cli.loading import load_definitions
from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout
from perago.failure import Failure

EXAMPLES = """\b
Examples:
  perago workflow show my_tasks.nightly
  perago workflow print my_tasks.nightly |
    curl -H 'Content-Type: application/json' -d @- $URL/metadata/workflow

`perago check` reports mistakes in the wiring, `perago register` sends workflows
to Conductor."""


class Action(StrEnum):
    """Output of the command."""

    SHOW = "show"
    PRINT = "print"


def command(
    action: Annotated[Action, typer.Argument(help="show: the steps as a tree; print: Conductor's JSON.")],
    modules: Modules,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Show the steps of the workflows that modules declare, or write them as JSON.

    A package means all modules below it. The same modules always give the same JSON: one definition, or a list if there
    are several.
    """
    _, workflows = load_definitions(modules, timeout)
    if not workflows:
        raise Failure(f"{', '.join(modules)} declares no workflow", "declare one with @workflow of perago.workflows")
    if action is Action.SHOW:
        from perago.workflows.picture import picture_of

        sys.stdout.write("\n\n".join(picture_of(json.loads(one.definition)) for one in workflows) + "\n")
    elif len(workflows) == 1:
        sys.stdout.write(workflows[0].definition)
    else:
        found = [json.loads(one.definition) for one in workflows]
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
