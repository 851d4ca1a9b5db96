"""Find and remove the leftovers of attempts: their directories here, their hidden branches on lakeFS.

A small private file keeps the ages of branches between two runs of `perago gc`. If it is lost, branches only stay
longer, because a branch that is not in the file counts as new.

Attempts remove their own leftovers and, when they publish, those of earlier deliveries of their step; workers sweep
their directories. The remaining leftovers come from workers that were killed, and from merges without an answer in
workflows that did not continue.

Deleting a branch can neither stop nor change a publication: a merge names the staging *commit*, which stays readable
without its branch (`docs/dev/servers/lakefs.md`, "Statuses with the hook in place"). A deletion could harm a delivery
that is still staging, and a rerun, which would not know that a merge may still arrive (`perago.attempt.protocol` 9). So
a branch is removed only if Conductor says that its delivery has ended. A branch without a delivery is removed if
nothing has happened on it for a long time. No branch is removed before `LONGEST_SILENCE`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from perago.atomic_file import replace_file
from perago.attempt.publication import is_staging_branch, staged_for
from perago.driver.fencing import is_scratch_branch
from perago.failure import Finding, Level
from perago.ports import Commit, Delivery, DeliveryCheck, NotFound, ServiceError, Unavailable, WorkspaceStore
from perago.text import age, count, listing, size
from perago.workspace.sweep import dead_directories, remove_dead

_LARGEST = 16 * 1024 * 1024


class BranchAges:
    """The times at which branches of one lakeFS server got their heads. They are read at creation, and written by
    `save`."""

    def __init__(self, file: Path, server: str) -> None:
        """`server`: the address, because repositories of two servers can have the same name."""
        self.file = file
        self._server = server
        self._branches = _read(file)

    def since(self, repository: str, branch: str, head: str, now: float) -> float:
        """Return the time at which `branch` was first seen at the commit `head`, in seconds since the epoch, or `now`.
        A branch that has moved is alive, so its time begins again."""
        branches = self._branches.setdefault(self._server, {}).setdefault(repository, {})
        known = branches.get(branch)
        if known is None or known[0] != head or known[1] > now:
            known = branches[branch] = (head, now)
        return known[1]

    def keep_only(self, repository: str, branches: Collection[str]) -> None:
        """Forget the branches of a repository that no longer exist."""
        known = self._branches.get(self._server, {}).get(repository, {})
        for gone in set(known).difference(branches):
            del known[gone]

    def save(self) -> None:
        """Write everything back as a unit, readable by this user only, if anything is new.

        Raises:
            OSError: it cannot be written.
        """
        if self._branches == _read(self.file):
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.file, json.dumps(self._branches).encode(), mode=0o600)


_Branches = dict[str, dict[str, dict[str, tuple[str, float]]]]
"""The head of each branch, and the time since which it is the head, by server, repository and branch."""


def _read(file: Path) -> _Branches:
    """Return the contents of the file; empty if it cannot be read or is malformed."""
    try:
        with file.open(encoding="utf-8") as opened:
            document: Any = json.loads(opened.read(_LARGEST))
        return {
            str(server): {
                str(repository): {str(branch): (str(head), float(since)) for branch, (head, since) in branches.items()}
                for repository, branches in repositories.items()
            }
            for server, repositories in document.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


LONGEST_SILENCE = 3600.0
"""Seconds for which a branch is kept after its last known change, whatever the age limit. A living delivery can need
this long between the creation of its branch and its commit, and no proxy delays the merge of a dead delivery longer."""

_PREFIX = "perago-"


class Fate(StrEnum):
    """The fate of a leftover, in a dry run the expected one."""

    REMOVED = "removed"
    KEPT = "kept"
    UNDECIDED = "undecided"
    """It is kept, because it is unknown whether its delivery has ended."""
    FAILED = "failed"
    """It could not be removed."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An attempt directory (`repository` is None, `name` its path) or a branch of a repository."""

    name: str
    repository: str | None
    fate: Fate
    reason: str
    size: int | None = None
    """The bytes of a directory."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The leftovers to remove: those older than `older_than` seconds at `now`. `dry_run`: remove nothing."""

    older_than: float
    now: float
    dry_run: bool = False

    def keeps(self, since: float, longest: float = 0.0) -> bool:
        """Whether something that happened at `since` is too young to be removed."""
        return self.now - since < max(self.older_than, longest)

    def ago(self, since: float) -> str:
        """Return the age as `3 d ago`."""
        return f"{age(self.now - since)} ago"


def clear_directories(root: Path, policy: Policy) -> Iterator[Leftover]:
    """Remove attempt directories below `root` that no process holds. A directory that a process holds is not a
    leftover."""
    for directory in dead_directories(root):
        fate, reason = Fate.REMOVED, f"no process holds it; its attempt began {policy.ago(directory.began)}"
        if policy.keeps(directory.began):
            fate = Fate.KEPT
        elif not policy.dry_run and (problem := remove_dead(root, directory.path)) is not None:
            fate, reason = Fate.FAILED, problem
        yield Leftover(str(directory.path), None, fate, reason, directory.size)


