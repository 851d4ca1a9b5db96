"""Steps that wait: for a signal, for some minutes, or until a time.

A signal is JSON from a person or another system, which becomes the output of a WAIT task unchecked. The next step
fills in its defaults, and fails unless its fields have their types. Conductor keeps a workflow RUNNING for good if
the time of a WAIT is not a time, so a script checks a computed one first.

Conductor answers a signal with success whether a step waited for it or not, and loses one that comes too early. So a
sender finds the step that waits, checks the signal, sends it, and sees whether it was taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from perago.authoring.declaration import check_model
from perago.conductor_json import mapping
from perago.failure import Failure
from perago.ports import ENDED_WORKFLOWS, OPEN_STATUSES
from perago.taskdef.definition import schema_definition
from perago.taskdef.schema import Schema, model_schema, schema_problems, shape_of
from perago.text import count, listing, one_line, quoted
from perago.workflows.values import (
    Documents,
    Recorded,
    Step,
    Value,
    expression,
    inputs_of,
    refuse_step,
    renamed_fields,
)
from perago.workflows.writer import Json, Writer

P = TypeVar("P", bound=BaseModel)

LONGEST_MINUTES = 10 * 366 * 24 * 60
"""Ten years."""
MAX_SIGNAL_BYTES = 256 * 1024
_MOST_WORKFLOWS = 500
"""Workflows of one family that are read to find the steps that wait."""
_ROUND = re.compile(r"__\d+$")
_PROGRAM = (
    "def wrong($node; $at): . as $value"
    ' | (if type == "number" and . == floor then "integer" else type end) as $type'
    " | if $node.options != null then"
    " if ($node.options | all(. as $option | $value | [wrong($option; $at)] != [])) then $at else empty end"
    " elif ($node.types != null and ($node.types | all(. != $type)))"
    " or ($node.values != null and ($node.values | all(. != $value))) then $at"
    ' elif $type == "array" and $node.items != null then'
    " range(0; length) as $index | .[$index] | wrong($node.items; $at + [$index | tostring])"
    ' elif $type == "object" then ($node.fields // [] | .[]) as $field | ($at + [$field.name]) as $path'
    " | if has($field.name) then .[$field.name] | wrong($field; $path) elif $field.required then $path else empty end"
    " else empty end;"
    ' if .status == "COMPLETED" then (.defaults + .signal) as $signal | .fields as $fields'
    " | [$signal | wrong({fields: $fields}; [])] as $wrong"
    ' | if ($signal | tojson | contains("$" + "{")) then error("signal \\(.name) is refused: it has an expression")'
    " elif $wrong == [] then $signal"
    ' else error("signal \\(.name) is refused: \\($wrong[0] | join(".")) is missing or of another type") end'
    ' elif .otherwise != null then .otherwise else error("signal \\(.name) did not come") end'
)
"""The jq program that checks each signal. It contains no text of the author, because names and types are data.

