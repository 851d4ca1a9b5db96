"""Signals for running workflows: find the step that waits, check the signal, send it, and see whether it was taken.

Conductor answers a signal with success whether a step waited for it or not, and loses one that comes too early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from perago.conductor_json import mapping
from perago.failure import Failure
from perago.ports import OPEN_STATUSES
from perago.taskdef.schema import Schema, schema_problems
from perago.text import count, listing, one_line, quoted

MAX_SIGNAL_BYTES = 256 * 1024
_MOST_WORKFLOWS = 500
"""Workflows of one family that are read to find the steps that wait."""
_ROUND = re.compile(r"__\d+$")


class Workflows(Protocol):
    """The calls of Conductor. Each method can raise any `ServiceError`."""

    def workflow(self, workflow_id: str, /) -> Mapping[str, Any]:
        """Return a workflow with its attempts."""
        ...

    def update_task_by_reference(
        self, workflow_id: str, reference_name: str, status: str, output: Mapping[str, Any], /
    ) -> str | None:
        """Give the open attempt of a step a status, and add to its output. Return its id, None without an attempt."""
        ...


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A step that waits for a signal. `name` is its `reference` without the number of its round in a loop."""

    workflow_id: str
    reference: str
    name: str
    schema: Schema
    """Any object fits if the workflow was not written with perago."""


def open_waits(workflows: Workflows, workflow: Mapping[str, Any]) -> Iterator[OpenWait]:
    """Yield the steps of a workflow, its sub-workflows and those after their failures that wait for a signal.

    Raises:
        Failure: there are too many sub-workflows.
        ServiceError: Conductor did not answer.
    """
    waiting, read = [workflow], 1
    while waiting:
        workflow = waiting.pop(0)
        yield from waits_of(workflow)
        parts = [
            row["subWorkflowId"]
            for row in workflow["tasks"]
            if row["status"] == "IN_PROGRESS" and row["taskType"] == "SUB_WORKFLOW" and row.get("subWorkflowId")
        ]
        handler = str(mapping(workflow.get("output")).get("conductor.failure_workflow", " "))
        parts += [handler] if " " not in handler else []  # an error has spaces
        for part in parts:
            read += 1
            if read > _MOST_WORKFLOWS:
                problem = f"workflow {workflow['workflowId']} has more than {_MOST_WORKFLOWS} running sub-workflows"
                raise Failure(problem, "give the id of the sub-workflow that waits for the signal")
            waiting.append(workflows.workflow(part))


def waits_of(workflow: Mapping[str, Any]) -> Iterator[OpenWait]:
    """Yield the steps of a workflow that wait for a signal, without those of its sub-workflows."""
    for row in workflow["tasks"]:
        if row["status"] in OPEN_STATUSES and is_wait(row):
            schema = signal_schema(row) or {"type": "object"}
            yield OpenWait(workflow["workflowId"], row["referenceTaskName"], signal_name(row), schema)


def is_wait(row: Mapping[str, Any]) -> bool:
    """Whether a step of a workflow waits, or waited, for a signal, and not for a time."""
    timed = {"duration", "until"} & (row.get("inputData") or {}).keys()
    return row.get("taskType") in ("WAIT", "HUMAN") and not timed


def signal_schema(row: Mapping[str, Any]) -> Schema | None:
    """Return the schema of the signal of a step that waits; None if its workflow was not written with perago."""
    return mapping(mapping(row.get("taskDefinition")).get("outputSchema")).get("data")


def signal_name(row: Mapping[str, Any]) -> str:
    """Return the reference of a step without the number of its round in a loop."""
    return _ROUND.sub("", str(row["referenceTaskName"]))


def send_signal(workflows: Workflows, workflow: Mapping[str, Any], name: str, signal: Mapping[str, Any]) -> OpenWait:
    """Send a signal to the step of that name in a workflow or its sub-workflows. Return the step, which has taken it.

    Raises:
        Failure: no step waits for it, or several do, the signal has other types, or the step did not take it.
        ServiceError: Conductor did not answer.
    """
    waits = list(open_waits(workflows, workflow))
    matching = [wait for wait in waits if wait.name == name]
    label = f"workflow {workflow['workflowId']}"
    if not matching:
        names = listing(sorted({quoted(wait.name) for wait in waits})) or "no signal"
        raise Failure(
            one_line(f"{label} is {workflow['status']} and does not wait for {quoted(name)} now; it waits for {names}"),
            "Conductor loses a signal that comes too early; send it when the step waits",
        )
    if len(matching) > 1:
        ids = listing(sorted(wait.workflow_id for wait in matching))
        raise Failure(
            f"{count(len(matching), 'step')} of {label} wait for {quoted(name)}: in {ids}",
            "give the id of one of these workflows",
        )
    deliver(workflows, replace(matching[0], schema=_closed(matching[0].schema)), signal)
    return matching[0]


def _closed(schema: Any) -> Any:
    """Return the schema without further fields: a person who sends one has misspelled a field that has a default."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return closed | {key: _closed(part) for key, part in schema.items()}


def deliver(workflows: Workflows, wait: OpenWait, signal: Mapping[str, Any]) -> None:
    """Send a signal to a step that waits for it.

    Raises:
        Failure: the signal has other types, or the step did not take it.
        ServiceError: Conductor did not answer.
    """
    name = quoted(wait.name)
    if (size := len(json.dumps(signal).encode())) > MAX_SIGNAL_BYTES:
        problem = f"the signal has {size:,} bytes, but {MAX_SIGNAL_BYTES:,} at most"
        raise Failure(problem, "write large data to a file of the workspace, and send its name")
    if "${" in json.dumps(signal):
        problem = f"the signal {name} was not sent: Conductor could read '${{' in it as an expression"
        raise Failure(problem, "send it without '${'")
    if problems := list(schema_problems(wait.schema, signal)):
        fields = listing([*wait.schema.get("properties", ())]) or "none"
        problem = one_line(f"the signal {name} was not sent: {listing(problems)}")
        raise Failure(problem, f"correct the signal, and send it; its fields are {fields}")
    if workflows.update_task_by_reference(wait.workflow_id, wait.reference, "COMPLETED", signal) is None:
        raise Failure(f"another answer to {name} came first, so Conductor lost this one")
