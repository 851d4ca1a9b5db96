"""A canceled attempt that Conductor begins again, without its mark, after its retry."""

from __future__ import annotations

from typing import Any

import pytest

from perago.embedded.lakefs import commits
from perago.ports import Delivery, Report, TaskStatus
from perago.testing.services import InMemoryServices

from .editing import DEFINITION, STEP, TASK
from .world import BRANCH, INPUT, REPOSITORY

PLAIN = {"name": "plain", "taskReferenceName": "plain", "type": "SIMPLE"}
SUB = {"name": "sub", "taskReferenceName": "sub", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": "inner"}}
EDITING = {
    **STEP,
    "taskReferenceName": "edit",
    "inputParameters": {"workspace": "${workflow.input.workspace}", "params": {"quiet": "never", "began": 0}},
}
FORK: list[dict[str, Any]] = [
    {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[EDITING], [SUB]]},
    {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["edit", "sub"]},
]


def end_plain(services: InMemoryServices, status: TaskStatus) -> Delivery:
    """End all waiting tasks without a workspace. The retry of a sub-workflow revives its earlier runs as well."""
    *others, last = services.conductor.poll("plain", "w0001", count=9, wait_seconds=0)
    for delivery in (*others, last):
        services.conductor.report(delivery, Report(status), "w0001")
    return last


@pytest.mark.parametrize("retry_first", [True, False], ids=["its retry is done", "its retry begins again, too"])
def test_an_attempt_that_is_begun_again_without_its_mark_ends_as_its_retry(
    services: InMemoryServices, retry_first: bool
) -> None:
    """The sub-workflow next to it fails, the workflow is retried, the sub-workflow fails again and is retried alone.
    Measured on a real server."""
    conductor, played = services.conductor, []

    def run_all() -> None:
        while waiting := conductor.poll(TASK.name, "w0001", count=1, wait_seconds=0):
            played.append(services.attempt(TASK.function, waiting[0])._record)

    conductor.register_task_definitions([DEFINITION, {**DEFINITION, "name": "plain"}])
    for name, steps in (("inner", [PLAIN]), ("revived", FORK)):
        conductor.create_workflow_definition({"name": name, "version": 1, "schemaVersion": 2, "tasks": steps})
    block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": services.seed(INPUT)}
    workflow = conductor.start_workflow("revived", {"workspace": block})
    end_plain(services, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    conductor.sweep()
    conductor.retry_workflow(workflow)
    conductor.sweep()
    if retry_first:
        run_all()
    child = end_plain(services, TaskStatus.FAILED_WITH_TERMINAL_ERROR).workflow_id
    conductor.sweep()
    conductor.retry_workflow(child)
    end_plain(services, TaskStatus.COMPLETED)
    for _ in range(3):
        run_all()
        conductor.advance(10)

    by_chain = {record.delivery.retried_task_id is None: record for record in played}
    first, retry = by_chain[True], by_chain[False]
    assert [step.name for step in first.steps] == ["ValidateInput"]
    assert first.report == retry.report
    assert first.remarks == ("did nothing, because its retry has done the work",)
    assert conductor.workflow(workflow)["status"] == "COMPLETED"
    (head, *_) = commits.first_parents(services.lakefs.server.repository(REPOSITORY), BRANCH)
    assert head.commit.id == retry.published_commit
