"""Undo the publications of a workflow that no longer count: `perago undo`, and the first half of `rerun` and `retry`.

One process works on a family of workflows that is at rest. Attempts never undo the publication of a step that may
still count while others run, so what they leave is undone here. An operation that was interrupted before Conductor ran
the steps again is continued or revoked by the next one.

docs/dev/servers/conductor.md, "Forks, `permissive` and their recovery", has the measurements of the rows that a rerun
or a retry changes.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perago.adapters.conductor.overview import ConductorWorkflows
from perago.adapters.conductor.queue import unless_missing
from perago.attempt import publication
from perago.attempt.events import BranchRead, WorkspaceRef
from perago.attempt.history import WORKFLOWS_READ, Standing, interrupted, standings
from perago.attempt.state import State
from perago.conductor_json import commit_ids, rows_of, step_type, workflow_from
from perago.configuration import Servers
from perago.driver.operation import Operation, OperationFailed, Undone, plan_of, run_operation
from perago.failure import Failure
from perago.ports import Commit, Delivery, NotFound, SystemClock, TaskRow, WorkflowRow
from perago.text import count, listing, quoted, short
from perago.worker.plan import limits_of
from perago.workflows.picture import walk

Json = Mapping[str, Any]
UNDO = "undo"
_LOOK_SECONDS = 2.0
_OPEN_NAMED = 3
_STAGING_PREFIX = "perago-"
_HISTORY = 10_000
"""The number of commits that are read of a branch."""
_UNSUCCESSFUL = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT", "CANCELED")
_RESET = -1
"""The start time of a row that starts again: no attempt has it."""
_NEW = "new"
"""The sub-workflow of a row that starts again: none that has published."""


class FamilyAtRest:
    """All workflows of a family. As a `DeliveryCheck`, it answers for an operation whether it is at rest.

    `workflows` has the JSON of each workflow by id; None: Conductor does not have it.
    """

    def __init__(self, conductor: ConductorWorkflows, workflow_id: str) -> None:
        """Read the family of a workflow.

        Raises:
            Failure: it has too many workflows.
            ServiceError: Conductor did not answer, or does not have the workflow.
        """
        self._conductor = conductor
        self.workflows: dict[str, Json | None] = {workflow_id: conductor.workflow(workflow_id)}
        self.root_id: str = self._read_up(workflow_id)
        self.after: dict[str, WorkflowRow] = {}
        """The rows of workflows as an operation will change them, which replace those of today."""
        self._read_down(self.root_id)
        self._own_ids: set[str] = set(self.workflows)

    @property
    def members(self) -> dict[str, Json | None]:
        """The workflows of the family itself. Others are read to find out whether they belong to it."""
        return {workflow_id: self.workflows[workflow_id] for workflow_id in self._own_ids}

    def read(self, workflow_id: str) -> None:
        """Read a workflow that a commit names, and its parents, unless they are known."""
        above: str | None = workflow_id
        while above and above not in self.workflows:
            workflow = self.workflows[above] = self._workflow(above)
            above = workflow.get("parentWorkflowId") if workflow is not None else None
        if above in self._own_ids:  # a child that no row names any longer
            self._own_ids.add(workflow_id)

    def rows(self) -> dict[str, WorkflowRow | None]:
        """Return the rows of all workflows, as they will be after the operation."""
        return {
            workflow_id: self.after.get(workflow_id) or (workflow_from(workflow) if workflow is not None else None)
            for workflow_id, workflow in self.workflows.items()
        }

    def open_attempts(self) -> Iterator[tuple[str, str]]:
        """Yield the workflow id and the step of each attempt that is open, and of sub-workflows that are starting."""
        for workflow_id, workflow in self.members.items():
            if workflow is None:
                continue
            read = workflow_from(workflow)
            for row in read.rows:
                is_starting = row.is_sub_workflow and row.sub_workflow_id is None
                is_attempt = not row.is_sub_workflow and not row.is_operator
                if row.is_open and (is_attempt or is_starting) and not read.has_retry(row):
                    yield workflow_id, row.reference_name

    # ----------------------------------------------------------------- the port of an operation

    def is_current(self, delivery: Delivery) -> bool:  # noqa: ARG002 - the port's
        """Whether the family is still at rest."""
        now = FamilyAtRest(self._conductor, self.root_id)
        return not any(now.open_attempts())

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:  # noqa: ARG002 - the port's
        """Return the rows of a workflow as they will be after the operation."""
        if workflow_id in self.after:
            return self.after[workflow_id]
        workflow = self._workflow(workflow_id)
        return workflow_from(workflow) if workflow is not None else None

    # --------------------------------------------------------------------------- the operations

    def rerun(self, workflow_id: str, task_id: str | None) -> None:
        """Change the rows as a rerun from an attempt does, or from the beginning."""
        workflow = self._known(workflow_id)
        place = next((number for number, row in enumerate(workflow.rows) if row.task_id == task_id), 0)
        first, removed = workflow.rows[place : place + 1], workflow.rows[place + 1 :]
        tasks = rows_of(self.workflows[workflow_id])
        kind = next((step_type(row) for row in tasks if row["taskId"] == task_id), "")
        if task_id is None or kind == "FORK_JOIN_DYNAMIC":
            first, removed = (), (*first, *removed)
        removed_ids = {row.task_id for row in (*first, *removed)}
        left = [row for row in tasks if row["taskId"] not in removed_ids]
        earlier = workflow_from({**(self.workflows[workflow_id] or {}), "tasks": left})
        name = first[0].reference_name if first else None
        # Unlike the rows that a loop has forgotten, these are known to count no longer.
        void = [replace(row, start_time=_RESET, published_commit=None, input_commits=frozenset()) for row in removed]
        self.after[workflow_id] = replace(
            earlier,
            rows=(
                *(
                    _reset(row) if row.status in _UNSUCCESSFUL and row.reference_name != name else row
                    for row in earlier.rows
                ),
                *(replace(_reset(row), start_time=0, published_commit=None) for row in first),
                *void,
                *map(_retry_of, void),
            ),
        )
        self._revive_parents(workflow_id)

    def retry(self, workflow_id: str) -> None:
        """Change the rows as a retry of the failed steps does."""
        workflow = self._known(workflow_id)
        newest = {row.reference_name: row for row in workflow.rows}
        failed = (row for row in newest.values() if row.status in _UNSUCCESSFUL and not row.is_operator)
        self.after[workflow_id] = replace(workflow, rows=(*workflow.rows, *map(_retry_of, failed)))
        self._revive_parents(workflow_id)

    def _revive_parents(self, workflow_id: str) -> None:
        """Start the canceled attempts again that are next to the sub-workflow."""
        child, parent_id = workflow_id, self._known(workflow_id).parent_id
        while parent_id is not None and self.workflows.get(parent_id) is not None:
            parent = self._known(parent_id)
            row = next((row for row in reversed(parent.rows) if row.sub_workflow_id == child), None)
            if row is None or row.is_optional or parent.has_retry(row):
                return
            self.after[parent_id] = replace(
                parent,
                rows=tuple(
                    _reset(other) if other.status == "CANCELED" and not other.is_sub_workflow else other
                    for other in parent.rows
                ),
            )
            child, parent_id = parent_id, parent.parent_id

    # ------------------------------------------------------------------------------------- parts

    def _known(self, workflow_id: str) -> WorkflowRow:
        return self.after.get(workflow_id) or workflow_from(self.workflows[workflow_id] or {})

    def _read_up(self, workflow_id: str) -> str:
        root = workflow_id
        while parent := (self.workflows[root] or {}).get("parentWorkflowId"):
            if parent in self.workflows:
                raise Failure(f"the parents of workflow {workflow_id} form a cycle", "check the workflow in Conductor")
            self.workflows[parent] = self._conductor.workflow(parent)
            root = parent
        return root

    def _read_down(self, workflow_id: str) -> None:
        pending = [workflow_id]
        while pending:
            current = pending.pop()
            if current not in self.workflows:
                self.workflows[current] = self._workflow(current)
            if len(self.workflows) > WORKFLOWS_READ:
                problem = f"workflow {self.root_id} has more than {WORKFLOWS_READ:,} sub-workflows"
                raise Failure(problem, "start it again on another branch")
            children = [
                str(row["subWorkflowId"]) for row in rows_of(self.workflows[current]) if row.get("subWorkflowId")
            ]
            pending += [child for child in children if child not in self.workflows]

    def _workflow(self, workflow_id: str) -> Json | None:
        return unless_missing(workflow_id, self._conductor.workflow)


def _retry_of(row: TaskRow) -> TaskRow:
    return replace(_reset(row), task_id=f"retry of {row.task_id}", retried_task_id=row.task_id, published_commit=None)


def _reset(row: TaskRow) -> TaskRow:
    return replace(row, start_time=_RESET, status="SCHEDULED", poll_count=0, sub_workflow_id=_NEW)


# ------------------------------------------------------------------------------- the operation


class SharedBytes(Failure):
    """A publication cannot be undone alone, because others have published the same bytes. A step that runs again can
    replace it if it publishes them again."""


@dataclass(frozen=True, slots=True)
class PlannedCommit:
    """A publication of the family, and what the operation does with it."""

    commit: str
    step: str
    workflow_id: str
    standing: str
    """`counts`, `does not count`, `undone`, `unknown`, or `operation`."""
    message: str


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """The work of an operation on one branch."""

    repository: str
    branch: str
    ref: str
    """The commit below which nothing is undone."""
    commits: tuple[PlannedCommit, ...]
    stale: tuple[str, ...] = ()
    """The publications to undo, newest first."""
    revoked: tuple[str, ...] = ()
    """Interrupted operations to revoke, because Conductor counts what they have undone."""
    leftovers: tuple[str, ...] = ()
    """Staging branches of attempts that have ended. A publication keeps their merges from succeeding later."""

    @property
    def is_needed(self) -> bool:
        """Whether the operation has something to publish."""
        return bool(self.stale or self.revoked or self.leftovers)


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """The work of an operation on all branches of a family."""

    root_id: str
    branches: tuple[BranchPlan, ...]
    open_attempts: tuple[str, ...] = ()
    """The attempts that are open, as `step of workflow`. The operation waits for them."""

    @property
    def is_needed(self) -> bool:
        """Whether the operation has something to publish."""
        return any(branch.is_needed for branch in self.branches)


@dataclass(slots=True)
class Undoing:
    """An operation on the configured servers."""

    servers: Servers
    family: FamilyAtRest
    reason: str
    has_published: bool = False
    """Whether the operation has a commit on a branch."""

    def plan(self) -> UndoPlan:
        """Return what the operation will do, by the rows as they will be afterwards.

        Raises:
            Failure: a branch cannot be judged.
            ServiceError: a server did not answer.
        """
        targets = _targets(self.family.members, self.family.root_id)
        branches = [self._plan_of(*target, refs) for target, refs in targets.items()]
        return UndoPlan(
            self.family.root_id,
            tuple(branch for branch in branches if branch is not None),
            tuple(f"{step} of {workflow_id}" for workflow_id, step in sorted(self.family.open_attempts())),
        )

    @property
    def has_branches(self) -> bool:
        """Whether the family works on branches."""
        return bool(_targets(self.family.members, self.family.root_id))

    def carry_out(self, plan: UndoPlan) -> tuple[Undone, ...]:
        """Publish the plan, one commit for each branch.

        Raises:
            Failure: a branch could not be changed. The branches before it are, and the operation can be repeated.
        """
        return tuple(self._publish(branch) for branch in plan.branches if branch.is_needed)

    def revoke(self) -> None:
        """Bring back what the operation has undone and Conductor counts, because it did not run the steps again.

        Raises:
            Failure: a branch could not be changed.
            ServiceError: a server did not answer.
        """
        if self.has_published:
            self.family = FamilyAtRest(self.servers.workflows, self.family.root_id)
            self.carry_out(self.plan())

    def _publish(self, plan: BranchPlan) -> Undone:
        settings = self.servers.settings
        settings.workspace_root.mkdir(parents=True, exist_ok=True)
        operation = Operation(
            name=UNDO,
            root_id=self.family.root_id,
            workspace=WorkspaceRef(plan.repository, plan.branch, plan.ref),
            reason=self.reason,
            operator=f"{getpass.getuser()}@{socket.gethostname()}",
            revoked=frozenset(plan.revoked),
            leftovers=plan.leftovers,
        )
        limits = replace(limits_of(settings), history=_HISTORY)
        try:
            undone = run_operation(
                operation, self.family, self.servers.store, SystemClock(), limits, settings.workspace_root
            )
        except OperationFailed as error:
            # A final reason says itself what to do.
            fix = "" if error.is_final else f"run it again: perago undo {self.family.root_id}"
            problem = f"nothing was undone on branch {plan.branch} of {plan.repository}: {error}"
            raise (SharedBytes if error.is_shared else Failure)(problem, fix) from error
        self.has_published |= undone.commit is not None
        return undone

    def _plan_of(self, repository: str, branch: str, refs: Sequence[str]) -> BranchPlan | None:
        """Plan one branch. None: it no longer exists, or has none of the commits that the workflow was given."""
        read = self._range(repository, branch, refs)
        if read is None:
            return None
        ref, since = read
        for commit in since:
            if (by := publication.origin(commit)) is not None:
                self.family.read(by.workflow_id)
        workspace = WorkspaceRef(repository, branch, ref)
        operation = Operation(
            name=UNDO, root_id=self.family.root_id, workspace=workspace, reason=self.reason, operator=""
        )
        state = State(
            plan_of(operation, limits_of(self.servers.settings), time.time()),
            workspace=workspace,
            read=BranchRead(since, reaches_ref=True),
            workflows=self.family.rows(),
        )
        revoked = frozenset(operation for _, operation in interrupted(state))
        state = state.evolve(plan=replace(state.plan, revoked=revoked))
        ranged = standings(state)
        members = self.family.members
        own = [pair for pair in ranged if pair[0].metadata.get(publication.WORKFLOW_ID) in members]
        stale = (commit.id for commit, standing in ranged if standing in (Standing.STALE, Standing.UNPROVEN))
        return BranchPlan(
            repository,
            branch,
            ref,
            tuple(_planned(commit, standing) for commit, standing in own),
            tuple(commit_id for commit_id in stale if commit_id not in revoked),
            tuple(revoked),
            self._leftovers(repository),
        )

    def _range(self, repository: str, branch: str, refs: Sequence[str]) -> tuple[str, tuple[Commit, ...]] | None:
        """Return the oldest of `refs` on the branch, and the commits above it."""
        store, longest = self.servers.store, None
        for ref in refs:
            try:
                since = store.history(repository, branch, until=ref, limit=_HISTORY)
            except NotFound:
                return None
            if len(since) == _HISTORY:
                where = f"branch {branch} of {repository}"
                raise Failure(
                    f"{where} has {_HISTORY:,} commits or more since {short(ref)}", "start the workflow from the head"
                )
            reaches_ref = not since or since[-1].parents[:1] == (ref,)
            if reaches_ref and (longest is None or len(since) > len(longest[1])):
                longest = ref, since
        if longest is None:
            return None
        ref, since = longest
        claims = [commit for commit in since if publication.makes_claims(commit)]
        sources = {commit.id: store.get_commit(repository, commit.parents[1]) for commit in claims}
        return ref, publication.proven(since, sources)

    def _leftovers(self, repository: str) -> tuple[str, ...]:
        """Return the staging branches of the family's steps."""
        steps = {
            f"{workflow_id}:{row.get('referenceTaskName')}:{row.get('taskDefName')}"
            for workflow_id, workflow in self.family.members.items()
            for row in rows_of(workflow)
        }
        prefixes = tuple(publication.staging_prefix(step) for step in steps)
        branches = self.servers.store.list_branches(repository, _STAGING_PREFIX)
        return tuple(branch for branch in branches if branch.startswith(prefixes))


