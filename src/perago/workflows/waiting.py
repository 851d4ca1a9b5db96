"""Steps that wait: for a signal, for some minutes, or until a time.

A signal is JSON from a person or another system, which becomes the output of a WAIT task unchecked. The next step
fills in its defaults, and fails unless its fields have their types. Conductor keeps a workflow RUNNING for good if
the time of a WAIT is not a time, so a script checks a computed one first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel

from perago.authoring.declaration import check_model
from perago.taskdef.definition import schema_definition
from perago.taskdef.schema import Schema, model_schema, shape_of
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
