"""The unmodified official SDK, conductor-python, against the embedded server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.http.models import (
    RerunWorkflowRequest,
    StartWorkflowRequest,
    TaskDef,
    TaskResult,
    WorkflowDef,
    WorkflowTask,
)
from conductor.client.http.models.task_result_status import TaskResultStatus
from conductor.client.http.rest import ApiException
from conductor.client.orkes_clients import OrkesClients

from perago.embedded.conductor import InMemoryConductor

from .conftest import Http
from .sdk_workers import Adder, Failing

PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK, about its own models


@pytest.fixture
def configuration(live_http: Http) -> Configuration:
    return Configuration(server_api_url=f"{live_http.url}/api")


@pytest.fixture
def clients(configuration: Configuration) -> OrkesClients:
    return OrkesClients(configuration)


@pytest.fixture
def chain(clients: OrkesClients) -> str:
    """A workflow of two additions, defined through the SDK."""
    metadata = clients.get_metadata_client()
    metadata.register_task_def(TaskDef(name="add", retry_count=0, retry_delay_seconds=0))
    first = WorkflowTask(name="add", task_reference_name="a", input_parameters={"n": "${workflow.input.n}"})
    second = WorkflowTask(name="add", task_reference_name="b", input_parameters={"n": "${a.output.n}"})
    definition = WorkflowDef(
        name="chain", version=1, tasks=[first, second], output_parameters={"n": "${b.output.n}"}, timeout_seconds=0
    )
    metadata.register_workflow_def(definition, overwrite=True)
    return "chain"


@pytest.fixture
def run(configuration: Configuration) -> Iterator[Callable[..., None]]:
    """Starts workers in processes of their own, as in production."""
    handlers: list[TaskHandler] = []

    def start(*workers: object) -> None:
        handler = TaskHandler(list(workers), configuration, scan_for_annotated_workers=False, monitor_processes=False)
        handlers.append(handler)
        handler.start_processes()

    yield start
    for handler in handlers:
        handler.stop_processes()


def finished(conductor: InMemoryConductor, workflow_id: str) -> dict[str, object]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if conductor.await_workflow(workflow_id, wait_seconds=1):
            return conductor.workflow(workflow_id)
    raise AssertionError(f"workflow {workflow_id} did not end: {conductor.workflow(workflow_id)}")


def test_workers_in_processes_run_a_workflow_and_report_their_exceptions(
    clients: OrkesClients, live_conductor: InMemoryConductor, chain: str, run: Callable[..., None]
) -> None:
    run(Adder("add"), Failing("t"))
    workflows = clients.get_workflow_client()
    added = workflows.start_workflow(StartWorkflowRequest(name=chain, version=1, input={"n": 40}))
    raised = workflows.start_workflow_by_name("w", {})
    assert finished(live_conductor, added)["output"] == {"n": 42}
    assert finished(live_conductor, raised)["status"] == "FAILED"
    (task,) = live_conductor.workflow(raised)["tasks"]
    assert (task["status"], task["reasonForIncompletion"]) == ("FAILED", "no r0")
    (entry,) = live_conductor.task_logs(task["taskId"])
    assert "ValueError" in entry["log"]


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
    seen = tasks.update_task_sync(workflow_id, "r1", TaskResultStatus.COMPLETED, {"a": 1})
    assert (seen.status, seen.output) == ("COMPLETED", {"a": 1})
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
