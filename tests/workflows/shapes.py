"""Shapes of workflows whose recoveries are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TASK = "t"
ENDINGS = {"completed": 0, "retried": 1, "failed": 2}
"""How many attempts of the last step of a shape fail; its task type has one retry."""


def step(reference: str, **fields: Any) -> dict[str, Any]:
    return {"name": TASK, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": {}, **fields}


def last(reference: str) -> dict[str, Any]:
    """The last step of a branch."""
    return step(reference, permissive=True)


def fork(name: str, *branches: list[dict[str, Any]], on: list[str]) -> list[dict[str, Any]]:
    head = {"name": name, "taskReferenceName": name, "type": "FORK_JOIN", "forkTasks": list(branches)}
    return [head, {"name": "join", "taskReferenceName": f"{name}.join", "type": "JOIN", "joinOn": on}]


DYNAMIC: list[dict[str, Any]] = [
    {
        "name": "fork",
        "taskReferenceName": "fork",
        "type": "FORK_JOIN_DYNAMIC",
        "inputParameters": {"tasks": [last("x"), last("y"), last("z")], "inputs": {"x": {}, "y": {}, "z": {}}},
        "dynamicForkTasksParam": "tasks",
        "dynamicForkTasksInputParamName": "inputs",
    },
    {"name": "join", "taskReferenceName": "fork.join", "type": "JOIN"},
]
LOOP = {
    "name": "loop",
    "taskReferenceName": "loop",
    "type": "DO_WHILE",
    "loopCondition": "$.loop['iteration'] < 2",
    "loopOver": [step("l1"), step("l2")],
}
SWITCH = {
    "name": "switch",
    "taskReferenceName": "switch",
    "type": "SWITCH",
    "evaluatorType": "value-param",
    "expression": "k",
    "inputParameters": {"k": "a"},
    "decisionCases": {"a": [step("c1"), step("c2")]},
}
CHILD = {"name": "sub", "taskReferenceName": "sub", "type": "SUB_WORKFLOW", "subWorkflowParam": {"name": "child"}}
SHAPES: Mapping[str, tuple[list[dict[str, Any]], str]] = {
    "line": ([step("a"), step("b"), step("c")], "b"),
    "fork": ([step("a"), *fork("fork", [last("x")], [last("y")], on=["x", "y"]), step("b")], "y"),
    "two steps": (
        [
            step("a"),
            *fork("fork", [step("x"), last("x2")], [step("y"), last("y2")], on=["x2", "y2"]),
            step("b"),
        ],
        "y2",
    ),
    "one step last": (
        [step("a"), *fork("fork", [step("x"), last("x2")], [last("y")], on=["x2", "y"]), step("b")],
        "y",
    ),
    "dynamic": ([step("a"), *DYNAMIC, step("b")], "y"),
    "dynamic first": ([*DYNAMIC, step("b")], "y"),
    "nested": (
        [
            step("a"),
            *fork("outer", [last("w")], fork("inner", [last("x")], [last("y")], on=["x", "y"]), on=["w", "inner.join"]),
            step("b"),
        ],
        "y",
    ),
    "loop": ([step("a"), LOOP, step("b")], "b"),
    "switch": ([step("a"), SWITCH, step("b")], "c2"),
    "child": ([step("a"), CHILD, step("b")], "b"),
}
"""The steps of a workflow, and the one whose attempts fail."""
