"""`ConductorQueue`: what goes over the wire, how often, and what each answer means."""

from __future__ import annotations

import threading

import pytest

from perago.adapters.conductor import wire_format
from perago.ports import (
    AccessDenied,
    NotFound,
    Refused,
    ServiceError,
    Unavailable,
)

from .conductor_script import DELIVERY, POLLED, conductor, conductor_error
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


def test_a_task_that_is_gone_is_not_current() -> None:
    with conductor(conductor_error(404, "Task not found for taskId: task")) as (queue, _):
        assert queue.is_current(DELIVERY) is False


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


def test_a_refused_definition_says_what_is_wrong_with_it() -> None:
    problems = [{"path": "p", "message": "retryCount: -1 must be >= 0"}]
    answer = conductor_error(400, "Validation failed, check below errors for detail.", validationErrors=problems)
    with conductor(answer) as (queue, _), pytest.raises(Refused, match="retryCount: -1 must be >= 0"):
        queue.register_task_definitions([{"name": "a"}])


def test_a_retried_step_names_no_sub_workflow_and_one_that_starts_may_have_one() -> None:
    """As a real Conductor shows a workflow right after it was retried (`docs/servers/conductor.md` 9)."""
    step = {"taskType": "SUB_WORKFLOW", "referenceTaskName": "sub"}
    before = {**step, "status": "FAILED", "retried": True, "subWorkflowId": "old"}
    workflow = {"workflowId": "w", "startTime": 5, "workflowDefinition": {"tasks": []}}
    row = wire_format.workflow_from({**workflow, "tasks": [before, {**step, "status": "SCHEDULED"}]})
    assert (row.children, row.is_starting) == (frozenset(), True)
    row = wire_format.workflow_from({**workflow, "tasks": [before, {**step, "subWorkflowId": "new"}]})
    assert (row.children, row.is_starting) == (frozenset({"new"}), False)


def test_a_loop_that_a_dynamic_fork_has_brought_is_seen() -> None:
    loop = {"taskType": "DO_WHILE", "referenceTaskName": "loop"}
    workflow = {"workflowId": "w", "startTime": 5, "workflowDefinition": {"tasks": []}}
    assert wire_format.workflow_from({**workflow, "tasks": [loop]}).has_loops
    assert not wire_format.workflow_from({**workflow, "tasks": []}).has_loops
