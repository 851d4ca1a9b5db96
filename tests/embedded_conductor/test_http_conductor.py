"""The model over REST: what calls answer, as a real Conductor 3.32.3 does."""

from __future__ import annotations

import pytest

from perago.embedded.conductor import InMemoryConductor

from .http_client import Http


def test_an_attempt_from_start_to_end(http: Http) -> None:
    started = http("POST", "/workflow", {"name": "w", "input": {"x": 1}})
    assert started.headers["content-type"] == "text/plain;charset=UTF-8"
    task = http("GET", "/tasks/poll/t?workerid=w1").json
    assert (task["referenceTaskName"], task["workerId"], task["workflowInstanceId"]) == ("r0", "w1", started.text)
    result = {"taskId": task["taskId"], "workflowInstanceId": started.text, "workerId": "w1", "status": "COMPLETED"}
    further = http("POST", "/tasks/update-v2", {**result, "outputData": {"y": 2}})
    assert (further.status, further.json["referenceTaskName"]) == (200, "r1")
    updated = http("POST", "/tasks", {**result, "taskId": further.json["taskId"]})
    assert (updated.text, updated.headers["content-type"]) == (further.json["taskId"], "text/plain;charset=UTF-8")
    workflow = http("GET", f"/workflow/{started.text}").json
    assert (workflow["status"], [row["status"] for row in workflow["tasks"]]) == ("COMPLETED", ["COMPLETED"] * 2)
    assert http("GET", f"/tasks/{task['taskId']}").json["outputData"] == {"y": 2}


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param("/tasks/poll/unknown", 204, None, id="a single poll"),
        pytest.param("/tasks/poll/batch/unknown?timeout=0", 200, [], id="a batch"),
        pytest.param("/tasks/unknown/log", 204, None, id="logs"),
        pytest.param("/tasks/queue/size?taskType=unknown", 200, 0, id="the size of a queue"),
        pytest.param("/tasks/queue/sizes?taskType=a,b", 200, {"a": 0, "b": 0}, id="sizes of queues"),
        pytest.param("/tasks/queue/all", 200, {}, id="all queues"),
        pytest.param("/tasks/queue/polldata?taskType=unknown", 200, [], id="poll data"),
        pytest.param("/workflow/running/unknown", 200, [], id="running workflows"),
        pytest.param("/workflow/unknown/correlated/c", 200, [], id="correlated workflows"),
    ],
)
def test_where_nothing_is(http: Http, path: str, status: int, body: object) -> None:
    answer = http("GET", path)
    assert answer.status == status
    assert (answer.json if answer.data else None) == body
    assert answer.headers.get("content-type") == (None if status == 204 else "application/json")


@pytest.mark.parametrize("text", ["", "TRUE", "on", "yes", "1"])
def test_spellings_of_a_truth(http: Http, conductor: InMemoryConductor, text: str) -> None:
    workflow_id = conductor.start_workflow("w")
    assert len(http("GET", f"/workflow/{workflow_id}?includeTasks={text}").json["tasks"]) == 1


@pytest.mark.parametrize("text", ["2", "%202%20", "%2B2"])
def test_spellings_of_a_number(http: Http, conductor: InMemoryConductor, text: str) -> None:
    for _ in range(3):
        conductor.start_workflow("w")
    assert len(http("GET", f"/tasks/poll/batch/t?timeout=0&count={text}").json) == 2


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
def test_every_kind_of_json_is_taken(http: Http, content_type: str) -> None:
    assert http("POST", "/metadata/taskdefs", [{"name": "x"}], content_type=content_type).status == 200


def test_a_number_beyond_all_arrives_as_a_text(http: Http) -> None:
    raw = b'{"name": "w", "input": {"a": 1e400, "b": -1e400, "c": 1.0, "d": 1180591620717411303424}}'
    workflow_id = http("POST", "/workflow", raw=raw).text
    shown = http("GET", f"/workflow/{workflow_id}").json["input"]
    assert shown == {"a": "Infinity", "b": "-Infinity", "c": 1.0, "d": 2**70}


