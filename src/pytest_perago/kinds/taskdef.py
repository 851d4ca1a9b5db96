"""Kind `taskdef`: the TaskDef equals its snapshot, so that a change is shown together with what it means.

A snapshot is one canonical file per task, the same bytes as `perago extract` writes. A difference is told in three
layers: each change with what it means, a diff, the way out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from perago.authoring import Task
from pytest_perago.session import Case, Session
from pytest_perago.snapshots import check_snapshot


def cases_taskdef(task: Task, _: Session) -> Iterable[Case]:
    """One case; with `--perago-update` it writes the snapshot."""
    yield Case("taskdef", "", partial(_compare, task))


def _compare(task: Task, session: Session) -> None:
    session.add_snapshot(check_snapshot(task, session.settings.snapshots, session.rerun_command))
