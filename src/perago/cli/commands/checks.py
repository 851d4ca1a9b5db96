"""`perago check`, `perago config` and `perago doctor`: check modules, settings, this machine and the servers."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.loading import able_to_run, importing, masked, show_notes, show_problem
from perago.cli.messages import Colour, CommandError, ExitCode, painted
from perago.cli.parameters import IMPORT_LIMIT, Json, Modules, OptionalModules, Timeout, option, place_of
from perago.cli.rendering import Renderer, print_json, working
from perago.configuration import namesake, read_configuration
from perago.failure import Cause, Finding, Level
from perago.probe import probing
from perago.text import count, one_line

if TYPE_CHECKING:
    from perago.configuration import Configuration
    from perago.probe import Probed, TaskSummary


EXAMPLES = {
    "check": """\b
Examples:
  perago check my_tasks.features
  perago check my_tasks.features my_tasks.clean
  perago check --json my_tasks.features | jq .modules[].errors

Exit codes: 0 everything is valid, 3 a module is not valid, 4 the configuration
is not valid (3 if both).""",
    "config": """\b
Values come from the environment, then from .env in the current directory.
Credentials are never shown, only whether they are set.

\b
Examples:
  perago config
  perago config --json""",
    "doctor": """\b
ok       as it should be
untried  cannot be checked without --write
warning  attempts work, but something should be repaired
problem  attempts fail, or are not safe

