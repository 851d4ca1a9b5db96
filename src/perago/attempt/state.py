"""The state of an attempt: its plan, its step, and the facts so far. It is immutable: each transition makes a new
one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perago.attempt.events import BranchRead, ChangesDetected, FenceState, PublishFenceSeen, WorkspaceRef
from perago.ports import Commit, Delivery, Report, WorkflowRow
from perago.settings.sources import PublishFence


class Step(StrEnum):
    """A step of an attempt. The name says what has been done."""

    RECEIVED = "received"
    VALIDATED = "validated"
    RECOVERED = "recovered"
    """The commits between the input ref and the branch head have been judged."""
    LISTED = "listed"
    """The files of the workspace and their sizes are known."""
    FETCHED = "fetched"
    PRE_CHECKED = "pre-checked"
    RAN = "ran"
    POST_CHECKED = "post-checked"
    PLANNED = "planned"
    """The changes to publish are known. Nothing has been sent to lakeFS yet."""
    STAGED = "staged"
    COMMITTED = "committed"
    """The staging commit exists. The next request is the merge, which is the only visible one."""
    PUBLISHED = "published"
    FAILED = "failed"
    """The outcome is a failure. The clean-up and the report remain."""
    LOST = "lost"
    """The delivery is no longer ours. Nothing more is published or reported."""
    CLEANED = "cleaned"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class Plan:
    """The facts that the protocol must know about the task, the delivery and the deployment before it starts."""

    delivery: Delivery
    perago_version: str
    staging_suffix: str
    """12 random hex digits that make the staging branch of this delivery unique."""
    worker: str = ""
    """The worker id with host and process; empty outside of workers."""
    prefix: str = ""
    read_only: bool = False
    max_changed_objects: int | None = None
    max_changed_bytes: int | None = None
    publish_fence: PublishFence = PublishFence.AUTO
    """The strictness about the publish fence."""
    rebase: bool = False
    """Whether changes are applied to a head that others have advanced (`on_moved_head`)."""
    has_reads: bool = False
    """Whether the task names files whose change by others is a conflict (`reads`)."""
    looks_into_input: bool = False
    """Whether a `pre` guardrail reads the contents of files."""
    operation: str = ""
    """The operation that publishes instead of an attempt (`undo`), or empty."""
    reason: str = ""
    """The operator's reason for it."""
    revoked: frozenset[str] = frozenset()
    """The earlier operations that it undoes, so that what they have undone is in effect again."""
    most_waits: int = 20
    """The number of times that the branch is read again before the merge, because a commit of the family has no
    evidence: for about 30 s with the driver's delays."""
    rebuild_tries: int = 3
    """The number of times that a publication can be rebuilt because the branch has changed."""


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a publication: the branch head that it expects, and the publications that it supersedes."""

    head: str
    stale: tuple[str, ...] = ()
    """Commits between input ref and head, newest first, that are undone."""
    tree: str | None = None
    """Identity of the head's tree, as lakeFS compares trees; None for the input ref, which was not read."""
    among_others: bool = False
    """Whether commits that stay can be between input ref and head, so that the changes are compared with theirs."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The questions to Conductor about the commits of the family, and the commits that it has counted."""

    counted: frozenset[str] = frozenset()
    """The commits for which there was evidence once. They are not undone, whatever rows say later."""
    optional: frozenset[str] = frozenset()
    """Those of them whose optional step has ended."""
    asked: tuple[str, ...] = ()
    """The ids in the last question to Conductor about the range to judge."""
    rereads: int = 0
    """The number of times that the parents were read again, because they named no sub-workflow yet."""
    waits: int = 0
    """The number of times that the branch was read again before the merge, because a commit had no evidence."""


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging branch of this delivery, and those of earlier ones."""

    branch: str | None = None
    """Set as soon as the branch may exist."""
    leftovers: tuple[str, ...] = ()
    """Staging branches that earlier deliveries of this step left."""
    leftovers_known: bool = True
    """False if the credentials cannot list branches. Then some may exist."""
    is_repeated: bool = False
    """Whether the staged changes have vanished once, and were staged again."""
    carried: str | None = None
    """A staging commit on another head that holds the changes, so that they need not be uploaded again."""
    reverted: Commit | None = None
    """Head of the branch after stale publications were undone on it."""
    held: frozenset[str] = frozenset()
    """Undone keys that living publications rely on. The publication must have them as the head has."""
    commit: Commit | None = None
    """The commit to merge. It may be empty, but it is always a commit of this attempt."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The publish fence of the base of the publication, and later that of the commit to merge."""

    state: FenceState | None = None
    object: str = ""
    """The id of the object of the fence."""
    of_ref: PublishFenceSeen | None = None
    """The fence of the input ref, or of a commit with the same fence. None: unknown."""
    is_new: bool = False
    """Whether the publication installs the fence, because its base has none."""


@dataclass(frozen=True, slots=True)
class Merge:
    """The merges of this attempt so far."""

    sent: int = 0
    tries: int = 0
    """The number of these merges that counts for `MERGE_TRIES`."""
    open: str | None = None
    """The description of a merge that may have taken place or may still take place, or None."""
    unanswered: bool = False
    """Whether a merge was sent that may still arrive: it has no usable answer, and was not found on the branch."""
    late_answers: int = 0
    """The number of late answers in a row that were requested again. After `LATE_ANSWERS` of them an answer counts
    anyway, because a slow service must not stop everything."""
    doubles: tuple[str, ...] | None = None
    """This attempt's own commits below its newest one, if a merge that can be empty has taken place more than once.
    None: not looked up yet."""


