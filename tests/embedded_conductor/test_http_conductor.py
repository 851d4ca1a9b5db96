"""What the model answers over REST that no recording compares: fields of refusals, unserved calls, health."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.wire import MOST_LEVELS
from perago.embedded.faults import FaultScript
from perago.embedded.http.conductor import conductor_app
from perago.ports import AccessDenied, ServiceError, Unavailable, VirtualClock

from .conftest import Http, Served, prepared


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/metadata/taskdefs", [], "registerTaskDef.arg0"),
        ("PUT", "/metadata/taskdefs", {"name": "t", "retryCount": -1}, "updateTaskDef.arg0.retryCount"),
        ("POST", "/workflow", {"priority": 100, "name": "w"}, "startWorkflow.arg0.priority"),
        ("POST", "/workflow", {}, "startWorkflow.arg0.name"),
        ("POST", "/tasks", {"taskId": "x"}, "updateTask.arg0.workflowInstanceId"),
        ("POST", "/workflow/bulk/retry", ["x"] * 1001, "arg0"),
    ],
)
def test_a_refusal_lists_the_wrong_fields(http: Http, method: str, path: str, body: object, field: str) -> None:
    answer = http(method, path, body)
    assert (answer.status, answer.json["retryable"]) == (400, False)
    assert [problem["path"] for problem in answer.json["validationErrors"]] == [field]


@pytest.mark.parametrize(
    ("method", "path", "raw", "reason"),
    [
        ("GET", "/tasks/poll/batch/t?count=x", None, "parameter count"),
        ("GET", "/workflow/x?includeTasks=maybe", None, "parameter includeTasks"),
        ("GET", "/tasks/queue/size", None, "taskType is missing"),
        ("POST", "/tasks", None, "Required request body is missing"),
        ("POST", "/tasks", b"{", "JSON parse error"),
        ("POST", "/tasks", b"[]", "the body must be an object, not list"),
        ("POST", "/metadata/taskdefs", b"{}", "the body must be a list, not dict"),
        ("POST", "/metadata/taskdefs", b'[{"name": "x", "retryCount": "abc"}]', "JSON parse error: retryCount: "),
        ("POST", "/metadata/taskdefs", b'[{"name": "x", "retryCount": 1e12}]', "JSON parse error: retryCount: "),
        ("POST", "/metadata/taskdefs", b'[{"name": "x", "retryLogic": "NEVER"}]', "JSON parse error: retryLogic: "),
        ("POST", "/metadata/taskdefs", b'[{"name": "x", "inputTemplate": ""}]', "JSON parse error: inputTemplate: "),
        ("POST", "/metadata/taskdefs", b"[null]", "a task definition is null"),
        ("POST", "/tasks/update-v2", b"{}", "workflowInstanceId cannot be null or empty"),
    ],
)
def test_unreadable_data_is_a_500_with_the_reason(
    http: Http, method: str, path: str, raw: bytes | None, reason: str
) -> None:
    answer = http(method, path, raw=raw)
    assert answer.status == 500
    assert reason in answer.json["message"]
    assert http("GET", "/metadata/taskdefs/x").status == 404


def test_a_body_of_another_type_is_a_500(http: Http) -> None:
    answer = http("POST", "/tasks", raw=b"{}", content_type="text/plain")
    assert (answer.status, "Content-Type" in answer.json["message"]) == (500, True)


OPERATIONS = resources.files("perago.embedded.http").joinpath("conductor_operations.txt").read_text()


def test_a_call_that_is_not_served_is_named(http: Http) -> None:
    for method, path, operation in map(str.split, OPERATIONS.splitlines()):
        answer = http(method, path.replace("{", "").replace("}", ""), {})
        assert (answer.status, operation in answer.json["message"]) == (501, True), operation


def test_all_last_polls_are_listed_with_their_domains(http: Http) -> None:
    http("GET", "/tasks/poll/t?workerid=w1&domain=east")
    http("GET", "/tasks/poll/other")
    polls = http("GET", "/tasks/queue/polldata/all").json
    assert [(poll["queueName"], poll.get("domain"), poll.get("workerId")) for poll in polls] == [
        ("other", None, None),
        ("t", "east", "w1"),
    ]


def test_an_output_in_external_storage_is_refused_and_changes_nothing(http: Http) -> None:
    workflow_id = http("POST", "/workflow", {"name": "w"}).text
    polled = http("GET", "/tasks/poll/t").json
    result = {"taskId": polled["taskId"], "workflowInstanceId": workflow_id, "status": "COMPLETED"}
    answer = http("POST", "/tasks", {**result, "externalOutputPayloadStoragePath": "a/b.json"})
    assert (answer.status, "externalOutputPayloadStoragePath" in answer.json["message"]) == (501, True)
    assert http("GET", f"/tasks/{polled['taskId']}").json["status"] == "IN_PROGRESS"


def test_an_input_that_is_nested_too_deeply_is_refused_and_starts_nothing(http: Http) -> None:
    levels = MOST_LEVELS - 2
    for deeper, status in ((0, 200), (1, 400), (400, 400)):
        raw = b'{"name": "w", "input": {"deep": ' + b"[" * (levels + deeper) + b"0" + b"]" * (levels + deeper) + b"}}"
        assert http("POST", "/workflow", raw=raw).status == status
    assert http("GET", "/tasks/queue/size?taskType=t").json == 1
    polled = http("GET", "/tasks/poll/t").json
    done = {"taskId": polled["taskId"], "workflowInstanceId": polled["workflowInstanceId"], "status": "COMPLETED"}
    deep = json.loads("[" * levels + "0" + "]" * levels)
    assert http("POST", "/tasks", {**done, "outputData": {"deep": [[deep]]}}).status == 400
    assert http("POST", "/tasks", {**done, "outputData": {"deep": deep}}).status == 200
    workflow = http("GET", f"/workflow/{polled['workflowInstanceId']}").json
    assert [row["status"] for row in workflow["tasks"]] == ["COMPLETED", "SCHEDULED"]
    assert (workflow["input"], workflow["tasks"][0]["outputData"]) == ({"deep": deep}, {"deep": deep})


@pytest.mark.parametrize(("error", "status"), [(Unavailable, 503), (AccessDenied, 401)])
def test_a_fault_of_the_model_is_an_answer(served: Served, error: type[ServiceError], status: int) -> None:
    faults = FaultScript().before("get_task", error=error)
    served.app = conductor_app(prepared(InMemoryConductor(VirtualClock(), faults)))
    http = Http(served.url)
    answer = http("GET", "/tasks/x")
    http.close()
    assert (answer.status, answer.message) == (status, "injected fault (before it takes effect)")
