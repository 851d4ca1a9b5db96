"""Kind `taskdef`: the TaskDef equals its snapshot, so that nobody changes it without seeing what that means."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from perago.authoring import Task
from pytest_perago.cases import Case
from pytest_perago.options import SNAPSHOT
from pytest_perago.rerun import rerun_command
from pytest_perago.settings import Settings
from pytest_perago.snapshots import check_snapshot


def cases_taskdef(task: Task, settings: Settings) -> Iterable[Case]:
    """One case; with `--perago-update` it writes the snapshot."""

    def check(request: pytest.FixtureRequest) -> None:
        written = check_snapshot(task, settings.snapshots, lambda option: rerun_command(request.node, [option]))
        if written is not None:
            request.node.user_properties.append((SNAPSHOT, written))

    yield Case("taskdef", "", check, fixtures=("request",))
