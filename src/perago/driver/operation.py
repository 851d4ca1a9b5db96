"""Carry out an operation of one process on a branch: the protocol of an attempt without a function.

An operation undoes publications of a family that is at rest. It uses the same machine as an attempt, so its
publication has a staging commit, the publish fence, the comparison and the read-back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import perago
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import advance, begin_operation
from perago.attempt.state import Plan
from perago.authoring import WorkspaceSpec
from perago.driver.attempt import failure_of
from perago.driver.delivery import DeliveryQuestions
from perago.driver.fencing import FenceProofs
from perago.driver.local_workspace import LocalWorkspace
from perago.driver.publisher import PatientStore, Publisher
from perago.driver.runtime import KnownRoots, Limits, Observer
from perago.ports import Clock, Delivery, DeliveryCheck, ServiceError, TaskStatus, WorkspaceStore

STEP = "perago-operation"
"""The reference name and task name of operations in the metadata of commits."""


class OperationFailed(Exception):
    """Nothing was undone on this branch, for the reason in the text. `is_final`: the same would happen again.
    `is_shared`: because others have published the same bytes."""

    def __init__(self, reason: str, *, is_final: bool, is_shared: bool = False) -> None:
        super().__init__(reason)
        self.is_final: bool = is_final
        self.is_shared: bool = is_shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation on one branch."""

    name: str
    """`undo`."""
    root_id: str
    """The workflow that was started, with all its sub-workflows."""
    workspace: on.WorkspaceRef
    """The branch, and the commit below which nothing is undone."""
    reason: str
    operator: str
    """The person and the host, for the metadata of the commit."""
    revoked: frozenset[str] = frozenset()
    """Earlier operations that it undoes."""
    leftovers: tuple[str, ...] = ()
    """Staging branches of attempts that have ended. Their merges must not succeed later."""


@dataclass(frozen=True, slots=True)
class Undone:
    """The outcome on one branch."""

    commit: str | None
    """The commit of the operation; None: there was nothing to do."""
    stale: tuple[str, ...]
    """The publications that it has undone, newest first."""
    notes: tuple[str, ...]


def delivery_of(root_id: str, now: float) -> Delivery:
    """Return the delivery that stands for an operation in the metadata of its commits."""
    return Delivery(
        task_id=f"{STEP}-{secrets.token_hex(8)}",
        poll_count=1,
        start_time=round(now * 1000),
        task_name=STEP,
        workflow_id=root_id,
        workflow_name="",
        reference_name=STEP,
        iteration=0,
        retry_count=0,
        retried_task_id=None,
        input={},
        external_input=False,
        input_is_too_deep=False,
        retried=False,
        retry_output=None,
        response_timeout_seconds=0.0,
        timeout_seconds=0.0,
        spent_seconds=0.0,
        waited_seconds=0.0,
        trace=None,
    )


def plan_of(operation: Operation, limits: Limits, now: float) -> Plan:
    """Return the plan of an operation for the protocol."""
    return Plan(
        delivery_of(operation.root_id, now),
        perago.__version__,
        secrets.token_hex(6),
        worker=operation.operator,
        publish_fence=limits.publish_fence,
        rebase=True,
        operation=operation.name,
        reason=operation.reason,
        revoked=operation.revoked,
    )


def run_operation(
    operation: Operation, check: DeliveryCheck, store: WorkspaceStore, clock: Clock, limits: Limits, root: Path
) -> Undone:
    """Undo the publications of a family that do not count, on one branch, in one publication.

    Args:
        operation: what to do.
        check: answers for the family instead of a delivery. The operation ends without a publication if it is not at
            rest.
        store: lakeFS.
        clock: the source of time.
        limits: the patience with servers, and the strictness about the publish fence.
        root: the workspace root of this host.

    Raises:
        OperationFailed: nothing was undone.
    """
    plan, notes = plan_of(operation, limits, clock.now()), list[str]()
    until = clock.now() + limits.answer_patience
    roots = KnownRoots()
    roots.add(operation.root_id)  # the operation has no row of its own
    questions = DeliveryQuestions(check, plan.delivery, clock, patience=limits.answer_patience, roots=roots)
    publisher = Publisher(
        PatientStore(store, clock, limits, Observer(), until=until),
        LocalWorkspace(WorkspaceSpec(), root, plan.delivery, limits),
        FenceProofs(clock),
        lambda note: notes.append(note) if note else None,
        root=root,
        merge_within=None,
    )
    handlers: dict[type[Any], Callable[[Any], on.Event]] = {
        kind: getattr(owner, declared.name)
        for kind, declared in do.COMMANDS.items()
        for owner in (questions, publisher, publisher.rebase)
        if hasattr(owner, declared.name)
    }
    handlers[do.FindLeftovers] = lambda _: on.LeftoversFound(operation.leftovers)
    state, command = begin_operation(plan, operation.workspace)
    is_shared = False
    try:
        while command is not None:
            try:
                event = handlers[type(command)](command)
            except (ServiceError, OSError) as error:
                event = failure_of(error, state.step, root, publisher.logged)
            is_shared |= isinstance(event, on.StagingDiffers) and event.held
            state, command = advance(state, event)
    finally:
        publisher.rebase.end_turn()
    if state.report is None:
        reason = f"the workflow or a workflow of its family runs again. {state.merge.open or ''}".strip()
        raise OperationFailed(reason, is_final=False)
    if (status := state.report.status) is not TaskStatus.COMPLETED:
        is_final = status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
        raise OperationFailed(str(state.report.reason), is_final=is_final, is_shared=is_shared)
    published = state.publication if state.publication != operation.workspace.ref else None
    stale = state.base.stale if state.base is not None and published else ()
    return Undone(published, stale, tuple(notes))
