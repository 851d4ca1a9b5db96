"""The shape of a workflow definition, whoever wrote it: steps, and the steps inside of forks, loops and switches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_HIDDEN = ("JOIN",)
_DEEPEST = 20
"""Structures inside of each other. What is deeper is not shown, because a definition may come from anywhere."""
_COMPARISON = re.compile(r"\(.* \? \$\.value (.*) : null\)")
_SCRIPT = re.compile(r"\$\{([^.}]+)\.output\.result\}")
_STATUS = re.compile(r"\$\{([^.}]+)\.status\}")
_ROUNDS = re.compile(r"\['iteration'\]\s*<\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Node:
    """A step: its reference, its action in words, and the parts inside of it, each with a label."""

    reference: str
    text: str
    parts: tuple[tuple[str, tuple[Node, ...]], ...] = ()
    task_type: str = ""
    """The task type of a step that workers do."""
    workflow: tuple[str, Any] = ("", None)
    """The name and version of a sub-workflow."""


def nodes_of(tasks: Any, depth: int = 0) -> tuple[Node, ...]:
    """The steps of a list of Conductor's tasks. A JOIN, and a step that prepares or checks another, are part of it."""
    listed = [task for task in tasks if isinstance(task, Mapping)] if isinstance(tasks, list) else []
    if listed and depth > _DEEPEST:
        return (Node("…", f"steps in more than {_DEEPEST} structures"),)
    prepared = {reference for task in listed for reference in _prepared(task)}
    by_name = {str(task.get("taskReferenceName")): task for task in listed}
    shown = [task for task in listed if task.get("type") not in _HIDDEN and not _checks_signal(task, by_name)]
    return tuple(
        _node(task, by_name, depth + 1) for task in shown if str(task.get("taskReferenceName")) not in prepared
    )


