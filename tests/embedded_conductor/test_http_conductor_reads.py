"""What the REST interface lists and shows: definitions, queues, pages, starts in all their forms."""

from __future__ import annotations

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor

from .http_client import Http

STEP = {"name": "t", "taskReferenceName": "a"}


def test_a_changed_task_definition_keeps_when_it_was_made(http: Http, clock: VirtualClock) -> None:
    before = http("GET", "/metadata/taskdefs/t").json
    clock.advance(5)
    assert http("PUT", "/metadata/taskdefs", {"name": "t", "retryCount": 7}).status == 200
    after = http("GET", "/metadata/taskdefs/t").json
    assert (after["retryCount"], after["createTime"], after["createdBy"]) == (7, before["createTime"], "")
    assert (after["updateTime"], after["updatedBy"]) == (before["createTime"] + 5000, "")
    assert http("GET", "/metadata/taskdefs").json == [after]
    assert http("DELETE", "/metadata/taskdefs/t").status == 200
    assert http("GET", "/metadata/taskdefs").json == []


def test_versions_of_a_workflow_definition(http: Http, conductor: InMemoryConductor) -> None:
    first = http("GET", "/metadata/workflow/w").json
    second = {"name": "w", "version": 2, "tasks": [STEP], "createTime": 5}
    assert http("PUT", "/metadata/workflow", [second]).status == 200
    shown = http("GET", "/metadata/workflow/w").json
    now = first["createTime"]
    assert (shown["version"], shown["createTime"], shown["updateTime"]) == (2, 5, now)
    assert http("GET", "/metadata/workflow").json == [first, shown]
    assert http("DELETE", "/metadata/workflow/w/2").status == 200
    assert http("GET", "/metadata/workflow/w").json == first


def test_overwriting_a_workflow_definition(http: Http) -> None:
    changed = {"name": "w", "tasks": [STEP]}
    assert http("POST", "/metadata/workflow", changed).status == 409
    assert http("POST", "/metadata/workflow?overwrite=true", changed).status == 200
    shown = http("GET", "/metadata/workflow/w?version=1").json
    assert [task["taskReferenceName"] for task in shown["tasks"]] == ["a"]
    assert (shown["createTime"], shown["updateTime"] > 0) == (0, True)


def test_queues_and_who_polled_them(http: Http, conductor: InMemoryConductor) -> None:
    for domain in ("east", None):
        conductor.start_workflow("w", task_to_domain={"t": domain} if domain else {})
    conductor.start_workflow("w")
    assert http("GET", "/tasks/queue/all").json == {"east:t": 1, "t": 2}
    assert http("GET", "/tasks/queue/size?taskType=t&domain=east").json == 1
    assert http("GET", "/tasks/queue/sizes?taskType=t&taskType=x").json == {"t": 2, "x": 0}
    assert http("GET", "/tasks/poll/t?workerid=w1&domain=east").json["domain"] == "east"
    assert len(http("GET", "/tasks/poll/batch/t?count=5&timeout=0").json) == 2
    now = round(conductor.now())
    polls = http("GET", "/tasks/queue/polldata?taskType=t").json
    assert polls == [
        {"queueName": "t", "lastPollTime": now},
        {"queueName": "t", "domain": "east", "workerId": "w1", "lastPollTime": now},
    ]


def test_a_start_by_name_takes_its_options_from_the_query(http: Http) -> None:
    workflow_id = http("POST", "/workflow/w?version=1&correlationId=c&priority=7", {"x": 1}).text
    shown = http("GET", f"/workflow/{workflow_id}?includeTasks=false").json
    assert (shown["input"], shown["correlationId"], shown["priority"]) == ({"x": 1}, "c", 7)
    assert (shown["workflowVersion"], shown["tasks"]) == (1, [])


def test_a_start_brings_its_own_definition_and_domains(http: Http) -> None:
    definition = {"name": "inline", "tasks": [STEP]}
    body = {"name": "inline", "workflowDef": definition, "taskToDomain": {"t": "east"}, "idempotencyKey": "k"}
    workflow_id = http("POST", "/workflow", body).text
    (task,) = http("GET", f"/workflow/{workflow_id}").json["tasks"]
    assert (task["referenceTaskName"], task["domain"]) == ("a", "east")
    assert http("GET", "/metadata/workflow/inline").status == 404


def test_a_page_of_attempts(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w")
    conductor.update_task_by_reference(workflow_id, "r0", "COMPLETED", {})
    path = f"/workflow/{workflow_id}/tasks"
    assert [row["referenceTaskName"] for row in http("GET", path).json["results"]] == ["r0", "r1"]
    page = http("GET", f"{path}?start=1&count=1").json
    assert (page["totalHits"], [row["referenceTaskName"] for row in page["results"]]) == (2, ["r1"])
    completed = http("GET", f"{path}?status=COMPLETED&status=FAILED").json
    assert (completed["totalHits"], completed["results"][0]["referenceTaskName"]) == (1, "r0")


def test_a_status_shows_what_is_asked_for(http: Http, conductor: InMemoryConductor) -> None:
    path = f"/workflow/{conductor.start_workflow('w', correlation_id='c')}/status"
    assert list(http("GET", path).json) == ["workflowId", "correlationId", "status"]
    more = http("GET", f"{path}?includeOutput=true&includeVariables=true").json
    assert (more["output"], more["variables"], more["status"]) == ({}, {}, "RUNNING")


def test_workflows_are_found_by_name_and_correlation(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w", correlation_id="c")
    assert http("GET", "/workflow/running/w").json == [workflow_id]
    assert [found["workflowId"] for found in http("GET", "/workflow/w/correlated/c").json] == [workflow_id]
    each = http("POST", "/workflow/w/correlated?includeTasks=true", ["c", "d"]).json
    assert ([len(found["tasks"]) for found in each["c"]], each["d"]) == ([1], [])


def test_a_rerun_takes_other_inputs(http: Http, conductor: InMemoryConductor) -> None:
    workflow_id = conductor.start_workflow("w", {"x": 1})
    (task,) = conductor.poll_tasks("t")
    conductor.terminate_workflow(workflow_id)
    body = {"reRunFromTaskId": task["taskId"], "taskInput": {"y": 2}, "workflowInput": {"x": 3}}
    rerun = http("POST", f"/workflow/{workflow_id}/rerun", body)
    assert (rerun.text, rerun.headers["content-type"]) == (workflow_id, "text/plain;charset=UTF-8")
    shown = http("GET", f"/workflow/{workflow_id}").json
    assert (shown["input"], shown["tasks"][0]["inputData"], shown["status"]) == ({"x": 3}, {"y": 2}, "RUNNING")
