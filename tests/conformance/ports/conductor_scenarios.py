"""The life of a delivery, as scenarios for everything that is a `TaskQueue`."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from perago.ports import Delivery, NotFound, Refused, Report, TaskQueue, TaskStatus

from .conductor_services import ConductorService, Json

DONE = Report(TaskStatus.COMPLETED, {"done": True})
FAILED = Report(TaskStatus.FAILED, {"partial": 1}, "boo")
OVER = Report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, {}, "enough")
POLLS = 30


@dataclass(frozen=True)
class TaskType:
    """A registered task type with a workflow of the same name that has it as its only step, `step`."""

    name: str
    service: ConductorService
    queue: TaskQueue

    def start(self, payload: Any = 1) -> str:
        """Start the workflow."""
        return self.service.start(self.name, {"p": payload})

    def poll(self) -> Delivery:
        """The one delivery that must be there.

        A real Conductor now and then loses the queue's entry of a task that it hands out again, and repairs that within
        two minutes.
        """
        for _ in range(POLLS):
            if deliveries := self.queue.poll(self.name, "live0000", count=1, wait_seconds=5):
                (delivery,) = deliveries
                return delivery
        raise AssertionError(f"no delivery of {self.name} came in {POLLS} polls of 5 s")

    def polled(self) -> dict[str, Delivery]:
        """The deliveries of `step` and `inner`, once both are there."""
        deliveries: dict[str, Delivery] = {}
        for _ in range(POLLS):
            batch = self.queue.poll(self.name, "live0000", count=1, wait_seconds=5)
            deliveries |= {delivery.reference_name: delivery for delivery in batch}
            if len(deliveries) == 2:
                break
        return deliveries

    def report(self, delivery: Delivery, report: Report) -> None:
        """Report how a delivery ended."""
        self.queue.report(delivery, report, "live0000")

    def step(self, reference: str) -> Json:
        """A step of this type."""
        parameters = {"p": "${workflow.input.p}"}
        return {"name": self.name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": parameters}

    def beside_a_child(self) -> str:
        """Start a workflow that has the step `step` beside a sub-workflow with the step `inner`."""
        child, parent = f"{self.name}.child", f"{self.name}.parent"
        self.service.define(child, [self.step("inner")])
        sub = {"name": "sub", "taskReferenceName": "sub", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": child}}
        self.service.define(parent, _forked(sub, self.step("step")))
        return self.service.start(parent, {"p": 1})

    def retried_beside_a_join(self) -> tuple[Delivery, Delivery, Delivery]:
        """Of a fork of two steps: the first attempt of each, the first of which has failed, and its retry.

        A real Conductor may look at the JOIN in the moment between the failure and the retry, and ends the workflow
        then. So a fork that has ended is begun again, a few times.
        """
        forked = f"{self.name}.fork"
        self.service.define(forked, _forked(self.step("one"), self.step("two")))
        for _ in range(5):
            workflow = self.service.start(forked, {"p": 1})
            first, other = sorted((self.poll() for _ in range(2)), key=lambda delivery: delivery.reference_name)
            self.report(first, FAILED)
            if self.service.workflow(workflow)["status"] == "RUNNING":
                self.report(other, DONE)
            for _ in range(POLLS):
                if retries := self.queue.poll(self.name, "live0000", count=1, wait_seconds=5):
                    return first, other, retries[0]
                if self.service.workflow(workflow)["status"] != "RUNNING":
                    break
        raise AssertionError("the JOIN ended the workflow each time before the retry was there")

    def await_failure(self, workflow: str) -> None:
        """Wait until a workflow has failed; servers pass the end of a sub-workflow on in the background."""
        deadline = time.monotonic() + 30
        while self.service.workflow(workflow)["status"] != "FAILED":
            assert time.monotonic() < deadline, "not FAILED within 30 s"
            time.sleep(0.05)


def _forked(*steps: Json) -> list[Json]:
    """These steps side by side."""
    fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[step] for step in steps]}
    references = [step["taskReferenceName"] for step in steps]
    return [fork, {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": references}]


class ConductorScenarios:
    """Inherit as a `Test` class and provide a `service` fixture: a `ConductorService`."""

    @pytest.fixture
    def task(self, service: ConductorService) -> TaskType:
        task = TaskType(f"live.{uuid.uuid4().hex[:12]}", service, service.queue)
        definition = {"name": task.name, "retryCount": 1, "retryDelaySeconds": 0, "ownerEmail": "live@example.com"}
        service.queue.register_task_definitions([{**definition, "timeoutSeconds": 50, "responseTimeoutSeconds": 20}])
        service.define(task.name, [task.step("step")])
        return task

    def test_a_delivery_from_poll_to_report(self, task: TaskType) -> None:
        queue, value = task.queue, {"big": 2**70, "one": 1.0, "nothing": None, "text": "ü\u0000😀"}
        workflow = task.start(value)
        delivery = task.poll()
        assert delivery.input == {"p": value}
        assert (delivery.task_name, delivery.workflow_id, delivery.reference_name) == (task.name, workflow, "step")
        assert (delivery.poll_count, delivery.retry_count, delivery.iteration) == (1, 0, 0)
        assert (delivery.retried_task_id, delivery.external_input) == (None, False)
        assert (delivery.response_timeout_seconds, delivery.timeout_seconds) == (20, 50)
        assert queue.is_current(delivery)
        queue.extend_lease(delivery)
        queue.add_log(delivery.task_id, 'one\ntwo "quoted" üñ')
        assert queue.is_current(delivery)
        queue.report(delivery, Report(TaskStatus.COMPLETED, {"result": value}), "live0001")
        assert not queue.is_current(delivery)
        finished = task.service.workflow(workflow)
        assert finished["status"] == "COMPLETED"
        assert (finished["tasks"][0]["outputData"], finished["tasks"][0]["workerId"]) == ({"result": value}, "live0001")
        assert [entry["log"] for entry in task.service.log_of(delivery.task_id)] == ['one\ntwo "quoted" üñ']

    def test_the_depth_of_a_queue_counts_its_waiting_attempts(self, task: TaskType) -> None:
        workflow, names = task.start(), (task.name, f"{task.name}.unknown")
        assert task.queue.queue_depths(names) == {task.name: 1, f"{task.name}.unknown": 0}
        delivery = task.poll()
        assert task.queue.queue_depths(names)[task.name] == 0
        task.queue.hand_back(delivery)
        assert task.queue.queue_depths(names)[task.name] == 1
        task.service.terminate(workflow)
        assert task.queue.queue_depths(names)[task.name] == 0

    def test_a_handed_back_task_is_redelivered_and_the_first_delivery_has_ended(self, task: TaskType) -> None:
        task.start()
        first = task.poll()
        task.queue.hand_back(first)
        assert not task.queue.is_current(first)
        second = task.poll()
        assert second.identity == (first.task_id, first.poll_count + 1, first.start_time)
        assert task.queue.is_current(second)
        assert not task.queue.is_current(first)
        task.report(second, OVER)

    def test_a_late_report_of_an_earlier_attempt_changes_nothing(self, task: TaskType) -> None:
        workflow = task.start()
        first = task.poll()
        task.report(first, FAILED)
        second = task.poll()
        assert (second.retry_count, second.retried_task_id) == (1, first.task_id)
        task.report(first, DONE)
        assert task.queue.is_current(second)
        task.report(second, DONE)
        assert [row["status"] for row in task.service.workflow(workflow)["tasks"]] == ["FAILED", "COMPLETED"]

    def test_the_attempts_before_a_delivery_can_be_read(self, task: TaskType) -> None:
        task.start()
        first = task.poll()
        task.report(first, FAILED)
        second = task.poll()
        workflow = task.queue.read_workflow(second, second.workflow_id)
        assert workflow is not None
        assert [(row.task_id, row.start_time, row.status, row.retried_task_id) for row in workflow.rows] == [
            (first.task_id, first.start_time, "FAILED", None),
            (second.task_id, second.start_time, "IN_PROGRESS", first.task_id),
        ]
        assert workflow.has_retry(workflow.rows[0])
        assert not workflow.has_retry(workflow.rows[1])
        assert task.queue.read_workflow(second, str(uuid.uuid4())) is None
        task.report(second, OVER)

    def test_a_manual_retry_names_the_attempt_before_it(self, task: TaskType) -> None:
        workflow = task.start()
        first = task.poll()
        task.report(first, OVER)
        task.service.retry(workflow)
        second = task.poll()
        assert (second.retried_task_id, second.workflow_id) == (first.task_id, workflow)
        assert second.task_id != first.task_id
        task.report(second, DONE)

    def test_a_rerun_keeps_the_task_id_and_changes_the_identity(self, task: TaskType) -> None:
        workflow = task.start()
        first = task.poll()
        task.report(first, DONE)
        time.sleep(0.002)  # a model in this process is quick enough to begin twice in one millisecond
        task.service.rerun(workflow, first.task_id)
        workflow_row = task.queue.read_workflow(first, workflow)
        assert workflow_row is not None
        (row,) = workflow_row.rows
        assert (row.task_id, row.start_time, row.published_commit) == (first.task_id, 0, None)
        second = task.poll()
        assert second.task_id == first.task_id
        assert second.identity != first.identity
        assert (task.queue.is_current(first), task.queue.is_current(second)) == (False, True)
        task.report(second, DONE)

    def test_a_rerun_of_a_later_step_brings_back_failed_attempts_that_say_so(self, task: TaskType) -> None:
        chain = f"{task.name}.chain"
        task.service.define(chain, [task.step("one"), task.step("two")])
        task.service.start(chain, {"p": 1})
        played = []
        for report in (FAILED, DONE, DONE):
            played.append(task.poll())
            task.report(played[-1], report)
        failed, _, second = played
        assert not any(delivery.retried for delivery in played)
        task.service.rerun(second.workflow_id, second.task_id)
        back = [task.poll() for _ in range(2)]
        assert {(delivery.task_id, delivery.retried) for delivery in back} == {
            (failed.task_id, True),
            (second.task_id, False),
        }
        for delivery in back:
            assert task.queue.is_current(delivery)
            task.report(delivery, OVER if delivery.retried else DONE)
        assert task.service.workflow(second.workflow_id)["status"] == "COMPLETED"

    def test_a_workflow_reports_its_run_and_the_sub_workflows_that_it_has_now(self, task: TaskType) -> None:
        queue, parent = task.queue, task.beside_a_child()
        inner = task.polled()["inner"]
        child, row = queue.read_workflow(inner, inner.workflow_id), queue.read_workflow(inner, parent)
        assert child is not None
        assert row is not None
        assert (child.parent_id, row.parent_id) == (parent, None)
        assert [(step.is_sub_workflow, step.sub_workflow_id) for step in row.rows if step.is_sub_workflow] == [
            (True, inner.workflow_id)
        ]
        assert [(step.task_id, step.start_time, step.is_operator) for step in child.rows] == [
            (inner.task_id, inner.start_time, False)
        ]
        assert queue.read_workflow(inner, "00000000-0000-0000-0000-000000000000") is None
        task.service.terminate(parent)
        task.service.restart(parent)
        again = queue.read_workflow(inner, parent)
        assert again is not None
        assert inner.workflow_id not in {step.sub_workflow_id for step in again.rows}
        old = queue.read_workflow(inner, inner.workflow_id)
        assert old is not None
        assert old.parent_id == parent

    def test_an_attempt_whose_retry_a_rerun_has_removed_counts_again(self, task: TaskType) -> None:
        first, other, retry = task.retried_beside_a_join()
        task.report(retry, OVER)
        task.service.rerun(other.workflow_id, other.task_id)
        back = [task.poll() for _ in range(2)]
        assert {(delivery.task_id, delivery.retried) for delivery in back} == {
            (first.task_id, False),
            (other.task_id, False),
        }
        for delivery in back:
            task.report(delivery, DONE)
        row = task.queue.read_workflow(first, first.workflow_id)
        assert row is not None
        assert row.row(first.task_id) is not None

    def test_an_attempt_begun_again_without_its_mark_is_known_by_its_retry(self, task: TaskType) -> None:
        workflow = task.beside_a_child()
        polled = task.polled()
        cancelled = polled["step"]
        task.report(polled["inner"], OVER)
        task.await_failure(workflow)
        task.service.retry(workflow)
        polled = task.polled()
        task.report(polled["step"], DONE)
        task.report(polled["inner"], OVER)
        task.await_failure(workflow)
        task.service.retry(polled["inner"].workflow_id)
        again = task.polled()["step"]
        assert (again.task_id, again.retry_count, again.retried_task_id) == (cancelled.task_id, 1, None)
        assert (again.retried, again.retry_output) == (True, DONE.output)
        assert task.queue.is_current(again)
        task.service.terminate(workflow)

    def test_a_restart_forgets_the_attempts_before_it(self, task: TaskType) -> None:
        workflow = task.start()
        first = task.poll()
        task.report(first, DONE)
        task.service.restart(workflow)
        second = task.poll()
        assert (second.workflow_id, second.retried_task_id) == (workflow, None)
        assert second.task_id != first.task_id
        row = task.queue.read_workflow(second, workflow)
        assert row is not None
        assert row.row(first.task_id) is None
        task.report(second, DONE)

    def test_a_removed_workflow_ends_its_deliveries(self, task: TaskType) -> None:
        workflow = task.start()
        delivery = task.poll()
        task.service.terminate(workflow)
        assert not task.queue.is_current(delivery)
        task.service.remove(workflow)
        assert not task.queue.is_current(delivery)
        for call in (task.queue.hand_back, task.queue.extend_lease):
            with pytest.raises(NotFound):
                call(delivery)
        with pytest.raises(NotFound):
            task.report(delivery, DONE)

    def test_a_poll_takes_no_more_than_the_requested_count(self, task: TaskType) -> None:
        started = {task.start(number) for number in range(3)}
        two = task.queue.poll(task.name, "live0000", count=2, wait_seconds=5)
        rest = task.queue.poll(task.name, "live0000", count=2, wait_seconds=0.3)
        assert (len(two), len(rest)) == (2, 1)
        assert {delivery.workflow_id for delivery in (*two, *rest)} == started
        for delivery in (*two, *rest):
            task.report(delivery, DONE)

    def test_an_empty_poll_waits_no_longer_than_requested(self, task: TaskType) -> None:
        """Nor shorter. A busy machine may be late, so the shortest of two counts."""
        waited = []
        for _ in range(2):
            started = time.monotonic()
            assert task.queue.poll(task.name, "live0000", count=1, wait_seconds=0.5) == ()
            waited.append(time.monotonic() - started)
        assert 0.4 < min(waited) < 5

    def test_values_that_json_cannot_carry_are_reported(self, task: TaskType) -> None:
        """A result that is no JSON is refused before it is sent, and logs of half a character are accepted."""
        task.start()
        delivery = task.poll()
        with pytest.raises(Refused):
            task.report(delivery, Report(TaskStatus.COMPLETED, {"a": float("nan")}))
        for text in ("a\udcffb", ""):
            task.queue.add_log(delivery.task_id, text)
        assert task.queue.is_current(delivery)
        task.report(delivery, DONE)

    def test_definitions_come_back_as_registered_and_bad_ones_are_refused(self, task: TaskType) -> None:
        for bad in ({"retryCount": -1}, {"retryLogic": "x"}):
            with pytest.raises(Refused):
                task.queue.register_task_definitions([{"name": task.name, **bad}])
        definition = task.queue.get_task_definition(task.name)
        assert definition is not None
        assert (definition["name"], definition["timeoutSeconds"], definition["retryCount"]) == (task.name, 50, 1)
        assert task.queue.get_task_definition(f"{task.name}.unknown") is None
