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
    """The properties of a command. The driver and the tests derive their tables from them."""

    name: str
    """The driver's method for the command: `read_branch` for `ReadBranch`."""
    words: str
    """The work as a person who waits for it reads it."""
    answers: tuple[type[Any], ...]
    """The events that answer the command, apart from `CommandFailed` and `DeliveryLost`."""
    service: Service | None
    """The service that the command sends requests to; None: it does not use the network."""
    is_clean_up: bool
    """Whether the command is carried out to its end even if the delivery is lost."""

    @property
    def is_cut_short(self) -> bool:
        """Whether the loss of the delivery ends the command at any point.

        The data that the command has sent to lakeFS is thrown away with the staging branch, or found again if a merge
        was sent. Other commands are short, or end early on their own.
        """
        return self.service == "lakeFS" and not self.is_clean_up


class Command:
    """A piece of work for the driver."""

    __slots__ = ()


COMMANDS: dict[type[Any], Declaration] = {}
"""Every command of this module."""


@dataclass_transform(frozen_default=True)
def command(
    words: str, *answers: type[Any], service: Service | None = None, is_clean_up: bool = False
) -> Callable[[type[Kind]], type[Kind]]:
    """Declare a command, which becomes a frozen dataclass. The arguments are the fields of `Declaration`."""

    def declare(kind: type[Kind]) -> type[Kind]:
        made = dataclass(frozen=True, slots=True)(kind)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        COMMANDS[made] = Declaration(name, words, answers, service, is_clean_up)
        return made

    return declare


@command("validating the input", on.InputAccepted)
class ValidateInput(Command):
    """Check the payload against the task."""


@command("looking for the commit that continues all others", on.JoinResolved, service="lakeFS")
class ResolveJoin(Command):
    """Find the commit that has all the others in its history."""

    repository: str
    commits: tuple[str, ...]


@command("reading the branch", on.BranchRead, service="lakeFS")
class ReadBranch(Command):
    """Read the branch's commits after the input ref."""

    workspace: WorkspaceRef
    with_head: bool = False
    """Whether the head is needed with its metadata, even if it is the input ref."""


@command("reading the workflows that published to the branch", on.WorkflowsRead, service="Conductor")
class ReadWorkflows(Command):
    """Read these workflows, whose commits are in the range, and their parents up to the root."""

    workflow_ids: tuple[str, ...]
    repetition: int = 0
    """The number of this repetition. From 1 on, the driver waits first, longer each time, because the parent did not
    name the sub-workflow yet."""


@command("looking for leftovers of earlier deliveries", on.LeftoversFound, service="lakeFS")
class FindLeftovers(Command):
    """List the remaining staging branches of other deliveries of this step."""

    repository: str
    prefix: str


@command("listing the workspace", on.ObjectsListed, service="lakeFS")
class ListObjects(Command):
    """Create the attempt directory, list the workspace, and choose a path for each object. Nothing is downloaded
    yet."""

    workspace: WorkspaceRef


@command("downloading the workspace", on.Fetched, service="lakeFS")
class Fetch(Command):
    """Download the workspace into the attempt directory."""

    workspace: WorkspaceRef


@command("checking guardrails", on.GuardrailsChecked)
class CheckGuardrails(Command):
    """Evaluate the rules of a phase on one scan of the tree. `listing`: evaluate the rules of `pre` on the listing of
    the input."""

    phase: Literal["listing", "pre", "post"]


@command("running the function", on.FunctionReturned)
class RunFunction(Command):
    """Call the author's function."""


@command("validating the result", on.ResultAccepted)
class ValidateResult(Command):
    """Validate the return value of the function with the result model, and convert it to JSON."""


@command("validating the result of an earlier attempt", on.ResultAccepted)
class ValidateRecordedResult(Command):
    """Check the result that an earlier attempt recorded against today's result model."""

    recorded: str
    """JSON, as in the publication's metadata."""


@command("looking for changes", on.ChangesDetected)
class DetectChanges(Command):
    """Compare the tree of the last scan with the downloaded files."""


@command("asking Conductor whether the attempt is still wanted", on.DeliveryConfirmed, service="Conductor")
class CheckDelivery(Command):
    """Ask whether this is still the delivery that Conductor is waiting for. `with_line`: if it is in a sub-workflow,
    read its workflow and the parents of that, too."""

    with_line: bool = False
    repetition: int = 0
    """As in `ReadWorkflows`."""


@command("creating the staging branch", on.StagingBranchCreated, service="lakeFS")
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
    """The head that it was merged into, and the merged commit."""
    has_undone: bool = False
    """Whether it has undone other publications, which stay undone."""
    above: int = 0
    """The number of living commits above it."""


@command("reading the publications to undo", on.StaleRead, service="lakeFS")
class ReadStale(Command):
    """Read publications and their second parents. If one was merged into another head than it was built on, read what
    it has changed there, too."""

    repository: str
    stale: tuple[StalePublication, ...]


