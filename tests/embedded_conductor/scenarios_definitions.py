"""Scenarios about definitions and expressions: what is stored, refused and resolved."""

from __future__ import annotations

from typing import Any

from .servers import Server, unique
from .stage import Seen, scenario, stage

EXPRESSIONS: dict[str, Any] = {
    "whole": "${workflow.input.o}",
    "index": "${workflow.input.l[0]}",
    "last": "${workflow.input.l[-1]}",
    "outside": "${workflow.input.l[9]}",
    "quoted": "${workflow.input['k.d']}",
    "dashed": "${workflow.input.k-e}",
    "deep": "${workflow.input.o.a.b.c[1].z}",
    "every": "${workflow.input.l[*]}",
    "every field": "${workflow.input.rows[*].id}",
    "every missing": "${workflow.input.none[*].id}",
    "name of a text": "${workflow.input.s.y}",
    "missing": "${workflow.input.none}",
    "escaped": "$${workflow.input.x}",
    "twice": "${workflow.input.x}${workflow.input.x}",
    "nested": "${workflow.input.${workflow.input.name}}",
    "braces": "{${workflow.input.x}}",
    "open": "${workflow.input.x",
    "no expression": "a$b{c}",
    "with a newline": "${workflow.input.x}\n",
    "texts": "${workflow.input.f} ${workflow.input.t} ${workflow.input.none} ${workflow.input.big} ${workflow.input.e}",
    "objects": "${workflow.input.o} ${workflow.input.l}",
    "small": "${workflow.input.small} ${workflow.input.seven} ${workflow.input.six}",
    "list": ["${workflow.input.x}", {"deep": ["${workflow.input.x}"]}],
    "constant": 5,
    "null": None,
    "own": "${workflow.version} ${workflow.workflowType} ${workflow.status} ${workflow.correlationId}",
    "unset": "${workflow.variables.q}",
    "${workflow.input.x}": "keys stay",
}

EXPRESSION_INPUT: dict[str, Any] = {
    "x": 5,
    "l": [1, "two", None],
    "rows": [{"id": 1}, {}, {"id": None}],
    "k.d": "dot",
    "k-e": "dash",
    "name": "x",
    "s": "text",
    "f": 1.0,
    "e": 1e20,
    "t": True,
    "big": 2**70,
    "small": 0.0001,
    "six": 1234567.5,
    "seven": 12345678.5,
    "o": {"a": {"b": {"c": [1.5, {"z": "zz"}]}}},
}


@scenario
def expressions(server: Server) -> Seen:
    on = stage(server, step={"inputParameters": EXPRESSIONS}, payload=EXPRESSION_INPUT)
    given = dict(on.poll()["inputData"])
    own = given["own"].replace(on.task, "<task>")
    return [*((key, given[key]) for key in EXPRESSIONS if key != "own"), own]


@scenario
def input_templates_fill_what_is_missing_or_null(server: Server) -> Seen:
    template = {"x": 9, "q": "${workflow.input.y}", "m": "template"}
    step = {"inputParameters": {"x": "${workflow.input.none}", "m": None}}
    on = stage(
        server, {"inputTemplate": template}, step=step, workflow={"inputTemplate": {"y": 1}}, payload={"y": None}
    )
    on.seen.append(on.poll()["inputData"])
    return on.seen


@scenario
def output_parameters(server: Server) -> Seen:
    parameters = {"o": "${r0.output.a}", "n": "${r0.output.none}", "s": "${workflow.status}"}
    seen: Seen = []
    for status in ("COMPLETED", "FAILED_WITH_TERMINAL_ERROR"):
        on = stage(server, workflow={"outputParameters": parameters})
        on.update(on.poll(), status, outputData={"a": {"b": 1}})
        on.look()
        seen += on.seen
    return seen


