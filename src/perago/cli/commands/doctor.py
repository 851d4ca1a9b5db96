"""`perago doctor`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.errors import ExitCode, advice
from perago.cli.messages import Colour
from perago.cli.parameters import IMPORT_LIMIT, OptionalModules, Timeout
from perago.cli.rendering import Renderer, working
from perago.text import count, one_line

if TYPE_CHECKING:
    from perago.diagnosis.checks import Finding
    from perago.ports import ServiceError

EXAMPLES = """\b
ok       as it should be
warning  attempts work, and something is not as it should be
problem  attempts fail, or are not safe

\b
Examples:
  perago doctor                         configuration, machine and servers
  perago doctor my_tasks                and the TaskDefs and queues of tasks
  perago doctor -w my-data/main         and the right to work on a branch
  perago doctor -w my-data/main --write   tried with a hidden branch"""

_COLOURS = {"ok": Colour.GREEN, "warning": Colour.YELLOW, "problem": Colour.RED}
_WIDTH = len("warning") + 2


def command(
    modules: OptionalModules = None,
    workspaces: Annotated[
        list[str] | None,
        typer.Option(
            "--workspace",
            "-w",
            metavar="REPO/BRANCH",
            show_default=False,
            help="A branch to look at. May be repeated. Default: those that PERAGO_ALLOWED_WORKSPACES names in full.",
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Try a publication on a hidden branch of each REPO, and remove the branch.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Look for everything that would keep workers from working, and say what is wrong, why it matters and what to do.

    Configuration, disks, limits, servers, credentials, clocks, TaskDefs, queues, branches. Nothing is changed without
    --write. Exit code 0: no problem; otherwise the one of what is wrong (3 a module, 4 the configuration, 5 a server,
    1 anything else).
    """
    from perago.diagnosis.checks import Level
    from perago.diagnosis.doctor import Doctor

    branches = [_branch(text) for text in workspaces or ()]
    with working("looking at this machine and the servers") as tell:
        doctor = Doctor(branches, write=write, explain=_explain, tell=tell)
        findings = doctor.examine(modules or (), timeout)
    if as_json:
        rows = [{key: str(value) for key, value in asdict(found).items() if key != "cause"} for found in findings]
        document = {"ok": _exit_code(findings) is ExitCode.OK, "findings": rows}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        for found in sorted(findings, key=lambda one: list(Level).index(one.level)):  # the worst stands at the end
            _print(found)
        levels = Counter(found.level for found in findings)
        problems, warnings = count(levels[Level.PROBLEM], "problem"), count(levels[Level.WARNING], "warning")
        sys.stdout.write(f"{problems}, {warnings}, {levels[Level.OK]:,} ok\n")
    if (code := _exit_code(findings)) is not ExitCode.OK:
        raise typer.Exit(code)


def _explain(error: ServiceError) -> tuple[str, str]:
    return messages.service_words(error), advice(error)


def _branch(text: str) -> tuple[str, str]:
    repository, slash, branch = text.partition("/")
    if not (repository and slash and branch):
        raise typer.BadParameter(f"{text!r} is not REPO/BRANCH.", param_hint="'--workspace'")
    return repository, branch


def _exit_code(findings: list[Finding]) -> ExitCode:
    from perago.diagnosis.checks import Cause, Level

    codes = {
        Cause.MODULE: ExitCode.INVALID_MODULE,
        Cause.CONFIGURATION: ExitCode.INVALID_CONFIGURATION,
        Cause.SERVER: ExitCode.UNREACHABLE,
        Cause.OTHER: ExitCode.FAILURE,
    }
    causes = {found.cause for found in findings if found.level is Level.PROBLEM}
    return next((code for cause, code in codes.items() if cause in causes), ExitCode.OK)


def _print(found: Finding) -> None:
    lines = [f"{found.area}: {found.what}"]
    lines += [f"{word}: {text}" for word, text in (("why", found.why), ("next", found.advice)) if text]
    out = Renderer()
    label = out.paint(f"{found.level.value:{_WIDTH}}", _COLOURS[found.level.value])
    out.entry(label, map(one_line, lines), width=_WIDTH)