def test_logs_are_bodies_as_they_are(http: Http, conductor: InMemoryConductor) -> None:
    bodies = [(b'"quoted"', "application/json"), ("ü😀".encode(), "text/plain"), (b"a b", "application/xml")]
    for raw, content_type in [*bodies, (b"form", "application/x-www-form-urlencoded")]:
        assert http("POST", "/tasks/x/log", raw=raw, content_type=content_type).status == 200
    assert [entry["log"] for entry in http("GET", "/tasks/x/log").json] == ['"quoted"', "ü😀", "a b", "form"]
    assert http("POST", "/tasks/x/log", raw=b"").status == 500


def test_a_step_is_updated_by_its_name_and_seen(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w")
    seen = http("POST", f"/tasks/{workflow_id}/r0/COMPLETED/sync?workerid=me", {"a": 1}).json
    assert (seen["tasks"][0]["outputData"], seen["tasks"][0]["workerId"]) == ({"a": 1}, "me")
    assert http("POST", f"/tasks/{workflow_id}/r1/COMPLETED", {}).text == seen["tasks"][1]["taskId"]
    late = http("POST", f"/tasks/{workflow_id}/r1/FAILED", {})
    assert (late.status, late.data, late.headers.get("content-type")) == (200, b"", None)
    assert http("GET", f"/workflow/{workflow_id}/status").json == {"workflowId": workflow_id, "status": "COMPLETED"}


def test_actions_answer_as_on_the_server(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w", correlation_id="c")
    path = f"/workflow/{workflow_id}"
    actions = [
        ("PUT", f"/workflow/decide/{workflow_id}", 200),
        ("PUT", f"{path}/pause", 200),
        ("PUT", f"{path}/resume", 200),
        ("PUT", f"{path}/resume", 500),
        ("POST", f"{path}/resetcallbacks", 204),
        ("POST", f"{path}/retry", 404),
        ("POST", f"{path}/restart", 409),
        ("DELETE", f"{path}/remove", 400),
        ("DELETE", f"{path}?reason=because", 200),
        ("DELETE", path, 200),
        ("POST", f"{path}/restart", 204),
        ("DELETE", path, 200),
        ("POST", f"{path}/retry", 204),
        ("DELETE", f"{path}/remove?archiveWorkflow=true", 400),
        ("DELETE", f"{path}/remove?archiveWorkflow=x", 500),
        ("DELETE", f"{path}/remove?archiveWorkflow=false", 200),
        ("GET", path, 404),
    ]
    assert [http(method, where).status for method, where, _ in actions] == [status for *_, status in actions]


def test_a_skipped_step_stands_in_front_and_is_passed_over(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w")
    assert http("PUT", f"/workflow/{workflow_id}/skiptask/r1").status == 200
    skipped = http("GET", f"/workflow/{workflow_id}").json["tasks"][0]
    assert (skipped["referenceTaskName"], skipped["status"], skipped["seq"]) == ("r1", "SKIPPED", 0)
    assert (skipped["taskDefinition"], "workflowType" in skipped) == (None, False)
    http("POST", f"/tasks/{workflow_id}/r0/COMPLETED", {})
    assert http("GET", f"/workflow/{workflow_id}/status").json["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("r0", "The task referenced r0 has already been processed, cannot be skipped"),
        ("x", "The task referenced by x does not exist in the WorkflowDefinition w"),
    ],
)
def test_a_step_that_cannot_be_skipped(http: Http, conductor: InMemoryConductor, reference: str, message: str) -> None:
    answer = http("PUT", f"/workflow/{conductor.start_workflow('w')}/skiptask/{reference}")
    assert (answer.status, answer.message) == (500, message)


def test_no_step_of_a_paused_workflow_can_be_skipped(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w")
    conductor.pause_workflow(workflow_id)
    answer = http("PUT", f"/workflow/{workflow_id}/skiptask/r1")
    message = f"The workflow {workflow_id} is not running so the task referenced by r1 cannot be skipped"
    assert (answer.status, answer.message) == (500, message)


@pytest.mark.parametrize("path", ["/api/health", "/health"])
def test_it_is_healthy(http: Http, path: str) -> None:
    answer = http("GET", http.url + path)
    assert answer.json == {"healthResults": [], "suppressedHealthResults": [], "healthy": True}
