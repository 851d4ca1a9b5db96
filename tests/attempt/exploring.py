"""Every path through the state machine: each command answered in every way in which it can be answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, NoReturn

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.outcome import Reporting
from perago.attempt.protocol import advance
from perago.attempt.state import Merge, Staging, State, Step
from perago.ports import MergeRefusal
from perago.settings import PublishFence

from .builders import (
    DELIVERY,
    MERGED,
    NEWER,
    OTHER,
    PLAN,
    REF,
    STAGED,
    WORKSPACE,
    child_row,
    commit,
    publication_of,
    task_row,
    workflow_row,
)

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
ALONE = {
    "wf-1": workflow_row(
        "wf-1", None, [task_row("task-0", status="FAILED"), task_row("task-1", retried_task_id="task-0")]
    )
}
"""Rows with evidence for the predecessor and without open attempts of other steps."""
SIDE_BY_SIDE = {
    "root": workflow_row("root", None, [child_row("wf-1"), child_row(None, "starting", "SCHEDULED")]),
    "wf-1": workflow_row("wf-1", "root", [task_row("task-1")]),
    "wf-2": workflow_row("wf-2", "root"),
}
"""Two sub-workflows, of which Conductor does not name the second yet."""
STARTING = {**SIDE_BY_SIDE, "root": workflow_row("root", None, [child_row(None, "starting", "SCHEDULED")])}
FAILED = on.CommandFailed("no luck", terminal=False)
FAILED_FOR_GOOD = on.CommandFailed("no hope", terminal=True)
"""Every command can fail for good. The protocol treats all of these failures the same way, so a few commands are enough
here."""
ANSWERS: dict[type, tuple[on.Event, ...]] = {
    do.ValidateInput: (
        on.InputAccepted(WORKSPACE, "00"),
        on.InputAccepted(None, "00"),
        FAILED,
        FAILED_FOR_GOOD,
    ),
    do.ResolveJoin: (on.JoinResolved((commit(REF, OTHER), commit(OTHER))), FAILED),
    do.ReadBranch: (
        on.BranchRead((), reaches_ref=True),
        on.BranchRead((), reaches_ref=True, late=True),
        on.BranchRead((commit(OTHER, REF),), reaches_ref=True),
        on.BranchRead((commit(OTHER),), reaches_ref=False),
        on.BranchRead((ANOTHERS,), reaches_ref=True),
        on.BranchRead((EARLIER,), reaches_ref=True),
        on.BranchRead((MINE,), reaches_ref=True),
        on.BranchRead((commit(OTHER, MERGED), MINE), reaches_ref=True),
        FAILED,
    ),
    do.FindLeftovers: (on.LeftoversFound(("perago-old",)), on.LeftoversFound(()), FAILED),
    do.ReadWorkflows: (
        on.WorkflowsRead({"wf-2": None, "wf-1": workflow_row("wf-1", None, [task_row("task-1")])}),
        on.WorkflowsRead(ALONE),
        on.WorkflowsRead(SIDE_BY_SIDE),
        on.WorkflowsRead(STARTING),
        FAILED,
    ),
    do.ValidateRecordedResult: (on.ResultAccepted({"n": 1}), FAILED_FOR_GOOD),
    do.ReadStale: (
        on.StaleRead((on.StaleCommit(EARLIER, commit(STAGED, REF, by=EARLIER.metadata)),)),
        on.StaleRead((on.StaleCommit(EARLIER, commit(STAGED, REF, tree="another")),)),
        FAILED,
    ),
    do.RevertStale: (
        on.Reverted(commit(REVERTED, OTHER), (on.RevertedChanges(),)),
        on.Reverted(
            commit(REVERTED, OTHER),
            (on.RevertedChanges(left=frozenset({"a"})),),
            beyond_input=frozenset({"a"}),
        ),
        on.NothingStaged(),
        FAILED,
    ),
    do.VerifyStaging: (on.StagingVerified(), on.StagingDiffers(("a",)), on.StagingDiffers(("a",), held=True), FAILED),
    do.CompareWithOthers: (
        on.OthersCompared(),
        on.OthersCompared(conflicts={"a": "was changed on both sides"}),
        on.OthersCompared(shared=frozenset({"a"}), fence_changed=True),
        on.OthersCompared(violations=("violated",)),
        FAILED,
    ),
    do.FindCommits: (on.CommitsFound({"a": OTHER}),),
    do.ReadAdopted: (
        on.AdoptedRead(EARLIER, commit(STAGED, REF, by=EARLIER.metadata)),
        on.AdoptedRead(EARLIER, commit(STAGED, REF)),
        FAILED,
    ),
    do.AwaitTurn: (on.TurnCame(), on.TurnCame(in_time=False)),
    do.CarryChanges: (
        on.StagingCommitted(commit(STAGED, OTHER, STAGED, by=MINE.metadata)),
        on.CarryRefused("conflict"),
        FAILED,
    ),
    do.CheckPublishFence: (
        on.PublishFenceSeen(on.FenceState.INSTALLED),
        on.PublishFenceSeen(on.FenceState.ALTERED),
        FAILED,
    ),
    do.TryPublishFence: (on.PublishFenceTried(enforced=True), FAILED),
    do.ListObjects: (on.ObjectsListed(), FAILED),
    do.Fetch: (on.Fetched(), FAILED, FAILED_FOR_GOOD),
    do.CheckGuardrails: (on.GuardrailsChecked(()), on.GuardrailsChecked(("violated",)), FAILED),
    do.RunFunction: (on.FunctionReturned(), FAILED),
    do.ValidateResult: (on.ResultAccepted({"n": 1}), FAILED),
    do.DetectChanges: (on.ChangesDetected(), on.ChangesDetected(added=("a",)), FAILED),
    do.CheckDelivery: (on.DeliveryConfirmed(), FAILED),
    do.CreateStagingBranch: (on.StagingBranchCreated(), FAILED),
    do.StageChanges: (on.ChangesStaged(), FAILED),
    do.StageFence: (on.FenceStaged(), FAILED),
    do.CommitStaging: (
        on.StagingCommitted(commit(STAGED, REF, by=MINE.metadata)),
        on.StagingCommitted(commit(STAGED, OTHER, by=MINE.metadata)),
        on.StagingCommitted(commit(STAGED, REVERTED, by=MINE.metadata)),
        on.NothingStaged(),
        FAILED,
    ),
    do.Merge: (
        on.Merged(MERGED),
        *(on.MergeRefused(reason, "no") for reason in MergeRefusal),
        on.MergeUnclear("no answer"),
        FAILED,
    ),
    do.ReadPublication: (
        on.PublicationRead(MINE),
        on.PublicationRead(replace(MINE, parents=(OTHER, STAGED))),
        on.PublicationRead(replace(MINE, meta_range_id="another tree")),
        FAILED,
    ),
    do.RemoveStagingBranches: (on.StagingBranchesRemoved(),),
    do.RemoveDirectory: (on.DirectoryRemoved(),),
    do.SendReport: (
        on.ReportSent(),
        on.ReportUnclear("no answer"),
        on.ReportUnclear("not sent", sent=False),
        FAILED,
    ),
}
CLEAN_UP = (do.RemoveStagingBranches, do.RemoveDirectory)
REBASING = (do.CompareWithOthers, do.FindCommits, do.AwaitTurn, do.CarryChanges)
NEVER_CUT_SHORT = (*CLEAN_UP, do.SendReport)
"""Whatever else is done, a loss that is noticed elsewhere ends it."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A state, the command that was just given, and the two answers before it, newest first."""

    state: Any
    """A `State`, or the `Reporting` of its report."""
    command: do.Command | None
    answers: tuple[on.Event | None, on.Event | None] = (None, None)
    source: Step | None = None
    """The step at which the newest answer came."""


