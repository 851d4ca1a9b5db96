"""The events. Each one is the result of a command that the driver carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perago.ports import Commit, MergeRefusal, WorkflowRow


class FenceState(StrEnum):
    """The publish fence of a commit. `perago fence status` and the records of attempts use these words."""

    ABSENT = "absent"
    ALTERED = "altered"
    """A file has the name of the fence, but a different text. It can belong to another team."""
    INSTALLED = "installed"
    """The file exists, and the server was not challenged."""
    ENFORCED = "enforced"
    """The server refused the challenge."""
    NOT_ENFORCED = "not enforced"
    """The server accepted the challenge, because it runs no hooks."""


class Event:
    """The result of a command."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class WorkspaceRef:
    """The workspace block of an input: what to read, and the branch that success advances."""

    repository: str
    branch: str
    ref: str
    """Empty for a join until the commit that continues the others is known, and for a delivery that only asks for the
    newest commit of the branch until it is read."""
    ref_key: str = "ref_type"
    """The spelling in the input, which the output repeats."""


@dataclass(frozen=True, slots=True)
class InputAccepted(Event):
    """The input is valid. `workspace` is None for a task without one. `joined` has the commits if the input gives
    several. `params_sha256` is empty if the input only asks for the newest commit of the branch: it has no params."""

    workspace: WorkspaceRef | None
    params_sha256: str
    joined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinResolved(Event):
    """The first-parent history from the commit that has all others of the join in it, down to the oldest of them.
    `sources` as in `BranchRead`."""

    line: tuple[Commit, ...]
    sources: Mapping[str, Commit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BranchRead(Event):
    """The commits of the branch after the input ref, newest first. Without a ref, only the newest commit.

    `reaches_ref`: the first-parent history was followed down to the input ref. Otherwise the ref is not in the branch's
    history, or there are more commits than were read. `late`: the answer took so long that earlier answers are
    outdated.
    """

    since: tuple[Commit, ...]
    reaches_ref: bool
    late: bool = False
    input_commit: Commit | None = None
    """The commit of the input ref, if it is the head and was asked for."""
    sources: Mapping[str, Commit] = field(default_factory=dict)
    """The second parents of the commits that claim to have undone others, by the ids of these commits."""

    def head(self, ref: str) -> str:
        """Return the branch head, given the input ref."""
        return self.since[0].id if self.since else ref


@dataclass(frozen=True, slots=True)
class WorkflowsRead(Event):
    """The answer of Conductor about workflows, by id. None means that the workflow no longer exists."""

    rows: Mapping[str, WorkflowRow | None]


@dataclass(frozen=True, slots=True)
class LeftoversFound(Event):
    """Staging branches of other deliveries of this step, all created before this answer. If not `complete`, the
    credentials cannot list branches, so some may be missing."""

    branches: tuple[str, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ObjectsListed(Event):
    """The listing of the workspace is known, and this disk can hold all files."""


@dataclass(frozen=True, slots=True)
class Fetched(Event):
    """The workspace is on disk, complete and verified."""


@dataclass(frozen=True, slots=True)
class GuardrailsChecked(Event):
    """One phase of guardrails was evaluated; `violations` has a complete sentence for each violated rule."""

    violations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FunctionReturned(Event):
    """The author's function returned. Its value stays with the driver until it is validated."""


@dataclass(frozen=True, slots=True)
class ResultAccepted(Event):
    """The returned value is a valid result; `result` is its JSON."""

    result: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangesDetected(Event):
    """The changes of the function: paths relative to the workspace, `size` in bytes to upload."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    size: int = 0
    uncertain: frozenset[str] = frozenset()
    """Keys of `changed` whose earlier bytes are unknown and can be the same."""

    @property
    def count(self) -> int:
        return len(self.added) + len(self.changed) + len(self.removed)


@dataclass(frozen=True, slots=True)
class DeliveryConfirmed(Event):
    """Conductor is still waiting for this delivery. `late`: the answer took so long that this may have changed.

    `line` has the workflow of the delivery and its parents, if they were asked for and there are parents."""

    late: bool = False
    line: Mapping[str, WorkflowRow | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeliveryLost(Event):
    """Conductor no longer waits for this delivery. This answers `CheckDelivery`. It also answers every other command,
    apart from the clean-up, if the worker noticed the loss in the meantime. Such a command may have been carried out,
    but a `Merge` was not sent: a sent one is answered with `MergeUnclear`."""


@dataclass(frozen=True, slots=True)
class StagingBranchCreated(Event):
    """The staging branch exists."""


@dataclass(frozen=True, slots=True)
class StaleCommit:
    """A publication to undo, as it is on the server. Keys are those of objects."""

    commit: Commit
    source: Commit
    """Its second parent."""
    changed: frozenset[str] | None = None
    """The keys in which it differs from its first parent. This and the next two fields are only read if it was merged
    into another head than it was built on."""
    staged: frozenset[str] | None = None
    """The keys in which the second parent differs from the expected head; None: there is no such commit."""
    differing: frozenset[str] = frozenset()
    """The keys in which it differs from its second parent."""


@dataclass(frozen=True, slots=True)
class StaleRead(Event):
    """The publications to undo were read, newest first."""

    commits: tuple[StaleCommit, ...]


@dataclass(frozen=True, slots=True)
class RevertedChanges:
    """The outcome of one revert. Keys are those of objects."""

    touched: frozenset[str] = frozenset()
    """The keys that the reverted commit has changed."""
    left: frozenset[str] = frozenset()
    """Those of them that are not as they were before that commit."""
    superseded: frozenset[str] = frozenset()
    """The keys in which the publication differs from its first parent, if it has undone others."""
    still_different: frozenset[str] = frozenset()
    """The keys in which the head differs from that first parent."""


@dataclass(frozen=True, slots=True)
class Reverted(Event):
    """Stale publications were reverted on the staging branch, whose head is `commit`. Nothing is verified yet."""

    commit: Commit
    changes: tuple[RevertedChanges, ...] = ()
    """One for each publication of the command."""
    changed: frozenset[str] = frozenset()
    """The keys that the reverts have changed; only among others."""
    others: tuple[frozenset[str], ...] = ()
    """The keys that each living commit of the command has changed; empty if they were not needed."""
    beyond_input: frozenset[str] = frozenset()
    """The keys in which the head differs from the input ref; only without others."""
    is_whole: bool = True
    """Whether each revert has changed something."""


@dataclass(frozen=True, slots=True)
class OthersCompared(Event):
    """The relevant changes of others since the input ref."""

    conflicts: Mapping[str, str] = field(default_factory=dict)
    """Keys in conflict, each with the reason."""
    shared: frozenset[str] = frozenset()
    """Keys that others have changed in the same way."""
    violations: tuple[str, ...] = ()
    """Post guardrails that both changes together violate, a sentence for each."""
    fence_changed: bool = False
    """Whether they have changed the publish fence."""


@dataclass(frozen=True, slots=True)
class CommitsFound(Event):
    """The commit that changed each key last. A key is missing if its commit is unknown."""

    by_key: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AdoptedRead(Event):
    """The publication to adopt, and its second parent, `source`. `changed_since` has those of its keys that others have
    changed since, if this is known, each with the last commit that changed it; the commit is empty if it is unknown."""

    commit: Commit
    source: Commit
    changed_since: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnCame(Event):
    """The wait has ended. If not `in_time`, the delivery has no time left to publish again."""

    in_time: bool = True


@dataclass(frozen=True, slots=True)
class CarryRefused(Event):
    """lakeFS refused to bring the changes to the other branch, which is unchanged."""

    detail: str


@dataclass(frozen=True, slots=True)
class ChangesStaged(Event):
    """Changed files are uploaded and removed ones deleted, on the staging branch."""


@dataclass(frozen=True, slots=True)
class FenceStaged(Event):
    """The publish fence is uploaded to the staging branch."""


@dataclass(frozen=True, slots=True)
class StagingCommitted(Event):
    """The staging branch has a commit, which the driver believes to be this attempt's."""

    commit: Commit


@dataclass(frozen=True, slots=True)
class NothingStaged(Event):
    """lakeFS found nothing to commit, or a revert changed nothing although it had to."""


@dataclass(frozen=True, slots=True)
class StagingVerified(Event):
    """The staging commit differs from its base in exactly the planned changes. `fence` identifies the object of a
    publish fence that the publication installs."""

    fence: str = ""


@dataclass(frozen=True, slots=True)
class StagingDiffers(Event):
    """The staging commit does not contain exactly the planned changes. `keys` are the wrong ones, sorted. `held`: the
    changes are as planned, but would overwrite these keys of living publications."""

    keys: tuple[str, ...]
    held: bool = False


@dataclass(frozen=True, slots=True)
class PublishFenceSeen(Event):
    """Whether a commit has perago's publish fence: absent, altered or installed. `fence` identifies the object."""

    state: FenceState
    fence: str = ""


@dataclass(frozen=True, slots=True)
class PublishFenceTried(Event):
    """Whether the server obeys the publish fence: it refused the challenge, now or a short time ago. None: no
    answer."""

    enforced: bool | None


@dataclass(frozen=True, slots=True)
class Merged(Event):
    """lakeFS answered that the merge took place."""

    commit_id: str


@dataclass(frozen=True, slots=True)
class MergeRefused(Event):
    """lakeFS refused the merge; the text is the server's."""

    reason: MergeRefusal
    detail: str


@dataclass(frozen=True, slots=True)
class MergeUnclear(Event):
    """The answer to the merge did not arrive, so the merge may have taken place."""

    detail: str


@dataclass(frozen=True, slots=True)
class PublicationRead(Event):
    """The merge commit as it is on the server."""

    commit: Commit


@dataclass(frozen=True, slots=True)
class StagingBranchesRemoved(Event):
    """The staging branches were deleted, or could not be, which is only logged."""


@dataclass(frozen=True, slots=True)
class DirectoryRemoved(Event):
    """The attempt directory was deleted, or could not be, which is only logged."""


@dataclass(frozen=True, slots=True)
class ReportSent(Event):
    """Conductor answered the report. The answer does not say whether Conductor accepted it
    (`docs/dev/servers/conductor.md`, "Fifteen behaviors", point 2)."""


@dataclass(frozen=True, slots=True)
class ReportUnclear(Event):
    """The report got no answer. `sent` is False if it certainly did not arrive."""

    detail: str
    sent: bool = True


@dataclass(frozen=True, slots=True)
class CommandFailed(Event):
    """A command could not be carried out. `reason` is a complete sentence, its most useful part first."""

    reason: str
    terminal: bool


Metadata = Mapping[str, str]
