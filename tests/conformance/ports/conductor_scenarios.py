"""The life of a delivery, as scenarios for everything that is a `TaskQueue`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from perago.ports import AttemptRow, Delivery, NotFound, Refused, Report, TaskQueue, TaskStatus

from .conductor_services import ConductorService, over_http

DONE = Report(TaskStatus.COMPLETED, {"done": True})
FAILED = Report(TaskStatus.FAILED, {"partial": 1}, "boo")
OVER = Report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, {}, "enough")
POLLS = 30


def poll(queue: TaskQueue, name: str) -> Delivery:
    """The one delivery that must be there.

    A real Conductor now and then loses the queue's entry of a task that it hands out again, and repairs that within two
    minutes.
    """
    for _ in range(POLLS):
        if found := queue.poll(name, "live0000", count=1, wait_seconds=5):
            (delivery,) = found
            return delivery
    raise AssertionError(f"no delivery of {name} came in {POLLS} polls of 5 s")


def _define(service: ConductorService, workflow: str, task: str, *references: str, forked: bool = False) -> None:
    """A workflow of steps of one task type, one after the other or side by side."""
    step = {"name": task, "type": "SIMPLE", "inputParameters": {"p": "${workflow.input.p}"}}
    steps = [{**step, "taskReferenceName": reference} for reference in references]
    fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[each] for each in steps]}
    join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": list(references)}
    owner = {"ownerEmail": "live@example.com"}
    tasks = [fork, join] if forked else steps
    service.define({"name": workflow, "version": 1, "schemaVersion": 2, "tasks": tasks, **owner})


def _beside_a_child(service: ConductorService, task: str) -> str:
    """A started workflow that has the step `step` beside a sub-workflow with the step `inner`."""
    child, parent = f"{task}.child", f"{task}.parent"
    _define(service, child, task, "inner")
    sub = {"name": "sub", "taskReferenceName": "sub", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": child}}
    step = {"name": task, "taskReferenceName": "step", "type": "SIMPLE"}
    fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[sub], [step]]}
    join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["sub", "step"]}
    owner = {"ownerEmail": "live@example.com"}
    service.define({"name": parent, "version": 1, "schemaVersion": 2, "tasks": [fork, join], **owner})
    return service.start(parent, {"p": 1})


def _retried_beside_a_join(service: ConductorService, task: str) -> tuple[Delivery, Delivery, Delivery]:
    """Of a fork of two steps: the first attempt of each, the first of which has failed, and its retry.

    A real Conductor may look at the JOIN in the moment between the failure and the retry, and ends the workflow then.
    So a fork that has ended is begun again, a few times.
    """
    queue, forked = service.queue, f"{task}.fork"
    _define(service, forked, task, "one", "two", forked=True)
    for _ in range(5):
        workflow = service.start(forked, {"p": 1})
        first, other = sorted((poll(queue, task) for _ in range(2)), key=lambda each: each.reference_name)
        queue.report(first, FAILED, "live0000")
        if service.workflow(workflow)["status"] == "RUNNING":
            queue.report(other, DONE, "live0000")
        for _ in range(POLLS):
            if found := queue.poll(task, "live0000", count=1, wait_seconds=5):
                return first, other, found[0]
            if service.workflow(workflow)["status"] != "RUNNING":
                break
    raise AssertionError("the JOIN ended the workflow each time before the retry was there")


def _polled(queue: TaskQueue, task: str) -> dict[str, Delivery]:
    """The deliveries of `step` and `inner`, once both are there."""
    found: dict[str, Delivery] = {}
    for _ in range(POLLS):
        found |= {each.reference_name: each for each in queue.poll(task, "live0000", count=1, wait_seconds=5)}
        if len(found) == 2:
            break
    return found


def _until(service: ConductorService, workflow: str, status: str) -> None:
    """Wait for the end of a workflow; servers pass the end of a sub-workflow on in the background."""
    deadline = time.monotonic() + 30
    while service.workflow(workflow)["status"] != status:
        assert time.monotonic() < deadline, f"not {status} within 30 s"
        time.sleep(0.05)


class ConductorScenarios:
    """Inherit as a `Test` class and provide a `service` fixture: a `ConductorService`."""

    @pytest.fixture
    def queue(self, service: ConductorService) -> TaskQueue:
        return service.queue

    @pytest.fixture
    def task_name(self, service: ConductorService) -> str:
        """A registered task type with a workflow of the same name that has it as its only step."""
        name = f"live.{uuid.uuid4().hex[:12]}"
        definition = {"name": name, "retryCount": 1, "retryDelaySeconds": 0, "ownerEmail": "live@example.com"}
        service.queue.register_task_definitions([{**definition, "timeoutSeconds": 50, "responseTimeoutSeconds": 20}])
        _define(service, name, name, "step")
        return name

    @pytest.fixture
    def workflow(self, service: ConductorService, task_name: str) -> str:
        """A workflow that runs."""
        return service.start(task_name, {"p": 1})

    def test_a_delivery_from_poll_to_report(self, service: ConductorService, task_name: str) -> None:
        queue, value = service.queue, {"big": 2**70, "one": 1.0, "nothing": None, "text": "ü\u0000😀"}
        workflow = service.start(task_name, {"p": value})
        delivery = poll(queue, task_name)
        assert delivery.input == {"p": value}
        assert (delivery.task_name, delivery.workflow_id, delivery.reference_name) == (task_name, workflow, "step")
        assert (delivery.poll_count, delivery.retry_count, delivery.iteration) == (1, 0, 0)
        assert (delivery.retried_task_id, delivery.external_input) == (None, False)
        assert (delivery.response_timeout_seconds, delivery.timeout_seconds) == (20, 50)
        assert queue.is_current(delivery)
        queue.extend_lease(delivery)
        queue.add_log(delivery.task_id, 'one\ntwo "quoted" üñ')
        assert queue.is_current(delivery)
        queue.report(delivery, Report(TaskStatus.COMPLETED, {"result": value}), "live0001")
        assert not queue.is_current(delivery)
        finished = service.workflow(workflow)
        assert finished["status"] == "COMPLETED"
        assert (finished["tasks"][0]["outputData"], finished["tasks"][0]["workerId"]) == ({"result": value}, "live0001")
        assert service.log_of(delivery.task_id) == ['one\ntwo "quoted" üñ']

    def test_the_depth_of_a_queue_counts_its_waiting_attempts(
        self, queue: TaskQueue, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        names = (task_name, f"{task_name}.unknown")
        assert queue.queue_depths(names) == {task_name: 1, f"{task_name}.unknown": 0}
        delivery = poll(queue, task_name)
        assert queue.queue_depths(names)[task_name] == 0
        queue.hand_back(delivery)
        assert queue.queue_depths(names)[task_name] == 1
        service.terminate(workflow)
        assert queue.queue_depths(names)[task_name] == 0

    def test_a_handed_back_task_is_redelivered_and_the_first_delivery_has_ended(
        self, queue: TaskQueue, task_name: str, workflow: str
    ) -> None:
        first = poll(queue, task_name)
        queue.hand_back(first)
        assert not queue.is_current(first)
        second = poll(queue, task_name)
        assert second.identity == (first.task_id, first.poll_count + 1, first.start_time)
        assert queue.is_current(second)
        assert not queue.is_current(first)
        queue.report(second, OVER, "live0001")

    def test_a_late_report_of_an_earlier_attempt_changes_nothing(
        self, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        queue = service.queue
        first = poll(queue, task_name)
        queue.report(first, FAILED, "live0000")
        second = poll(queue, task_name)
        assert (second.retry_count, second.retried_task_id) == (1, first.task_id)
        queue.report(first, DONE, "live0000")
        assert queue.is_current(second)
        queue.report(second, DONE, "live0001")
        assert [row["status"] for row in service.workflow(workflow)["tasks"]] == ["FAILED", "COMPLETED"]

    def test_the_attempts_before_a_delivery_can_be_read(
        self, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        queue = service.queue
        first = poll(queue, task_name)
        queue.report(first, FAILED, "live0000")
        second = poll(queue, task_name)
        before = AttemptRow(first.task_id, first.start_time, None)
        assert queue.read_attempt(second, first.task_id) == before
        itself = AttemptRow(second.task_id, second.start_time, first.task_id)
        assert queue.read_attempt(second, second.task_id) == itself
        assert queue.read_attempt(second, str(uuid.uuid4())) is None
        queue.report(second, OVER, "live0000")

    def test_a_manual_retry_names_the_attempt_before_it(
        self, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        queue = service.queue
        first = poll(queue, task_name)
        queue.report(first, OVER, "live0000")
        service.retry(workflow)
        second = poll(queue, task_name)
        assert (second.retried_task_id, second.workflow_id) == (first.task_id, workflow)
        assert second.task_id != first.task_id
        queue.report(second, DONE, "live0000")

    def test_a_rerun_keeps_the_task_id_and_changes_the_identity(
        self, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        queue = service.queue
        first = poll(queue, task_name)
        queue.report(first, DONE, "live0000")
        time.sleep(0.002)  # a model in this process is quick enough to begin twice in one millisecond
        service.rerun(workflow, first.task_id)
        scheduled = queue.read_attempt(first, first.task_id)
        assert scheduled == AttemptRow(first.task_id, 0, None)
        second = poll(queue, task_name)
        assert second.task_id == first.task_id
        assert second.identity != first.identity
        assert (queue.is_current(first), queue.is_current(second)) == (False, True)
        queue.report(second, DONE, "live0000")

    def test_a_rerun_of_a_later_step_brings_back_failed_attempts_that_say_so(
        self, service: ConductorService, task_name: str
    ) -> None:
        queue, chain = service.queue, f"{task_name}.chain"
        _define(service, chain, task_name, "one", "two")
        service.start(chain, {"p": 1})
        played = []
        for report in (FAILED, DONE, DONE):
            played.append(poll(queue, task_name))
            queue.report(played[-1], report, "live0000")
        failed, _, second = played
        assert not any(delivery.retried for delivery in played)
        service.rerun(second.workflow_id, second.task_id)
        back = [poll(queue, task_name) for _ in range(2)]
        assert {(delivery.task_id, delivery.retried) for delivery in back} == {
            (failed.task_id, True),
            (second.task_id, False),
        }
        for delivery in back:
            assert queue.is_current(delivery)
            queue.report(delivery, OVER if delivery.retried else DONE, "live0000")
        assert service.workflow(second.workflow_id)["status"] == "COMPLETED"

    def test_a_workflow_reports_its_run_and_the_sub_workflows_that_it_has_now(
        self, service: ConductorService, task_name: str
    ) -> None:
        queue, parent = service.queue, _beside_a_child(service, task_name)
        inner = _polled(queue, task_name)["inner"]
        child, row = queue.read_workflow(inner, inner.workflow_id), queue.read_workflow(inner, parent)
        assert child is not None
        assert row is not None
        assert (child.parent_id, row.parent_id, child.children) == (parent, None, frozenset())
        assert row.children == {inner.workflow_id}
        assert (row.looped, row.is_starting) == (frozenset(), False)
        assert (child.name, row.name) == (f"{task_name}.child", f"{task_name}.parent")
        assert 0 < row.start_time <= child.start_time <= inner.start_time
        assert queue.read_workflow(inner, "00000000-0000-0000-0000-000000000000") is None
        service.terminate(parent)
        service.restart(parent)
        again = queue.read_workflow(inner, parent)
        assert again is not None
        assert again.start_time >= inner.start_time
        assert inner.workflow_id not in again.children
        old = queue.read_workflow(inner, inner.workflow_id)
        assert old is not None
        assert old.parent_id == parent

    def test_an_attempt_whose_retry_a_rerun_has_removed_counts_again(
        self, service: ConductorService, task_name: str
    ) -> None:
        queue = service.queue
        first, other, retry = _retried_beside_a_join(service, task_name)
        queue.report(retry, OVER, "live0000")
        service.rerun(other.workflow_id, other.task_id)
        back = [poll(queue, task_name) for _ in range(2)]
        assert {(delivery.task_id, delivery.retried) for delivery in back} == {
            (first.task_id, False),
            (other.task_id, False),
        }
        for delivery in back:
            queue.report(delivery, DONE, "live0000")
        assert queue.read_attempt(first, first.task_id) is not None

    def test_an_attempt_begun_again_without_its_mark_is_known_by_its_retry(
        self, service: ConductorService, task_name: str
    ) -> None:
        queue = service.queue
        workflow = _beside_a_child(service, task_name)
        polled = _polled(queue, task_name)
        cancelled = polled["step"]
        queue.report(polled["inner"], OVER, "live0000")
        _until(service, workflow, "FAILED")
        service.retry(workflow)
        polled = _polled(queue, task_name)
        queue.report(polled["step"], DONE, "live0000")
        queue.report(polled["inner"], OVER, "live0000")
        _until(service, workflow, "FAILED")
        service.retry(polled["inner"].workflow_id)
        again = _polled(queue, task_name)["step"]
        assert (again.task_id, again.retry_count, again.retried_task_id) == (cancelled.task_id, 1, None)
        assert (again.retried, again.retry_output) == (True, DONE.output)
        assert queue.is_current(again)
        service.terminate(workflow)

    def test_a_restart_forgets_the_attempts_before_it(
        self, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        queue = service.queue
        first = poll(queue, task_name)
        queue.report(first, DONE, "live0000")
        service.restart(workflow)
        second = poll(queue, task_name)
        assert (second.workflow_id, second.retried_task_id) == (workflow, None)
        assert second.task_id != first.task_id
        assert queue.read_attempt(second, first.task_id) is None
        queue.report(second, DONE, "live0000")

    def test_a_removed_workflow_ends_its_deliveries(
        self, service: ConductorService, task_name: str, workflow: str
    ) -> None:
        queue = service.queue
        delivery = poll(queue, task_name)
        service.terminate(workflow)
        assert not queue.is_current(delivery)
        service.remove(workflow)
        assert not queue.is_current(delivery)
        for call in (queue.hand_back, queue.extend_lease):
            with pytest.raises(NotFound):
                call(delivery)
        with pytest.raises(NotFound):
            queue.report(delivery, DONE, "live0001")

    def test_a_poll_takes_no_more_than_the_requested_count(self, service: ConductorService, task_name: str) -> None:
        queue = service.queue
        started = {service.start(task_name, {"p": number}) for number in range(3)}
        two = queue.poll(task_name, "live0000", count=2, wait_seconds=5)
        rest = queue.poll(task_name, "live0000", count=2, wait_seconds=0.3)
        assert (len(two), len(rest)) == (2, 1)
        assert {delivery.workflow_id for delivery in (*two, *rest)} == started
        for delivery in (*two, *rest):
            queue.report(delivery, DONE, "live0000")

    def test_an_empty_poll_waits_no_longer_than_requested(self, queue: TaskQueue, task_name: str) -> None:
        """Nor shorter. A busy machine may be late, so the shortest of two counts."""
        waited = []
        for _ in range(2):
            started = time.monotonic()
            assert queue.poll(task_name, "live0000", count=1, wait_seconds=0.5) == ()
            waited.append(time.monotonic() - started)
        assert 0.4 < min(waited) < 5

    def test_values_that_json_cannot_carry_are_reported(self, queue: TaskQueue, task_name: str, workflow: str) -> None:
        """A result that is no JSON is refused before it is sent, and logs of half a character are accepted."""
        delivery = poll(queue, task_name)
        with pytest.raises(Refused):
            queue.report(delivery, Report(TaskStatus.COMPLETED, {"a": float("nan")}), "live0001")
        for text in ("a\udcffb", ""):
            queue.add_log(delivery.task_id, text)
        assert queue.is_current(delivery)
        queue.report(delivery, DONE, "live0001")

    def test_definitions_come_back_as_registered(self, queue: TaskQueue, task_name: str) -> None:
        definition = queue.get_task_definition(task_name)
        assert definition is not None
        assert (definition["name"], definition["timeoutSeconds"]) == (task_name, 50)
        assert queue.get_task_definition(f"{task_name}.unknown") is None

    def test_definitions_that_cannot_be_are_refused(self, queue: TaskQueue, task_name: str) -> None:
        bad: list[Callable[[], None]] = [
            lambda: queue.register_task_definitions([{"name": task_name, "retryCount": -1}]),
            lambda: queue.register_task_definitions([{"name": task_name, "retryLogic": "x"}]),
        ]
        for register in bad:
            with pytest.raises(Refused):
                register()
        definition = queue.get_task_definition(task_name)
        assert definition is not None
        assert definition["retryCount"] == 1


class ConductorScenariosOverHttp(ConductorScenarios):
    """Inherit as a `Test` class and provide a `conductor_url` fixture that names the server."""

    @pytest.fixture
    def service(self, conductor_url: str) -> Iterator[ConductorService]:
        with over_http(conductor_url) as service:
            yield service
