"""`perago config`."""

from __future__ import annotations

from dataclasses import asdict

from perago.cli import messages
from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import Json
from perago.cli.rendering import Renderer, print_json

EXAMPLES = """\b
Values come from the environment, then from .env in the current directory.
Credentials are never shown, only whether they are set.

\b
Examples:
  perago config
  perago config --json"""


def command(as_json: Json = False) -> None:
    """Show every setting with its value and its source. perago creates nothing and asks no server."""
    from perago.configuration import read_configuration
    from perago.settings.variables import settings_in_effect
    from perago.text import one_line

    configuration = read_configuration()
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.settings is not None:
        settings = settings_in_effect(configuration.settings)
        if as_json:
            print_json([asdict(setting) for setting in settings])
        else:
            rows = [
                (setting.name, one_line(setting.value or "(set, not shown)"), setting.source) for setting in settings
            ]
            wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
            for name, value, source in rows:
                Renderer().entry(name, [f"{value:{wide[1]}}  {source}".rstrip()], width=wide[0] + 2)
    if configuration.problems:
        messages.configuration_errors(configuration.problems)
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