_SHOWN = {
    Standing.UNDONE: "undone",
    Standing.OPERATION: "operation",
    Standing.COUNTS: "counts",
    Standing.STALE: "does not count",
    Standing.UNPROVEN: "does not count",
    Standing.FORGOTTEN: "unknown",
    Standing.UNREAD: "unknown",
}


def _planned(commit: Commit, standing: Standing) -> PlannedCommit:
    return PlannedCommit(
        commit.id,
        commit.metadata.get(publication.REFERENCE_NAME, ""),
        commit.metadata.get(publication.WORKFLOW_ID, ""),
        _SHOWN.get(standing, "counts"),
        commit.message,
    )


def _targets(workflows: Mapping[str, Json | None], root_id: str) -> dict[tuple[str, str], list[str]]:
    """Return the branches of a family, each with the commits that the workflow that was started was given. If it was
    given none, they are those of its steps."""
    root = workflows.get(root_id) or {}
    targets = _refs_in([root.get("input")])
    rows = (row for workflow in workflows.values() for row in rows_of(workflow))
    of_steps = _refs_in(row.get("inputData") for row in rows)
    return of_steps | {target: refs for target, refs in targets.items() if refs}


def _refs_in(inputs: Iterable[Any]) -> dict[tuple[str, str], list[str]]:
    """Return the branches of the workspace blocks in inputs, at any depth, each with the commits of these blocks."""
    targets = dict[tuple[str, str], list[str]]()
    for payload in inputs:
        for block in walk(payload):
            if not (isinstance(block.get("repository"), str) and isinstance(block.get("branch"), str)):
                continue
            refs = targets.setdefault((block["repository"], block["branch"]), [])
            refs += [ref for ref in commit_ids(block.get("ref")) if ref not in refs]
    return targets


