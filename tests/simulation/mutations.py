"""The guards of the protocol, and how a test takes each of them away. A world must break a promise then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history, outcome, protocol, publication
from perago.attempt.family import Evidence, Family, Place
from perago.attempt.outcome import Reporting, advance_report
from perago.attempt.protocol import TRANSITIONS, advance
from perago.attempt.publication import Origin
from perago.attempt.state import Base, State, Step
from perago.driver import delivery as driver_delivery
from perago.embedded.lakefs import commits
from perago.embedded.lakefs.trees import Tree
from perago.ports import Commit, Delivery, Report
from perago.workspace import sweep

Next = tuple[State, do.Command | None]
TABLE: dict[Any, Any] = TRANSITIONS
Mutate = Callable[[pytest.MonkeyPatch], object]


def in_place_of(owner: Any, name: str) -> Callable[[Callable[..., Any]], Mutate]:
    """Turn a function `(original, ...)` into the mutation that calls it in place of a member of `owner`."""

    def decorate(replacement: Callable[..., Any]) -> Mutate:
        return lambda patch: patch.setattr(owner, name, partial(replacement, getattr(owner, name)))

    return decorate


def at(step: Step, event: type) -> Callable[[Callable[..., Any]], Mutate]:
    """Turn a function `(original, state, event)` into the mutation of this transition."""

    def decorate(replacement: Callable[..., Any]) -> Mutate:
        return lambda patch: patch.setitem(TABLE, (step, event), partial(replacement, TRANSITIONS[step, event]))

    return decorate


def assume_current(step: Step, event: type) -> Mutate:
    """The answer of the delivery check is taken for granted where this transition asks for it."""

    @at(step, event)
    def mutated(original: Any, state: State, event: Any) -> Next:
        state, command = original(state, event)
        return advance(state, on.DeliveryConfirmed()) if isinstance(command, do.CheckDelivery) else (state, command)

    return mutated


@in_place_of(driver_delivery, "begin_report")
def assume_current_before_the_report(original: Any, report: Report) -> tuple[Reporting, do.Command | None]:
    return advance_report(original(report)[0], on.DeliveryConfirmed())


@in_place_of(driver_delivery, "advance_report")
def assume_current_after_a_report(
    original: Any, state: Reporting, event: on.Event
) -> tuple[Reporting, do.Command | None]:
    state, command = original(state, event)
    is_unclear = isinstance(event, on.ReportUnclear)
    return original(state, on.DeliveryConfirmed()) if is_unclear else (state, command)


@at(Step.COMMITTED, on.DeliveryConfirmed)
def assume_an_unmoved_head(_original: Any, state: State, _: on.DeliveryConfirmed) -> Next:
    return advance(state, on.BranchRead((), reaches_ref=True))


@at(Step.COMMITTED, on.BranchRead)
def take_late_answers_for_fresh(original: Any, state: State, event: on.BranchRead) -> Next:
    return original(state, replace(event, late=False))  # type: ignore[no-any-return]


def skip_the_check_of(what: str) -> Mutate:
    """One of the two checks of the merge commit always finds what it wants."""

    @in_place_of(outcome, "wrong_publication")
    def mutated(original: Any, state: State, commit: Commit) -> Any:
        if what == "parent":
            return original(state, replace(commit, parents=(state.expected_head,)))
        tree = state.staging.commit.meta_range_id if state.staging.commit else ""
        return original(state, replace(commit, meta_range_id=tree))

    return mutated


@in_place_of(publication, "is_mine")
def know_deliveries_by_task_id(_original: Any, commit: Commit, delivery: Delivery) -> bool:
    return commit.metadata.get("perago.task_id") == delivery.task_id


def report_without_a_fence_commit(patch: pytest.MonkeyPatch) -> None:
    """What is adopted, or did not change, is reported as it is."""
    patch.setitem(TABLE, (Step.RECOVERED, on.PublishFenceSeen), _report_the_head)
    original = TRANSITIONS[Step.PLANNED, on.StagingBranchCreated]

    def mutated(state: State, event: on.StagingBranchCreated) -> Next:
        has_work = state.changes.count or (state.base is not None and state.base.stale)
        return original(state, event) if has_work else outcome.published(state, state.expected_head)

    patch.setitem(TABLE, (Step.PLANNED, on.StagingBranchCreated), mutated)


def _report_the_head(state: State, _: on.PublishFenceSeen) -> Next:
    return outcome.published(state, state.expected_head)


@at(Step.PLANNED, on.DeliveryConfirmed)
def stage_without_undoing(_original: Any, state: State, _: on.DeliveryConfirmed) -> Next:
    return state, do.StageChanges(state.ref.repository, str(state.staging.branch))


def undo_nothing(patch: pytest.MonkeyPatch) -> None:
    """Stale publications stay in the tree on which the changes are applied; and nobody compares it."""
    stage_without_undoing(patch)
    take_staging_for_right(patch)


@at(Step.STAGED, on.StagingCommitted)
def take_staging_for_right(original: Any, state: State, event: on.StagingCommitted) -> Next:
    state, command = original(state, event)
    return advance(state, on.StagingVerified()) if isinstance(command, do.VerifyStaging) else (state, command)


@in_place_of(publication, "metadata")
def name_no_expected_head(original: Any, state: State, *, phase: str) -> dict[str, str]:
    command = original(state, phase=phase)
    return {key: text for key, text in command.items() if key != publication.EXPECTED_HEAD or phase == "staging"}


@in_place_of(commits, "merge_trees")
def lose_a_file_in_merges(_original: Any, base: Tree, source: Tree, target: Tree, **options: Any) -> Tree:
    """Not a mutation of ours: a server that does what lakeFS's three-way merge can do
    (`docs/dev/servers/lakefs.md`, "lakeFS's three-way merge")."""
    return source.with_changes({"readme": None})


def lose_a_file_and_skip_the_check(patch: pytest.MonkeyPatch) -> None:
    lose_a_file_in_merges(patch)
    skip_the_check_of("tree")(patch)


def take_every_text_for_the_fence(patch: pytest.MonkeyPatch) -> None:
    """Whatever lies where the publish fence belongs counts as the fence."""
    patch.setattr(
        "perago.attempt.publication.fence_state",
        lambda checksum: on.FenceState.ABSENT if checksum is None else on.FenceState.INSTALLED,
    )


@in_place_of(protocol, "see_fence")
def bring_no_fence_along(
    original: Any, state: State, event: on.PublishFenceSeen, commit_id: str, go_on: Callable[[State], Next]
) -> Any:
    """A branch without a fence stays as it is."""
    return original(
        state, event, commit_id, lambda state: go_on(state.evolve(fence=replace(state.fence, is_new=False)))
    )


@in_place_of(driver_delivery, "advance_report")
def report_on_old_news(original: Any, state: Reporting, event: on.Event) -> Any:
    return original(state, on.DeliveryConfirmed() if isinstance(event, on.DeliveryConfirmed) else event)


def overlook_what_others_left(patch: pytest.MonkeyPatch) -> None:
    """A staging branch that is there already is not evidence of a predecessor."""

    def mutated(state: State) -> bool:
        return state.plan.delivery.retried_task_id is not None or state.plan.delivery.poll_count > 1

    patch.setattr(State, "has_predecessor", property(mutated))


@in_place_of(outcome, "clean")
def forget_that_a_merge_may_arrive(original: Any, state: State) -> Any:
    return original(replace(state, merge=replace(state.merge, unanswered=False)))


@in_place_of(protocol, "_begin_staging")
def send_fence_commits_without_a_branch(original: Any, state: State) -> Any:
    if state.changes.count or (state.base is not None and state.base.stale):
        return original(state)
    branch = publication.staging_branch(state.plan, state.rebuilt).replace("perago-", "not-of-this-step-")
    command = do.CreateStagingBranch(state.ref.repository, branch, state.expected_head)
    return state.at(Step.PLANNED, staging=replace(state.staging, branch=branch)), command


@at(Step.RECEIVED, on.InputAccepted)
def take_retried_attempts_for_others(original: Any, state: State, event: on.InputAccepted) -> Any:
    delivery = replace(state.plan.delivery, retried=False)
    return original(replace(state, plan=replace(state.plan, delivery=delivery)), event)


@in_place_of(outcome, "clean")
def remove_what_others_left_in_any_case(original: Any, state: State) -> Any:
    if state.staging.leftovers and state.step is not Step.PUBLISHED:
        return state, do.RemoveStagingBranches(state.ref.repository, state.staging.leftovers)
    return original(state)


# ------------------------------------------------------- conditions of adopting and undoing


def know(name: str, value: bool) -> Mutate:
    """One of the questions about a commit's metadata always gets the same answer."""
    return lambda patch: patch.setattr(publication, name, lambda *_: value)


