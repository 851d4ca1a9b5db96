"""The check of `perago doctor` that looks for JOINs that do not wait for retries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from perago.adapters.conductor import ConductorOverview
from perago.diagnosis.doctor import Declared, Finding, Level, forks

TASKS = [
    Declared("my_tasks.part", "part", json.dumps({"name": "part", "retryCount": 3})),
    Declared("my_tasks.once", "once", json.dumps({"name": "once", "retryCount": 0})),
]
JOIN = {"name": "join", "taskReferenceName": "join", "type": "JOIN"}


def step(reference: str, name: str = "part", **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": {}, **fields}


def fork(*branches: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": list(branches)}


def dynamic(**inputs: Any) -> dict[str, Any]:
    return {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN_DYNAMIC", "inputParameters": inputs}


class Source:
    """A Conductor with one workflow of these tasks, and TaskDefs."""

    def __init__(self, tasks: Sequence[Mapping[str, Any]], *definitions: Mapping[str, Any]) -> None:
        self.tasks, self.definitions = tasks, definitions

    def workflow_definitions(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "islands", "version": 2, "tasks": list(self.tasks)}]

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        return self.definitions


def checked(*tasks: Mapping[str, Any]) -> Finding:
    (found,) = forks(cast("ConductorOverview", Source(tasks)), TASKS)
    return found


@pytest.mark.parametrize(
    ("tasks", "named"),
    [
        ([fork([step("a")], [step("b", permissive=True)]), {**JOIN, "joinOn": ["a", "b"]}], "1 step"),
        ([fork([step("a1"), step("a2")], [step("b")]), {**JOIN, "joinOn": ["a2", "b"]}], ": a2, b"),
        ([fork([step("a", "once", retryCount=1)]), {**JOIN, "joinOn": ["a"]}], ": a"),
        ([dynamic(tasks=[step("a"), step("b", permissive=True)], inputs={}), JOIN], ": a"),
        ([dynamic(forkTaskName="part", forkTaskInputs="${workflow.input.list}"), JOIN], ": part"),
        ([dynamic(all={"dynamicTasks": [{"taskName": "part", "referenceName": "a"}]}), JOIN], ": part"),
        (
            [
                {
                    "name": "loop",
                    "taskReferenceName": "loop",
                    "type": "DO_WHILE",
                    "loopOver": [fork([step("a")]), {**JOIN, "joinOn": ["a"]}],
                }
            ],
            ": a",
        ),
    ],
)
def test_a_join_that_does_not_wait_for_retries_is_a_warning(tasks: list[dict[str, Any]], named: str) -> None:
    found = checked(*tasks)
    assert found.level is Level.WARNING
    assert "workflow islands, version 2" in found.what
    assert named in found.what
    assert '"permissive": true' in found.advice
    assert ("dynamicForkTasksParam" in found.advice) is (": part" in found.what)


@pytest.mark.parametrize(
    "tasks",
    [
        [fork([step("a1"), step("a2", permissive=True)]), {**JOIN, "joinOn": ["a2"]}],
        [fork([step("a", optional=True)]), {**JOIN, "joinOn": ["a"]}],
        [fork([step("a", "once")], [step("b", retryCount=0)]), {**JOIN, "joinOn": ["a", "b"]}],
        [fork([step("a", "of.another.worker")]), {**JOIN, "joinOn": ["a"]}],
        [dynamic(tasks="${workflow.input.tasks}", inputs={"name": ["part"], "joinOn": 1}), JOIN],
        [step("a", inputParameters={"name": {"deep": []}, "taskReferenceName": 1, "joinOn": "a"})],
    ],
)
def test_a_safe_or_unknown_join_is_not_a_warning(tasks: list[dict[str, Any]]) -> None:
    assert checked(*tasks).level is Level.OK


def test_without_modules_the_tasks_are_those_that_perago_has_registered() -> None:
    tasks = [fork([step("a", "mine")], [step("b", "other")]), {**JOIN, "joinOn": ["a", "b"]}]
    mine = {"name": "mine", "retryCount": 3, "inputSchema": {"name": "mine.input"}}
    other = {"name": "other", "retryCount": 3}
    (found,) = forks(cast("ConductorOverview", Source(tasks, mine, other)), None)
    assert found.what.endswith('1 step without "permissive": a')