TASK_DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"name": ""},
    {"name": None},
    {"name": "with space: ünï {x}"},
    {"retryCount": -1},
    {"retryCount": 1000},
    {"retryCount": None},
    {"retryCount": "2"},
    {"retryCount": 1.5},
    {"responseTimeoutSeconds": 0},
    {"responseTimeoutSeconds": -1},
    {"responseTimeoutSeconds": None},
    {"timeoutSeconds": 60},
    {"timeoutSeconds": 60, "responseTimeoutSeconds": 60},
    {"timeoutSeconds": 100, "responseTimeoutSeconds": 10, "totalTimeoutSeconds": 50},
    {"timeoutSeconds": -1, "retryDelaySeconds": -1, "concurrentExecLimit": -1, "rateLimitPerFrequency": -1},
    {"pollTimeoutSeconds": -1},
    {"maxRetryDelaySeconds": -1},
    {"backoffJitterMs": -1},
    {"totalTimeoutSeconds": -1},
    {"backoffScaleFactor": 0},
    {"unknown": 1, "description": 5},
    {"retryCount": -1, "responseTimeoutSeconds": 0},
    {"inputKeys": None, "inputTemplate": None},
    {"concurrentExecLimit": 3, "inputSchema": {"name": "s", "version": 1, "type": "JSON", "data": {"a": None}}},
)

MALFORMED_TASK_DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"timeoutPolicy": "retry"},
    {"retryLogic": "X"},
    {"retryCount": "x"},
    {"retryCount": True},
    {"retryCount": 2**31},
    {"inputKeys": "a"},
    {"inputTemplate": []},
    {"enforceSchema": "maybe"},
)


@scenario
def task_definitions(server: Server) -> Seen:
    seen: Seen = []
    for fields in TASK_DEFINITIONS:
        name = unique("t")
        seen.append((fields, server.register({"name": name, **fields}), server.task_definition(name)))
    for fields in MALFORMED_TASK_DEFINITIONS:
        seen.append((fields, server.register({"name": unique("t"), **fields})[0]))
    good = unique("t")
    seen.append((server.register(), server.register({"name": good}, {"name": good, "retryCount": -1})))
    return seen


STEP = {"name": "x", "taskReferenceName": "a", "type": "SIMPLE"}

WORKFLOW_DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"tasks": []},
    {"tasks": [STEP, STEP]},
    {"tasks": [{"name": "x", "taskReferenceName": "x"}]},
    {"tasks": [{"name": "x", "type": "SIMPLE"}]},
    {"tasks": [{"taskReferenceName": "x", "type": "SIMPLE"}]},
    {"tasks": [{**STEP, "inputParameters": {"q": "${nope.output.x}"}}]},
    {"tasks": [{**STEP, "inputParameters": {"q": {"z": ["${nope.output.x}"]}}}]},
    {"tasks": [{**STEP, "inputParameters": {"q": "${a.output.x} ${CPEWF_TASK_ID} ${workflow}"}}]},
    {"tasks": [{**STEP, "inputParameters": {"q": "${ workflow.input.x }"}}]},
    {"tasks": [{**STEP, "inputParameters": {"q": "${workflow.nope.z} $${zz}"}}]},
    {"schemaVersion": 1},
    {"schemaVersion": None},
    {"name": ""},
    {"name": None},
    {"version": None},
    {"outputParameters": {"o": "${zz.output}"}},
)


@scenario
def workflow_definitions(server: Server) -> Seen:
    seen: Seen = []
    for fields in WORKFLOW_DEFINITIONS:
        definition = {"name": "w", "version": 1, "schemaVersion": 2, "tasks": [STEP], **fields}
        if definition["name"] == "w":
            definition["name"] = unique("w")
        seen.append(server.create(definition))
    again: dict[str, Any] = {"name": unique("w"), "version": 1, "schemaVersion": 2, "tasks": [STEP]}
    seen += [server.create(again), server.create(again), server.create({**again, "timeoutPolicy": "XX"})[0]]
    name = again["name"]
    seen += [
        server.start(name, {}, version=9),
        server.start(name, {}, priority=100),
        server.start(name, {}, priority=-1),
    ]
    seen += [server.start("unknown", {}), server.start("", {})]
    return seen
