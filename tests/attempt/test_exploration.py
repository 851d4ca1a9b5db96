"""What holds on every path through the state machine, whatever the answers to its commands are."""

from __future__ import annotations

import gc

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.outcome import REPORT_TRIES
from perago.attempt.protocol import MERGE_TRIES, TRANSITIONS
from perago.attempt.state import Step
from perago.ports import TaskStatus
from perago.settings import PublishFence

from . import diagram
from .builders import MERGED, NEWER, REF
from .diagram import DRAWING, PAGE, Edge, drawn, with_part
from .exploring import ANSWERS, CLEAN_UP, Visit

pytestmark = [
    pytest.mark.xdist_group("exploration"),  # one process goes all the ways, once
    pytest.mark.any_python,
]


@pytest.fixture(scope="module")
def visits() -> list[Visit]:
    gc.disable()  # all visits are kept, and to look through them would take a fifth of the time
    try:
        return diagram.explored()
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def report_visits() -> list[Visit]:
    return diagram.explored_report()


@pytest.fixture(scope="module")
def edges(visits: list[Visit], report_visits: list[Visit]) -> set[Edge]:
    return diagram.edges(visits) | diagram.edges(report_visits)


def test_every_attempt_ends_and_every_step_is_reached(visits: list[Visit]) -> None:
    assert {visit.state.step for visit in visits} == set(Step) - {Step.REPORTED}
    ends = [visit for visit in visits if visit.command is None]
    assert {visit.state.step for visit in ends} == {Step.CLEANED, Step.LOST}


def test_every_answer_of_the_table_can_be_given(visits: list[Visit]) -> None:
    given = {repr(visit.answers[0]) for visit in visits}
    missing = {repr(event) for kind, events in ANSWERS.items() for event in events if kind is not do.SendReport} - given
    assert missing == set()


def test_a_merge_follows_the_fence_and_an_unmoved_branch_and_is_sent_a_bounded_number_of_times(
    visits: list[Visit],
) -> None:
    merges = [visit for visit in visits if isinstance(visit.command, do.Merge)]
    for rebuilt in (0, 1):  # what was built anew may be sent once more
        sent = {visit.state.merge.sent for visit in merges if visit.state.rebuilt == rebuilt}
        assert sent == set(range(1, MERGE_TRIES + rebuilt + 1))
    for visit in merges:
        read = visit.answers[0]
        assert isinstance(read, on.BranchRead)
        assert read.head(REF) == visit.state.expected_head
        assert visit.answers[1] == on.DeliveryConfirmed()


def test_a_delivery_check_comes_before_anything_is_staged(visits: list[Visit]) -> None:
    after_branch = [visit for visit in visits if isinstance(visit.answers[0], on.StagingBranchCreated)]
    assert {visit.command for visit in after_branch} == {do.CheckDelivery(with_line=True)}


def test_a_merge_is_guarded_by_the_fence_if_server_and_deployment_have_one(visits: list[Visit]) -> None:
    for visit in visits:
        if not isinstance(visit.command, do.Merge):
            continue
        policy, found = visit.state.plan.publish_fence, visit.state.fence.state
        unguarded = {PublishFence.AUTO: {on.FenceState.NOT_ENFORCED}, PublishFence.REQUIRED: set()}
        assert policy is PublishFence.OFF or found in {on.FenceState.ENFORCED, *unguarded[policy]}


def test_a_lost_delivery_only_cleans_up_and_has_no_report(visits: list[Visit]) -> None:
    for visit in visits:
        if visit.state.step is Step.LOST:
            assert visit.command is None or isinstance(visit.command, CLEAN_UP)
            assert visit.state.report is None


def test_success_names_a_verified_publication_or_the_input_where_nothing_certainly_changed(
    visits: list[Visit],
) -> None:
    completed = [visit for visit in visits if visit.state.report and _status(visit) is TaskStatus.COMPLETED]
    found = {visit.state.publication for visit in completed}
    assert found == {MERGED, REF, NEWER, None}
    for visit in completed:
        if visit.state.publication == NEWER:  # the head that a launcher asks for
            assert (visit.state.ref.ref, isinstance(visit.answers[0], on.BranchRead)) == (NEWER, True)
        if visit.state.step is Step.PUBLISHED and isinstance(visit.command, do.RemoveStagingBranches):
            answer = visit.answers[0]
            if isinstance(answer, on.PublicationRead):
                assert answer.commit.parents[0] == visit.state.expected_head
            else:
                assert answer == on.NothingStaged()
                assert visit.state.changes.uncertain == {"a"}, "what lakeFS alone can tell"
        assert visit.state.merge.open is None


def test_a_failure_mentions_an_unknown_merge(visits: list[Visit]) -> None:
    failed = [visit for visit in visits if visit.state.report and _status(visit) is not TaskStatus.COMPLETED]
    assert any(visit.state.merge.open for visit in failed)
    for visit in failed:
        report = visit.state.report
        assert report is not None
        assert report.reason is not None
        assert len(report.reason) <= 500
        if visit.state.merge.open:
            assert report.reason.endswith(visit.state.merge.open)


def test_created_files_are_removed_before_the_report(visits: list[Visit]) -> None:
    for visit in visits:
        if visit.state.step is Step.CLEANED and visit.state.has_directory:
            assert visit.answers[0] == on.DirectoryRemoved()
            if visit.state.staging.branch and not visit.state.merge.unanswered:
                assert visit.answers[1] == on.StagingBranchesRemoved()


def test_a_report_is_always_sent_right_after_the_fence_and_a_bounded_number_of_times(
    report_visits: list[Visit],
) -> None:
    reports = [visit for visit in report_visits if isinstance(visit.command, do.SendReport)]

    assert all(isinstance(visit.answers[0], on.DeliveryConfirmed) for visit in reports)
    late = [visit for visit in reports if visit.answers[0] == on.DeliveryConfirmed(late=True)]
    assert all(visit.answers[1] == on.DeliveryConfirmed(late=True) for visit in late), (
        "old news only if it is always old"
    )
    assert late
    assert max(visit.state.sent for visit in reports) == REPORT_TRIES
    ends = {visit.state.step for visit in report_visits if visit.command is None}
    assert ends == {Step.REPORTED, Step.LOST, Step.CLEANED}


def test_the_table_lists_exactly_the_possible_events(edges: set[Edge]) -> None:
    always = {"CommandFailed", "DeliveryLost"}
    found = {edge[:2] for edge in edges if edge[0] is not Step.CLEANED and edge[1] not in always}
    assert found == {(step, event.__name__) for step, event in TRANSITIONS}


def test_the_diagram_on_the_page_is_that_of_the_table(edges: set[Edge]) -> None:
    page = PAGE.read_text("utf-8")
    drawing = drawn(edges)
    assert with_part(page, DRAWING, drawing) == page, "run `python -m tests.attempt.diagram`"


def _status(visit: Visit) -> TaskStatus | None:
    return visit.state.report.status if visit.state.report else None
