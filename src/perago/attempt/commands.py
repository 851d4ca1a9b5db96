"""The commands that the protocol gives the driver, one at a time. Each is answered by one event."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, dataclass_transform

from perago.attempt import events as on
from perago.attempt.events import Metadata, WorkspaceRef
from perago.ports import Commit, Report

Kind = TypeVar("Kind")
Service = Literal["lakeFS", "Conductor"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """The properties of a command that the driver and the tests derive their tables from."""

    name: str
    """The driver's method for the command: `read_branch` for `ReadBranch`."""
    answers: tuple[type[Any], ...]
    """The events that answer the command, apart from `CommandFailed` and `DeliveryLost`."""
    service: Service | None
    """The service that the command sends requests to; None: it does not use the network."""
    is_clean_up: bool
    """The command is carried out to its end, also and especially for a lost delivery."""

    @property
    def is_cut_short(self) -> bool:
        """Whether the loss of the delivery ends the command at any point.

        The data that it has sent to lakeFS can be thrown away, or is found again: the delivery is lost, and its staging
        branch is deleted unless a merge was sent. Other commands are short, or end early on their own.
        """
        return self.service == "lakeFS" and not self.is_clean_up


class Command:
    """A piece of work for the driver."""

    __slots__ = ()


COMMANDS: dict[type[Any], Declaration] = {}
"""Every command of this module."""


@dataclass_transform(frozen_default=True)
def command(
    *answers: type[Any], service: Service | None = None, is_clean_up: bool = False
) -> Callable[[type[Kind]], type[Kind]]:
    """Declare a command, which becomes a frozen dataclass. The arguments are the fields of `Declaration`."""

    def declare(kind: type[Kind]) -> type[Kind]:
        made = dataclass(frozen=True, slots=True)(kind)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        COMMANDS[made] = Declaration(name, answers, service, is_clean_up)
        return made

    return declare


@command(on.InputAccepted)
class ValidateInput(Command):
    """Check the payload against the task."""


@command(on.JoinResolved, service="lakeFS")
class ResolveJoin(Command):
    """Find the commit that has all the others in its history."""

    repository: str
    commits: tuple[str, ...]


@command(on.BranchRead, service="lakeFS")
class ReadBranch(Command):
    """Read the branch's commits after the input ref."""

    workspace: WorkspaceRef
    with_head: bool = False
    """Whether the head is needed with its metadata, even if it is the input ref."""


@command(on.LineageRead, service="Conductor")
class ReadLineage(Command):
    """Follow the own chain to its beginning, and read the rows of `task_ids`, whose commits were found."""

    task_ids: tuple[str, ...]
    chain: tuple[str, ...] = ()
    """The own chain where it is known already."""


@command(on.WorkflowsRead, service="Conductor")
class ReadWorkflows(Command):
    """Read these workflows, whose commits were found, and their parents up to the root."""

    workflow_ids: tuple[str, ...]
    repetition: int = 0
    """1, 2, ...: wait first, longer each time, because a sub-workflow was still starting."""


@command(on.LeftoversFound, service="lakeFS")
class FindLeftovers(Command):
    """List the staging branches that other deliveries of this step have made, if any are left."""

    repository: str
    prefix: str


@command(on.ObjectsListed, service="lakeFS")
class ListObjects(Command):
    """Make the attempt directory, list the workspace, and decide where each object goes. Nothing is downloaded yet."""

    workspace: WorkspaceRef


@command(on.Fetched, service="lakeFS")
class Fetch(Command):
    """Download the workspace into the attempt directory."""

    workspace: WorkspaceRef


@command(on.GuardrailsChecked)
class CheckGuardrails(Command):
    """Evaluate the rules of a phase on one scan of the tree. `listing`: those of `pre`, on the listing of the input."""

    phase: Literal["listing", "pre", "post"]


@command(on.FunctionReturned)
class RunFunction(Command):
    """Call the author's function."""


@command(on.ResultAccepted)
class ValidateResult(Command):
    """Check what the function returned against the result model, and make it JSON."""


@command(on.ResultAccepted)
class ValidateRecordedResult(Command):
    """Check the result that an earlier attempt recorded against today's result model."""

    recorded: str
    """JSON, as in the publication's metadata."""


@command(on.ChangesDetected)
class DetectChanges(Command):
    """Compare the tree of the last scan with what was downloaded."""


