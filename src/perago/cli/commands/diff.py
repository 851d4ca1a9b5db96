"""`perago diff`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from perago.cli.loading import load_definitions
from perago.cli.messages import Colour, ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Json, Modules, Timeout
from perago.cli.rendering import Renderer, print_json
from perago.text import one_line

if TYPE_CHECKING:
    from perago.taskdef.compatibility import Change

EXAMPLES = """\b
breaking    a workflow, or a caller of a workflow, that works today may fail
compatible  running workflows and their callers are not affected
cosmetic    texts for people

\b
Examples:
  perago diff my_tasks.features
  perago diff my_tasks --json       all task modules below a package"""

_COLOURS = {"breaking": Colour.RED, "compatible": Colour.GREEN, "cosmetic": Colour.CYAN}


def command(modules: Modules, as_json: Json = False, timeout: Timeout = IMPORT_LIMIT) -> None:
    """Compare TaskDefs and workflows of modules with those on the Conductor server, and say what each change means.

    A version of a workflow that is not registered is compared with the newest one. Changes nothing. Exit code 0: all
    are the same; 1: one differs, or is not registered.
    """
    tasks, workflows = load_definitions(modules, timeout)
    from perago.configuration import Servers
    from perago.settings import load_settings
    from perago.taskdef.compatibility import classify
    from perago.taskdef.definition import comparable
    from perago.workflows.registered import compare_with_server

    found: dict[str, tuple[Change, ...] | None] = {}
    with Servers(load_settings()) as servers:
        for task in tasks:
            registered = servers.queue.get_task_definition(task.name)
            here = json.loads(task.definition)
            found[task.name] = None if registered is None else classify(*comparable(registered, here))
        for flow in workflows:
            base, since = compare_with_server(servers.workflows, json.loads(flow.definition))
            compared = "" if base in (None, flow.version) else f", compared with version {base}"
            found[f"{flow.name} version {flow.version}{compared}"] = None if base is None else since
    if as_json:
        print_json({name: _document(changes) for name, changes in found.items()})
    else:
        for name, changes in found.items():
            _print(name, changes)
    if any(changes != () for changes in found.values()):
        raise typer.Exit(ExitCode.FAILURE)


def _document(changes: tuple[Change, ...] | None) -> dict[str, Any]:
    from perago.taskdef.definition import ABSENT

    rows = [
        {
            "path": change.pointer,
            "class": change.word,
            "reason": change.reason,
            "registered": {} if change.old is ABSENT else {"value": change.old},
            "here": {} if change.new is ABSENT else {"value": change.new},
        }
        for change in changes or ()
    ]
    return {"registered": changes is not None, "changes": rows}


def _print(name: str, changes: tuple[Change, ...] | None) -> None:
    out = Renderer()
    if changes is None:
        out.line(f"not registered  {name}")
        return
    out.line(f"{'changed' if changes else 'unchanged':14}  {name}")
    print_changes(out, changes)


def print_changes(out: Renderer, changes: Iterable[Change]) -> None:
    """Print a line for each change, with its effect."""
    for change in changes:
        word = out.paint(f"{change.word:10}", _COLOURS[change.word])
        out.entry(f"  {word}  ", [f"{one_line(change.difference)} ({one_line(change.reason)})"], width=14)
