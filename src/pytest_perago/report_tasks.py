"""What a report says about tasks: declarations, examples, and which verdicts of their guardrails were seen."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perago.authoring import Example, Task
from perago.testing.rendering import rendered
from perago.workspace.text import json_text
from pytest_perago.kinds.guardrail import phases_of

_MOST_LINES = 40


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task in plain values that go through JSON."""

    name: str
    module: str
    place: str
    description: str
    ran: bool
    """Whether an attempt called its function."""
    guardrails: Sequence[Sequence[Any]]
    """Phase, rule, and whether an attempt satisfied and violated it."""
    examples: Sequence[Sequence[str]]
    """Id, params, tree, expectation and result, as texts."""

    def as_json(self) -> dict[str, Any]:
        """Itself as a mapping."""
        return asdict(self)


def facts_of(tasks: Iterable[Task]) -> tuple[TaskFacts, ...]:
    """Of each task once, by name."""
    services = sys.modules.get("perago.testing.services")
    tried: set[tuple[str, ...]] = services.TRIED if services is not None else set()
    known = {(task.name, task.module): task for task in tasks}
    return tuple(_facts(task, tried) for _, task in sorted(known.items()))


def merged(of_workers: Sequence[tuple[TaskFacts, ...]]) -> tuple[TaskFacts, ...]:
    """What all processes know: something was seen if one of them has seen it."""
    by_key: dict[tuple[str, str], list[TaskFacts]] = {}
    for facts in of_workers:
        for task in facts:
            by_key.setdefault((task.name, task.module), []).append(task)
    return tuple(_united(same) for _, same in sorted(by_key.items()))


def _united(same: Sequence[TaskFacts]) -> TaskFacts:
    first = same[0]
    rules = [
        [phase, rule, any(each.guardrails[index][2] for each in same), any(each.guardrails[index][3] for each in same)]
        for index, (phase, rule, *_) in enumerate(first.guardrails)
    ]
    values = first.as_json() | {"guardrails": rules, "ran": any(each.ran for each in same)}
    return TaskFacts(**values)


def _facts(task: Task, tried: set[tuple[str, ...]]) -> TaskFacts:
    key = (task.module, task.name)
    rules = [
        [phase, str(rule), *((*key, phase, str(rule), verdict) in tried for verdict in ("satisfied", "violated"))]
        for phase, phase_rules in phases_of(task)
        for rule in phase_rules
    ]
    return TaskFacts(
        name=task.name,
        module=task.module,
        place=f"{Path(task.file).name}:{task.line}",
        description=task.description or "",
        ran=(*key, "function") in tried,
        guardrails=rules,
        examples=[_example(example) for example in task.examples],
    )


def _example(example: Example) -> list[str]:
    tree = example.tree
    if isinstance(tree, Mapping):
        lines = rendered(tree).splitlines()
        shown = "\n".join([*lines[:_MOST_LINES], *(["..."] if len(lines) > _MOST_LINES else [])]) or "empty"
    else:
        shown = "" if tree is None else f"{tree}/"
    result = "" if example.result is None else json_text(example.result)
    return [example.id, json_text(dict(example.params)), shown, example.expect, result]