It refuses `${`, because Conductor reads expressions in the items of a dynamic fork, which a signal can contain."""
_MINUTES = """(function () {
  if (typeof $.value !== "number" || $.value % 1 !== 0 || $.value < 0 || $.value > LONGEST) {
    throw new Error("the minutes of a sleep are not a whole number from 0 to LONGEST");
  }
  return $.value + " minutes";
})()""".replace("LONGEST", str(LONGEST_MINUTES))
_TIME = r"""(function () {
  var parts = /^([12]\d{3}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec($.value);
  var time = parts ? Date.parse(parts[1] + (parts[2] || ":00") + parts[4]) : NaN;
  if (isNaN(time)) {
    throw new Error("the value of a sleep is not a time with a time zone before the year 3000");
  }
  return new Date(Math.ceil(time / 60000) * 60000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
})()"""


class _WaitingFlow:
    """The part of a flow that writes steps that wait."""

    def __init__(self, _writer: Writer) -> None:
        self._writer = _writer
        self._options: Json = {}
        """Fields of the tasks that are being written."""
        self._timeout_seconds: int | None = None
        """The time limit of the steps that are being written."""

    def wait_for(
        self, name: str, signal: type[P], /, *, timeout_minutes: int | None = None, on_timeout: P | None = None
    ) -> Step[P]:
        """Wait for a signal from a person or another system, which `perago signal` sends.

        Args:
            name: The name of the step and of its signal.
            signal: The model of the signal, which is the result of the step.
            timeout_minutes: The minutes after which the wait ends. None: it never ends without a signal.
            on_timeout: The result after the timeout. None: the workflow ends as TIMED_OUT.
        """
        schema = model_schema(check_model(signal, f"signal {name!r}"), f"signal {name!r}:", "validation")
        defaults = {key: default[0] for key, default in inputs_of(signal, self._writer.report).items() if default}
        for model, field in renamed_fields(signal):
            rule = f"signal {name!r}: {model}.{field} is read under another name than it is written with"
            self._writer.report(rule, "give it the same validation_alias and serialization_alias")
        if "${" in json.dumps((schema, defaults)):
            rule = f"signal {name!r}: Conductor would read '${{' in {signal.__name__} as an expression"
            self._writer.report(rule, "give its defaults and constants without '${'")
        if timeout_minutes is not None:
            self._check_minutes(f"signal {name!r}: timeout_minutes", timeout_minutes)
        elif on_timeout is not None:
            self._writer.report(f"signal {name!r} has on_timeout, but no timeout", "add timeout_minutes=60")
        otherwise = None if on_timeout is None else self._converted(on_timeout, signal, f"signal {name!r}: on_timeout")
        task = _signal_wait(name, signal.__name__, schema, timeout_minutes)
        reference = self._wait(name, "", task if on_timeout is None else {**task, "optional": True})
        checked = self._wait(name, "_result", _signal_check(reference, schema, defaults, otherwise))
        path, scopes = ("result",), (self._writer.current.scope,)
        return Step(reference, Recorded(expression(checked, path), f"{name}.result", signal, scopes, checked, path))

    def sleep(self, *, minutes: int, name: str = "sleep") -> None:
        """Wait for a number of minutes: a constant, or a value of an earlier step or of the given parameters."""
        value: object = minutes
        refuse_step(value)
        if isinstance(value, Value):
            self._computed_sleep(name, "duration", value, int)
        else:
            self._check_minutes(f"sleep {name!r}: minutes", minutes)
            self._wait(name, "", {"type": "WAIT", "inputParameters": {"duration": f"{minutes} minutes"}})

    def sleep_until(self, time: datetime, /, *, name: str = "sleep_until") -> None:
        """Wait until a time with a time zone, rounded up to the minute, or not at all after that time."""
        value: object = time
        refuse_step(value)
        if isinstance(value, Value):
            self._computed_sleep(name, "until", value, datetime)
        elif not isinstance(value, datetime) or value.utcoffset() is None:
            rule = f"sleep_until {name!r}: {value!r} is not a datetime with a time zone"
            self._writer.report(rule, "give such a datetime, as in datetime(2030, 12, 31, 18, 0, tzinfo=UTC)")
        else:
            rounded = value.astimezone(UTC) + timedelta(minutes=1, microseconds=-1)
            self._wait(name, "", {"type": "WAIT", "inputParameters": {"until": f"{rounded:%Y-%m-%d %H:%M} UTC"}})

    def _computed_sleep(self, name: str, field: str, value: Value, kind: type) -> None:
        script = self._wait(name, "_time", _computed_script(field, self._converted(value, kind, f"sleep {name!r}")))
        self._wait(name, "", {"type": "WAIT", "inputParameters": {field: expression(script, ("result",))}})

    def _converted(self, argument: object, annotation: Any, label: str) -> Any:
        """The JSON of an argument for a type."""
        return Documents(lambda record: self._writer.use(record, []), self._writer.report).convert(
            argument, annotation, label
        )

    def _check_minutes(self, label: str, minutes: object) -> None:
        if isinstance(minutes, bool) or not isinstance(minutes, int) or not 1 <= minutes <= LONGEST_MINUTES:
            self._writer.report(f"{label}={minutes!r} is not a whole number from 1 to {LONGEST_MINUTES}", "write 60")

    def _wait(self, name: str, part: str, task: Json) -> str:
        """Add a task of a step that waits, and return its reference. Of the options, it has `optional` alone."""
        reference = self._writer.claim(name, part)
        limits = {"retries": self._options.get("retryCount"), "start_delay_seconds": self._options.get("startDelay")}
        for option, number in {**limits, "timeout_seconds": self._timeout_seconds}.items():
            if number is not None and not part:
                rule = f"step {name!r} waits, so flow.options({option}={number}) has no effect on it"
                self._writer.report(rule, "write it outside of this `with`; flow.wait_for takes timeout_minutes")
        optional = {"optional": True} if "optional" in self._options else {}
        self._writer.append(f"{name}{part}", reference, {**task, **optional})
        return reference


def _signal_wait(name: str, model: str, schema: Json, minutes: int | None) -> Json:
    """A WAIT for a signal. Its task definition replaces a registered one of its name."""
    definition = {
        "name": name,
        "timeoutSeconds": 60 * (minutes or 0),
        "timeoutPolicy": "RETRY",  # without retries: with TIME_OUT_WF an optional task would end the workflow, too
        "retryCount": 0,
        "responseTimeoutSeconds": 0,
        "outputSchema": schema_definition(model, schema),
    }
    return {"type": "WAIT", "inputParameters": {}, "taskDefinition": definition}


def _signal_check(reference: str, schema: Schema, defaults: Mapping[str, Any], otherwise: Any) -> Json:
    """The step after the WAIT `reference`, whose result is the signal; `otherwise` takes its place after a timeout."""
    inputs = {
        "name": reference,
        "signal": f"${{{reference}.output}}",
        "status": f"${{{reference}.status}}",
        "fields": _accepted(schema).get("fields", []),
        "defaults": defaults,
        "otherwise": otherwise,
        "queryExpression": _PROGRAM,
    }
    return {"type": "JSON_JQ_TRANSFORM", "inputParameters": inputs}


def _accepted(schema: Schema) -> Json:
    """The types, constants, fields and items that the program accepts in values of a schema; empty: any value."""
    shape = shape_of(schema)
    if shape.options:
        options = [_accepted(option) for option in shape.options]
        return {"options": options} if all(options) else {}
    if shape.values:
        return {"values": list(shape.values)}
    node: Json = {"types": [*shape.kinds, *(["integer"] if "number" in shape.kinds else [])]} if shape.kinds else {}
    if shape.schema.get("items"):
        node["items"] = _accepted(shape.schema["items"])
    required = shape.schema.get("required", ())
    parts = {key: _accepted(part) for key, part in shape.schema.get("properties", {}).items()}
    fields = [{"name": key, "required": key in required, **part} for key, part in parts.items()]
    return {**node, "fields": fields} if fields else node


def _computed_script(field: str, value: Any) -> Json:
    """A script that checks a computed value, and writes it as the `duration` or the `until` of a WAIT."""
    script = _MINUTES if field == "duration" else _TIME
    return {
        "type": "INLINE",
        "inputParameters": {"evaluatorType": "graaljs", "expression": script, "value": value},
    }


# -------------------------------------------------------------------- signals for running workflows


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
        is_over = workflow["status"] in ENDED_WORKFLOWS and not waits
        again = f"it has ended; its step waits again after: perago rerun {workflow['workflowId']} --from {name}"
        early = "Conductor loses a signal that comes too early; send it when the step waits"
        raise Failure(
            one_line(f"{label} is {workflow['status']} and does not wait for {quoted(name)} now; it waits for {names}"),
            one_line(again) if is_over else early,
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