LOST = on.DeliveryLost()
Explored = State | Reporting


def _answers(state: State | Reporting, command: do.Command) -> tuple[on.Event, ...]:
    """Return the answers to a command. For plans without a rebase these include failures and the loss of the delivery;
    there are paths enough with a rebase."""
    if isinstance(state, Reporting):
        is_check = isinstance(command, do.CheckDelivery)
        return (*ANSWERS[type(command)], *((on.DeliveryConfirmed(late=True), LOST) if is_check else ()))
    if isinstance(command, do.ReadBranch) and not command.workspace.ref:
        return (on.BranchRead((commit(NEWER, OTHER),), reaches_ref=False), FAILED, LOST)
    answers = (*ANSWERS[type(command)], *_more_answers(state, command))
    if state.plan.rebase and not isinstance(command, REBASING):
        return tuple(event for event in answers if not isinstance(event, on.CommandFailed))
    return answers if isinstance(command, NEVER_CUT_SHORT) else (*answers, LOST)


def _more_answers(state: State, command: do.Command) -> tuple[on.Event, ...]:
    """Answers on which something hangs here, and nothing elsewhere: left out there, the ways are fewer."""
    if isinstance(command, do.CheckPublishFence) and not state.rebuilt:
        return (on.PublishFenceSeen(on.FenceState.ABSENT),)
    if isinstance(command, do.ValidateInput) and state.plan.publish_fence is PublishFence.REQUIRED:
        return (on.InputAccepted(replace(WORKSPACE, ref=""), "00", (OTHER, REF)),)
    if isinstance(command, do.ValidateInput) and state.plan.read_only:
        return (on.InputAccepted(replace(WORKSPACE, ref=""), ""),)
    if isinstance(command, do.CheckDelivery) and command.with_line and not state.rebuilt:
        return (on.DeliveryConfirmed(line=STARTING),)
    if isinstance(command, do.TryPublishFence) and not (state.fence.is_new or state.rebuilt):
        return (on.PublishFenceTried(enforced=False),)
    if isinstance(command, do.DetectChanges) and replace(state.plan, rebuild_tries=3) == PLAN:
        return (on.ChangesDetected(changed=("a",), uncertain=frozenset("a")),)
    return ()