class BranchClearing:
    """Judges and removes hidden branches. `delivery_check`: Conductor; None if no Conductor can be asked."""

    def __init__(
        self, store: WorkspaceStore, delivery_check: DeliveryCheck | None, ages: BranchAges, policy: Policy
    ) -> None:
        self._store = store
        self._delivery_check = delivery_check
        self._ages = ages
        self._policy = policy
        self.silence: ServiceError | None = None
        """The reason why Conductor did not answer. Then it is not asked again."""

    def clear(self, repository: str) -> Iterator[Leftover]:
        """Yield every staging branch and every scratch branch of the fence in `repository`, removed or not.

        Raises:
            ServiceError: lakeFS does not answer, or has no such repository.
        """
        names = self._store.list_branches(repository, _PREFIX)
        branches = [name for name in names if is_staging_branch(name) or is_scratch_branch(name)]
        self._ages.keep_only(repository, branches)
        for branch in branches:
            try:
                head = self._store.get_commit(repository, branch)
            except NotFound:  # gone since the list was made
                continue
            yield self._carry_out(self._judge(repository, branch, head))

    def _judge(self, repository: str, branch: str, head: Commit) -> Leftover:
        delivery = staged_for(head, branch)
        fate, reason = (
            self._judge_undated(repository, branch, head)
            if delivery is None
            else self._judge_delivery(delivery, head.created)
        )
        return Leftover(branch, repository, fate, reason)

    def _judge_delivery(self, delivery: Delivery, committed: float) -> tuple[Fate, str]:
        whose = f"task {delivery.task_id} of workflow {delivery.workflow_id}"
        made = f"committed {self._policy.ago(committed)} for {whose}"
        if self._policy.keeps(committed, LONGEST_SILENCE):
            return Fate.KEPT, made
        if self._delivery_check is None:
            return Fate.KEPT, f"{made}; no Conductor is configured that could say whether it has ended"
        is_current = self._ask(self._delivery_check, delivery)
        if is_current is None:
            return Fate.UNDECIDED, f"{made}; Conductor did not say whether it has ended"
        if is_current:
            return Fate.KEPT, f"{made}, which Conductor is waiting for"
        return Fate.REMOVED, f"{made}, which Conductor is not waiting for"

    def _ask(self, delivery_check: DeliveryCheck, delivery: Delivery) -> bool | None:
        if self.silence is None:
            try:
                return delivery_check.is_current(delivery)
            except ServiceError as error:
                self.silence = error
        return None

    def _judge_undated(self, repository: str, branch: str, head: Commit) -> tuple[Fate, str]:
        """Judge a branch that names no delivery, because it has no commit of its own, or one that only undoes
        others."""
        staged = self._store.newest_staged(repository, branch)
        if staged is not None:
            fate = Fate.KEPT if self._policy.keeps(staged, LONGEST_SILENCE) else Fate.REMOVED
            return fate, f"names no delivery; something was staged there {self._policy.ago(staged)}"
        since = self._ages.since(repository, branch, head.id, self._policy.now)
        if not self._policy.keeps(since, LONGEST_SILENCE):
            return Fate.REMOVED, f"names no delivery, has nothing staged, and was like this {self._policy.ago(since)}"
        return Fate.KEPT, f"names no delivery and has nothing staged; seen first {self._policy.ago(since)}"

    def _carry_out(self, leftover: Leftover) -> Leftover:
        if leftover.fate is not Fate.REMOVED or self._policy.dry_run or leftover.repository is None:
            return leftover
        try:
            self._store.delete_branch(leftover.repository, leftover.name)
        except Unavailable:
            raise
        except ServiceError as error:
            return replace(leftover, fate=Fate.FAILED, reason=error.detail)
        return leftover


LEFTOVER_AGE = 86_400.0
"""Seconds after which the leftovers of a killed attempt are reported."""


def check_directories(root: Path, now: float) -> Iterator[Finding]:
    """Look for directories of killed attempts, and list the workers on this machine."""
    policy = Policy(LEFTOVER_AGE, now, dry_run=True)
    dead = [leftover for leftover in clear_directories(root, policy) if leftover.fate is Fate.REMOVED]
    if dead:
        held = size(sum(leftover.size or 0 for leftover in dead))
        what = f"{count(len(dead), 'directory', 'directories')} of killed attempts: {held}"
        yield Finding("leftovers", Level.WARNING, what, "they fill the disk", "perago gc")


def check_branches(
    store: WorkspaceStore, check: DeliveryCheck | None, ages: BranchAges, repository: str, now: float
) -> Iterator[Finding]:
    """Look for staging branches that no delivery needs. `branch` reports a repository that does not exist.

    `check` is Conductor, None if it does not answer.

    Raises:
        ServiceError: lakeFS did not answer.
    """
    clearing = BranchClearing(store, check, ages, Policy(LEFTOVER_AGE, now, dry_run=True))
    try:
        stray = [leftover.name for leftover in clearing.clear(repository) if leftover.fate is Fate.REMOVED]
    except NotFound:
        return
    if stray:
        what = f"{count(len(stray), 'leftover staging branch', 'leftover staging branches')}: {listing(stray, 3)}"
        why = "each search for leftovers takes longer"
        yield Finding(repository, Level.WARNING, what, why, f"perago gc {repository}")
    else:
        yield Finding(repository, Level.OK, "no leftover staging branches")