def take_for_my_input_without(*keys: str) -> Mutate:
    """The input of a publication is compared without these parts of it."""

    def mutated(commit: Commit, state: State) -> bool:
        mine = publication.metadata(state.evolve(base=Base(state.ref.ref)), phase="merge")
        parts = {publication.INPUT_REF, publication.PREFIX, publication.PARAMS} - set(keys)
        return all(commit.metadata.get(key) == mine[key] for key in parts)

    return lambda patch: patch.setattr(publication, "is_for_my_input", mutated)


@in_place_of(history, "_can_adopt")
def take_every_run_for_the_present_one(original: Any, state: State, commit: Commit, by: Origin) -> Any:
    """Start times are not compared."""
    delivery = replace(state.plan.delivery, start_time=by.start_time)
    state = state.evolve(plan=replace(state.plan, delivery=delivery))
    own = state.workflows.get(delivery.workflow_id)
    if own is not None:
        rows = tuple(replace(row, start_time=by.start_time) for row in own.rows)
        state = state.evolve(workflows={**state.workflows, own.workflow_id: replace(own, rows=rows)})
    return original(state, commit, by)


@in_place_of(history, "_can_adopt")
def take_every_attempt_into_the_chain(original: Any, state: State, commit: Commit, by: Origin) -> Any:
    own = state.workflows.get(state.plan.delivery.workflow_id)
    row = own.row(by.task_id) if own is not None else None
    is_alive = row is not None and row.start_time == by.start_time
    return original(state, commit, by) or (is_alive and publication.is_for_my_input(commit, state))


