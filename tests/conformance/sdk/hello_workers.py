"""A script that runs a workflow with workers of conductor-python: `python -m tests.conformance.sdk.hello_workers URL`.

It is a process of its own, because the SDK forks a process for each worker. The SDK cannot read annotations that are
text, so this module has no `from __future__ import annotations`.
"""
# mypy: disable-error-code="untyped-decorator"

import asyncio
import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")  # of the SDK, about its own models

from conductor.client.automator.task_handler import TaskHandler  # noqa: E402
from conductor.client.configuration.configuration import Configuration  # noqa: E402
from conductor.client.context.task_context import get_task_context  # noqa: E402
from conductor.client.http.models import Task, TaskResult  # noqa: E402
from conductor.client.http.models.task_result_status import TaskResultStatus  # noqa: E402
from conductor.client.orkes_clients import OrkesClients  # noqa: E402
from conductor.client.worker.exception import NonRetryableException  # noqa: E402
from conductor.client.worker.worker_task import worker_task  # noqa: E402
from conductor.client.workflow.conductor_workflow import ConductorWorkflow  # noqa: E402


@worker_task(task_definition_name="sdk_greet", register_task_def=True)
def greet(name: str) -> str:
    get_task_context().add_log(f"greets {name}")
    return f"Hello {name}"


@worker_task(task_definition_name="sdk_shout", register_task_def=True)
async def shout(text: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"text": text.upper()}


@worker_task(task_definition_name="sdk_count", register_task_def=True)
def count(task: Task) -> TaskResult:
    result = TaskResult(task_id=task.task_id, workflow_instance_id=task.workflow_instance_id)
    result.status = TaskResultStatus.COMPLETED
    result.add_output_data("letters", len(task.input_data["text"]))
    return result


@worker_task(task_definition_name="sdk_refuse", register_task_def=True)
def refuse(letters: int) -> str:
    raise NonRetryableException(f"{letters} letters are too many")


def main(url: str) -> None:
    configuration = Configuration(server_api_url=url)
    clients = OrkesClients(configuration)
    executor = clients.get_workflow_executor()
    workflow = ConductorWorkflow(executor, "sdk_hello", 1, "Greets").owner_email("sdk@example.com")
    greeted = greet(task_ref_name="greet", name=workflow.input("name"))
    shouted = shout(task_ref_name="shout", text=greeted.output("result"))
    counted = count(task_ref_name="count", text=shouted.output("text"))
    refused = refuse(task_ref_name="refuse", letters=counted.output("letters"))
    refused.optional = True
    workflow >> greeted >> shouted >> counted >> refused
    workflow.output_parameters({"text": shouted.output("text"), "letters": counted.output("letters")})
    workflow.register(overwrite=True)
    with TaskHandler(configuration=configuration, scan_for_annotated_workers=True) as handler:
        handler.start_processes()
        run = executor.execute(
            name="sdk_hello",
            version=1,
            workflow_input={"name": "Conductor"},
            wait_for_seconds=30,
            wait_until_task_ref="",
        )
        steps = clients.get_workflow_client().get_workflow(run.workflow_id, include_tasks=True).tasks
        logs = clients.get_task_client().get_task_logs(steps[0].task_id)
        handler.stop_processes()
    shown = {
        "status": run.status,
        "output": run.output,
        "steps": {step.reference_task_name: step.status for step in steps},
        "logs": [entry.log for entry in logs],
    }
    sys.stdout.write(f"{json.dumps(shown)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
