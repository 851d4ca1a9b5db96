"""Searching the index of workflows and attempts, as the real server with its SQL index does."""

from __future__ import annotations

from typing import Any

import pytest

from perago.embedded.conductor import InvalidRequest, ServerError
from perago.embedded.conductor.searching import Search

from .house import FAILED, House


@pytest.fixture
def house() -> House:
    """Four workflows: `w` has failed, one of two `other` is over, one of these is removed."""
    house = House(retryCount=0)
    conductor = house.conductor
    house.report(house.poll(), FAILED)
    tasks = [{"name": "t", "taskReferenceName": "a"}]
    conductor.create_workflow_definition({"name": "other", "tasks": tasks})
    for number in range(3):
        house.clock.advance(1)
        workflow_id = conductor.start_workflow("other", {"n": number}, correlation_id=f"c{number}", priority=number)
        if number < 2:
            conductor.terminate_workflow(workflow_id, "enough")
    conductor.remove_workflow(conductor.workflow_ids()[1])
    return house


def shown(found: dict[str, Any]) -> list[str]:
    """Each workflow by its correlation id, the one without as `-`."""
    assert found["totalHits"] == len(found["results"])
    return [summary.get("correlationId", "-") for summary in found["results"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", ["-", "c0", "c1", "c2"], id="everything, what was removed included"),
        pytest.param("workflowType=other", ["c0", "c1", "c2"], id="a value"),
        pytest.param("workflowType = 'other' AND status=RUNNING", ["c2"], id="two conditions"),
        pytest.param("status IN (FAILED,RUNNING)", ["-", "c2"], id="one of several"),
        pytest.param("status IN (FAILED)", ["-"], id="one of one"),
        pytest.param("correlationId=C*", ["c0", "c1", "c2"], id="a pattern does not look at case"),
        pytest.param("correlationId=C1", [], id="a value does"),
        pytest.param("correlationId>c0", ["c1", "c2"], id="greater"),
        pytest.param("startTime>{third} AND startTime<9999999999999", ["c2"], id="times"),
        pytest.param("endTime<{first}", ["c2"], id="what goes on ends in 1970"),
        pytest.param('parentWorkflowId=""', ["-", "c0", "c1", "c2"], id="no parent"),
        pytest.param("nonsense=1", ["-", "c0", "c1", "c2"], id="an unknown field is passed over"),
    ],
)
def test_a_query_finds(house: House, query: str, expected: list[str]) -> None:
    now = round(house.clock.now() * 1000)
    query = query.format(first=now - 3000, third=now - 1000)
    assert shown(house.conductor.search_workflows(Search(query))) == expected


@pytest.mark.parametrize(
    ("free_text", "expected"), [("c1", ["c1"]), ("ENOUGH", ["c0", "c1"]), ("{n=2}", ["c2"]), ("nowhere", [])]
)
def test_free_text_is_looked_for_in_the_whole_summary(house: House, free_text: str, expected: list[str]) -> None:
    assert shown(house.conductor.search_workflows(Search(free_text=free_text))) == expected


def test_a_page_in_an_order(house: House) -> None:
    search = Search("workflowType=other", sort=["status:ASC", "startTime:DESC"], start=1, size=1)
    found = house.conductor.search_workflows(search)
    assert (found["totalHits"], [summary["correlationId"] for summary in found["results"]]) == (3, ["c1"])
    assert house.conductor.search_workflows(Search(size=0)) == {"totalHits": 4, "results": []}


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("nonsense", InvalidRequest, "Incorrectly formatted query string: nonsense"),
        ("taskId=x", ServerError, "no such column: task_id"),
        ("startTime>yesterday", ServerError, 'For input string: "yesterday"'),
        ("status=A,B", NotImplementedError, "use IN"),
    ],
)
def test_a_query_that_the_server_cannot_answer(house: House, query: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        house.conductor.search_workflows(Search(query))


def test_a_summary_says_what_there_is_to_say_of_a_workflow(house: House) -> None:
    (summary,) = house.conductor.search_workflows(Search("status=FAILED"))["results"]
    assert summary["input"] == "{x=1}"
    assert summary["failedReferenceTaskNames"] == "r0"
    assert (summary["inputSize"], summary["output"], summary["priority"]) == (5, "{partial=true}", 0)
    assert summary["startTime"] == "2026-01-01T00:00:00.000Z"


def test_whole_workflows_come_without_those_that_were_removed(house: House) -> None:
    found = house.conductor.search_workflows_v2(Search("workflowType=other"))
    assert shown(found) == ["c1", "c2"]
    assert [workflow["tasks"] for workflow in found["results"]] == [[], []]


def test_attempts_are_found_once_something_happened_to_them(house: House) -> None:
    conductor = house.conductor
    found = conductor.search_tasks(Search("taskType=t"))
    assert [summary["status"] for summary in found["results"]] == ["FAILED", "CANCELED"]
    assert shown(conductor.search_workflows_by_tasks(Search("taskType=t"))) == ["-", "c1"]
    assert shown(conductor.search_workflows_by_tasks_v2(Search("status=CANCELED"))) == ["c1"]
    (task,) = conductor.search_tasks_v2(Search("status=FAILED"))["results"]
    assert task == house.tasks[0]
    with pytest.raises(ServerError, match="no such column: workflow_id"):
        conductor.search_tasks(Search("workflowId=x"))


def test_running_workflows_and_those_between_two_times(house: House) -> None:
    conductor, now = house.conductor, round(house.clock.now() * 1000)
    assert conductor.running_workflow_ids("other") == [conductor.workflow_ids()[-1]]
    assert conductor.running_workflow_ids("w") == []
    assert conductor.workflow_ids_between("w", 1, now - 3000, now) == [house.workflow_id]
    assert conductor.workflow_ids_between("w", 2, now - 3000, now) == []
    assert conductor.workflow_ids_between("w", 1, now - 2000, now) == []


def test_correlated_workflows(house: House) -> None:
    conductor = house.conductor
    assert conductor.correlated_workflows("other", "c1") == []
    (closed,) = conductor.correlated_workflows("other", "c1", include_closed=True)
    assert (closed["status"], closed["tasks"]) == ("TERMINATED", [])
    (running,) = conductor.correlated_workflows("other", "c2", include_tasks=True)
    assert [task["referenceTaskName"] for task in running["tasks"]] == ["a"]
