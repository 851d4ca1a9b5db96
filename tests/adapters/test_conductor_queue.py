"""`ConductorQueue`: what goes over the wire, how often, and what each answer means."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from perago import conductor_json as wire_format
from perago.adapters.conductor import ConductorQueue
from perago.ports import (
    ANY_WORKFLOW,
    AccessDenied,
    NotFound,
    Refused,
    ServiceError,
    Unavailable,
    Unclear,
)

from .conductor_script import ACCEPTED, DELIVERY, POLLED, REPORT, conductor, conductor_error
from .lakefs_script import QUICK, policy_for
from .scripted import Action, Drop, Hang, Reply, Request, reply_json

# --------------------------------------------------------------------- fences

STATES: dict[str, tuple[dict[str, object], bool]] = {
    "as polled": ({}, True),
    "redelivered": ({"pollCount": 4}, False),
    "rerun": ({"startTime": 1_795_565_999_999}, False),
    "back in the queue": ({"status": "SCHEDULED"}, False),
    "timed out": ({"status": "TIMED_OUT"}, False),
    "cancelled": ({"status": "CANCELED"}, False),
    "completed": ({"status": "COMPLETED"}, False),
}


@pytest.mark.parametrize(("change", "current"), STATES.values(), ids=STATES.keys())
def test_a_delivery_is_current_while_nothing_about_it_changed(change: dict[str, object], current: bool) -> None:
    with conductor(reply_json({**POLLED, **change})) as (queue, server):
        assert queue.is_current(DELIVERY) is current
    assert server.requests[0].path == "/api/tasks/task"


SILENCE: dict[str, tuple[Action, type[ServiceError]]] = {
    "404 of a proxy": (Reply(404, b"<html>"), Unavailable),
    "404 of another server": (reply_json({"detail": "nope"}, 404), Unavailable),
    "404 of a gateway": (reply_json({"message": "no route to /api/tasks/task"}, 404), Unavailable),
    "404 of a framework": (reply_json({"status": 404, "message": "cannot GET /api/tasks/task"}, 404), Unavailable),
    "404 of a wrong path": (conductor_error(404, "No static resource api/tasks/task."), NotFound),
    "401": (reply_json({"message": "no"}, 401), AccessDenied),
    "500": (conductor_error(500, "database is locked"), Unavailable),
    "503": (Reply(503, b""), Unavailable),
    "dropped": (Drop(), Unavailable),
    "silent": (Hang(), Unavailable),
    "not JSON": (Reply(200, b"OK"), Unavailable),
}


@pytest.mark.parametrize(("answer", "error"), SILENCE.values(), ids=SILENCE.keys())
def test_silence_is_neither_a_yes_nor_a_no(answer: Action, error: type[ServiceError]) -> None:
    with conductor(answer, policy_for(answer)) as (queue, _), pytest.raises(error):
        queue.is_current(DELIVERY)


def test_a_dropped_connection_does_not_cost_an_answer() -> None:
    queue_of_answers: list[Action] = [Drop(), reply_json(POLLED)]
    with conductor(lambda _: queue_of_answers.pop(0)) as (queue, _):
        assert queue.is_current(DELIVERY) is True


def test_a_broken_connection_leaves_a_poll_in_flight_alone() -> None:
    polling, broken = threading.Event(), threading.Event()

    def script(request: Request) -> Action:
        if "/poll/" in request.path:
            polling.set()
            broken.wait(10)
            return reply_json([POLLED])
        return Drop()

    with conductor(script, QUICK) as (queue, _):
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend(queue.poll("t", "w", count=1, wait_seconds=5)))
        thread.start()
        polling.wait(10)
        with pytest.raises(Unavailable):
            queue.is_current(DELIVERY)
        broken.set()
        thread.join(10)
    assert found == [DELIVERY]


# -------------------------------------------------------------------- updates


def test_a_lost_lease_extension_is_repeated() -> None:
    answers: list[Action] = [Drop(), ACCEPTED]
    with conductor(lambda _: answers.pop(0)) as (queue, server):
        queue.extend_lease(DELIVERY)
    assert len(server.requests) == 2


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_hand_back_requests_redelivery_immediately_or_later(seconds: int) -> None:
    with conductor(ACCEPTED) as (queue, server):
        queue.hand_back(DELIVERY, seconds)
    sent = server.requests[0].json
    assert (sent["status"], sent["callbackAfterSeconds"]) == ("IN_PROGRESS", seconds)
    assert "extendLease" not in sent


ONCE: dict[str, Callable[[ConductorQueue], None]] = {
    "report": lambda queue: queue.report(DELIVERY, REPORT, "w0001"),
    "hand back": lambda queue: queue.hand_back(DELIVERY),
    "log": lambda queue: queue.add_log("task", "line"),
}
ANSWERS: dict[str, tuple[Action, type[ServiceError]]] = {
    "dropped": (Drop(), Unclear),
    "silent": (Hang(), Unclear),
    "500": (conductor_error(500, "database is locked"), Unclear),
    "502": (Reply(502, b"<html>"), Unclear),
    "malformed": (conductor_error(500, "JSON parse error: Unexpected character"), Refused),
    "429": (Reply(429, b""), Unavailable),
    "503": (Reply(503, b""), Unavailable),
    "403": (Reply(403, b""), AccessDenied),
    "404 of a proxy": (Reply(404, b"<html>"), Unavailable),
    "workflow removed": (conductor_error(404, "No such workflow found by id: workflow"), NotFound),
    "400": (conductor_error(400, "taskId cannot be empty"), Refused),
}


@pytest.mark.parametrize("write", ONCE.values(), ids=ONCE.keys())
@pytest.mark.parametrize(("answer", "error"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_write_is_sent_once_and_its_answer_decides(
    write: Callable[[ConductorQueue], None], answer: Action, error: type[ServiceError]
) -> None:
    with conductor(answer, policy_for(answer)) as (queue, server), pytest.raises(error):
        write(queue)
    assert len(server.requests) == 1


def test_a_server_that_is_down_certainly_did_nothing() -> None:
    with conductor(Drop()) as (queue, server):
        server.__exit__()
        with pytest.raises(Unavailable, match="connection refused"):
            queue.report(DELIVERY, REPORT, "w0001")


@pytest.mark.parametrize("text", ['one\ntwo "quoted" \\ üñ 😀', '{"looks": "like JSON"}'])
def test_a_log_line_arrives_as_it_is(text: str) -> None:
    with conductor(Reply(200)) as (queue, server):
        queue.add_log("task", text)
        queue.add_log("task", "")
    assert [request.body.decode() for request in server.requests] == [text]
    assert server.requests[0].path == "/api/tasks/task/log"


# ---------------------------------------------------------------- definitions


def test_definitions_are_read_as_they_are() -> None:
    with conductor(reply_json({"name": "t", "unknownField": [1]})) as (queue, _):
        assert queue.get_task_definition("t") == {"name": "t", "unknownField": [1]}
    with conductor(conductor_error(404, "No such taskType found by name: t")) as (queue, _):
        assert queue.get_task_definition("t") is None
    wrong_path = conductor_error(404, "No static resource metadata/taskdefs/t.")
    with conductor(wrong_path) as (queue, _), pytest.raises(NotFound):
        queue.get_task_definition("t")


def test_definitions_are_registered_as_a_list_and_again_if_the_answer_is_lost() -> None:
    answers: list[Action] = [Drop(), Reply(200)]
    with conductor(lambda _: answers.pop(0)) as (queue, server):
        queue.register_task_definitions([{"name": "a"}, {"name": "b"}])
    assert [request.json for request in server.requests] == [[{"name": "a"}, {"name": "b"}]] * 2
    assert server.requests[0].path == "/api/metadata/taskdefs"


def test_a_refused_definition_names_the_problem() -> None:
    problems = [{"path": "p", "message": "retryCount: -1 must be >= 0"}]
    answer = conductor_error(400, "Validation failed, check below errors for detail.", validationErrors=problems)
    with conductor(answer) as (queue, _), pytest.raises(Refused, match="retryCount: -1 must be >= 0"):
        queue.register_task_definitions([{"name": "a"}])


def test_a_retried_step_names_no_sub_workflow_and_one_that_starts_may_have_one() -> None:
    """As a real Conductor shows a workflow right after it was retried (`docs/dev/servers/conductor.md`, "Measured
    later")."""
    step = {"taskType": "SUB_WORKFLOW", "referenceTaskName": "sub"}
    before = {**step, "status": "FAILED", "retried": True, "subWorkflowId": "old"}
    workflow = {"workflowId": "w", "startTime": 5, "workflowDefinition": {"tasks": []}}
    row = wire_format.workflow_from({**workflow, "tasks": [before, {**step, "status": "SCHEDULED"}]})
    assert (row.children, row.is_starting) == (frozenset(), True)
    row = wire_format.workflow_from({**workflow, "tasks": [before, {**step, "subWorkflowId": "new"}]})
    assert (row.children, row.is_starting) == (frozenset({"new"}), False)


def test_an_attempt_whose_retry_a_rerun_has_removed_names_its_sub_workflow_again() -> None:
    """The mark stays on the row."""
    step = {"taskType": "SUB_WORKFLOW", "taskId": "1", "retried": True, "subWorkflowId": "first"}
    retry = {"taskType": "SUB_WORKFLOW", "taskId": "2", "retriedTaskId": "1", "subWorkflowId": "second"}
    workflow = {"workflowId": "w", "startTime": 5, "workflowDefinition": {"tasks": []}}
    row = wire_format.workflow_from({**workflow, "tasks": [step, retry]})
    assert (row.children, row.replaced) == (frozenset({"second"}), frozenset({"first"}))
    row = wire_format.workflow_from({**workflow, "tasks": [step]})
    assert (row.children, row.replaced) == (frozenset({"first"}), frozenset[str]())


SUB = {"type": "SUB_WORKFLOW", "subWorkflowParam": {"name": "child"}}
SIMPLE = {"type": "SIMPLE", "name": "step"}


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (SIMPLE, set()),
        (SUB, {"child"}),
        ({"type": "FORK_JOIN", "forkTasks": [[SIMPLE], [SUB]]}, {"child"}),
        ({"type": "SWITCH", "decisionCases": {"a": [SUB]}, "defaultCase": [SIMPLE]}, {"child"}),
        ({"type": "SUB_WORKFLOW", "subWorkflowParam": {"workflowDefinition": {"name": "inline"}}}, {"inline"}),
        ({"type": "SUB_WORKFLOW", "subWorkflowParam": {"name": "${workflow.input.name}"}}, {ANY_WORKFLOW}),
        ({"type": "FORK_JOIN_DYNAMIC"}, {ANY_WORKFLOW}),
    ],
)
def test_a_workflow_names_which_sub_workflows_its_loops_can_run(inner: dict[str, Any], expected: set[str]) -> None:
    loop = {"type": "DO_WHILE", "loopOver": [inner]}
    other = {"type": "SUB_WORKFLOW", "subWorkflowParam": {"name": "outside"}}
    workflow = {"workflowId": "w", "startTime": 5, "workflowDefinition": {"tasks": [loop, other]}, "tasks": []}
    assert wire_format.workflow_from(workflow).looped == expected
    by_a_dynamic_fork = {"taskType": "DO_WHILE", "workflowTask": loop}
    workflow = {**workflow, "workflowDefinition": {"tasks": [other]}, "tasks": [by_a_dynamic_fork]}
    assert wire_format.workflow_from(workflow).looped == expected
