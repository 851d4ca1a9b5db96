"""What the protocol asks the driver to do. One at a time; each is answered by one event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perago.attempt.events import Metadata, WorkspaceRef
from perago.ports import Commit, Report


@dataclass(frozen=True, slots=True)
class ValidateInput:
    """Check the payload against the task."""


@dataclass(frozen=True, slots=True)
class ResolveJoin:
    """Find the commit that continues all the others."""

    repository: str
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadBranch:
    """Read the branch's commits after the input ref."""

    workspace: WorkspaceRef
    with_head: bool = False
    """Whether the head is needed with its metadata, even if it is the input ref."""


@dataclass(frozen=True, slots=True)
class ReadLineage:
    """Follow the own chain to its beginning, and read the rows of `task_ids`, whose commits were found."""

    task_ids: tuple[str, ...]
    chain: tuple[str, ...] = ()
    """The own chain where it is known already."""


@dataclass(frozen=True, slots=True)
class ReadWorkflows:
    """Read these workflows, whose commits were found, and their parents up to the root."""

    workflow_ids: tuple[str, ...]
    repetition: int = 0
    """1, 2, ...: wait first, longer each time, because a sub-workflow was still starting."""


@dataclass(frozen=True, slots=True)
class FindLeftovers:
    """List the staging branches that other deliveries of this step have made, if any are left."""

    repository: str
    prefix: str


@dataclass(frozen=True, slots=True)
class ListObjects:
    """Make the attempt directory, list the workspace, and decide where each object goes. Nothing is downloaded yet."""

    workspace: WorkspaceRef


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download the workspace into the attempt directory."""

    workspace: WorkspaceRef


@dataclass(frozen=True, slots=True)
class CheckGuardrails:
    """Evaluate the rules of a phase on one scan of the tree. `listing`: those of `pre`, on the listing of the input."""

    phase: Literal["listing", "pre", "post"]


@dataclass(frozen=True, slots=True)
class RunFunction:
    """Call the author's function."""


@dataclass(frozen=True, slots=True)
class ValidateResult:
    """Check what the function returned against the result model, and make it JSON."""


@dataclass(frozen=True, slots=True)
class ValidateRecordedResult:
    """Check the result that an earlier attempt recorded against today's result model."""

    recorded: str
    """JSON, as it stands in the publication's metadata."""


@dataclass(frozen=True, slots=True)
class DetectChanges:
    """Compare the tree of the last scan with what was downloaded."""


@dataclass(frozen=True, slots=True)
class CheckDelivery:
    """Ask whether this is still the delivery that Conductor is waiting for."""


@dataclass(frozen=True, slots=True)
class CreateStagingBranch:
    """Create the hidden branch that holds the changes until they are published."""

    repository: str
    branch: str
    source: str


@dataclass(frozen=True, slots=True)
class StalePublication:
    """A publication to undo."""

    id: str
    parents: tuple[str, ...]
    """The head that it came on, and the commit that was merged."""
    has_undone: bool = False
    """It has undone other publications, too, and these stay undone."""
    above: int = 0
    """How many of the living commits lie above it."""


@dataclass(frozen=True, slots=True)
class RevertStale:
    """Undo what stale publications have changed themselves, newest first, on a staging branch that began at `source`.
    Make sure that exactly this is undone: the tree is that of `input_ref` then. `among_others`: what they changed is as
    it was before them, and nothing else has changed."""

    repository: str
    branch: str
    source: str
    stale: tuple[StalePublication, ...]
    input_ref: str
    among_others: bool = False
    others: tuple[tuple[str, str], ...] = ()
    """Living commits above one of the stale ones, newest first, each with its first parent. What one of them has
    changed, too, is not undone: a revert cannot distinguish its bytes from the same bytes of an earlier run."""
    shared: frozenset[str] | None = frozenset()
    """Keys that these living commits found as they wanted them, because of a stale one perhaps. None: it is not known
    which."""
    merge_open: bool = False
    """A merge of this attempt may have taken place, so a failure must not say that nothing was published."""


