"""The findings of `perago check`, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perago.cli.render import messages, modules
from perago.cli.render.style import Colour, painted
from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.cli.configuration import Configuration
    from perago.cli.probe import Probed, TaskSummary
    from perago.settings import Problem


def as_text(probed: Sequence[Probed], configuration: Configuration) -> None:
    """One line for everything that is well on standard output; notes and problems on standard error."""
    ok = painted("ok", Colour.GREEN, sys.stdout)
    for one in probed:
        modules.notes(one)
        if one.task is not None:
            sys.stdout.write(f"{ok}  {one_line(f'{one.module}: {_summary(one.task)}')}\n")
            sys.stdout.flush()
        for text in one.advice:
            messages.note(f"{one.module}: {text}")
        modules.problem(one)
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.problems:
        messages.configuration_errors(configuration.problems)
    else:
        sys.stdout.write(
            f"{ok}  configuration: {one_line(modules.masked(_servers(configuration) + _workspaces(configuration)))}\n"
        )


def as_json(probed: Sequence[Probed], configuration: Configuration) -> None:
    """The document that docs/cli.md describes, on standard output."""
    document = {
        "ok": all(one.problem is None for one in probed) and not configuration.problems,
        "modules": [_module(one) for one in probed],
        "configuration": {
            "ok": not configuration.problems,
            "errors": [_setting(problem) for problem in configuration.problems],
            "warnings": list(configuration.warnings),
        },
    }
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


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
        return "no servers yet (docs/configuration.md)"
    found = f"Conductor at {conductor.server_url}" if conductor else "no Conductor"
    return f"{found}, {f'lakeFS at {lakefs.endpoint_url}' if lakefs else 'no lakeFS'}"


def _module(probed: Probed) -> dict[str, Any]:
    found = probed.problem
    return {
        "module": probed.module,
        "ok": found is None,
        "task": probed.task.name if probed.task else None,
        "environment": list(probed.task.environment) if probed.task else [],
        "output": modules.masked(probed.output),
        "advice": list(probed.advice),
        "errors": [] if found is None else [_error(found.code, modules.masked(found.message), found.where, found.fix)],
    }


def _setting(problem: Problem) -> dict[str, Any]:
    where = f"{problem.variable} ({problem.where})" if problem.where else problem.variable
    return _error("invalid-configuration", problem.message, where, problem.fix)


def _error(code: str, message: str, where: str, fix: str) -> dict[str, Any]:
    return {"code": code, "message": message, "where": where or None, "fix": fix or None}
