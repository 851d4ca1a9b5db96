"""Calls that fail before or after they took effect, deliveries that are lost, branches that others move."""

from __future__ import annotations

import pytest

from perago.authoring import Task
from perago.authoring.task import get_task
from perago.driver import Limits
from perago.embedded.faults import Moment
from perago.embedded.lakefs import objects
from perago.ports import CorruptTransfer, Forbidden, Refused, ServiceError, TaskStatus, Unavailable, Unclear
from perago.settings import PublishFence
from perago.testing import InMemoryServices

from . import tasks
from .tasks import Params

TREE: dict[str, str | bytes | None] = {"raw/a.csv": "x\n1\n", "raw/b.csv": "x\n2\n"}


def edit_task() -> Task:
    found = get_task(tasks.edit)
    assert found is not None
    return found


def publications(services: InMemoryServices, ref: str) -> int:
    commits = services.lakefs.history("workspace", "main", until=ref, limit=100)
    return sum("perago.task_id" in commit.metadata for commit in commits)


@pytest.mark.parametrize(
    ("operation", "nth"), [("history", 1), ("history", 2), ("get_commit", 1), ("is_current", 1), ("is_current", 2)]
)
def test_a_question_without_an_answer_is_asked_again(services: InMemoryServices, operation: str, nth: int) -> None:
    services.faults.before(operation, nth=nth, error=Unavailable)
    assert services.run(tasks.edit, Params(do="edit"), TREE).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("operation", ["commit", "merge"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_to_a_write_is_resolved_by_looking(
    services: InMemoryServices, operation: str, moment: str
) -> None:
    ref = services.seed(TREE)
    getattr(services.faults, moment)(operation, error=Unclear)
    services.start(edit_task(), Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.COMPLETED
    assert publications(services, ref) == 1
    assert services.tree()["raw/a.csv"] == b"changed"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_to_the_report_is_resolved_by_looking(services: InMemoryServices, moment: str) -> None:
    getattr(services.faults, moment)("report", error=Unclear)
    outcome = services.run(tasks.edit, Params(do="edit"), TREE)

    assert outcome.task["status"] == "COMPLETED"


@pytest.mark.parametrize("error", [Forbidden, Refused, CorruptTransfer], ids=lambda error: error.__name__)
@pytest.mark.parametrize("operation", ["download", "create_branch", "upload", "delete_objects"])
def test_a_call_that_fails_for_good_is_a_retryable_failure_that_leaves_nothing(
    services: InMemoryServices, operation: str, error: type[ServiceError]
) -> None:
    ref = services.seed(TREE)
    services.faults.before(operation, error=error)
    services.start(edit_task(), Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED
    assert str(outcome.reason).startswith("lakeFS: ")
    assert services.lakefs.get_commit("workspace", "main").id == ref
    services.clock.advance(5)
    assert services.attempt(tasks.edit).status is TaskStatus.COMPLETED, "the retry succeeds"
    assert publications(services, ref) == 1


def test_a_call_for_a_staging_branch_that_a_proxy_sends_twice_is_no_failure(services: InMemoryServices) -> None:
    services.faults.after("create_branch", error=Refused)
    outcome = services.run(tasks.edit, Params(do="edit"), TREE)

    assert outcome.status is TaskStatus.COMPLETED, outcome.reason


def test_a_staging_branch_that_is_at_another_commit_is_a_failure(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = services.lakefs.create_branch
    other = services.seed({"raw/other": "x"})

    def create_elsewhere(repository: str, branch: str, source: str) -> None:
        create(repository, branch, other)
        create(repository, branch, source)

    monkeypatch.setattr(services.lakefs, "create_branch", create_elsewhere)
    outcome = services.run(tasks.edit, Params(do="edit"), TREE)

    assert outcome.status is TaskStatus.FAILED
    assert "already exists" in str(outcome.reason)


def test_a_staging_branch_that_cannot_be_removed_does_not_cost_the_result(services: InMemoryServices) -> None:
    services.faults.before("delete_branch", error=Unavailable)
    outcome = services.run(tasks.edit, Params(), TREE)

    assert outcome.status is TaskStatus.COMPLETED
    assert "is left behind" in outcome.record.notes[0]


def test_a_foreign_commit_during_the_function_is_not_overwritten(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    services.faults.between("commit", lambda: services.seed({"raw/foreign": "theirs"}))
    services.start(edit_task(), Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "has moved since the input ref" in str(outcome.reason)
    assert services.tree() == {"raw/a.csv": b"x\n1\n", "raw/b.csv": b"x\n2\n", "raw/foreign": b"theirs"}
    assert publications(services, ref) == 0


def switch_the_fence_off(services: InMemoryServices) -> None:
    """As where `PERAGO_PUBLISH_FENCE` is `off`, and the branch has no fence."""
    services.limits = Limits(publish_fence=PublishFence.OFF)


def test_a_foreign_commit_between_the_look_and_the_merge_is_reported_loudly(services: InMemoryServices) -> None:
    """Where no publish fence guards the merge, only the verification afterwards can notice."""
    switch_the_fence_off(services)
    ref = services.seed(TREE)
    services.faults.between("merge", lambda: services.seed({"raw/foreign": "theirs"}))
    services.start(edit_task(), Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "is not what this attempt built" in str(outcome.reason)
    assert services.tree()["raw/foreign"] == b"theirs"


def test_uncommitted_changes_on_the_target_are_retryable(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    objects.put_object(services.lakefs.server.repository("workspace"), "main", "staged", b"x")
    services.start(edit_task(), Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED
    assert "uncommitted changes" in str(outcome.reason)


@pytest.mark.parametrize("operation", ["download", "upload", "commit"])
def test_a_workflow_that_is_terminated_meanwhile_gets_nothing(services: InMemoryServices, operation: str) -> None:
    ref = services.seed(TREE)
    workflow = services.start(edit_task(), Params(do="edit"), ref=ref)
    services.faults.between(operation, lambda: services.conductor.terminate_workflow(workflow))
    outcome = services.attempt(tasks.edit)

    assert outcome.status is None
    assert outcome.record.lost_reason is not None
    assert publications(services, ref) == 0
    assert outcome.task["status"] == "CANCELED"


def test_a_rerun_while_the_attempt_runs_makes_its_delivery_stale(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    workflow = services.start(edit_task(), Params(do="edit"), ref=ref)
    delivery = services.take(edit_task())
    services.conductor.terminate_workflow(workflow)
    services.conductor.rerun_workflow(workflow, delivery.task_id)
    outcome = services.attempt(tasks.edit, delivery)

    assert outcome.status is None
    assert publications(services, ref) == 0


def test_a_delivery_that_is_lost_after_its_publication_reports_nothing(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    workflow = services.start(edit_task(), Params(do="edit"), ref=ref)
    services.faults.between("delete_branch", lambda: services.conductor.terminate_workflow(workflow))
    outcome = services.attempt(tasks.edit)

    assert (outcome.status, outcome.task["status"]) == (None, "CANCELED")
    assert outcome.lost_reason is not None
    assert outcome.commit is not None


def test_a_publication_whose_report_never_arrived_is_adopted_and_not_repeated(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    services.start(edit_task(), Params(do="edit"), ref=ref)
    delivery = services.take(edit_task())
    record = services.run_delivery(edit_task(), delivery)
    assert record.published_commit is not None
    services.clock.advance(601)
    services.conductor.sweep()
    services.clock.advance(5)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.COMPLETED
    assert outcome.task["retriedTaskId"] == delivery.task_id
    assert outcome.record.adopted_commit == record.published_commit
    assert outcome.result == record.report.output["result"] if record.report else False
    assert "RunFunction" not in [step.name for step in outcome.record.steps]
    assert services.tree(str(outcome.commit)) == services.tree(record.published_commit)
    assert publications(services, ref) == 2, "the publication, and the empty fence commit of its adoption"


def test_a_redelivered_task_is_not_the_old_delivery(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    services.start(edit_task(), Params(do="edit"), ref=ref)
    first = services.take(edit_task())
    services.conductor.hand_back(first)
    second = services.take(edit_task())
    assert (first.task_id, first.poll_count + 1) == (second.task_id, second.poll_count)

    assert services.run_delivery(edit_task(), first).lost_reason is not None
    assert services.attempt(tasks.edit, second).status is TaskStatus.COMPLETED
    assert publications(services, ref) == 1


def test_the_answer_to_a_merge_may_be_lost_while_a_foreign_commit_follows(services: InMemoryServices) -> None:
    ref = services.seed(TREE)
    services.faults.between("merge", lambda: services.seed({"raw/later": "theirs"}), moment=Moment.AFTER)
    services.faults.after("merge", error=Unclear)
    services.start(edit_task(), Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.COMPLETED
    assert publications(services, ref) == 1
    assert services.tree()["raw/later"] == b"theirs"
