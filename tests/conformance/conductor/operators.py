"""Operators of workflow definitions, in the shape in which clients send them."""

from __future__ import annotations

from typing import Any

from .workflows import Json

TWICE = "$.loop['iteration'] < 2"
"""The condition of a loop of two iterations."""


def operator(kind: str, reference: str, **fields: Any) -> Json:
    """A step that the server runs; its name is that of no task definition."""
    return {"name": reference, "taskReferenceName": reference, "type": kind, **fields}


def system_task(kind: str, reference: str, **inputs: Any) -> Json:
    """An operator with these input parameters."""
    return operator(kind, reference, inputParameters=inputs)


def inline(reference: str, expression: str, **inputs: Any) -> Json:
    """A script in JavaScript."""
    return system_task("INLINE", reference, evaluatorType="javascript", expression=expression, **inputs)


def fork(*branches: list[Json], **fields: Any) -> Json:
    """A fork of these branches."""
    return operator("FORK_JOIN", "fork", forkTasks=list(branches), **fields)


def dynamic_fork(*steps: Json) -> Json:
    """A dynamic fork that names these steps in its definition."""
    return operator(
        "FORK_JOIN_DYNAMIC",
        "fork",
        inputParameters={"dt": list(steps), "di": {}},
        dynamicForkTasksParam="dt",
        dynamicForkTasksInputParamName="di",
    )


def join(*references: str, **fields: Any) -> Json:
    """A join that waits for these references."""
    return operator("JOIN", "join", joinOn=list(references), **fields)


def loop(condition: str, *body: Json, **fields: Any) -> Json:
    """A loop over these tasks."""
    given = {"evaluatorType": "javascript", "loopCondition": condition, "loopOver": list(body), **fields}
    return operator("DO_WHILE", "loop", **given)


def switch(cases: dict[str, list[Json]], default: list[Json] | None = None, **fields: Any) -> Json:
    """A switch by the value of `x`."""
    given = {
        "evaluatorType": "value-param",
        "expression": "case",
        "inputParameters": {"case": "${workflow.input.x}"},
        "decisionCases": cases,
        "defaultCase": default or [],
    }
    return operator("SWITCH", **{"reference": "switch", **given, **fields})


def sub_workflow(name: str, reference: str = "sub", **fields: Any) -> Json:
    """A step that starts another workflow and passes `x` on."""
    given = {"inputParameters": {"x": "${workflow.input.x}"}, "subWorkflowParam": {"name": name}, **fields}
    return operator("SUB_WORKFLOW", reference, **given)
