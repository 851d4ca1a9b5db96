"""The shape of a workflow definition, whoever wrote it: steps, and the steps inside of forks, loops and switches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_HIDDEN = ("JOIN",)
_ROUNDS = re.compile(r"\['iteration'\]\s*<\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Node:
    """A step: its reference, what it does in words, and the parts inside of it, each with a label."""

    reference: str
    text: str
    parts: tuple[tuple[str, tuple[Node, ...]], ...] = ()


def nodes_of(tasks: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The steps of a list of Conductor's tasks. A JOIN, and the step that prepares a dynamic fork, are part of it."""
    prepared = {_source(task) for task in tasks if task.get("type") == "FORK_JOIN_DYNAMIC"}
    shown = [
        task for task in tasks if task.get("type") not in _HIDDEN and str(task.get("taskReferenceName")) not in prepared
    ]
    by_name = {str(task.get("taskReferenceName")): task for task in tasks}
    return tuple(_node(task, by_name) for task in shown)


def _source(task: Mapping[str, Any]) -> str:
    """The step whose output has the tasks of a dynamic fork."""
    given = task.get("inputParameters", {}).get(task.get("dynamicForkTasksParam", ""))
    found = re.match(r"\$\{([^.}]+)\.output\.result\.tasks\}", str(given))
    return found.group(1) if found else ""


def _node(task: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> Node:
    reference, name, inputs = str(task["taskReferenceName"]), str(task.get("name")), task.get("inputParameters", {})
    match task.get("type", "SIMPLE"):
        case "SIMPLE":
            return Node(reference, name)
        case "SUB_WORKFLOW":
            called = task.get("subWorkflowParam", {})
            return Node(reference, f"sub-workflow {called.get('name')} {called.get('version', '')}".rstrip())
        case "FORK_JOIN":
            branches = task.get("forkTasks", ())
            return Node(reference, "fork", tuple(("", nodes_of(branch)) for branch in branches))
        case "FORK_JOIN_DYNAMIC":
            prepared = by_name.get(_source(task), {}).get("inputParameters", {})
            step = prepared.get("task") if isinstance(prepared.get("task"), Mapping) else None
            inner = () if step is None else nodes_of([{**step, "taskReferenceName": f"{step['taskReferenceName']}_*"}])
            items = prepared.get("items", "")
            return Node(reference, f"for each item of {items}" if items else "dynamic fork", (("", inner),))
        case "DO_WHILE":
            rounds = _ROUNDS.search(str(task.get("loopCondition")))
            text = f"loop, at most {rounds.group(1)} rounds" if rounds else "loop"
            return Node(reference, text, (("", nodes_of(task.get("loopOver", ()))),))
        case "SWITCH" | "DECISION":
            cases = [(f"{case}: ", nodes_of(tasks)) for case, tasks in task.get("decisionCases", {}).items()]
            default = nodes_of(task.get("defaultCase") or ())
            value = inputs.get(task.get("expression") or task.get("caseValueParam") or "", "")
            return Node(reference, f"switch on {value}", (*cases, *([("default: ", default)] if default else ())))
        case kind:
            return Node(reference, str(kind))


def _readable(text: str) -> str:
    """A text in which line ends and control characters are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def task_names(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The task types that workers do for a definition, its sub-workflows not included."""
    found: dict[str, None] = {}
    left: list[Any] = [definition["tasks"]]
    while left:
        node = left.pop(0)
        if isinstance(node, list):
            left += node
        elif isinstance(node, Mapping):
            if node.get("type") == "SIMPLE" and "taskReferenceName" in node:
                found[str(node["name"])] = None
            left += node.values()
    return tuple(found)


def picture_of(definition: Mapping[str, Any]) -> str:
    """The steps of a definition as a tree of text."""
    return "\n".join(
        (f"{definition['name']}, version {definition.get('version', 1)}", *_lines(nodes_of(definition["tasks"])))
    )


def _lines(nodes: Sequence[Node], indent: str = "  ", label: str = "") -> Iterator[str]:
    for node in nodes:
        label = _readable(label)
        yield f"{indent}{label}{_readable(node.reference)}  {_readable(node.text)}"
        below = " " * len(label)
        for number, (inner_label, part) in enumerate(node.parts):
            last = number == len(node.parts) - 1
            for index, line in enumerate(_lines(part, "", inner_label)):
                turn = ("└─ " if last else "├─ ") if index == 0 else ("   " if last else "│  ")
                yield f"{indent}{below}{turn}{line}"
        label = below
