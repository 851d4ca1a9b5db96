"""Requests that are wrong in form, and unknown paths."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, rest, scenario, scenario_for_each, send
from .workflows import start_registered, start_steps

JSON = {"Content-Type": "application/json"}


@scenario
def a_content_type_with_a_charset(rest: Rest) -> None:
    """The content type may name its character set."""
    name = rest.name("task")
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    rest.post("/metadata/taskdefs", body=f'[{{"name": "{name}"}}]'.encode(), headers=headers)


TRUTHS = {
    "an_empty_truth": "",
    "a_truth_in_capitals": "TRUE",
    "the_truth_on": "on",
    "the_truth_yes": "yes",
    "the_truth_one": "1",
    "a_word_that_is_no_truth": "maybe",
}


@scenario_for_each(TRUTHS)
def truths(rest: Rest, case: str) -> None:
    """Several words in a query are true or false, others are a server error."""
    on = start_steps(rest)
    answer = on.silent.act("GET", "/workflow/{workflow}", query={"includeTasks": case})
    rest.note("status and tasks", [answer.status, len(answer.json.get("tasks", []))])


@scenario_for_each({"a_number_in_blanks": " 2 ", "a_number_with_a_sign": "+2"})
def numbers(rest: Rest, case: str) -> None:
    """Blanks around a number in a query, and a sign before it, do not matter."""
    on = start_steps(rest)
    for _ in range(2):
        start_registered(rest, on.task, on.workflow)
    answer = on.silent.batch(count=case)
    rest.note("status and tasks", [answer.status, len(answer.json)])


@scenario_for_each({"a_content_type_in_capitals": "APPLICATION/JSON", "a_kind_of_json": "application/vnd.x+json"})
def content_types(rest: Rest, case: str) -> None:
    """A body may be of any media type that is JSON."""
    body = f'[{{"name": "{rest.name("task")}"}}]'.encode()
    rest.post("/metadata/taskdefs", body=body, headers={"Content-Type": case})


@scenario
def options_of_a_call(rest: Rest) -> None:
    """OPTIONS names the methods of a path."""
    for method in ("OPTIONS", "HEAD"):
        answer = rest.silent.call(method, "/metadata/taskdefs")
        rest.note(method, [answer.status, sorted((answer.headers.get("allow") or "").replace(" ", "").split(","))])


SCENARIOS: Declared = {
    # A missing body is a server error.
    "a_missing_body": send(*(rest.post(path, headers=JSON) for path in ("/tasks", "/metadata/taskdefs", "/workflow"))),
    # What is no JSON is a server error.
    "malformed_json": send(rest.post("/tasks", body=b'{"taskId": ', headers=JSON)),
    # An unknown path is a 404 in the form of every error.
    "an_unknown_path": send(rest.get("/perago"), rest.post("/tasks/a/b/c/d", {})),
    # The open-source server has no schemas, no tokens and no users.
    "there_are_no_schemas": send(
        rest.get("/schema"), rest.post("/token", {"keyId": "k", "keySecret": "s"}), rest.get("/token/userInfo")
    ),
    # A path that does not have the method is a 405.
    "a_wrong_method": send(rest.delete("/metadata/taskdefs"), rest.put("/workflow", {})),
    # A query that is needed and missing is a server error.
    "a_missing_query": send(rest.get("/tasks/queue/polldata")),
    # A version in a query is a number.
    "a_version_that_is_no_number": send(rest.get("/metadata/workflow/{name}", name="any", query={"version": "one"})),
    # A result has ids.
    "an_empty_object_as_result": send(rest.post("/tasks", {}, unordered=True)),
    # A result is an object.
    "a_list_as_result": send(rest.post("/tasks", [])),
    # Events have handlers, none at first.
    "event_handlers": send(rest.get("/event/{event}", event=rest.name("event"))),
    # A server tells its version and its health.
    "the_server_itself": send(rest.get("/version"), rest.get("/health")),
}
