"""`perago config`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode
from perago.cli.rendering import Renderer

EXAMPLES = """\b
Values come from the environment, then from .env in the current directory.
Credentials are never shown, only whether they are set.

\b
Examples:
  perago config
  perago config --json"""


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show every setting, its value and where it comes from. Nothing is created, and no server is asked."""
    from perago.configuration import read_configuration
    from perago.settings.variables import settings_in_effect
    from perago.text import one_line

    found = read_configuration()
    for text in found.warnings:
        messages.warning(text)
    if found.settings is not None:
        settings = settings_in_effect(found.settings)
        if as_json:
            sys.stdout.write(json.dumps([asdict(setting) for setting in settings], indent=2) + "\n")
        else:
            rows = [(one.name, one_line(one.value or "(set, not shown)"), one.source) for one in settings]
            wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
            for name, value, source in rows:
                Renderer().entry(name, [f"{value:{wide[1]}}  {source}".rstrip()], width=wide[0] + 2)
    if found.problems:
        messages.configuration_errors(found.problems)
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
