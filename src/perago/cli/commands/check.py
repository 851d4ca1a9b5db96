"""`perago check`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from perago.cli.boundary import CommandError
from perago.cli.configuration import look_at_configuration
from perago.cli.exit_codes import ExitCode
from perago.cli.extras import namesake
from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout
from perago.cli.probe import probing
from perago.cli.render import check as render

EXAMPLES = """\b
Examples:
  perago check my_tasks.features
  perago check my_tasks.features my_tasks.clean
  perago check --json my_tasks.features | jq .modules[].errors

Exit codes: 0 all is well, 3 a module is not valid, 4 the configuration is not
valid (3 if both)."""


def command(
    modules: Modules,
    timeout: Timeout = IMPORT_LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document (docs/cli.md).")] = False,
) -> None:
    """Check task modules and the local configuration.

    Every module is imported in a process of its own and its declaration validated: one task, its signature, models,
    guardrails, controls and examples. A package means all task modules below it. Then the environment, .env and the
    two root directories are looked at. Nothing is created, and no server is spoken to.
    """
    with probing(modules, timeout, packages=True, examine="perago.testing.cases") as results:
        configuration = look_at_configuration()
        other = namesake()
        probed = results()
    if other:
        configuration = replace(configuration, warnings=(other, *configuration.warnings))
    render.as_json(probed, configuration) if as_json else render.as_text(probed, configuration)
    if any(one.problem for one in probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    if configuration.problems:
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
