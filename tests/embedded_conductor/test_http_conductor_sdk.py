"""The unmodified official SDK, conductor-python, against the embedded server."""

from __future__ import annotations

import pytest
from conductor.client.configuration.configuration import Configuration
from conductor.client.http.models import (
    RerunWorkflowRequest,
    TaskResult,
)
from conductor.client.http.models.task_result_status import TaskResultStatus
from conductor.client.http.rest import ApiException
from conductor.client.orkes_clients import OrkesClients

from .conftest import Http

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK, about its own models


@pytest.fixture
def configuration(live_http: Http) -> Configuration:
    return Configuration(server_api_url=f"{live_http.url}/api")


@pytest.fixture
def clients(configuration: Configuration) -> OrkesClients:
    return OrkesClients(configuration)


def test_the_task_client(clients: OrkesClients) -> None:
    tasks, workflows = clients.get_task_client(), clients.get_workflow_client()
    assert tasks.poll_task("t").task_id is None
    workflow_id = workflows.start_workflow_by_name("w", {}, correlationId="c")
    assert tasks.get_queue_size_for_task("t") == 1
    (task,) = tasks.batch_poll_tasks("t", worker_id="me", count=5, timeout_in_millisecond=10)
    assert (task.reference_task_name, task.worker_id, task.status) == ("r0", "me", "IN_PROGRESS")
    tasks.add_task_log(task.task_id, "hello")
    assert [entry.log for entry in tasks.get_task_logs(task.task_id)] == ["hello"]
    result = TaskResult(task_id=task.task_id, workflow_instance_id=workflow_id, status=TaskResultStatus.COMPLETED)
    assert tasks.update_task(result) == task.task_id
    assert tasks.get_task(task.task_id).status == "COMPLETED"
    workflow_run = tasks.update_task_sync(workflow_id, "r1", TaskResultStatus.COMPLETED, {"a": 1})
    assert (workflow_run.status, workflow_run.output) == ("COMPLETED", {"a": 1})
    assert [poll.queue_name for poll in tasks.get_task_poll_data("t")] == ["t"]


def test_the_workflow_client(clients: OrkesClients) -> None:
    workflows = clients.get_workflow_client()
    workflow_id = workflows.start_workflow_by_name("w", {"x": 1}, correlationId="c", priority=3)
    assert workflows.get_workflow_status(workflow_id, include_output=True).status == "RUNNING"
    workflows.pause_workflow(workflow_id)
    assert workflows.get_workflow(workflow_id, include_tasks=False).status == "PAUSED"
    workflows.resume_workflow(workflow_id)
    assert list(workflows.get_by_correlation_ids("w", ["c"])) == ["c"]
    workflows.terminate_workflow(workflow_id, reason="enough")
    assert workflows.get_workflow(workflow_id).reason_for_incompletion == "enough"
    workflows.restart_workflow(workflow_id)
    workflows.terminate_workflow(workflow_id)
    workflows.retry_workflow(workflow_id)
    workflows.terminate_workflow(workflow_id)
    assert workflows.rerun_workflow(workflow_id, RerunWorkflowRequest()) == workflow_id
    workflows.terminate_workflow(workflow_id)
    workflows.delete_workflow(workflow_id)
    with pytest.raises(ApiException) as caught:
        workflows.get_workflow(workflow_id)
    assert caught.value.status == 404


def test_keys_are_taken_by_a_server_that_knows_no_tokens(live_http: Http) -> None:
    from conductor.client.configuration.settings.authentication_settings import AuthenticationSettings

    configuration = Configuration(
        server_api_url=f"{live_http.url}/api", authentication_settings=AuthenticationSettings("key", "secret")
    )
    assert OrkesClients(configuration).get_task_client().get_queue_size_for_task("t") == 0
