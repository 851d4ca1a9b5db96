"""Scripts with the calls of the documented examples of conductor-python.

Each runs on the embedded Conductor, and with `-m live` on the one that PERAGO_CONFORMANCE_CONDUCTOR names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conductor.client.configuration.configuration import Configuration
from conductor.client.http.models import (
    RerunWorkflowRequest,
    SkipTaskRequest,
    StartWorkflowRequest,
    TaskDef,
    TaskResult,
    WorkflowDef,
)
from conductor.client.http.models.task_result_status import TaskResultStatus
from conductor.client.http.models.workflow_test_request import WorkflowTestRequest
from conductor.client.http.rest import ApiException
from conductor.client.orkes_clients import OrkesClients
from conductor.client.workflow.conductor_workflow import ConductorWorkflow
from conductor.client.workflow.task.do_while_task import LoopTask
from conductor.client.workflow.task.dynamic_fork_task import DynamicForkTask
from conductor.client.workflow.task.dynamic_task import DynamicTask
from conductor.client.workflow.task.javascript_task import JavascriptTask
from conductor.client.workflow.task.join_task import JoinTask
from conductor.client.workflow.task.json_jq_task import JsonJQTask
from conductor.client.workflow.task.set_variable_task import SetVariableTask
from conductor.client.workflow.task.simple_task import SimpleTask
from conductor.client.workflow.task.start_workflow_task import StartWorkflowTask
from conductor.client.workflow.task.sub_workflow_task import SubWorkflowTask
from conductor.client.workflow.task.switch_task import SwitchTask
from conductor.client.workflow.task.terminate_task import TerminateTask, WorkflowStatus
from conductor.client.workflow.task.wait_task import WaitForDurationTask, WaitTask

from .. import targets

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK, about its own models
OWNER = "sdk@example.com"


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.live)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "real":
        yield targets.address("conductor")
        return
    with targets.embedded_server("conductor", real_time=True) as target:
        yield target.url


@pytest.fixture
def clients(url: str) -> Any:
    """All clients of the SDK, made as its documentation says."""
    return OrkesClients(Configuration(server_api_url=url))


@pytest.fixture
def task_type(clients: Any) -> str:
    """A new registered task type."""
    name = f"sdk_{os.urandom(6).hex()}"
    definition = TaskDef(
        name=name, description="of a script", owner_email=OWNER, retry_count=0, timeout_seconds=60,
        response_timeout_seconds=30, timeout_policy="TIME_OUT_WF", retry_logic="FIXED", input_keys=["a"],
    )  # fmt: skip
    clients.get_metadata_client().register_task_def(definition)
    return name


def new(clients: Any, *tasks: Any) -> Any:
    """A workflow with a name of its own."""
    name = f"sdk_{os.urandom(6).hex()}"
    workflow = ConductorWorkflow(clients.get_workflow_executor(), name, 1, "of a script").owner_email(OWNER)
    for task in tasks:
        workflow >> task
    return workflow.timeout_seconds(0)


def completed(task: Any, **output: Any) -> Any:
    status = TaskResultStatus.COMPLETED
    instance = task.workflow_instance_id
    return TaskResult(task_id=task.task_id, workflow_instance_id=instance, status=status, output_data=output)


def ended(clients: Any, workflow_id: str, work: Callable[[], object] = lambda: time.sleep(0.05)) -> Any:
    """The workflow at its end; `work` is called until then."""
    deadline = time.monotonic() + 60
    while (run := clients.get_workflow_client().get_workflow(workflow_id, include_tasks=True)).status == "RUNNING":
        assert time.monotonic() < deadline, [task.to_dict() for task in run.tasks]
        work()
    return run


def test_workers_of_the_sdk_run_a_workflow(url: str) -> None:
    command = [sys.executable, "-m", "tests.conformance.sdk.hello_workers", url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "status": "COMPLETED",
        "output": {"text": "HELLO CONDUCTOR", "letters": 15},
        "steps": {
            "greet": "COMPLETED",
            "shout": "COMPLETED",
            "count": "COMPLETED",
            "refuse": "FAILED_WITH_TERMINAL_ERROR",
        },
        "logs": ["greets Conductor"],
    }


def test_operators_of_the_server_are_used_together(clients: Any) -> None:
    script = JavascriptTask("script", "(function(){ return $.number + 1; })()", {"number": "${workflow.input.number}"})
    query = JsonJQTask("query", "{sum: (.a + .b)}")
    query.input_parameters.update({"a": 1, "b": 2})
    variable = SetVariableTask("variable")
    variable.input_parameters.update({"sum": query.output("result.sum")})
    switch = SwitchTask("switch", "${workflow.input.kind}")
    switch.switch_case("stop", TerminateTask("stop", WorkflowStatus.FAILED, "as the input says"))
    switch.default_case([WaitForDurationTask("pause", 1)])
    workflow = new(clients, script, query, variable, switch)
    workflow.output_parameters({"script": script.output(), "sum": "${workflow.variables.sum}"})
    run = workflow.execute({"number": 1, "kind": "go"}, wait_for_seconds=30)
    assert (run.status, run.output) == ("COMPLETED", {"script": 2, "sum": 3})
    stopped = clients.get_workflow_client().get_workflow(workflow(number=1, kind="stop").workflow_id)
    assert (stopped.status, stopped.reason_for_incompletion) == ("FAILED", "as the input says")


def test_structures_run_with_polled_tasks(clients: Any, task_type: str) -> None:
    tasks = clients.get_task_client()
    inner = new(clients, SimpleTask(task_type, "inside"))
    registered = new(clients, SimpleTask(task_type, "registered"))
    registered.register(overwrite=True)
    prepared = JsonJQTask("prepare", "{tasks: [.types[] | {name: ., taskReferenceName: .}], inputs: {}}")
    prepared.input_parameters["types"] = [task_type]
    dynamic_fork = DynamicForkTask("each", "tasks", "inputs", JoinTask("each_join"))
    dynamic_fork.input_parameters.update({key: prepared.output(f"result.{key}") for key in ("tasks", "inputs")})
    started = StartWorkflowRequest(name=registered.name, version=1, input={})
    workflow = new(
        clients,
        [[SimpleTask(task_type, "left")], [SimpleTask(task_type, "right")]],
        LoopTask("loop", 2, [SimpleTask(task_type, "round")]),
        inner,
        SubWorkflowTask("sub", registered.name, 1),
        DynamicTask(task_type, "chosen"),
        prepared,
        dynamic_fork,
        StartWorkflowTask("start", registered.name, started, 1),
    )

    def work() -> None:
        for task in tasks.batch_poll_tasks(task_type, worker_id="me", count=5, timeout_in_millisecond=100) or []:
            tasks.update_task(completed(task, done=True))

    workflow_id = workflow.start_workflow_with_input({})
    run = ended(clients, workflow_id, work)
    assert run.status == "COMPLETED", run.reason_for_incompletion
    references = [task.reference_task_name for task in run.tasks]
    assert {"left", "right", "round__1", "round__2", "sub", "chosen", task_type, "each_join", "start"} <= {*references}
    ended(clients, run.tasks[-1].output_data["workflowId"], work)


def test_a_workflow_is_operated(clients: Any, task_type: str) -> None:
    workflows, tasks = clients.get_workflow_client(), clients.get_task_client()
    workflow = new(clients, WaitTask("wait"), SimpleTask(task_type, "first"), SimpleTask(task_type, "second"))
    workflow.register(overwrite=True)
    request = StartWorkflowRequest(name=workflow.name, version=1, input={"a": 1}, correlation_id="c")
    workflow_id = workflows.start_workflow(request)
    assert workflows.get_workflow_status(workflow_id, include_output=True).status == "RUNNING"
    assert [run.workflow_id for run in workflows.get_by_correlation_ids(workflow.name, ["c"])["c"]] == [workflow_id]
    workflows.pause_workflow(workflow_id)
    assert workflows.get_workflow(workflow_id, include_tasks=False).status == "PAUSED"
    workflows.resume_workflow(workflow_id)
    assert workflows.search(query=f"workflowType={workflow.name}").results is not None
    (wait,) = workflows.get_workflow(workflow_id, include_tasks=True).tasks
    tasks.update_task(completed(wait))
    tasks.update_task_by_ref_name(workflow_id, "first", "COMPLETED", {"by": "name"})
    workflows.terminate_workflow(workflow_id, reason="enough")
    assert workflows.get_workflow(workflow_id).reason_for_incompletion == "enough"
    workflows.retry_workflow(workflow_id)
    run = tasks.update_task_sync(workflow_id, "second", TaskResultStatus.COMPLETED, {"a": 1})
    assert (run.status, run.output) == ("COMPLETED", {"a": 1})
    workflows.restart_workflow(workflow_id)
    workflows.skip_task_from_workflow(workflow_id, "first", SkipTaskRequest(task_input={}, task_output={}))
    workflows.terminate_workflow(workflow_id)
    assert workflows.rerun_workflow(workflow_id, RerunWorkflowRequest()) == workflow_id
    workflows.terminate_workflow(workflow_id)
    workflows.delete_workflow(workflow_id)
    with pytest.raises(ApiException) as caught:
        workflows.get_workflow(workflow_id)
    assert caught.value.is_not_found()
    waiting = StartWorkflowRequest(name=workflow.name, version=1)
    run = workflows.execute_workflow(waiting, wait_until_task_ref="wait", wait_for_seconds=1)
    assert run.status == "RUNNING"
    workflows.terminate_workflow(run.workflow_id)


def test_a_task_is_polled_logged_and_updated(clients: Any, task_type: str) -> None:
    workflows, tasks = clients.get_workflow_client(), clients.get_task_client()
    workflow = new(clients, SimpleTask(task_type, "only"))
    workflow.register(overwrite=True)
    assert tasks.poll_task(task_type).task_id is None
    workflow_id = workflows.start_workflow_by_name(workflow.name, {}, version=1, correlationId="c", priority=3)
    assert tasks.get_queue_size_for_task(task_type) == 1
    deadline = time.monotonic() + 30
    while not (task := tasks.poll_task(task_type, worker_id="me")).task_id:
        assert time.monotonic() < deadline
    assert (task.reference_task_name, task.worker_id, task.status) == ("only", "me", "IN_PROGRESS")
    tasks.add_task_log(task.task_id, "hello")
    while not (entries := tasks.get_task_logs(task.task_id)):  # a real server indexes it in the background
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [entry.log for entry in entries] == ["hello"]
    assert tasks.update_task(completed(task, a=1)) == task.task_id
    assert tasks.get_task(task.task_id).output_data == {"a": 1}
    assert ended(clients, workflow_id).status == "COMPLETED"
    assert [poll.queue_name for poll in tasks.get_task_poll_data(task_type)] == [task_type]


def test_definitions_are_managed(clients: Any, task_type: str) -> None:
    metadata = clients.get_metadata_client()
    workflow = new(clients, SimpleTask(task_type, "only")).input_parameters(["a"])
    metadata.register_workflow_def(workflow.to_workflow_def(), overwrite=True)
    definition: WorkflowDef = metadata.get_workflow_def(workflow.name, version=1)
    assert (definition.input_parameters, definition.owner_email) == (["a"], OWNER)
    assert workflow.name in [listed.name for listed in metadata.get_all_workflow_defs()]
    metadata.update_workflow_def(workflow.timeout_seconds(90).to_workflow_def())
    assert metadata.get_workflow_def(workflow.name).timeout_seconds == 90
    assert task_type in [listed.name for listed in metadata.get_all_task_defs()]
    metadata.update_task_def(TaskDef(name=task_type, owner_email=OWNER, retry_count=2))
    assert metadata.get_task_def(task_type).retry_count == 2
    metadata.unregister_workflow_def(workflow.name, 1)
    metadata.unregister_task_def(task_type)
    with pytest.raises(ApiException):
        metadata.get_workflow_def(workflow.name)


CALLS = {
    "testWorkflow": lambda clients: clients.get_workflow_client().test_workflow(WorkflowTestRequest(name="w")),
    "pauseAllSchedules": lambda clients: clients.get_scheduler_client().pause_all_schedules(),
    "listAllNames": lambda clients: clients.get_secret_client().list_all_secret_names(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("url", ["embedded"], indirect=True)
def test_other_calls_of_the_examples_are_refused_by_name(clients: Any, name: str) -> None:
    with pytest.raises(ApiException, match="501") as caught:
        CALLS[name](clients)
    assert caught.value.message.startswith(name)


def test_keys_are_accepted_by_a_server_without_tokens(url: str) -> None:
    from conductor.client.configuration.settings.authentication_settings import AuthenticationSettings

    keys = AuthenticationSettings("key", "secret")
    configuration = Configuration(server_api_url=url, authentication_settings=keys)
    assert OrkesClients(configuration).get_task_client().get_queue_size_for_task("t") == 0
