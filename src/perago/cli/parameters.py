"""Arguments and options that several commands share."""

from __future__ import annotations

import keyword
from typing import Annotated

import typer


def _module(name: str) -> str:
    """`name` if it is an import path; otherwise a usage error that says how to write it."""
    if all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split(".")):
        return name
    from perago.authoring import TaskDefinitionError
    from perago.taskdef.loading import check_spelling

    try:
        check_spelling(name)
    except TaskDefinitionError as error:
        raise typer.BadParameter(f"{error.message}; {error.fix}.") from None
    return name


def _modules(names: list[str]) -> list[str]:
    return list(dict.fromkeys(_module(name) for name in names))


def _complete(incomplete: str) -> list[str]:
    """Modules and packages below the current directory. Nothing is imported."""
    from pathlib import Path

    from perago.taskdef.discovery import children_of

    parent, dot, _ = incomplete.rpartition(".")
    found = children_of([Path(*parent.split("."))])
    return [name for child in found if (name := f"{parent}{dot}{child}").startswith(incomplete)]


Module = Annotated[
    str,
    typer.Argument(
        metavar="MODULE",
        callback=_module,
        autocompletion=_complete,
        show_default=False,
        help="Import path of a task module.",
    ),
]
Modules = Annotated[
    list[str],
    typer.Argument(
        metavar="MODULE",
        callback=_modules,
        autocompletion=_complete,
        show_default=False,
        help="Import paths of task modules and packages.",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long importing one module may take.")
]
IMPORT_LIMIT = 60.0
"""Seconds (docs/design/contract.md 5)."""
