"""Requests that are wrong in form, and unknown paths."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .stage import stage, task_type

JSON = {"Content-Type": "application/json"}


@scenario
def malformed_json(rest: Rest) -> None:
    """What is no JSON is a server error."""
    rest.call("POST", "/tasks", body=b'{"taskId": ', headers=JSON)


@scenario
def a_missing_body(rest: Rest) -> None:
    """A missing body is a server error."""
    for method, path in (("POST", "/tasks"), ("POST", "/metadata/taskdefs"), ("POST", "/workflow")):
        rest.call(method, path, headers=JSON)


@scenario
def a_body_of_plain_text(rest: Rest) -> None:
    """JSON under the wrong content type is a server error."""
    body = b'[{"name": "any"}]'
    rest.call("POST", "/metadata/taskdefs", body=body, headers={"Content-Type": "text/plain"})


@scenario
def a_body_without_a_content_type(rest: Rest) -> None:
    """JSON without a content type is a server error."""
    rest.call("POST", "/metadata/taskdefs", body=b'[{"name": "any"}]')


@scenario
def a_content_type_with_a_charset(rest: Rest) -> None:
    """The content type may name its character set."""
    name = rest.name("task")
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    rest.call("POST", "/metadata/taskdefs", body=f'[{{"name": "{name}"}}]'.encode(), headers=headers)


@scenario
def an_answer_in_another_form(rest: Rest) -> None:
    """Whatever the client accepts, the answer is JSON."""
    rest.call("GET", "/metadata/taskdefs/{name}", name=task_type(rest), headers={"Accept": "text/html"})


@scenario
def a_text_answer_for_one_who_wants_json(rest: Rest) -> None:
    """An id stays a bare text for a client that only wants JSON."""
    on = stage(rest)
    rest.call("POST", "/workflow", json={"name": on.workflow}, headers={"Accept": "application/json"})


@scenario
def an_unknown_path(rest: Rest) -> None:
    """An unknown path is a 404 in the form of every error."""
    rest.call("GET", "/perago")
    rest.call("POST", "/tasks/a/b/c/d", json={})


@scenario
def there_are_no_schemas(rest: Rest) -> None:
    """The open-source server has no schemas, no tokens and no users."""
    rest.call("GET", "/schema")
    rest.call("POST", "/token", json={"keyId": "k", "keySecret": "s"})
    rest.call("GET", "/token/userInfo")


@scenario
def a_wrong_method(rest: Rest) -> None:
    """A path that does not have the method is a 405."""
    rest.call("DELETE", "/metadata/taskdefs")
    rest.call("PUT", "/workflow", json={})


@scenario
def a_missing_query(rest: Rest) -> None:
    """A query that is needed and missing is a server error."""
    rest.call("GET", "/tasks/queue/polldata")


@scenario
def a_version_that_is_no_number(rest: Rest) -> None:
    """A version in a query is a number."""
    rest.call("GET", "/metadata/workflow/{name}", name="any", query={"version": "one"})


@scenario
def an_empty_object_as_result(rest: Rest) -> None:
    """A result has ids."""
    rest.call("POST", "/tasks", json={}, unordered=True)


@scenario
def a_list_as_result(rest: Rest) -> None:
    """A result is an object."""
    rest.call("POST", "/tasks", json=[])


@scenario
def a_number_as_task_id(rest: Rest) -> None:
    """A number becomes a text."""
    on = stage(rest)
    rest.call("POST", "/tasks", json={"taskId": 5, "workflowInstanceId": on.id, "status": "COMPLETED"})


@scenario
def event_handlers(rest: Rest) -> None:
    """Events have handlers, none at first."""
    rest.call("GET", "/event/{event}", event=rest.name("event"))


@scenario
def a_name_that_no_path_can_hold(rest: Rest) -> None:
    """A task type may have a slash or a backslash in its name, but then it has no address."""
    for sign in ("/", "\\", "\0"):
        name = f"a{sign}{rest.name('task')}"
        rest.call("POST", "/metadata/taskdefs", json=[{"name": name}])
        rest.call("GET", "/metadata/taskdefs/{name}", name=name)
        rest.call("GET", "/tasks/poll/{name}", name=name, query={"workerid": "w1"})


@scenario
def a_path_that_is_no_text(rest: Rest) -> None:
    """A path must be UTF-8; a query need not."""
    for path in ("/metadata/taskdefs/a%ff", "/metadata/taskdefs/%c0%af", "/metadata/taskdefs/%ed%a0%80"):
        rest.call("GET", path)
    rest.call("GET", "/metadata/taskdefs/perago-no-such?x=%ff")


@scenario
def a_path_with_parameters(rest: Rest) -> None:
    """What stands behind a semicolon is no part of a path, unless it is escaped."""
    name = task_type(rest)
    rest.call("GET", "/metadata;a=b/taskdefs;/{name};jsessionid=1;x=y", name=name)
    rest.call("GET", "/metadata/taskdefs/{name}", name=f"{name};x")