@command(on.DeliveryConfirmed, service="Conductor")
class CheckDelivery(Command):
    """Ask whether this is still the delivery that Conductor is waiting for."""


@command(on.StagingBranchCreated, service="lakeFS")
class CreateStagingBranch(Command):
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
    """The number of living commits above it."""


@command(on.Reverted, on.NothingStaged, service="lakeFS")
class RevertStale(Command):
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


@command(on.OthersCompared, service="lakeFS")
class CompareWithOthers(Command):
    """Find out what others have changed between the input ref and `built_on`, and how that meets this attempt's own
    changes, if it has any yet."""

    repository: str
    input_ref: str
    built_on: str


@command(on.CommitsFound, service="lakeFS")
class FindCommits(Command):
    """Find out which of `commits`, newest first and each with its first parent, changed `keys` last: for a message."""

    repository: str
    commits: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]


@command(on.AdoptedRead, service="lakeFS")
class ReadAdopted(Command):
    """Read the second parent of the publication that is to be taken over: its staging commit, with the recorded result
    in full. Find out which of its files others have changed since: for a remark."""

    repository: str
    commit: Commit
    head: str
    above: tuple[tuple[str, str], ...]
    """The commits above it up to `head`, newest first, each with its first parent."""


@command(on.TurnCame, service="lakeFS")
class AwaitTurn(Command):
    """Wait before publishing to a branch that others advance, too. The first time, wait until the other attempts of
    this host have published to the branch, so that they do not race each other. After `tries` lost races, wait for a
    moment, because attempts on other hosts are publishing."""

    repository: str
    branch: str
    tries: int


@command(on.ChangesStaged, service="lakeFS")
class StageChanges(Command):
    """Upload what was added or changed and delete what was removed, on the staging branch, but for the keys that are
    `shared` with others: there, the branch is so already."""

    repository: str
    branch: str
    shared: frozenset[str] = frozenset()


@command(on.StagingCommitted, on.CarryRefused, service="lakeFS")
class CarryChanges(Command):
    """Merge the changes of staging commit `source` into another staging branch, which began at `onto`, so that nothing
    is uploaded again. lakeFS's merge can lose changes, so the result must be verified."""

    repository: str
    source: str
    branch: str
    onto: str
    message: str
    metadata: Metadata


@command(on.FenceStaged, service="lakeFS")
class StageFence(Command):
    """Upload the publish fence to the staging branch of a publication that brings it along."""

    repository: str
    branch: str


@command(on.StagingCommitted, on.NothingStaged, service="lakeFS")
class CommitStaging(Command):
    """Commit what is staged on a branch that began at commit `source`."""

    repository: str
    branch: str
    source: str
    message: str
    metadata: Metadata
    allow_empty: bool = False


@command(on.StagingVerified, on.StagingDiffers, service="lakeFS")
class VerifyStaging(Command):
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


@command(on.PublishFenceSeen, service="lakeFS")
class CheckPublishFence(Command):
    """Check whether a commit has the publish fence. A commit never changes, so the answer holds for each of its
    merges."""

    repository: str
    commit_id: str


@command(on.PublishFenceTried, service="lakeFS")
class TryPublishFence(Command):
    """Make sure that the server obeys the publish fence: a challenge merge of `source` into the attempt's own staging
    branch must be refused, because it expects an impossible head. Nothing is sent if that is known already of the
    object `fence`, which `source` has."""

    repository: str
    source: str
    branch: str
    metadata: Metadata
    fence: str = ""


@command(on.Merged, on.MergeRefused, on.MergeUnclear, service="lakeFS")
class Merge(Command):
    """Merge the staging commit, by its id, into the workspace branch."""

    repository: str
    source: str
    branch: str
    message: str
    metadata: Metadata
    allow_empty: bool = False


@command(on.PublicationRead, service="lakeFS")
class ReadPublication(Command):
    """Read the merge commit back."""

    repository: str
    commit_id: str


@command(on.StagingBranchesRemoved, service="lakeFS", is_clean_up=True)
class RemoveStagingBranches(Command):
    """Delete staging branches; a failure is only logged."""

    repository: str
    branches: tuple[str, ...]


@command(on.DirectoryRemoved, is_clean_up=True)
class RemoveDirectory(Command):
    """Delete the attempt directory; a failure is only logged."""


@command(on.ReportSent, on.ReportUnclear, service="Conductor")
class SendReport(Command):
    """Send the report to Conductor."""

    report: Report