def _mapping(task: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    child = task.get(key)
    return child if isinstance(child, Mapping) else {}


def _source(task: Mapping[str, Any]) -> str:
    """The step whose output has the tasks of a dynamic fork."""
    tasks_param = _mapping(task, "inputParameters").get(str(task.get("dynamicForkTasksParam")))
    match = re.match(r"\$\{([^.}]+)\.output\.result\.tasks\}", str(tasks_param))
    return match.group(1) if match else ""


def _prepared(task: Mapping[str, Any]) -> Iterator[str]:
    """Yield the steps that are part of this one: they prepare a dynamic fork or a time."""
    if task.get("type") == "FORK_JOIN_DYNAMIC":
        yield _source(task)
    elif task.get("type") == "WAIT":
        yield from _SCRIPT.findall(str(_mapping(task, "inputParameters")))


def _checks_signal(task: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a step checks the signal of a WAIT, and is part of it."""
    (waiting, *_) = (*_STATUS.findall(str(_mapping(task, "inputParameters").get("status"))), "")
    return task.get("type") == "JSON_JQ_TRANSFORM" and by_name.get(waiting, {}).get("type") == "WAIT"


def _waiting(task: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the signal or the time that a WAIT waits for, in words."""
    inputs, definition = _mapping(task, "inputParameters"), _mapping(task, "taskDefinition")
    for key, text in (("duration", "sleep for"), ("until", "sleep until")):
        if key in inputs:
            script = by_name.get("".join(_SCRIPT.findall(str(inputs[key]))), {})
            unit = " minutes" if script and key == "duration" else ""
            return f"{text} {_mapping(script, 'inputParameters').get('value', inputs[key])}{unit}"
    model = _mapping(definition, "outputSchema").get("name")
    limit = definition.get("timeoutSeconds")
    at_most = f", at most {limit // 60} minutes" if isinstance(limit, int) and limit > 0 else ""
    return f"wait for a signal{f' {model}' if model else ''}{at_most}"


def _node(task: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]], depth: int) -> Node:
    reference, name = str(task.get("taskReferenceName")), str(task.get("name"))
    match task.get("type", "SIMPLE"):
        case "SIMPLE":
            return Node(reference, name, task_type=name)
        case "SUB_WORKFLOW":
            called = _mapping(task, "subWorkflowParam")
            name, version = str(called.get("name")), called.get("version")
            text = f"sub-workflow {name} {'' if version is None else version}".rstrip()
            return Node(reference, text, workflow=(name, version))
        case "FORK_JOIN":
            branches = task.get("forkTasks")
            listed = branches if isinstance(branches, list) else ()
            return Node(reference, "fork", tuple(("", nodes_of(branch, depth)) for branch in listed))
        case "FORK_JOIN_DYNAMIC":
            prepared = _mapping(by_name.get(_source(task), {}), "inputParameters")
            step = _mapping(prepared, "task")
            name = f"{step.get('taskReferenceName')}_*"
            inner = nodes_of([{**step, "taskReferenceName": name}] if step else [], depth)
            items = prepared.get("items", "")
            shown = items if isinstance(items, str) else json.dumps(items)
            return Node(reference, f"for each item of {shown}" if shown else "dynamic fork", (("", inner),))
        case "DO_WHILE":
            rounds = _ROUNDS.search(str(task.get("loopCondition")))
            text = f"loop, at most {rounds.group(1)} rounds" if rounds else "loop"
            return Node(reference, text, (("", nodes_of(task.get("loopOver"), depth)),))
        case "SWITCH" | "DECISION":
            cases = [(str(case), nodes_of(tasks, depth)) for case, tasks in _mapping(task, "decisionCases").items()]
            default = nodes_of(task.get("defaultCase"), depth)
            inputs, shown = _mapping(task, "inputParameters"), str(task.get("expression") or task.get("caseValueParam"))
            compared = _COMPARISON.fullmatch(shown)
            value = f"{inputs.get('value')} {compared.group(1)}" if compared else inputs.get(shown, "")
            return Node(reference, f"switch on {value}", (*cases, *([("default", default)] if default else ())))
        case "JSON_JQ_TRANSFORM" if "prefix" in _mapping(task, "inputParameters"):
            return Node(reference, "list of results in the order of the items")
        case "TERMINATE":
            ending = _mapping(task, "inputParameters")
            return Node(reference, f"end as {ending.get('terminationStatus')}: {ending.get('terminationReason')}")
        case "WAIT":
            return Node(reference, _waiting(task, by_name))
        case kind:
            return Node(reference, str(kind))


def _readable(text: str) -> str:
    """A text in which line ends and control characters are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def walk(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every JSON object in a part of a definition, at any depth, in the order of the document. The steps in
    branches, cases, loops and inputs of dynamic forks are among them."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, Mapping):
            yield part
            stack.extend(reversed([*part.values()]))
        elif isinstance(part, list):
            stack.extend(reversed(part))


def task_names(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the task types that workers do for a definition, without those of its sub-workflows."""
    steps = (part for part in walk(definition["tasks"]) if part.get("type") == "SIMPLE" and "taskReferenceName" in part)
    return tuple(dict.fromkeys(str(step["name"]) for step in steps))


def picture_of(definition: Mapping[str, Any]) -> str:
    """The steps of a definition as a tree of text."""
    return "\n".join(
        (f"{definition['name']}, version {definition.get('version', 1)}", *_lines(nodes_of(definition["tasks"])))
    )


def _lines(nodes: Sequence[Node], indent: str = "  ", label: str = "") -> Iterator[str]:
    for node in nodes:
        label = _readable(f"{label}: " if label else "")
        yield f"{indent}{label}{_readable(node.reference)}  {_readable(node.text)}"
        below = " " * len(label)
        for number, (inner_label, part) in enumerate(node.parts):
            last = number == len(node.parts) - 1
            for index, line in enumerate(_lines(part, "", inner_label)):
                turn = ("└─ " if last else "├─ ") if index == 0 else ("   " if last else "│  ")
                yield f"{indent}{below}{turn}{line}"
        indent, label = indent + below, ""