\b
Examples:
  perago doctor                         configuration, machine and servers
  perago doctor my_tasks                and the TaskDefs and queues of tasks
  perago doctor -b my-data/main         and the permissions on a branch
  perago doctor -b my-data/main --write   tried with a hidden branch""",
}


def check(modules: Modules, timeout: Timeout = IMPORT_LIMIT, as_json: Json = False) -> None:
    """Check task modules and the local configuration.

    A child process imports each module, and perago validates its declaration: one task, its signature, models,
    guardrails, controls and examples, and the wiring of its workflows. A package means all modules below it. Then
    perago checks the environment, .env and the two root directories. It creates nothing and asks no server.
    """
    examine = "perago.trees.cases"
    with probing(modules, timeout, packages=True, examine=examine, workflows=True, waiting=importing) as results:
        from perago.worker.export_settings import exporter_problems  # while the child imports the module

        configuration = read_configuration()
        other = namesake()
        probed = []
        for module in results():
            probed += able_to_run([module])
            if not as_json:
                _print_module(probed[-1])
    warnings = (*filter(None, [other]), *configuration.warnings, *exporter_problems())
    configuration = replace(configuration, warnings=warnings)
    _print_json(probed, configuration) if as_json else _print_configuration(configuration)
    if any(module.problem for module in probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    if configuration.problems:
        raise CommandError(ExitCode.INVALID_CONFIGURATION)


def _print_module(module: Probed) -> None:
    """Print a line for each valid part on standard output, and notes and problems on standard error."""
    ok = painted("ok", Colour.GREEN, sys.stdout)
    show_notes(module)
    if module.task is not None:
        sys.stdout.write(f"{ok}  {one_line(f'{module.module}: {_summary(module.task)}')}\n")
    for flow in module.workflows:
        sys.stdout.write(f"{ok}  {one_line(f'{module.module}: workflow {flow.name} version {flow.version}')}\n")
    sys.stdout.flush()
    for text in module.advice:
        messages.note(f"{module.module}: {text}")
    show_problem(module)


def _print_configuration(configuration: Configuration) -> None:
    """Print the warnings and problems on standard error, or a line for a valid configuration on standard output."""
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.problems:
        messages.configuration_errors(configuration.problems)
    else:
        ok = painted("ok", Colour.GREEN, sys.stdout)
        shown = one_line(masked(_servers(configuration) + _workspaces(configuration)))
        sys.stdout.write(f"{ok}  configuration: {shown}\n")


def _print_json(probed: Sequence[Probed], configuration: Configuration) -> None:
    """Print the document that docs/cli.md describes."""
    document: dict[str, Any] = {
        "ok": all(module.problem is None for module in probed) and not configuration.problems,
        "modules": [_module(module) for module in probed],
        "configuration": {
            "ok": not configuration.problems,
            "errors": [
                _error(
                    "invalid-configuration",
                    problem.message,
                    f"{problem.variable}{f' ({problem.where})' if problem.where else ''}",
                    problem.fix,
                )
                for problem in configuration.problems
            ],
            "warnings": list(configuration.warnings),
        },
    }
    print_json(document)


def _workspaces(configuration: Configuration) -> str:
    settings = configuration.settings
    if settings is not None and settings.allowed_workspaces is not None:
        return f"; inputs may name {', '.join(settings.allowed_workspaces)}"
    if settings is None or settings.lakefs is None:
        return ""
    return "; inputs may name any workspace (PERAGO_ALLOWED_WORKSPACES is not set)"


def _summary(task: TaskSummary) -> str:
    if task.workspace is None:
        kind = "no workspace"
    else:
        kind = f"workspace {task.workspace}{' (read-only)' if task.read_only else ''}, "
        kind += f"guardrails {task.pre} before and {task.post} after"
    examples = f", examples {task.examples}" if task.examples else ""
    environment = f", environment {' '.join(task.environment)}" if task.environment else ""
    return f"task {task.name}, {kind}{examples}{environment}"


def _servers(configuration: Configuration) -> str:
    settings = configuration.settings
    conductor = settings.conductor if settings else None
    lakefs = settings.lakefs if settings else None
    if conductor is None and lakefs is None:
        return "no servers yet (perago help configuration)"
    conductor_place = f"Conductor at {conductor.shown}" if conductor else "no Conductor"
    return f"{conductor_place}, {f'lakeFS at {lakefs.shown}' if lakefs else 'no lakeFS'}"


def _module(probed: Probed) -> dict[str, Any]:
    problem = probed.problem
    return {
        "module": probed.module,
        "ok": problem is None,
        "task": probed.task.name if probed.task else None,
        "environment": list(probed.task.environment) if probed.task else [],
        "output": masked(probed.output),
        "advice": list(probed.advice),
        "workflows": [{"name": flow.name, "version": flow.version} for flow in probed.workflows],
        "errors": [
            _error(error.code, masked(error.message), error.where, error.fix)
            for error in (() if problem is None else (problem, *problem.others))
        ],
    }


def _error(code: str, message: str, where: str, fix: str) -> dict[str, Any]:
    return {"code": code, "message": message, "where": where or None, "fix": fix or None}


# ------------------------------------------------------------------------------------------------ settings


def config(as_json: Json = False) -> None:
    """Show every setting with its value and its source. perago creates nothing and asks no server."""
    from perago.settings.variables import settings_in_effect

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


# ------------------------------------------------------------------------------------------------ everything

_COLOURS = {"ok": Colour.GREEN, "untried": Colour.YELLOW, "warning": Colour.YELLOW, "problem": Colour.RED}
_WIDTH = len("warning") + 2


def doctor(
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
    from perago.diagnosis.doctor import examine

    places = [place_of(text) for text in branches or ()]
    with working("checking this machine and the servers") as progress:
        findings = examine(
            modules or (),
            timeout,
            places,
            lambda error: (messages.service_words(error), messages.advice(error)),
            progress,
            write=write,
        )
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
    codes = {
        Cause.MODULE: ExitCode.INVALID_MODULE,
        Cause.CONFIGURATION: ExitCode.INVALID_CONFIGURATION,
        Cause.SERVER: ExitCode.UNREACHABLE,
        Cause.OTHER: ExitCode.FAILURE,
    }
    causes = {finding.cause for finding in findings if finding.level is Level.PROBLEM}
    return next((code for cause, code in codes.items() if cause in causes), ExitCode.OK)
