"""What holds on every path through the state machine, whatever the answers to its commands are."""

from __future__ import annotations

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.outcome import REPORT_TRIES
from perago.attempt.protocol import TRANSITIONS
from perago.attempt.publishing import MERGE_TRIES
from perago.attempt.state import Step
from perago.ports import TaskStatus
from perago.settings import PublishFence

from . import diagram
from .builders import MERGED, REF
from .diagram import DRAWING, Edge, drawn
from .exploring import ANSWERS, CLEAN_UP, Moment
from .page import PAGE, with_part

pytestmark = [
    pytest.mark.xdist_group("exploration"),  # one process goes all the ways, once
    pytest.mark.any_python,
]


@pytest.fixture(scope="module")
def moments() -> list[Moment]:
    return diagram.explored()


@pytest.fixture(scope="module")
def report_moments() -> list[Moment]:
    return diagram.explored_report()


@pytest.fixture(scope="module")
def edges(moments: list[Moment], report_moments: list[Moment]) -> set[Edge]:
    return diagram.edges(moments) | diagram.edges(report_moments)


def test_every_attempt_ends_and_every_step_is_reached(moments: list[Moment]) -> None:
    assert {moment.state.step for moment in moments} == set(Step) - {Step.REPORTED}
    ends = [moment for moment in moments if moment.command is None]
    assert {moment.state.step for moment in ends} == {Step.LOST}, "all others go on to the report"


def test_every_answer_of_the_table_can_be_given(moments: list[Moment]) -> None:
    given = {repr(moment.answers[0]) for moment in moments}
    missing = {repr(event) for kind, events in ANSWERS.items() for event in events if kind is not do.SendReport} - given
    assert missing == set()


def test_a_merge_follows_the_fence_and_an_unmoved_branch_and_is_sent_a_bounded_number_of_times(
    moments: list[Moment],
) -> None:
    merges = [moment for moment in moments if isinstance(moment.command, do.Merge)]
    for rebuilt in (0, 1):  # what was built anew may be sent once more
        sent = {moment.state.merges_sent for moment in merges if moment.state.rebuilt == rebuilt}
        assert sent == set(range(1, MERGE_TRIES + rebuilt + 1))
    for moment in merges:
        read = moment.answers[0]
        assert isinstance(read, on.BranchRead)
        assert read.head(REF) == moment.state.expected_head
        assert moment.answers[1] == on.DeliveryConfirmed()


def test_staging_follows_the_fence(moments: list[Moment]) -> None:
    for moment in moments:
        if isinstance(moment.command, do.CreateStagingBranch):
            assert moment.answers[0] == on.DeliveryConfirmed()


def test_a_merge_is_guarded_by_the_fence_unless_the_server_or_the_deployment_has_none(moments: list[Moment]) -> None:
    for moment in moments:
        if not isinstance(moment.command, do.Merge):
            continue
        policy, found = moment.state.plan.publish_fence, moment.state.fence
        unguarded = {PublishFence.AUTO: {on.FenceState.NOT_ENFORCED}, PublishFence.REQUIRED: set()}
        assert policy is PublishFence.OFF or found in {on.FenceState.ENFORCED, *unguarded[policy]}


def test_a_lost_delivery_only_cleans_up_and_has_no_report(moments: list[Moment]) -> None:
    for moment in moments:
        if moment.state.step is Step.LOST:
            assert moment.command is None or isinstance(moment.command, CLEAN_UP)
            assert moment.state.report is None


def test_success_names_a_verified_publication_or_the_input_where_nothing_certainly_changed(
    moments: list[Moment],
) -> None:
    completed = [moment for moment in moments if moment.state.report and _status(moment) is TaskStatus.COMPLETED]
    found = {moment.state.publication for moment in completed}
    assert found == {MERGED, REF, None}
    for moment in completed:
        if moment.state.step is Step.PUBLISHED and isinstance(moment.command, do.RemoveStagingBranches):
            answer = moment.answers[0]
            if isinstance(answer, on.PublicationRead):
                assert answer.commit.parents[0] == moment.state.expected_head
            else:
                assert answer == on.NothingStaged()
                assert moment.state.changes.uncertain == {"a"}, "what lakeFS alone can tell"
        assert moment.state.open_merge is None


def test_a_failure_says_what_is_not_known_about_its_merge(moments: list[Moment]) -> None:
    failed = [moment for moment in moments if moment.state.report and _status(moment) is not TaskStatus.COMPLETED]
    assert any(moment.state.open_merge for moment in failed)
    for moment in failed:
        report = moment.state.report
        assert report is not None
        assert report.reason is not None
        assert len(report.reason) <= 500
        if moment.state.open_merge:
            assert report.reason.endswith(moment.state.open_merge)


def test_what_was_made_is_removed_before_the_report(moments: list[Moment]) -> None:
    for moment in moments:
        if moment.state.step is Step.CLEANED and moment.state.has_directory:
            assert moment.answers[0] == on.DirectoryRemoved()
            if moment.state.staging_branch and not moment.state.merge_unanswered:
                assert moment.answers[1] == on.StagingBranchesRemoved()


def test_a_report_is_always_sent_right_after_the_fence_and_a_bounded_number_of_times(
    report_moments: list[Moment],
) -> None:
    reports = [moment for moment in report_moments if isinstance(moment.command, do.SendReport)]

    assert all(isinstance(moment.answers[0], on.DeliveryConfirmed) for moment in reports)
    late = [moment for moment in reports if moment.answers[0] == on.DeliveryConfirmed(late=True)]
    assert all(moment.answers[1] == on.DeliveryConfirmed(late=True) for moment in late), (
        "old news only if it is always old"
    )
    assert late
    assert max(moment.state.reports_sent for moment in reports) == REPORT_TRIES
    ends = {moment.state.step for moment in report_moments if moment.command is None}
    assert ends == {Step.REPORTED, Step.LOST, Step.CLEANED}


def test_the_table_lists_exactly_what_can_happen(edges: set[Edge]) -> None:
    always = {"CommandFailed", "DeliveryLost"}
    found = {edge[:2] for edge in edges if edge[1] not in always}
    assert found == {(step, event.__name__) for step, event in TRANSITIONS}


def test_the_diagram_on_the_page_is_that_of_the_table(edges: set[Edge]) -> None:
    page = PAGE.read_text("utf-8")
    drawing = drawn(edges)
    assert with_part(page, DRAWING, drawing) == page, "run `python -m tests.attempt.diagram`"


def _status(moment: Moment) -> TaskStatus | None:
    return moment.state.report.status if moment.state.report else None