@command("undoing stale publications", on.Reverted, on.NothingStaged, service="lakeFS")
class RevertStale(Command):
    """Revert commits, newest first, on a staging branch that began at `source`, and find out what has changed."""

    repository: str
    branch: str
    source: str
    stale: tuple[StalePublication, ...]
    reverts: tuple[str, ...]
    """The commit to revert for each publication. Empty: it has changed nothing itself."""
    input_ref: str
    among_others: bool = False
    others: tuple[tuple[str, str], ...] = ()
    """Living commits above a stale one, newest first, each with its first parent. A key that one of them has changed,
    too, must not be reverted, because a revert cannot distinguish its bytes from the same bytes of an earlier run."""


@command("comparing with concurrent changes", on.OthersCompared, service="lakeFS")
class CompareWithOthers(Command):
    """Find the changes of others between the input ref and `built_on`, and compare them with this attempt's own
    changes, if it has any yet."""

    repository: str
    input_ref: str
    built_on: str


@command("looking for conflicting commits", on.CommitsFound, service="lakeFS")
class FindCommits(Command):
    """Find the last change of each of `keys` in `commits` (newest first, each with its first parent), for a message."""

    repository: str
    commits: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]


@command("reading the publication to adopt", on.AdoptedRead, service="lakeFS")
class ReadAdopted(Command):
    """Read the second parent of the publication to adopt: its staging commit, with the complete recorded result. Find
    its files that others have changed since, for a remark."""

    repository: str
    commit: Commit
    head: str
    above: tuple[tuple[str, str], ...]
    """The commits above it up to `head`, newest first, each with its first parent."""


@command("waiting for its turn to publish", on.TurnCame, service="lakeFS")
class AwaitTurn(Command):
    """Wait before publishing to a branch that others advance, too. The first time, wait until the other attempts of
    this host have published to the branch, so that they do not race each other. After `tries` lost races, wait for a
    moment, because attempts on other hosts are publishing."""

    repository: str
    branch: str
    tries: int


@command("uploading changes", on.ChangesStaged, service="lakeFS")
class StageChanges(Command):
    """Upload the added and changed files to the staging branch, and delete the removed ones there. Leave out the keys
    that are `shared` with others, because the branch already has them."""

    repository: str
    branch: str
    shared: frozenset[str] = frozenset()


@command("moving the staged changes to the new head", on.StagingCommitted, on.CarryRefused, service="lakeFS")
class CarryChanges(Command):
    """Merge the changes of staging commit `source` into another staging branch, which began at `onto`, so that nothing
    is uploaded again. lakeFS's merge can lose changes, so the result must be verified."""

    repository: str
    source: str
    branch: str
    onto: str
    message: str
    metadata: Metadata


@command("adding the publish fence", on.FenceStaged, service="lakeFS")
class StageFence(Command):
    """Upload the publish fence to the staging branch of a publication that installs it."""

    repository: str
    branch: str


@command("committing", on.StagingCommitted, on.NothingStaged, service="lakeFS")
class CommitStaging(Command):
    """Commit the staged changes of a branch that began at commit `source`."""

    repository: str
    branch: str
    source: str
    message: str
    metadata: Metadata
    allow_empty: bool = False


@command("comparing the commit with the changes", on.StagingVerified, on.StagingDiffers, service="lakeFS")
class VerifyStaging(Command):
    """Compare the staging commit with its base. Exactly the planned keys must differ: those of the task if it has
    `changes`, without those that are `shared` with others, and the key of the publish fence if the publication installs
    it."""

    repository: str
    built_on: str
    commit_id: str
    changes: bool
    fence: bool
    shared: frozenset[str] = frozenset()
    head: str = ""
    held: frozenset[str] = frozenset()
    """Keys that must stay as they are in `head`, because living publications rely on them and stale changes were
    reverted there."""


@command("looking for the publish fence", on.PublishFenceSeen, service="lakeFS")
class CheckPublishFence(Command):
    """Check whether a commit has the publish fence. A commit never changes, so the answer holds for each of its
    merges."""

    repository: str
    commit_id: str


@command("trying the publish fence", on.PublishFenceTried, service="lakeFS")
class TryPublishFence(Command):
    """Check that the server obeys the publish fence.

    It must refuse a challenge: a merge of `source` into the attempt's own staging branch with an impossible expected
    head. Nothing is sent if the answer is already known for the object `fence` of `source`.
    """

    repository: str
    source: str
    branch: str
    metadata: Metadata
    fence: str = ""


@command("publishing", on.Merged, on.MergeRefused, on.MergeUnclear, service="lakeFS")
class Merge(Command):
    """Merge the staging commit, by its id, into the workspace branch."""

    repository: str
    source: str
    branch: str
    message: str
    metadata: Metadata
    allow_empty: bool = False


@command("verifying the publication", on.PublicationRead, service="lakeFS")
class ReadPublication(Command):
    """Read the merge commit back."""

    repository: str
    commit_id: str


@command("removing the staging branch", on.StagingBranchesRemoved, service="lakeFS", is_clean_up=True)
class RemoveStagingBranches(Command):
    """Delete staging branches; a failure is only logged."""

    repository: str
    branches: tuple[str, ...]


@command("removing the attempt directory", on.DirectoryRemoved, is_clean_up=True)
class RemoveDirectory(Command):
    """Delete the attempt directory; a failure is only logged."""


@command("reporting to Conductor", on.ReportSent, on.ReportUnclear, service="Conductor")
class SendReport(Command):
    """Send the report to Conductor."""

    report: Report
