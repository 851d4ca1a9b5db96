"""`perago doctor`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.messages import Colour, ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Json, OptionalModules, Timeout, option, place_of
from perago.cli.rendering import Renderer, print_json, working
from perago.text import count, one_line

if TYPE_CHECKING:
    from perago.failure import Finding

EXAMPLES = """\b
ok       as it should be
untried  cannot be checked without --write
warning  attempts work, but something should be repaired
problem  attempts fail, or are not safe

\b
Examples:
  perago doctor                         configuration, machine and servers
  perago doctor my_tasks                and the TaskDefs and queues of tasks
  perago doctor -b my-data/main         and the permissions on a branch
  perago doctor -b my-data/main --write   tried with a hidden branch"""

_COLOURS = {"ok": Colour.GREEN, "untried": Colour.YELLOW, "warning": Colour.YELLOW, "problem": Colour.RED}
_WIDTH = len("warning") + 2


def command(
    modules: OptionalModules = None,
    branches: Annotated[
        list[str] | None,
        option(
            "--branch -b REPO/BRANCH",
            "A branch to check. Can be repeated. Default: those that PERAGO_ALLOWED_WORKSPACES names in full.",
        ),
    ] = None,
    write: Annotated[
        bool, option("--write", "Try a publication on a hidden branch of each REPO, and remove the branch.")
    ] = False,
    as_json: Json = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Look for everything that keeps workers from working. Say what is wrong, why it matters and what to do.

    Checks configuration, disks, limits, servers, credentials, clocks, TaskDefs, queues and branches. Changes nothing
    without --write. Exit code 0: no problem; 3: a module; 4: the configuration; 5: a server; 1: any other problem.
    """
    from perago.diagnosis.doctor import Doctor
    from perago.failure import Level

    places = [place_of(text) for text in branches or ()]
    with working("checking this machine and the servers") as progress:
        doctor = Doctor(places, write, lambda error: (messages.service_words(error), messages.advice(error)), progress)
        findings = doctor.examine(modules or (), timeout)
    code = _exit_code(findings)
    if as_json:
        rows = [{key: str(value) for key, value in asdict(finding).items() if key != "cause"} for finding in findings]
        print_json({"ok": code is ExitCode.OK, "findings": rows})
    else:
        out = Renderer()
        levels = list(Level)  # from the best to the worst
        for finding in sorted(findings, key=lambda finding: levels.index(finding.level)):
            lines = [f"{finding.area}: {finding.what}"]
            lines += [f"{word}: {text}" for word, text in (("why", finding.why), ("next", finding.advice)) if text]
            label = out.paint(f"{finding.level.value:{_WIDTH}}", _COLOURS[finding.level.value])
            out.entry(label, map(one_line, lines), width=_WIDTH)
        counts = Counter(finding.level for finding in findings)
        problems, warnings = count(counts[Level.PROBLEM], "problem"), count(counts[Level.WARNING], "warning")
        untried = f"{counts[Level.UNTRIED]:,} untried, " if counts[Level.UNTRIED] else ""
        out.line(f"{problems}, {warnings}, {untried}{counts[Level.OK]:,} ok")
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _exit_code(findings: list[Finding]) -> ExitCode:
    from perago.failure import Cause, Level

    codes = {
        Cause.MODULE: ExitCode.INVALID_MODULE,
        Cause.CONFIGURATION: ExitCode.INVALID_CONFIGURATION,
        Cause.SERVER: ExitCode.UNREACHABLE,
        Cause.OTHER: ExitCode.FAILURE,
    }
    causes = {finding.cause for finding in findings if finding.level is Level.PROBLEM}
    return next((code for cause, code in codes.items() if cause in causes), ExitCode.OK)
