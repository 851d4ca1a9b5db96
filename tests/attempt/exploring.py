"""Every path through the state machine: each command answered in every way in which it can be answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import advance
from perago.attempt.state import State, Step
from perago.ports import AttemptRow, MergeRefusal, WorkflowRow
from perago.settings import PublishFence

from .making import DELIVERY, MERGED, OTHER, PLAN, REF, STAGED, WORKSPACE, commit, publication_of

REVERTED = "f" * 64
MINE = publication_of(DELIVERY)
EARLIER = publication_of(replace(DELIVERY, task_id="task-0"), OTHER)
ANOTHERS = publication_of(replace(DELIVERY, workflow_id="wf-2"), OTHER)
READ_ONLY = replace(PLAN, read_only=True, looks_into_input=True)
REQUIRED = replace(PLAN, publish_fence=PublishFence.REQUIRED)
REBASE = replace(PLAN, rebase=True, has_reads=True)
OFF = replace(PLAN, publish_fence=PublishFence.OFF)
BEGUN_AGAIN = replace(PLAN, delivery=replace(DELIVERY, retry_count=1, retried=True, retry_output={}))
RETRY = replace(PLAN, delivery=replace(DELIVERY, retry_count=1, retried_task_id="task-0"))
LIVING = {"task-0": AttemptRow("task-0", 1000, None)}
STARTING = {
    "root": WorkflowRow("root", 100, is_starting=True),
    "wf-1": WorkflowRow("wf-1", 100, "root"),
    "wf-2": WorkflowRow("wf-2", 100, "root"),
}
FAILED = (on.CommandFailed("no luck", terminal=False), on.CommandFailed("no hope", terminal=True))
ANSWERS: dict[type, tuple[on.Event, ...]] = {
    do.ValidateInput: (
        on.InputAccepted(WORKSPACE, "00"),
        on.InputAccepted(replace(WORKSPACE, ref=""), "00", (OTHER, REF)),
        on.InputAccepted(None, "00"),
        *FAILED,
    ),
    do.ResolveJoin: (on.JoinResolved(REF), *FAILED),
    do.ReadBranch: (
        on.BranchRead((), reaches_ref=True),
        on.BranchRead((), reaches_ref=True, late=True),
        on.BranchRead((commit(OTHER, REF),), reaches_ref=True),
        on.BranchRead((commit(OTHER),), reaches_ref=False),
        on.BranchRead((ANOTHERS,), reaches_ref=True),
        on.BranchRead((EARLIER,), reaches_ref=True),
        on.BranchRead((MINE,), reaches_ref=True),
        on.BranchRead((commit(OTHER, MERGED), MINE), reaches_ref=True),
        *FAILED,
    ),
    do.FindLeftovers: (on.LeftoversFound(("perago-old",)), on.LeftoversFound(()), *FAILED),
    do.ReadLineage: (
        on.LineageRead(("task-1", "task-0"), LIVING),
        on.LineageRead(("task-1",), {"task-0": None}),
        on.LineageRead(("task-1",), {}),
        *FAILED,
    ),
    do.ReadWorkflows: (
        on.WorkflowsRead({"wf-2": None, "wf-1": None}),
        on.WorkflowsRead(STARTING),
        on.WorkflowsRead({}),
        *FAILED,
    ),
    do.ValidateRecordedResult: (on.ResultAccepted({"n": 1}), FAILED[1]),
    do.RevertStale: (on.Reverted(commit(REVERTED, OTHER)), on.NothingStaged(), *FAILED),
    do.VerifyStaging: (on.StagingVerified(), on.StagingDiffers(("a",)), on.StagingDiffers(("a",), held=True), *FAILED),
    do.CompareWithOthers: (
        on.OthersCompared(),
        on.OthersCompared(conflicts={"a": "was changed on both sides"}),
        on.OthersCompared(shared=frozenset({"a"}), fence_changed=True),
        on.OthersCompared(violations=("violated",)),
        *FAILED,
    ),
    do.FindCommits: (on.CommitsFound({"a": OTHER}),),
    do.ReadAdopted: (
        on.AdoptedRead(EARLIER, commit(STAGED, REF, by=EARLIER.metadata)),
        on.AdoptedRead(EARLIER, commit(STAGED, REF)),
        *FAILED,
    ),
    do.AwaitTurn: (on.TurnCame(), on.TurnCame(in_time=False)),
    do.CarryChanges: (
        on.StagingCommitted(commit(STAGED, OTHER, STAGED, by=MINE.metadata)),
        on.CarryRefused("conflict"),
        *FAILED,
    ),
    do.CheckPublishFence: (
        on.PublishFenceSeen(on.FenceState.INSTALLED),
        on.PublishFenceSeen(on.FenceState.ALTERED),
        *FAILED,
    ),
    do.TryPublishFence: (on.PublishFenceTried(enforced=True), *FAILED),
    do.ListObjects: (on.ObjectsListed(), *FAILED),
    do.Fetch: (on.Fetched(), *FAILED),
    do.CheckGuardrails: (on.GuardrailsChecked(()), on.GuardrailsChecked(("violated",)), *FAILED),
    do.RunFunction: (on.FunctionReturned(), *FAILED),
    do.ValidateResult: (on.ResultAccepted({"n": 1}), *FAILED),
    do.DetectChanges: (on.ChangesDetected(), on.ChangesDetected(added=("a",)), *FAILED),
    do.CheckDelivery: (on.DeliveryConfirmed(), *FAILED),
    do.CreateStagingBranch: (on.StagingBranchCreated(), *FAILED),
    do.StageChanges: (on.ChangesStaged(), *FAILED),
    do.StageFence: (on.FenceStaged(), *FAILED),
    do.CommitStaging: (
        on.StagingCommitted(commit(STAGED, REF, by=MINE.metadata)),
        on.StagingCommitted(commit(STAGED, OTHER, by=MINE.metadata)),
        on.StagingCommitted(commit(STAGED, REVERTED, by=MINE.metadata)),
        on.NothingStaged(),
        *FAILED,
    ),
    do.Merge: (
        on.Merged(MERGED),
        *(on.MergeRefused(reason, "no") for reason in MergeRefusal),
        on.MergeUnclear("no answer"),
        *FAILED,
    ),
    do.ReadPublication: (
        on.PublicationRead(MINE),
        on.PublicationRead(replace(MINE, parents=(OTHER, STAGED))),
        on.PublicationRead(replace(MINE, meta_range_id="another tree")),
        *FAILED,
    ),
    do.RemoveStagingBranches: (on.StagingBranchesRemoved(),),
    do.RemoveDirectory: (on.DirectoryRemoved(),),
    do.SendReport: (
        on.ReportSent(),
        on.ReportUnclear("no answer"),
        on.ReportUnclear("not sent", sent=False),
        FAILED[0],
    ),
}
CLEAN_UP = (do.RemoveStagingBranches, do.RemoveDirectory)
REBASING = (do.CompareWithOthers, do.FindCommits, do.AwaitTurn, do.CarryChanges)
NEVER_CUT_SHORT = (*CLEAN_UP, do.SendReport)
"""Whatever else is done, a loss that is noticed elsewhere ends it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A state, the command that was just given, and the two answers before it, newest first."""

    state: State
    command: do.Command | None
    answers: tuple[on.Event | None, on.Event | None] = (None, None)

    def following(self) -> Iterator[Moment]:
        """What may come next. The first half of an attempt ends where only the report is left."""
        if self.command is None:
            return
        for event in self._answers():
            state, command = advance(self.state, event)
            yield Moment(state, command, (event, self.answers[0]))

    def _answers(self) -> tuple[on.Event, ...]:
        """What can end any command ends it for plans without a rebase; there are ways enough with one."""
        answers = (*ANSWERS[type(self.command)], *self._more_answers())
        if self.state.plan.rebase and not isinstance(self.command, REBASING):
            return tuple(event for event in answers if not isinstance(event, on.CommandFailed))
        return answers if isinstance(self.command, NEVER_CUT_SHORT) else (*answers, on.DeliveryLost())

    def _more_answers(self) -> tuple[on.Event, ...]:
        """Answers on which something hangs here, and nothing elsewhere: left out there, the ways are fewer."""
        if isinstance(self.command, do.CheckPublishFence) and not self.state.rebuilt:
            return (on.PublishFenceSeen(on.FenceState.ABSENT),)
        if isinstance(self.command, do.TryPublishFence) and not (self.state.brings_fence or self.state.rebuilt):
            return (on.PublishFenceTried(enforced=False),)
        if isinstance(self.command, do.DetectChanges) and replace(self.state.plan, rebuild_tries=3) == PLAN:
            return (on.ChangesDetected(changed=("a",), uncertain=frozenset("a")),)
        if isinstance(self.command, do.CheckDelivery) and self.state.step is Step.CLEANED:
            return (on.DeliveryConfirmed(late=True),)
        return ()


_of_state = attrgetter(*(each.name for each in fields(State) if each.repr))


@dataclass(slots=True)
class _Numbers:
    """A number for each different value. States share most of their values, so few have to be written out."""

    _by_text: dict[str, int] = field(default_factory=dict)
    _by_identity: dict[int, tuple[int, object]] = field(default_factory=dict)
    """With the value itself: an identity is good as long as its object lives."""

    def key(self, moment: Moment) -> tuple[int, ...]:
        """The same for equal moments only."""
        return tuple(map(self._number, (*_of_state(moment.state), moment.command, *moment.answers)))

    def _number(self, value: object) -> int:
        if known := self._by_identity.get(id(value)):
            return known[0]
        number = self._by_text.setdefault(repr(value), len(self._by_text))
        self._by_identity[id(value)] = number, value
        return number


def every_moment(start: Moment) -> list[Moment]:
    """All moments that can be reached, each once.

    Raises:
        AssertionError: an attempt can come back to where it was, so it might never end.
    """
    numbers = _Numbers()
    found: dict[tuple[int, ...], Moment] = {}
    path: set[tuple[int, ...]] = set()

    def visit(moment: Moment) -> None:
        key = numbers.key(moment)
        assert key not in path, f"an attempt might never end: {moment}"
        if key in found:
            return
        found[key] = moment
        path.add(key)
        if not (moment.state.step is Step.CLEANED and start.state.step is Step.RECEIVED):
            for following in moment.following():
                visit(following)
        path.remove(key)

    visit(start)
    return list(found.values())
