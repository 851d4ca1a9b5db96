"""Kind `fuzz`: hypothesis looks for trees, declarations and keys that the runtime judges otherwise than documented.

The judge is `perago.testing.oracle`, an independent matcher. hypothesis is imported by the first test that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pytest

from perago.authoring import Task
from perago.testing.constraints import recipe_of
from pytest_perago.kinds.guardrail import phases_of
from pytest_perago.session import Case
from pytest_perago.settings import Settings

INSTALL = "hypothesis is not installed: pip install hypothesis"


def cases_fuzz(task: Task, settings: Settings) -> Iterable[Case]:
    """For a task with a workspace: each phase that has rules, declarations of paths, and the prefix."""
    if task.workspace is None:
        return
    for phase, rules in phases_of(task):
        if any(recipe_of(rule) for rule in rules):
            yield Case("fuzz", phase, partial(_run, "check_phase", task, settings, phase))
    yield Case("fuzz", "paths", partial(_run, "check_declarations", task, settings))
    yield Case("fuzz", "prefix", partial(_run, "check_prefix", task, settings))


def _run(name: str, task: Task, settings: Settings, *arguments: str) -> None:
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        pytest.skip(INSTALL)
    from pytest_perago import properties

    check: Callable[..., None] = getattr(properties, name)
    check(task, settings.fuzz, *arguments)