@in_place_of(protocol, "judge")
def adopt_also_what_is_buried(original: Any, state: State) -> Any:
    """A predecessor's publication is adopted wherever it lies."""
    since = state.read.since if state.read else ()
    mine = [commit for commit in since if publication.is_of_my_step(commit, state.plan.delivery)]
    return original(state.evolve(read=replace(state.read, since=tuple(mine))) if state.read and mine else state)


@in_place_of(history, "_standing")
def undo_what_is_foreign(original: Any, state: State, family: Family, commit: Commit) -> Any:
    standing = original(state, family, commit)
    return history.Standing.STALE if standing is history.Standing.FOREIGN else standing


# ------------------------------------------------------------------------- evidence


def take_evidence_as(former: Evidence, instead: Evidence) -> Mutate:
    """What rows say about an attempt is taken for something else."""

    def mutated(original: Any, *arguments: Any, **options: Any) -> Evidence:
        evidence: Evidence = original(*arguments, **options)
        return instead if evidence is former else evidence

    def mutate(patch: pytest.MonkeyPatch) -> None:
        original = Family.evidence
        patch.setattr(Family, "evidence", lambda *arguments, **options: mutated(original, *arguments, **options))

    return mutate


def compare_clocks(patch: pytest.MonkeyPatch) -> None:
    """An attempt counts if its row was not started after it."""
    original = Family.evidence

    def mutated(family: Family, commit: Commit, by: Origin, *, in_a_loop: bool) -> Evidence:
        workflow = family.workflow(by.workflow_id)
        row = workflow.row(by.task_id) if workflow is not None else None
        if row is not None and row.start_time <= by.start_time:
            by = replace(by, start_time=row.start_time)
        return original(family, commit, by, in_a_loop=in_a_loop)

    patch.setattr(Family, "evidence", mutated)


