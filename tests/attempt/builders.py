"""Deliveries and commits for protocol tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from perago.attempt import events as on
from perago.attempt.publication import metadata
from perago.attempt.state import Base, Plan, State
from perago.ports import Commit, Delivery, TaskRow, WorkflowRow
from tests.deliveries import make_delivery

REF = "a" * 64
STAGED = "b" * 64
MERGED = "c" * 64
OTHER = "d" * 64
NEWER = "e" * 64
WORKSPACE = on.WorkspaceRef("repo", "main", REF)

DELIVERY = make_delivery()

PLAN = Plan(DELIVERY, "1.2.3", "0123456789ab")


def commit(
    commit_id: str, *parents: str, tree: str = "tree-1", message: str = "a change", by: Mapping[str, str] | None = None
) -> Commit:
    return Commit(commit_id, parents, "somebody", message, 0, by or {}, tree)


def task_row(task_id: str, start_time: int = 1000, **fields: Any) -> TaskRow:
    """The row of an attempt that is running; `fields` replace those of `TaskRow`."""
    row = TaskRow(
        task_id=task_id,
        reference_name="step",
        status="IN_PROGRESS",
        poll_count=1,
        start_time=start_time,
        retried_task_id=None,
        is_operator=False,
        is_sub_workflow=False,
        sub_workflow_id=None,
        is_optional=False,
        input_commits=frozenset(),
        published_commit=None,
    )
    return replace(row, **fields)


def child_row(workflow_id: str | None, task_id: str = "", status: str = "IN_PROGRESS", **fields: Any) -> TaskRow:
    """The row of a sub-workflow."""
    return task_row(
        task_id or f"row-of-{workflow_id}",
        is_sub_workflow=True,
        sub_workflow_id=workflow_id,
        status=status,
        **fields,
    )


def workflow_row(
    workflow_id: str, parent_id: str | None = None, rows: Iterable[TaskRow] = (), *, forgets_rounds: bool = False
) -> WorkflowRow:
    """A workflow with these rows."""
    return WorkflowRow(workflow_id, parent_id, tuple(rows), forgets_rounds)


def publication_of(
    delivery: Delivery, commit_id: str = MERGED, parent: str = REF, tree: str = "tree-1", ref: str = REF
) -> Commit:
    """The merge commit that an attempt of `delivery` would have made."""
    state = State(
        replace(PLAN, delivery=delivery),
        workspace=replace(WORKSPACE, ref=ref),
        params_sha256="00",
        base=Base(parent),
        result={"n": 1},
    )
    by = metadata(state, phase="merge")
    return commit(commit_id, parent, STAGED, tree=tree, by=by)
