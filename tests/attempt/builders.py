"""Deliveries and commits for protocol tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from perago.attempt import events as on
from perago.attempt.publication import metadata
from perago.attempt.state import Base, Plan, State
from perago.ports import Commit, Delivery, WorkflowRow
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


def workflow_row(
    workflow_id: str,
    start_time: int = 100,
    parent_id: str | None = None,
    name: str = "",
    children: Iterable[str] = (),
    *,
    is_starting: bool = False,
) -> WorkflowRow:
    """A workflow whose tasks were not retried, and which has no loops."""
    nothing = frozenset[str]()
    return WorkflowRow(
        workflow_id, start_time, parent_id, name, frozenset(children), nothing, nothing, is_starting=is_starting
    )


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