def overlook_reported_commits(patch: pytest.MonkeyPatch) -> None:
    """A row that names the commit in its output is no evidence."""
    original = Family.evidence

    def mutated(family: Family, commit: Commit, by: Origin, *, in_a_loop: bool) -> Evidence:
        return original(family, replace(commit, id=""), by, in_a_loop=in_a_loop)

    patch.setattr(Family, "evidence", mutated)


def judge_with_old_rows(patch: pytest.MonkeyPatch) -> None:
    """Rows that were read before a commit say something about it."""
    judged, with_range = history.judged, protocol._with_range
    patch.setattr(protocol, "judged", lambda state: judged(state).evolve(workflows=state.workflows))

    def mutated(state: State, event: on.BranchRead) -> State:
        return with_range(state, event).evolve(workflows=state.workflows)

    patch.setattr(protocol, "_with_range", mutated)


def take_every_workflow_for_family(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Family, "is_same", lambda *_: True)


def overlook_retries_of_sub_workflows(patch: pytest.MonkeyPatch) -> None:
    """A parent names a sub-workflow also in a row that was retried."""
    place = Family.place

    def mutated(family: Family, workflow_id: str) -> Place:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Family, "_has_retry", lambda *_: False)
            return place(family, workflow_id)

    patch.setattr(Family, "place", mutated)


def think_of_being_alone(patch: pytest.MonkeyPatch) -> None:
    """No other attempt of the family is open."""
    patch.setattr(Family, "open_rows", lambda *_: iter(()))


def believe_every_claim(patch: pytest.MonkeyPatch) -> None:
    """Whoever writes metadata can undo publications."""
    patch.setattr(publication, "proven", lambda commits, sources: tuple(commits))


# ------------------------------------------------------------------------- what others do


def overlook_others(what: str) -> Mutate:
    """The comparison with others always finds nothing of this kind."""
    nothing: dict[str, Any] = {"conflicts": {}, "violations": ()}

    @at(Step.PLANNED, on.OthersCompared)
    def mutated(original: Any, state: State, event: on.OthersCompared) -> Any:
        return original(state, replace(event, **{what: nothing[what]}))

    return mutated


@at(Step.PLANNED, on.Reverted)
def undo_what_others_have_written(original: Any, state: State, event: on.Reverted) -> Next:
    """What is undone is not compared with the changes of the commits above it."""
    return original(state, replace(event, others=()))  # type: ignore[no-any-return]


def judge_each_commit_alone(patch: pytest.MonkeyPatch) -> None:
    """What a living attempt has adopted is judged by the attempt that has made it."""
    patch.setattr(publication, "adopted", lambda commit: None)


