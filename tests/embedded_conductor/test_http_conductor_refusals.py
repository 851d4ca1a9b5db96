"""What the model refuses over REST: statuses, bodies and words as a real Conductor 3.32.3 has them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .http_client import Http

TASK_DEF = "com.netflix.conductor.common.metadata.tasks.TaskDef"
REST = "com.netflix.conductor.rest.controllers"
TASK_RESULT = "com.netflix.conductor.common.metadata.tasks.TaskResult"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/tasks/x", None, 404, "Task not found for taskId: x"),
        ("GET", "/workflow/x", None, 404, "No such workflow found by id: x"),
        ("GET", "/metadata/taskdefs/x", None, 404, "No such taskType found by name: x"),
        ("GET", "/metadata/workflow/w?version=9", None, 404, "No such workflow found by name: w, version: 9"),
        ("DELETE", "/metadata/taskdefs/x", None, 500, "No such task definition"),
        ("DELETE", "/metadata/workflow/w/9", None, 500, "No such workflow definition: w version: 9"),
        ("PUT", "/metadata/taskdefs", {"name": "x"}, 404, "No such task by name x"),
        ("POST", "/workflow", {"name": "x"}, 404, "No such workflow defined. name=x, version=null"),
        ("POST", "/workflow", {"name": "w", "input": None}, 400, "NULL input passed when starting workflow"),
        ("POST", "/workflow/x", {}, 404, "No such workflow found by name: x, version: null"),
        ("GET", "/tasks/poll/batch/t?timeout=5001", None, 400, "Long Poll Timeout value cannot be more than 5 seconds"),
        ("POST", "/tasks/x/r0/COMPLETED/sync", {}, 404, "Found no running task r0 of workflow x to update"),
        ("GET", "/nothing/here", None, 404, "No static resource api/nothing/here."),
        ("POST", "/tasks/x/ack", {}, 404, "No static resource api/tasks/x/ack."),
        ("POST", "/token", {}, 404, "No static resource api/token."),
        ("DELETE", "/tasks", None, 405, "Request method 'DELETE' is not supported"),
        ("GET", "/workflow", None, 405, "Request method 'GET' is not supported"),
    ],
)
def test_errors_have_the_servers_words(
    http: Http, method: str, path: str, body: object, status: int, message: str
) -> None:
    answer = http(method, path, body)
    expected = {"status": status, "message": message, "instance": "perago", "retryable": False}
    assert (answer.status, answer.json) == (status, expected)


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        (
            "POST",
            "/metadata/taskdefs",
            [],
            {"path": "registerTaskDef.arg0", "message": "TaskDefList is empty"},
        ),
        (
            "PUT",
            "/metadata/taskdefs",
            {"name": "t", "retryCount": -1},
            {
                "path": "updateTaskDef.arg0.retryCount",
                "message": "TaskDef retryCount: 0 must be >= 0",
                "invalidValue": "-1",
            },
        ),
        (
            "PUT",
            "/metadata/workflow",
            [{"name": "v", "tasks": [{"name": "t", "taskReferenceName": "a"}]}, {"name": "u", "tasks": []}],
            {"path": "updateWorkflowDef.arg0[1].tasks", "message": "WorkflowTask list cannot be empty"},
        ),
        (
            "POST",
            "/metadata/workflow/validate",
            {"name": "u", "tasks": []},
            {"path": "validateWorkflowDef.arg0.tasks", "message": "WorkflowTask list cannot be empty"},
        ),
        (
            "POST",
            "/workflow",
            {"version": 1},
            {"path": "startWorkflow.arg0.name", "message": "Workflow name cannot be null or empty"},
        ),
        (
            "POST",
            "/workflow/w?priority=100",
            {},
            {"path": "startWorkflow.arg3", "message": "99 is the maximum priority value", "invalidValue": "100"},
        ),
        (
            "POST",
            "/tasks",
            {"taskId": "x", "workflowInstanceId": ""},
            {
                "path": "updateTask.arg0.workflowInstanceId",
                "message": "Workflow Id cannot be null or empty",
                "invalidValue": "",
            },
        ),
        (
            "PUT",
            "/workflow/bulk/pause",
            [],
            {"path": "pauseWorkflow.arg0", "message": "WorkflowIds list cannot be null."},
        ),
        (
            "GET",
            "/workflow/search?size=5001",
            None,
            {
                "path": "searchWorkflows.arg1",
                "message": "Cannot return more than 5000 workflows. Please use pagination.",
                "invalidValue": "5001",
            },
        ),
    ],
)
def test_validation_lists_its_problems_without_an_instance(
    http: Http, method: str, path: str, body: object, problem: dict[str, Any]
) -> None:
    answer = http(method, path, body)
    assert (answer.status, answer.json) == (
        400,
        {
            "status": 400,
            "message": "Validation failed, check below errors for detail.",
            "retryable": False,
            "validationErrors": [problem],
        },
    )


def test_one_bad_definition_of_a_list_stores_none(http: Http) -> None:
    good = {"name": "v", "tasks": [{"name": "t", "taskReferenceName": "a"}]}
    assert http("PUT", "/metadata/workflow", [good, {"name": "u", "tasks": []}]).status == 400
    assert http("GET", "/metadata/workflow/v").status == 404
    assert http("PUT", "/metadata/workflow", [good]).json == {
        "bulkErrorResults": {},
        "bulkSuccessfulResults": ["v"],
    }
    assert http("GET", "/metadata/workflow/v").status == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/tasks/poll/batch/t?count=x",
            "Method parameter 'count': Failed to convert value of type 'java.lang.String' to required type 'int'; "
            'For input string: "x"',
        ),
        (
            "/metadata/workflow/w?version=99999999999",
            "Method parameter 'version': Failed to convert value of type 'java.lang.String' to required type "
            "'java.lang.Integer'; For input string: \"99999999999\"",
        ),
        (
            "/workflow/x?includeTasks=maybe",
            "Method parameter 'includeTasks': Failed to convert value of type 'java.lang.String' to required type "
            "'boolean'; Invalid boolean value [maybe]",
        ),
        (
            "/tasks/queue/size",
            "Required request parameter 'taskType' for method parameter type String is not present",
        ),
        ("/tasks/queue/sizes", 'Cannot invoke "java.util.List.iterator()" because "taskDefNames" is null'),
    ],
)
def test_a_parameter_that_spring_cannot_use_is_a_500(http: Http, path: str, message: str) -> None:
    answer = http("GET", path)
    assert (answer.status, answer.message) == (500, message)


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("text/plain", "Content-Type 'text/plain;charset=UTF-8' is not supported"),
        ("application/octet-stream", "Content-Type 'application/octet-stream' is not supported"),
        ("nonsense", "Invalid mime type \"nonsense\": does not contain '/'"),
    ],
)
def test_a_body_of_another_type_is_a_500(http: Http, content_type: str, message: str) -> None:
    answer = http("POST", "/tasks", {}, content_type=content_type)
    assert (answer.status, answer.message) == (500, message)


@pytest.mark.parametrize(
    ("method", "path", "signature"),
    [
        (
            "POST",
            "/metadata/taskdefs",
            f"public void {REST}.MetadataResource.registerTaskDef(java.util.List<{TASK_DEF}>)",
        ),
        (
            "POST",
            "/tasks",
            f"public java.lang.String {REST}.TaskResource.updateTask({TASK_RESULT})",
        ),
        (
            "PUT",
            "/workflow/bulk/pause",
            "public com.netflix.conductor.common.model.BulkResponse<java.lang.String> "
            f"{REST}.WorkflowBulkResource.pauseWorkflow(java.util.List<java.lang.String>)",
        ),
    ],
)
@pytest.mark.parametrize("raw", [None, b"", b"null"], ids=["none", "empty", "null"])
def test_a_missing_body_names_the_java_method(
    http: Http, method: str, path: str, signature: str, raw: bytes | None
) -> None:
    answer = http(method, path, raw=raw)
    assert (answer.status, answer.message) == (500, f"Required request body is missing: {signature}")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "x"}, f"Cannot deserialize value of type `java.util.ArrayList<{TASK_DEF}>` from Object value"),
        ([[1]], f"Cannot deserialize value of type `{TASK_DEF}` from Array value (token `JsonToken.START_ARRAY`)"),
        ([{"name": "x", "retryCount": "abc"}], 'Cannot deserialize value of type `int` from String "abc"'),
        ([{"name": "x", "retryCount": True}], "`int` from Boolean value (token `JsonToken.VALUE_TRUE`)"),
        ([{"name": "x", "retryCount": 2**40}], "Numeric value (1099511627776) out of range of int"),
        ([{"name": "x", "retryLogic": "fixed"}], "[FIXED, EXPONENTIAL_BACKOFF, LINEAR_BACKOFF]"),
        ([{"name": "x", "retryLogic": 9}], "from number 9: index value outside legal index range [0..2]"),
        ([{"name": "x", "inputKeys": "a"}], "no String-argument constructor/factory method to deserialize from String"),
        (
            [{"name": "x", "inputTemplate": ""}],
            'Cannot coerce empty String ("") to element of `java.util.LinkedHashMap`',
        ),
        ([{"name": "x", "enforceSchema": "x"}], 'only "true"/"True"/"TRUE" or "false"/"False"/"FALSE" recognized'),
        ([None], '"taskDefinition" is null'),
    ],
)
def test_a_wrong_type_is_a_500_with_jacksons_words_and_stores_nothing(http: Http, body: object, words: str) -> None:
    answer = http("POST", "/metadata/taskdefs", body)
    assert answer.status == 500
    assert words in answer.message
    assert http("GET", "/metadata/taskdefs/x").status == 404


def test_an_update_of_v2_says_what_spring_says_about_missing_ids(http: Http) -> None:
    answer = http("POST", "/tasks/update-v2", {"taskId": "x"})
    assert answer.status == 500
    assert re.match(
        r"Validation failed for argument \[0\] in public .*\.updateTaskV2\(.*\): \[Field error in object 'taskResult' "
        r"on field 'workflowInstanceId': rejected value \[null\]; .*\[Workflow Id cannot be null or empty\]\] $",
        answer.message,
    )


def test_what_is_not_served_is_named(http: Http) -> None:
    answer = http("GET", "/admin/config")
    assert answer.status == 501
    assert answer.message.startswith("GET /api/admin/config: the embedded Conductor does not serve this call")


def test_what_is_not_modelled_is_named(http: Http) -> None:
    tasks = [{"name": "t", "taskReferenceName": "a", "type": "HTTP"}]
    answer = http("POST", "/metadata/workflow", {"name": "v", "tasks": tasks})
    assert answer.status == 501
    assert answer.message.startswith("POST /api/metadata/workflow: ")
    assert "HTTP" in answer.message