_values_of = {kind: attrgetter(*(each.name for each in fields(kind) if each.repr)) for kind in (State, Reporting)}


class _Forgotten:
    """The value of a field that nothing may read any more."""

    def __repr__(self) -> str:
        return "forgotten"

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("the end of an attempt reads a field that is not among OF_THE_END")

    __bool__ = __eq__ = __hash__ = __len__ = __iter__ = __getattr__ = __gt__ = __lt__ = _refuse


ENDS = (Step.PUBLISHED, Step.FAILED, Step.LOST, Step.CLEANED)
OF_THE_END: Mapping[type[Any], tuple[str, ...]] = {
    State: (
        *("plan", "step", "workspace", "report", "publication", "base", "changes", "has_directory"),
        *("merge", "staging"),
    ),
    Merge: ("open", "unanswered"),
    Staging: ("branch", "leftovers"),
}
"""The fields that matter once the outcome is known. Without the others few ends differ."""
_FORGOTTEN: Mapping[type[Any], Mapping[str, Any]] = {
    kind: {declared.name: _Forgotten() for declared in fields(kind) if declared.name not in names}
    for kind, names in OF_THE_END.items()
}


def _without_its_past(state: Explored) -> Explored:
    if not isinstance(state, State) or state.step not in ENDS:
        return state
    merge, staging = replace(state.merge, **_FORGOTTEN[Merge]), replace(state.staging, **_FORGOTTEN[Staging])
    return state.evolve(**_FORGOTTEN[State], merge=merge, staging=staging)


@dataclass(slots=True)
class _Graph:
    """Each pair of a state and a command once, as a node with a number, and the nodes that its answers lead to."""

    advance: Callable[[Any, on.Event], Any]
    nodes: list[tuple[Explored, do.Command | None]] = field(default_factory=list)
    following: list[list[tuple[on.Event, int]]] = field(default_factory=list)
    """By the number of the node."""
    _known: dict[tuple[int | None, ...], int] = field(default_factory=dict)
    _events: dict[str, on.Event] = field(default_factory=dict)
    _by_text: dict[str, int] = field(default_factory=dict)
    _by_identity: dict[int, int] = field(default_factory=dict)
    """The number of each value. States share most of their values, so few have to be written out."""
    _alive: list[object] = field(default_factory=list)
    """These values: an identity is good as long as its object lives."""

    def add(self, state: Explored, command: do.Command | None) -> int:
        """Return the number of a node and of all that follows, in depth first order.

        Raises:
            AssertionError: an attempt can come back to where it was, so it might never end.
        """
        start, is_new = self._number(state, command)
        pending = [(start, iter(self._ways(start)))] if is_new else []
        path = {node for node, _ in pending}
        while pending:
            node, ways = pending[-1]
            way = next(ways, None)
            if way is None:
                pending.pop()
                path.remove(node)
                continue
            event, reached = way
            below, is_new = self._number(*reached)
            assert below not in path, f"an attempt might never end: {self.nodes[below]}"
            self.following[node].append((self._events.setdefault(repr(event), event), below))
            if is_new:
                path.add(below)
                pending.append((below, iter(self._ways(below))))
        return start

    def _ways(self, node: int) -> Iterator[tuple[on.Event, tuple[Explored, do.Command | None]]]:
        state, command = self.nodes[node]
        if command is not None:
            for event in _answers(state, command):
                reached, next_command = self.advance(state, event)
                yield event, (_without_its_past(reached), next_command)

    def _number(self, state: Explored, command: do.Command | None) -> tuple[int, bool]:
        values = (*_values_of[type(state)](state), command)
        key = [*map(self._by_identity.get, map(id, values))]
        while None in key:
            place = key.index(None)
            key[place] = self._of_new(values[place])
        node = self._known.setdefault(tuple(key), len(self.nodes))
        is_new = node == len(self.nodes)
        if is_new:
            self.nodes.append((state, command))
            self.following.append([])
        return node, is_new

    def _of_new(self, value: object) -> int:
        number = self._by_text.setdefault(repr(value), len(self._by_text))
        self._by_identity[id(value)] = number
        self._alive.append(value)
        return number


def every_visit(start: Visit, advance: Callable[[Any, on.Event], Any] = advance) -> list[Visit]:
    """Return all visits that can be reached with a state machine, each once.

    Raises:
        AssertionError: an attempt can come back to where it was, so it might never end.
    """
    graph = _Graph(advance)
    first = graph.add(start.state, start.command)
    found = set[tuple[int, int, int, Step | None]]()
    visits, pending = list[Visit](), [(first, start)]
    while pending:
        node, visit = pending.pop()
        visits.append(visit)
        for event, below in graph.following[node]:
            newest, source = visit.answers[0], visit.state.step
            key = (below, id(event), id(newest), source)
            if key not in found:
                found.add(key)
                pending.append((below, Visit(*graph.nodes[below], (event, newest), source)))
    return visits