GUARDS: dict[str, Mutate] = {
    "delivery check before staging": assume_current(Step.PLANNED, on.StagingBranchCreated),
    "delivery check before the merge": assume_current(Step.STAGED, on.PublishFenceTried),
    "delivery check before the second merge": assume_current(Step.COMMITTED, on.MergeUnclear),
    "delivery check before the report": assume_current_before_the_report,
    "delivery check before the second report": assume_current_after_a_report,
    "look before the merge": assume_an_unmoved_head,
    "second look after a late answer": take_late_answers_for_fresh,
    "verification of the parent": skip_the_check_of("parent"),
    "verification of the tree": lose_a_file_and_skip_the_check,
    "bound of merges": lambda patch: patch.setattr(protocol, "MERGE_TRIES", 99),
    "identity of the delivery": know_deliveries_by_task_id,
    "fence commit after no changes": report_without_a_fence_commit,
    "undoing of what is stale": undo_nothing,
    "comparison of the staging commit with the plan": take_staging_for_right,
    "expected head in the merge": name_no_expected_head,
    "words about an unclear merge": lambda patch: patch.setattr(outcome, "unanswered_merge", lambda state: ""),
    "second look after a late answer, on what is undone": take_late_answers_for_fresh,
    "second question after a late answer before the report": report_on_old_news,
    "fence commit after no changes behind a predecessor": overlook_what_others_left,
    "recognition of one's own merge": lambda patch: patch.setattr(protocol, "own_publications", lambda state, read: ()),
    "leave to publish the tree that is there": lambda patch: patch.setattr(
        protocol, "_is_empty", protocol._is_fence_commit
    ),
    "publish fence that is brought along": bring_no_fence_along,
    "checksum of the publish fence": take_every_text_for_the_fence,
    "staging branch of an unanswered merge": forget_that_a_merge_may_arrive,
    "staging branches of others until an attempt publishes": remove_what_others_left_in_any_case,
    "staging branch of a fence commit": send_fence_commits_without_a_branch,
    "retried attempts undo nothing of their retries": take_retried_attempts_for_others,
    "comparison with the changes of others": overlook_others("conflicts"),
    "post guardrails on both changes together": overlook_others("violations"),
    "undone: nothing that others have written since": undo_what_others_have_written,
    "undone: nothing that others have found as they wanted it": lambda patch: patch.setattr(
        publication, "shared", lambda _: frozenset()
    ),
    "undone: nothing that a living attempt has adopted": judge_each_commit_alone,
    "adopted: of the run that Conductor knows": take_every_run_for_the_present_one,
    "adopted: predecessor not run again": take_every_run_for_the_present_one,
    "adopted: of the own chain": take_every_attempt_into_the_chain,
    "adopted: of this step": know("is_of_my_step", True),
    "undone: of this family": take_every_workflow_for_family,
    "adopted: from the same params": take_for_my_input_without(publication.PARAMS),
    "adopted: from the same prefix": take_for_my_input_without(publication.PREFIX),
    "adopted: from the same input ref": take_for_my_input_without(publication.INPUT_REF),
    "adopted: the head of the branch": adopt_also_what_is_buried,
    "undone: once by a restarted fork": lambda patch: patch.setattr(publication, "superseded", lambda commit: set()),
    "adopted: on the head that it was built on": lambda patch: patch.setattr(history, "_is_whole", lambda commit: True),
    "undone: of attempts that Conductor has removed": take_evidence_as(Evidence.GONE, Evidence.COUNTS),
    "undone: of attempts that were started again": take_evidence_as(Evidence.OPEN, Evidence.COUNTS),
    "undone: only by the only open attempt": think_of_being_alone,
    "evidence: equality of start times": compare_clocks,
    "evidence: the commit in the output": overlook_reported_commits,
    "evidence: rows read after the commit": judge_with_old_rows,
    "evidence: sub-workflows that were not retried": overlook_retries_of_sub_workflows,
    "a replaced sub-workflow publishes nothing": lambda patch: patch.setattr(protocol, "misplaced", lambda *_: None),
    "the input is in effect": lambda patch: patch.setattr(history, "_undone_input", lambda *_: None),
    "only a staging commit proves what was undone": believe_every_claim,
    "undone: nothing of others": undo_what_is_foreign,
    "lock on the marker": lambda patch: patch.setattr(sweep, "hold", lambda descriptor: True),
}
"""By name, in the words of the safety argument of docs/dev/protocol.md."""
