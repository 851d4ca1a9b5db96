"""Functions with `@worker_task` of conductor-python as steps of a perago workflow.

The SDK cannot read annotations that are text, so this module has no `from __future__ import annotations`.
"""
# mypy: disable-error-code="untyped-decorator"

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conductor.client.context.task_context import TaskInProgress, get_task_context
from conductor.client.http.models import Task, TaskDef, TaskResult
from conductor.client.orkes_clients import OrkesClients
from conductor.client.worker.exception import NonRetryableException
from conductor.client.worker.worker import Worker
from conductor.client.worker.worker_task import worker_task
from pydantic import BaseModel

from perago.embedded.services import EmbeddedServices
from perago.testing import TaskRunner
from perago.workflows import Cron, Flow, WorkflowDefinitionError, workflow

from ..workflows.tasks import OWNER, Split, Words, split

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of conductor-python, about its own models


class Mailing(BaseModel):
    to: str
    letters: int = 3


@dataclass
class Address:
    to: str


@worker_task(task_definition_name="sdk.mail")
def mail(to: str, address: Address, letters: int = 1, note: Any = None) -> str:
    return f"{letters} letters to {address.to} for {to}"


@worker_task(task_definition_name="sdk.count")
def count(text: str, more=None) -> dict[str, int]:  # type: ignore[no-untyped-def]
    return {"length": len(text)}


@worker_task(task_definition_name="sdk.audit")
def audit(task: Task) -> TaskResult:
    return TaskResult(status="COMPLETED", output_data={"rows": task.input_data["length"]})


@workflow(name="sdk.mailing", version=1, owner_email=OWNER)
def mailing(flow: Flow, params: Mailing) -> None:
    sent = flow.worker_task("mail", mail, to=params.to, letters=params.letters, address={"to": "me"})
    with flow.options(retries=2):
        counted = flow.worker_task("count", count, text=sent.result, more=sent.result)
    flow.worker_task("audit", audit, length=counted.result.length)
    flow.step("split", split, Words, text=sent.result)


def test_a_worker_of_the_sdk_runs_its_step() -> None:
    with EmbeddedServices() as services:
        services.conductor.create_workflow_definition(mailing.definition())
        clients = OrkesClients(services.conductor_configuration)
        workflows, tasks = clients.get_workflow_client(), clients.get_task_client()
        run = workflows.start_workflow_by_name("sdk.mailing", {"to": "you", "letters": 2}, version=1)
        deadline = time.monotonic() + 30
        for name, function in (("sdk.mail", mail), ("sdk.count", count)):
            while not (polled := tasks.poll_task(name)).task_id:
                assert time.monotonic() < deadline
            tasks.update_task(Worker(name, function).execute(polled))
        steps = {step.reference_task_name: step for step in workflows.get_workflow(run, include_tasks=True).tasks}
    assert steps["mail"].output_data == {"result": "2 letters to me for you"}
    assert steps["count"].input_data["text"] == "2 letters to me for you"
    assert steps["audit"].input_data["length"] == 23


