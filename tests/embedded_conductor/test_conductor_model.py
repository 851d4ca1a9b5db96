"""What no real server shows: calls that are refused, hostile scripts, time, sweeps and threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from loguru import logger

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor, scripts, state
from perago.embedded.conductor.wire import MAX_DEPTH, InvalidRequest, Malformed, ServerError, through_json
from perago.ports import Delivery, Report, TaskStatus, VirtualClock

from ..conformance.conductor.operators import TWICE, fork, inline, join, loop, operator, sub_workflow, system_task
from ..conformance.conductor.workflows import Json

DONE = Report(TaskStatus.COMPLETED, {"done": True})
FAILED = Report(TaskStatus.FAILED, {"partial": True}, "boo")


class OneWorkflow:
    """A model with one task type `t` and a workflow `w` that runs it in `steps` steps `r0`, `r1`, ..."""

    def __init__(self, *, steps: int = 1, step: Mapping[str, Any] | None = None, **definition: Any) -> None:
        self.clock = VirtualClock()
        self.conductor = InMemoryConductor(self.clock, seed=1)
        self.conductor.register_task_definitions([{"name": "t", "retryCount": 1, "retryDelaySeconds": 0, **definition}])
        tasks = [{"name": "t", "taskReferenceName": f"r{index}", **(step or {})} for index in range(steps)]
        self.conductor.create_workflow_definition({"name": "w", "tasks": tasks})
        self.workflow_id = self.conductor.start_workflow("w", {"x": 1})

    def poll(self, worker_id: str = "w0001") -> Delivery:
        """The one delivery that is due now."""
        (delivery,) = self.conductor.poll("t", worker_id, count=1, wait_seconds=0)
        return delivery

    def report(self, delivery: Delivery, report: Report = DONE, worker_id: str = "w0001") -> None:
        self.conductor.report(delivery, report, worker_id)

    @property
    def workflow(self) -> dict[str, Any]:
        return self.conductor.workflow(self.workflow_id)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return list(self.workflow["tasks"])

    @property
    def statuses(self) -> list[str]:
        """Of all attempts, in order."""
        return [task["status"] for task in self.tasks]


STEP = {"name": "t", "taskReferenceName": "a"}


FORK = {"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN_DYNAMIC"}
LISTED = {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"}


def _in_a_case(inner: Mapping[str, Any]) -> dict[str, Any]:
    return operator("SWITCH", "s", evaluatorType="value-param", expression="q", decisionCases={"1": [inner]})


def _sub_workflow(**parameters: Any) -> dict[str, Any]:
    return sub_workflow("x", "s", subWorkflowParam={"name": "x", **parameters})


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (operator("EXCLUSIVE_JOIN", "x"), r"tasks\[1\]\.type EXCLUSIVE_JOIN is not modelled"),
        (operator("EVENT", "x"), r"tasks\[1\]\.type EVENT is not modelled"),
        (_in_a_case(operator("EVENT", "h")), r"tasks\[1\]\[0\]\.type EVENT"),
        ({**STEP, "name": "EVENT"}, "EVENT is not modelled"),
        ({**STEP, "name": "SWITCH"}, "SWITCH is not modelled"),
        ({**FORK, "inputParameters": {"forkTaskName": "JOIN", "forkTaskInputs": [1]}}, "JOIN is not modelled"),
        ({**FORK, "inputParameters": {"forkTaskType": "EVENT", "forkTaskInputs": [1]}}, "EVENT is not modelled"),
        (
            {**FORK, **LISTED, "inputParameters": {"dt": [STEP, {**STEP, "type": "KAFKA_PUBLISH"}]}},
            "KAFKA_PUBLISH is not modelled",
        ),
        (loop(TWICE, _in_a_case(operator("DO_WHILE", "k", loopOver=[STEP], loopCondition="true"))), "a loop inside"),
        (loop(TWICE, STEP, inputParameters={"keepLastN": "2"}), "keepLastN"),
        (loop(TWICE, STEP, inputParameters={"_items": [1]}), "_items"),
        (loop(TWICE, STEP, items="${workflow.input.l}"), "items"),
        (loop(TWICE, {"name": "a", "type": "SIMPLE"}), "a step without a name"),
        (operator("SWITCH", "s", evaluatorType="python", expression="1", decisionCases={"1": []}), "python"),
        (_sub_workflow(workflowDefinition="${r.output}"), "as an expression"),
        (_sub_workflow(priority=3), r"subWorkflowParam\.priority"),
        (operator("INLINE", "i", inputParameters={"expression": "1", "evaluatorType": "python"}), "python"),
        ({**STEP, "joinOn": ["b"]}, "a SIMPLE task: joinOn"),
        ({**STEP, "inputParameters": {"q": "${r.output.l.sum()}"}}, "JSONPath from"),
        ({**STEP, "sink": "x"}, "sink"),
        ({**STEP, "cacheConfig": {"key": "x"}}, "cacheConfig"),
        ({**STEP, "inputParameters": {"q": "${workflow.secrets.key}"}}, "secrets"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_that_only_the_real_server_runs_is_refused_by_name(step: Mapping[str, Any], name: str) -> None:
    first = {**STEP, "taskReferenceName": "r"}
    with pytest.raises(NotImplementedError, match=name):
        OneWorkflow().conductor.create_workflow_definition({"name": "other", "tasks": [first, step]})


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        ({"failureWorkflow": "${workflow.input.f}"}, "failureWorkflow"),
        ({"rateLimitConfig": {"concurrentExecLimit": 1}}, "rateLimitConfig"),
        ({"outputParameters": {"q": "${a.output.l.max()}"}}, "JSONPath from"),
    ],
)
def test_a_definition_that_only_the_real_server_reads_is_refused_by_name(definition: dict[str, Any], name: str) -> None:
    with pytest.raises(NotImplementedError, match=name):
        OneWorkflow().conductor.create_workflow_definition({"name": "other", "tasks": [STEP], **definition})


DYNAMIC = {**STEP, "type": "DYNAMIC", "dynamicTaskNameParam": "n", "inputParameters": {"n": "${workflow.input.n}"}}
OF_A_KIND = {**FORK, "inputParameters": {"forkTaskType": "${workflow.input.kind}", "forkTaskInputs": [1]}}
OF_A_LIST = {**FORK, **LISTED, "inputParameters": {"dt": "${workflow.input.l}", "di": {}}}
JOIN = operator("JOIN", "j")
ENDLESS = loop("false", *({**STEP, "taskReferenceName": reference} for reference in "bc"))


@pytest.mark.parametrize(
    ("steps", "workflow_input", "name"),
    [
        *(([DYNAMIC], {"n": kind}, f"a worker's task named {kind}") for kind in ("SWITCH", "SUB_WORKFLOW", "EVENT")),
        ([OF_A_KIND, JOIN], {"kind": "KAFKA_PUBLISH"}, "KAFKA_PUBLISH"),
        ([OF_A_LIST, JOIN], {"l": [ENDLESS]}, r"a loop of several steps \(loop\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_that_an_input_names_is_refused_at_the_start(steps: list[Json], workflow_input: Json, name: str) -> None:
    conductor = OneWorkflow().conductor
    conductor.create_workflow_definition({"name": "other", "tasks": steps})
    with pytest.raises(NotImplementedError, match=f"{name} is not modelled"):
        conductor.start_workflow("other", workflow_input)
    assert conductor.running_workflow_ids("other") == []


def test_an_operator_that_an_output_names_ends_the_workflow() -> None:
    conductor = OneWorkflow().conductor
    conductor.create_workflow_definition({"name": "later", "tasks": [{**STEP, "name": "u"}, OF_A_KIND, JOIN]})
    workflow = conductor.start_workflow("later", {"kind": "KAFKA_PUBLISH"})
    (polled,) = conductor.poll_tasks("u", count=1)
    result = {"taskId": polled["taskId"], "workflowInstanceId": workflow, "status": "COMPLETED"}
    with pytest.raises(NotImplementedError, match="KAFKA_PUBLISH is not modelled"):
        conductor.update_task(result)
    assert "KAFKA_PUBLISH is not modelled" in conductor.workflow(workflow)["reasonForIncompletion"]


ITSELF = sub_workflow("endless", "s", subWorkflowParam={"name": "endless", "version": 1})
OTHER = sub_workflow("endless", "o", subWorkflowParam={"name": "endless", "version": 1})
START = operator("START_WORKFLOW", "s", inputParameters={"startWorkflow": {"name": "endless"}})
FAIL = operator("TERMINATE", "t", inputParameters={"terminationStatus": "FAILED"})


@pytest.mark.parametrize(
    ("tasks", "failure_workflow"),
    [
        pytest.param([ITSELF], None, id="sub-workflow"),
        pytest.param([fork([ITSELF], [OTHER]), join("s", "o")], None, id="two sub-workflows"),
        pytest.param([START], None, id="START_WORKFLOW"),
        pytest.param([FAIL], "endless", id="failure workflow"),
    ],
)
def test_a_workflow_that_starts_itself_does_not_stop_the_server(
    tasks: list[Json], failure_workflow: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "STARTS_AT_ONCE", 20)
    running = OneWorkflow()
    conductor = running.conductor
    conductor.create_workflow_definition({"name": "endless", "tasks": tasks, "failureWorkflow": failure_workflow})
    thread = threading.Thread(target=conductor.start_workflow, args=("endless",), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    running.report(running.poll())
    assert running.workflow["status"] == "COMPLETED"
    started = len(conductor.workflow_ids())
    assert started < 60
    for _ in range(10):
        running.clock.advance(1)
        conductor.sweep()
    assert started < len(conductor.workflow_ids()) < started + 250


def test_the_end_of_a_workflow_ends_all_that_are_nested_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STARTS_AT_ONCE", sys.getrecursionlimit())
    running = OneWorkflow()
    conductor = running.conductor
    conductor.create_workflow_definition({"name": "endless", "tasks": [ITSELF]})
    root = conductor.start_workflow("endless")
    assert len(conductor.running_workflow_ids("endless")) > sys.getrecursionlimit()
    conductor.terminate_workflow(root)
    assert conductor.running_workflow_ids("endless") == []
    ended = conductor.workflow_ids()
    running.clock.advance(60)
    conductor.sweep()
    assert conductor.workflow_ids() == ended


def test_nested_workflows_of_another_origin_are_not_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STARTS_AT_ONCE", 20)
    conductor = OneWorkflow().conductor
    outer = sub_workflow("middle", "m", subWorkflowParam={"name": "middle", "version": 1})
    inner = sub_workflow("w", "i", subWorkflowParam={"name": "w", "version": 1})
    for name, step in {"endless": ITSELF, "middle": inner, "outer": outer}.items():
        conductor.create_workflow_definition({"name": name, "tasks": [step]})
    conductor.start_workflow("endless")
    conductor.start_workflow("outer")
    assert len(conductor.running_workflow_ids("w")) == 2


def test_a_workflow_that_cannot_be_decided_is_logged_once() -> None:
    running = OneWorkflow()
    wait = {"name": "w", "taskReferenceName": "w", "type": "WAIT", "inputParameters": {"duration": "${a.output.d}"}}
    running.conductor.create_workflow_definition({"name": "wait", "tasks": [{**STEP, "name": "u"}, wait]})
    workflow = running.conductor.start_workflow("wait")
    (polled,) = running.conductor.poll_tasks("u", count=1)
    result = {"taskId": polled["taskId"], "workflowInstanceId": workflow, "status": "COMPLETED"}
    with pytest.raises(InvalidRequest, match="Not valid duration: soon"):
        running.conductor.update_task({**result, "outputData": {"d": "soon"}})
    messages: list[str] = []
    handler = logger.add(messages.append, format="{message}")
    for _ in range(3):
        running.conductor.sweep()
    logger.remove(handler)
    assert len(messages) == 1


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"a": float("inf")}, id="infinity"),
        pytest.param({"a": [float("nan")]}, id="NaN"),
        pytest.param(_nested(MAX_DEPTH + 1), id="too deep"),
        pytest.param({"a": 10**1000}, id="too many digits"),
        pytest.param({"a": object()}, id="no JSON form"),
        pytest.param({("a", "b"): 1}, id="a key that is no text"),
        pytest.param("text", id="no object"),
    ],
)
def test_a_payload_that_the_wire_cannot_carry_is_refused(payload: Any) -> None:
    with pytest.raises(Malformed):
        through_json("update task", payload, what="outputData")


def run(conductor: InMemoryConductor, *steps: Json) -> Json:
    """Start a workflow of these steps; what it shows."""
    conductor.create_workflow_definition({"name": "w", "tasks": steps}, overwrite=True)
    return conductor.workflow(conductor.start_workflow("w", {}))


@pytest.fixture
def conductor() -> InMemoryConductor:
    return InMemoryConductor(VirtualClock(), seed=1)


def test_a_script_that_takes_all_memory_ends_its_step(conductor: InMemoryConductor) -> None:
    workflow = run(conductor, inline("i", "'x'.repeat(1 << 29)"))
    assert (workflow["status"], workflow["tasks"][0]["status"]) == ("FAILED", "FAILED_WITH_TERMINAL_ERROR")


@pytest.mark.parametrize("script", ["while (true) {}", "new Array(1e8).sort()"])
def test_a_hostile_script_is_ended_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(scripts, "SECONDS", 0.2)
    with pytest.raises(scripts.ScriptError):
        scripts.javascript(script, {})
    assert scripts.javascript("$.a + 1", {"a": 1}) == 2


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (".a.b", 'Cannot index number with string "b"'),
        (".x | tonumber", 'For input string: "abc"'),
        ("nobodys", "Function nobodys/0 does not exist"),
        (".a | $y", "Undefined variable: $y"),
    ],
)
def test_errors_of_jq_are_worded_as_on_the_server(conductor: InMemoryConductor, program: str, reason: str) -> None:
    workflow = run(conductor, system_task("JSON_JQ_TRANSFORM", "j", queryExpression=program, x="abc", a=1))
    assert workflow["tasks"][0]["reasonForIncompletion"] == reason


def test_http_is_answered_by_the_handler_or_fails() -> None:
    request = system_task("HTTP", "h", http_request={"uri": "http://x/y", "method": "GET"})
    answered = run(InMemoryConductor(VirtualClock(), http=lambda sent: (200, {"at": sent["uri"]})), request)
    assert answered["output"]["response"]["body"] == {"at": "http://x/y"}
    assert "http=..." in run(InMemoryConductor(VirtualClock()), request)["reasonForIncompletion"]


@pytest.mark.parametrize("name", ["forkTaskName", "forkTaskType"])
def test_a_forked_request_that_fails_is_not_repeated(name: str) -> None:
    inputs = {name: "HTTP", "forkTaskInputs": [{"uri": "http://x/y", "method": "GET"}]}
    conductor = InMemoryConductor(VirtualClock(), http=lambda _: (500, {}))
    workflow = run(conductor, operator("FORK_JOIN_DYNAMIC", "fork", inputParameters=inputs), join())
    assert workflow["status"] == "FAILED"
    assert [row["status"] for row in workflow["tasks"]] == ["COMPLETED", "FAILED", "CANCELED"]


def test_a_workflow_that_cannot_be_decided_stops_no_sweep(conductor: InMemoryConductor) -> None:
    with pytest.raises(ServerError):
        run(conductor, fork([], [inline("i", "1")]), join("i"))
    conductor.sweep()
    assert run(conductor, inline("i", "1"))["status"] == "COMPLETED"


def test_the_poll_timeout_leaves_room_for_a_start_delay_twice() -> None:
    run = OneWorkflow(step={"startDelay": 5}, pollTimeoutSeconds=10, timeoutPolicy="RETRY")
    run.clock.advance(19)
    run.conductor.sweep()
    assert run.statuses == ["SCHEDULED"]
    run.clock.advance(1)
    run.conductor.sweep()
    assert run.statuses == ["TIMED_OUT", "SCHEDULED"]


def _waits_of_ten_retries() -> list[float]:
    run = OneWorkflow(retryCount=10, retryDelaySeconds=1, backoffJitterMs=500)
    delivery = run.poll()
    waits = []
    for _ in range(10):
        run.report(delivery, FAILED)
        failed = run.clock.now()
        (delivery,) = run.conductor.poll("t", "w0001", count=1, wait_seconds=2)
        waits.append(round(run.clock.now() - failed, 1))
    return waits


def test_jitter_is_added_to_the_delay_and_repeats_with_the_seed() -> None:
    waits = _waits_of_ten_retries()
    assert all(1.0 <= seconds <= 1.6 for seconds in waits)
    assert len(set(waits)) > 1
    assert waits == _waits_of_ten_retries()


def test_a_parked_task_keeps_its_concurrency_slot() -> None:
    run = OneWorkflow(concurrentExecLimit=1)
    run.clock.advance(1)
    run.conductor.start_workflow("w")
    parked = run.poll()
    result = {"taskId": parked.task_id, "workflowInstanceId": parked.workflow_id, "status": "IN_PROGRESS"}
    run.conductor.update_task({**result, "callbackAfterSeconds": 30})
    assert run.conductor.poll("t", "w0002", count=1, wait_seconds=0) == ()
    run.clock.advance(30)
    assert run.poll().task_id == parked.task_id


class _BrokenOff(VirtualClock):
    """A clock on which nobody sleeps to the end."""

    def sleep(self, seconds: float) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_poll_puts_its_tasks_back() -> None:
    conductor = InMemoryConductor(_BrokenOff())
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    conductor.start_workflow("w")
    with pytest.raises(KeyboardInterrupt):
        conductor.poll("t", "w0001", count=2, wait_seconds=1)
    assert len(conductor.poll("t", "w0001", count=1, wait_seconds=0)) == 1


def test_no_task_is_handed_out_twice_to_pollers_at_the_same_time() -> None:
    conductor = InMemoryConductor(SystemClock())
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    started = {conductor.start_workflow("w") for _ in range(60)}
    barrier = threading.Barrier(6)

    def drain(worker_id: str) -> list[str]:
        barrier.wait(timeout=10)
        taken: list[str] = []
        while deliveries := conductor.poll("t", worker_id, count=3, wait_seconds=0):
            taken += [delivery.workflow_id for delivery in deliveries]
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [workflow_id for part in pool.map(drain, [f"w000{n}" for n in range(6)]) for workflow_id in part]
    assert sorted(taken) == sorted(started)


class _Interleaving:
    """A completed workflow of the branches `r0` and `r1`, which failed once each, and other calls during its rerun."""

    def __init__(self) -> None:
        steps = [{**STEP, "taskReferenceName": name, "permissive": True} for name in ("r0", "r1")]
        self.running = OneWorkflow()
        conductor = self.running.conductor
        conductor.terminate_workflow(self.running.workflow_id)
        conductor.update_workflow_definitions(
            [{"name": "w", "tasks": [fork([steps[0]], [steps[1]]), join("r0", "r1")]}]
        )
        self.running.workflow_id = conductor.start_workflow("w", {})
        for report in (FAILED, FAILED, DONE, DONE):
            self.running.report(self.held(), report)
        self.seen: list[list[str]] = []
        self.at: dict[int, Callable[[], object]] = {}
        """Other calls, by the number of the change that they follow."""

    def held(self) -> Delivery:
        return self.running.conductor.poll("t", "w0001", count=1, wait_seconds=0)[0]

    def rerun(self, row: int) -> None:
        """Rerun from a row, and look at all rows after each change."""
        self.running.clock.advance(1)
        self.started = {task["taskId"]: task["startTime"] for task in self.running.tasks}
        self.running.conductor.between_writes = self._look
        self.running.conductor.rerun_workflow(self.running.workflow_id, self.running.tasks[row]["taskId"])
        self.running.conductor.between_writes = None

    def _look(self) -> None:
        self.seen.append(self.rows)
        if act := self.at.get(len(self.seen)):
            act()

    @property
    def rows(self) -> list[str]:
        """Of each attempt its step, retry and status, and whether its start is that before the rerun."""
        attempts = [task for task in self.running.tasks if task["taskType"] == "t"]
        return [
            f"{task['referenceTaskName']}#{task['retryCount']} {task['status']}{self._start(task)}" for task in attempts
        ]

    def _start(self, task: Json) -> str:
        start = task["startTime"]
        return " started" if start == self.started[task["taskId"]] else " again" if start else ""


def test_other_callers_see_a_rerun_reset_one_row_after_another() -> None:
    interleaving = _Interleaving()
    interleaving.rerun(4)
    failed = ["r0#0 FAILED started", "r1#0 FAILED started"]
    assert interleaving.seen == [
        [*failed, "r0#1 COMPLETED started", "r1#1 COMPLETED started"],  # the workflow runs
        [*failed, "r0#1 SCHEDULED started", "r1#1 COMPLETED started"],
        [*failed, "r0#1 SCHEDULED started"],
        [*failed, "r0#1 SCHEDULED"],
        [*failed, "r0#1 SCHEDULED"],  # it is queued
        ["r0#0 FAILED started", "r1#0 SCHEDULED again", "r0#1 SCHEDULED"],
        ["r0#0 FAILED started", "r1#0 SCHEDULED again", "r0#1 SCHEDULED"],  # so is this one
    ]


def test_a_report_before_its_row_is_reset_is_lost() -> None:
    interleaving = _Interleaving()
    task = interleaving.running.tasks[4]
    late = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "status": "COMPLETED"}
    interleaving.at[2] = lambda: interleaving.running.conductor.update_task(late)
    interleaving.rerun(4)
    assert "r0#1 COMPLETED started" in interleaving.seen[2]
    assert interleaving.rows[-1] == "r0#1 SCHEDULED"


def test_a_report_after_the_reset_completes_a_row_that_nobody_has_polled() -> None:
    interleaving = _Interleaving()
    task = interleaving.running.tasks[4]
    late = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "status": "COMPLETED"}
    interleaving.rerun(4)
    interleaving.running.conductor.update_task(late)
    assert interleaving.rows[-1] == "r0#1 COMPLETED"


def test_a_delivery_during_a_rerun_is_lost_when_all_rows_are_stored_again() -> None:
    interleaving = _Interleaving()
    deliveries: list[Delivery] = []
    interleaving.at[5] = lambda: deliveries.append(interleaving.held())
    interleaving.rerun(4)
    assert [delivery.reference_name for delivery in deliveries] == ["r0"]
    assert interleaving.rows[-1] == "r0#1 SCHEDULED"
    assert not interleaving.running.conductor.is_current(deliveries[0])
    assert interleaving.held().reference_name == "r1"
    assert not interleaving.running.conductor.poll("t", "w0001", count=1, wait_seconds=0)


def test_other_callers_see_the_failed_row_of_a_retry_before_its_new_attempt() -> None:
    running = OneWorkflow(retryCount=0)
    running.report(running.poll(), FAILED)
    seen: list[list[str]] = []
    running.conductor.between_writes = lambda: seen.append(
        [running.workflow["status"], *(f"{row['status']}{' retried' * row['retried']}" for row in running.tasks)]
    )
    running.conductor.retry_workflow(running.workflow_id)
    assert seen == [
        ["RUNNING", "FAILED"],
        ["RUNNING", "FAILED retried"],
        ["RUNNING", "FAILED retried", "SCHEDULED"],
    ]


def test_a_lease_extension_undoes_a_report_that_comes_in_between() -> None:
    running = OneWorkflow(steps=2)
    held = running.poll()
    running.conductor.between_writes = lambda: running.report(held)
    running.conductor.extend_lease(held)
    running.conductor.between_writes = None
    assert running.statuses == ["IN_PROGRESS", "SCHEDULED"]
    assert running.tasks[0]["outputData"] == {}


def test_a_poll_undoes_a_late_report_that_comes_in_between() -> None:
    running = OneWorkflow(steps=2)
    held = running.poll()
    running.conductor.terminate_workflow(running.workflow_id)
    running.conductor.rerun_workflow(running.workflow_id, held.task_id)
    running.conductor.between_writes = lambda: running.report(held)
    assert running.poll().poll_count == 1
    running.conductor.between_writes = None
    assert running.statuses == ["IN_PROGRESS", "SCHEDULED"]


def test_a_late_report_undoes_a_poll_that_comes_in_between() -> None:
    running = OneWorkflow()
    held = running.poll()
    running.conductor.terminate_workflow(running.workflow_id)
    running.conductor.rerun_workflow(running.workflow_id, held.task_id)
    deliveries: list[Delivery] = []
    running.conductor.between_writes = lambda: deliveries.append(running.poll())
    running.report(held)
    running.conductor.between_writes = None
    assert len(deliveries) == 1
    assert (running.tasks[0]["status"], running.tasks[0]["startTime"], running.tasks[0]["pollCount"]) == (
        "COMPLETED",
        0,
        0,
    )