def undone_text(plan: UndoPlan, outcomes: Sequence[Undone]) -> tuple[str, ...]:
    """Say what was undone on each branch."""
    branches = [branch for branch in plan.branches if branch.is_needed]
    return tuple(
        f"undid {count(len(outcome.stale), 'publication')} on {branch.repository}/{branch.branch} "
        f"with commit {short(outcome.commit)}"
        for branch, outcome in zip(branches, outcomes, strict=True)
        if outcome.commit is not None
    )


def open_text(plan: UndoPlan) -> str:
    """Name the open attempts of a family."""
    named = listing([quoted(attempt) for attempt in plan.open_attempts], _OPEN_NAMED)
    return f"{count(len(plan.open_attempts), 'open attempt')}: {named}"


def wait_until_at_rest(undoing: Undoing, until: float) -> UndoPlan:
    """Return the plan once no attempt of the family is open.

    Raises:
        Failure: attempts are still open at `until`, in seconds since the epoch.
        ServiceError: a server did not answer.
    """
    while True:
        plan = undoing.plan()
        if not plan.open_attempts:
            return plan
        if time.time() + _LOOK_SECONDS > until:
            raise Failure(
                f"workflow {plan.root_id} has {open_text(plan)}",
                f"wait until they have ended, or end them: perago undo {plan.root_id} --terminate",
            )
        time.sleep(_LOOK_SECONDS)
        undoing.family = FamilyAtRest(undoing.servers.workflows, plan.root_id)