@dataclass(frozen=True)
class State:
    """One attempt at one moment. It has many fields, so they are in a dictionary, which is copied faster than slots."""

    plan: Plan
    step: Step = Step.RECEIVED
    workspace: WorkspaceRef | None = None
    params_sha256: str = ""
    read: BranchRead | None = None
    """The range to judge."""
    joined_refs: tuple[str, ...] = ()
    """The commits of the input, if it gives several."""
    joined: tuple[Commit, ...] = ()
    """The first-parent history from the newest of them down to the oldest."""
    workflows: Mapping[str, WorkflowRow | None] = field(default_factory=dict)
    """Conductor's rows of the workflows in the range and of their parents. They are read for each range again, because
    rows that were read before a commit say nothing about it."""
    inquiry: Inquiry = Inquiry()
    hand_back: bool = False
    """Whether the delivery is to be handed back, instead of reporting its failure."""
    base: Base | None = None
    """Set once the range is judged."""
    adopts: str | None = None
    """The publication of an earlier attempt that is adopted. Set after it has proved not to be a copy."""
    changed_since: Mapping[str, str] = field(default_factory=dict)
    """Keys of this publication that others have changed since, each with the commit."""
    result: Any = field(default=None, repr=False)
    changes: ChangesDetected = field(default_factory=ChangesDetected)
    has_directory: bool = False
    staging: Staging = Staging()
    fence: Fence = Fence()
    merge: Merge = Merge()
    rebuilt: int = 0
    """The number of times that the publication was rebuilt because the branch had changed."""
    lost_races: int = 0
    """The number of these rebuilds that were caused by other clients."""
    has_turn: bool = False
    """Whether the attempt has waited before this read of the branch."""
    shared: frozenset[str] = frozenset()
    """Keys of the changes that others have changed in the same way."""
    conflicts: Mapping[str, str] = field(default_factory=dict)
    """The reasons why the changes cannot be applied to the head, by key."""
    publication: str | None = None
    """The merge commit, once verified."""
    report: Report | None = None
    """The outcome. None as long as it is open, and for a lost delivery."""
    problem: str | None = None
    """The last answer that did not settle the merge, or why the delivery was lost."""

    def at(self, step: Step, **changes: Any) -> State:
        """Return the state after reaching `step`."""
        return self.evolve(step=step, **changes)

    def evolve(self, **changes: Any) -> State:
        """Return the state at the same step with additional facts. `dataclasses.replace` would be slow, because an
        attempt has thirty states with many fields."""
        if not changes.keys() <= vars(self).keys():
            raise TypeError(f"a state has no {', '.join(changes.keys() - vars(self).keys())}")
        state = object.__new__(State)
        vars(state).update(vars(self), **changes)
        return state

    @property
    def has_predecessor(self) -> bool:
        """Whether an earlier delivery of this step may have run: a retry, a later poll, or a delivery whose predecessor
        has left a staging branch.

        The branch also shows a rerun and a restart. A merge that has not been sent yet has a staging branch, which
        existed before this delivery began, because the delivery check is between them. An adoption has no staging
        branch, but the adopted publication is on the workspace branch.
        """
        delivery = self.plan.delivery
        is_later = delivery.retried_task_id is not None or delivery.poll_count > 1
        return is_later or bool(self.staging.leftovers) or not self.staging.leftovers_known

    @property
    def has_changes(self) -> bool:
        """Whether the changes contain anything that the branch does not have already."""
        return self.changes.count > len(self.shared)

    @property
    def must_differ(self) -> bool:
        """Whether the staged changes certainly differ from their base."""
        return self.fence.is_new or self.changes.count > len(self.shared | self.changes.uncertain)

    @property
    def is_moved(self) -> bool:
        """Whether the publication is built on another commit than the input ref."""
        return self.base is not None and self.base.head != self.ref.ref

    @property
    def rebased_onto(self) -> str | None:
        """The head that was published on, if others had moved it."""
        has_published = self.publication not in (None, self.workspace.ref if self.workspace else None)
        return self.base.head if self.base and self.rebases and self.is_moved and has_published else None

    @property
    def expected_head(self) -> str:
        """The only head of the branch on which the publication may be merged."""
        if self.base is None:
            raise ValueError("the branch has not been judged yet")
        return self.base.head

    @property
    def head(self) -> Commit | None:
        """The branch head that was read last. None if it is the input ref and no refusal needs its metadata."""
        if self.read is None:
            return None
        return self.read.since[0] if self.read.since else self.read.input_commit

    @property
    def given_refs(self) -> tuple[str, ...]:
        """The commits that the input gives."""
        return self.joined_refs or (self.ref.ref,)

    @property
    def line(self) -> tuple[Commit, ...]:
        """The history from the branch head down to the oldest given commit, newest first. A single given commit has no
        metadata here, because it was not read."""
        since = self.read.since if self.read else ()
        return (*since, *(self.joined or (Commit(self.ref.ref, (), "", "", 0, {}, ""),)))

    @property
    def rebases(self) -> bool:
        """Whether the changes are applied to a head that can have commits of others."""
        return self.plan.rebase or (self.base is not None and self.base.among_others)

    @property
    def staged(self) -> Commit:
        """The staging commit, once it exists."""
        if self.staging.commit is None:
            raise ValueError("there is no staging commit")
        return self.staging.commit

    @property
    def ref(self) -> WorkspaceRef:
        """The workspace of a task that has one."""
        if self.workspace is None:
            raise ValueError("this attempt has no workspace")
        return self.workspace