def test_a_test_runs_such_steps_in_its_process(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(mailing, Mailing(to="you"), lost=["mail"])
    assert ran.status == "COMPLETED"
    assert [outcome.delivery.reference_name for outcome in ran.outcomes] == ["mail", "mail", "count", "audit", "split"]
    assert ran.outcome("mail").result == "3 letters to me for you"
    assert ran.outcome("count").output == {"length": 23}
    assert ran.outcome("audit").output == {"rows": 23}
    assert ran.outcome("split").result == {"words": ["3", "letters", "to", "me", "for", "you"]}
    functions = [mail, count, audit, split]
    again = perago_run.workflow(mailing.definition(), {"to": "you", "letters": 3}, functions=functions)
    assert again.outcome("audit").output == {"rows": 23}


@worker_task(task_definition_name="sdk.slow")
async def slow(text: str) -> list[str]:
    get_task_context().add_log(f"slept for {text}")
    return text.split()


@worker_task(task_definition_name="sdk.polls")
def polls(text: str) -> Any:
    context = get_task_context()
    return text if context.get_poll_count() > 1 else TaskInProgress(callback_after_seconds=60, output={"step": 1})


@workflow(name="sdk.beside", version=1, owner_email=OWNER)
def beside(flow: Flow, params: Words) -> Split:
    def side(function: Any) -> Any:
        return flow.worker_task("side", function, text=params.text).result

    split_text, _ = flow.fork("sides", [slow, polls], side)
    return flow.value(Split, words=split_text)


def test_coroutines_and_long_tasks_run_in_every_order(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(beside, Words(text="a b"), orders=4)
    assert ran.result == {"words": ["a", "b"]}
    assert ran.outcome("side_slow").log == ("slept for a b",)
    assert len([outcome for outcome in ran.outcomes if outcome.delivery.reference_name == "side_polls"]) == 2


@worker_task(task_definition_name="sdk.breaks")
def breaks(text: str) -> str:
    raise (NonRetryableException if text == "for good" else ValueError)(text)


@workflow(name="sdk.breaking", version=1, owner_email=OWNER)
def breaking(flow: Flow, params: Words) -> None:
    with flow.options(retries=2):
        flow.worker_task("breaks", breaks, text=params.text)


@pytest.mark.parametrize(
    ("text", "status", "attempts"), [("for good", "FAILED_WITH_TERMINAL_ERROR", 1), ("once", "FAILED", 3)]
)
def test_an_exception_fails_such_a_step(perago_run: TaskRunner, text: str, status: str, attempts: int) -> None:
    ran = perago_run.workflow(breaking, Words(text=text))
    assert (ran.status, text in str(ran.reason), len(ran.outcomes)) == ("FAILED", True, attempts)
    assert (ran.outcome("breaks").status, ran.outcome("breaks").reason) == (status, text)


DEFINITION = TaskDef(retry_count=1, retry_delay_seconds=5, timeout_seconds=0, response_timeout_seconds=60)


@worker_task(task_definition_name="sdk.declared", register_task_def=True, task_def=DEFINITION)
def declared(text: str) -> str:
    raise ValueError(text)


def test_such_a_step_has_the_retries_that_its_decorator_registers(perago_run: TaskRunner) -> None:
    @workflow(name="sdk.declaring", version=1, owner_email=OWNER)
    def declaring(flow: Flow, params: Words) -> None:
        flow.worker_task("declared", declared, text=params.text)

    ran = perago_run.workflow(declaring, Words(text="a"))
    first, last = ran.outcomes
    assert last.task["startTime"] - first.task["endTime"] in range(5_000, 7_000)


def test_what_perago_cannot_know_is_listed() -> None:
    facts = "perago cannot know the registration, workers, retries and timeouts of"
    warnings = mailing._build().warnings
    assert [warning.message for warning in warnings] == [
        f"step 'mail': {facts} sdk.mail",
        f"step 'count': {facts} sdk.count, nor the type of more, the fields of its result",
        f"step 'audit': {facts} sdk.audit, nor its arguments, the fields of its result",
    ]
    assert {warning.file for warning in warnings} == {__file__}


def as_text(to: "str") -> str:
    return to


WRONG: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "a type": (
        lambda flow, params: flow.worker_task("one", mail, to=params.letters, address=Address("")),
        "step 'one': mail(): to takes str, but params.letters is int",
    ),
    "a constant": (
        lambda flow, params: flow.worker_task("one", mail, to="", address={"to": 1}),
        "step 'one': mail(): address.to: Input should be a valid string",
    ),
    "an unknown argument": (
        lambda flow, params: flow.worker_task("one", count, text="", txet=""),
        "step 'one': count() has no argument 'txet'; it has text, more",
    ),
    "a missing argument": (
        lambda flow, params: flow.worker_task("one", count),
        "step 'one': count() needs the argument 'text'",
    ),
    "an argument by position": (
        lambda flow, params: flow.worker_task("one", count, "", text=""),
        "step 'one': count() takes its arguments by name",
    ),
    "a plain function": (
        lambda flow, params: flow.worker_task("one", as_text, to=""),
        "step 'one': 'as_text' has no @worker_task of conductor-python",
    ),
    "a task": (lambda flow, params: flow.worker_task("one", split, text=""), "give flow.step a function with @task"),
    "annotations that are text": (
        lambda flow, params: flow.worker_task("one", worker_task("sdk.text")(as_text), to=""),
        "step 'one': as_text() has annotations that are text, with which the worker of conductor-python fails",
    ),
    "a time limit": (
        lambda flow, params: flow.options(timeout_seconds=5).__enter__() or flow.worker_task("one", count, text=""),
        "step 'one' is not a task of perago, so timeout_seconds does not limit it",
    ),
    "a step of the wrong method": (
        lambda flow, params: flow.step("one", mail, Words, text=""),
        "'mail' is not a task give it to flow.worker_task",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_such_a_step_is_reported_with_its_line(case: str) -> None:
    write, message = WRONG[case]

    @workflow(name="sdk.wrong", version=1, owner_email=OWNER)
    def wrong(flow: Flow, params: Mailing) -> None:
        flow.unchecked([params.to, params.letters])
        write(flow, params)

    with pytest.raises(WorkflowDefinitionError) as caught:
        wrong.definition()
    (problem,) = caught.value.problems
    assert message in f"{problem.message} {problem.fix}"
    assert problem.file == __file__


def test_a_schedule_runs_functions_with_worker_task(perago_run: TaskRunner) -> None:
    schedule = Cron("0 3 * * *", input=Mailing(to="you"))
    scheduled = workflow(name="sdk.scheduled", version=1, owner_email="a@example.com", schedule=schedule)
    (ran,) = perago_run.schedule(scheduled(mailing.function))
    assert ran.outcome("mail").status == "COMPLETED"