@dataclass(frozen=True, slots=True)
class CompareWithOthers:
    """Find out what others have changed between the input ref and `built_on`, and how that meets this attempt's own
    changes, if it has any yet."""

    repository: str
    input_ref: str
    built_on: str


@dataclass(frozen=True, slots=True)
class FindCommits:
    """Find out which of `commits`, newest first and each with its first parent, changed `keys` last: for a message."""

    repository: str
    commits: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadAdopted:
    """Read the second parent of the publication that is to be taken over: its staging commit, with the recorded result
    in full. Find out which of its files others have changed since: for a remark."""

    repository: str
    commit: Commit
    head: str
    above: tuple[tuple[str, str], ...]
    """The commits above it up to `head`, newest first, each with its first parent."""


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Wait before a try to publish on a branch that others advance, too. Before the first one, until the other attempts
    of this host have published to the branch: races among them would be lost in vain. Then, after `tries` in vain, for
    a moment, since others are at work on other hosts."""

    repository: str
    branch: str
    tries: int


@dataclass(frozen=True, slots=True)
class StageChanges:
    """Upload what was added or changed and delete what was removed, on the staging branch, but for the keys that are
    `shared` with others: there, the branch is so already."""

    repository: str
    branch: str
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CarryChanges:
    """Bring the changes that staging commit `source` holds to another staging branch, which began at `onto`, so that no
    byte is uploaded again: a merge, and lakeFS merges lossily. What came of it must be verified."""

    repository: str
    source: str
    branch: str
    onto: str
    message: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class StageFence:
    """Upload the publish fence to the staging branch of a publication that brings it along."""

    repository: str
    branch: str


@dataclass(frozen=True, slots=True)
class CommitStaging:
    """Commit what is staged on a branch that began at commit `source`."""

    repository: str
    branch: str
    source: str
    message: str
    metadata: Metadata
    allow_empty: bool = False


@dataclass(frozen=True, slots=True)
class VerifyStaging:
    """Compare the staging commit with the commit that it was built on. Exactly the planned keys may differ: those of
    the task if it has `changes`, without those that are `shared` with others, and that of the publish fence if it was
    brought along."""

    repository: str
    built_on: str
    commit_id: str
    changes: bool
    fence: bool
    shared: frozenset[str] = frozenset()
    head: str = ""
    held: frozenset[str] = frozenset()
    """Keys that must be as they are in `head`: living publications rely on them, and what is stale was undone there."""


@dataclass(frozen=True, slots=True)
class CheckPublishFence:
    """Look whether a commit has the publish fence. A commit does not change, so what is found holds for every merge of
    it."""

    repository: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class TryPublishFence:
    """Make sure that the server obeys the publish fence: a challenge merge of `source` into the attempt's own staging
    branch must be refused, because it expects an impossible head. Nothing is sent if that is known already of the
    object `fence`, which `source` has."""

    repository: str
    source: str
    branch: str
    metadata: Metadata
    fence: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge the staging commit, by its id, into the workspace branch."""

    repository: str
    source: str
    branch: str
    message: str
    metadata: Metadata
    allow_empty: bool = False


@dataclass(frozen=True, slots=True)
class ReadPublication:
    """Read the merge commit back."""

    repository: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class RemoveStagingBranches:
    """Delete staging branches; a failure is logged and nothing else."""

    repository: str
    branches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveDirectory:
    """Delete the attempt directory; a failure is logged and nothing else."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """Tell Conductor."""

    report: Report


Command = (
    ValidateInput
    | ResolveJoin
    | ReadBranch
    | ReadLineage
    | ReadWorkflows
    | FindLeftovers
    | ListObjects
    | Fetch
    | CheckGuardrails
    | RunFunction
    | ValidateResult
    | ValidateRecordedResult
    | DetectChanges
    | CheckDelivery
    | CreateStagingBranch
    | RevertStale
    | CompareWithOthers
    | FindCommits
    | ReadAdopted
    | AwaitTurn
    | StageChanges
    | CarryChanges
    | StageFence
    | CommitStaging
    | VerifyStaging
    | CheckPublishFence
    | TryPublishFence
    | Merge
    | ReadPublication
    | RemoveStagingBranches
    | RemoveDirectory
    | SendReport
)
