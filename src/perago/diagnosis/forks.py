"""The check of registered workflows: whether each JOIN waits for the retries of perago's tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

from perago.diagnosis.findings import Finding, Level
from perago.diagnosis.tasks import Declared
from perago.workspace.text import count, listing, one_line

_WHY = "the JOIN can fail the workflow while an attempt of such a step is retried (docs/how-to/fork-and-join.md)"
_ADVICE = 'add "permissive": true to these steps, and register the workflow as a new version'
_ONE_FORM = "; of the forms of a dynamic fork, only dynamicForkTasksParam takes it"


class Definitions(Protocol):
    """The definitions that Conductor has. Every method may raise any `ServiceError`."""

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return every TaskDef, as JSON."""
        ...

    def workflow_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest version of every workflow definition, as JSON."""
        ...


def forks(source: Definitions, tasks: Sequence[Declared] | None) -> Iterator[Finding]:
    """Warn about each workflow with a JOIN that does not wait for the retries of one of these tasks.

    Args:
        source: Conductor.
        tasks: None for all that perago has registered there.

    Raises:
        ServiceError: Conductor did not answer.
    """
    if tasks is None:
        definitions = [one for one in source.task_definitions() if _is_of_perago(one)]
    else:
        definitions = [json.loads(task.definition) for task in tasks]
    retries = {one["name"]: one["retryCount"] for one in definitions}
    warned = False
    for definition in source.workflow_definitions():
        steps = _steps(definition.get("tasks"))
        inputs = [step.get("inputParameters") for step in steps if step.get("type") == "FORK_JOIN_DYNAMIC"]
        hasty = [step["taskReferenceName"] for step in steps if _is_hasty(step, _joined(steps, inputs), retries)]
        unable = [name for name in _tasks_without_a_step(inputs) if retries.get(name)]
        if hasty or unable:
            warned = True
            what = (
                f"workflow {definition['name']}, version {definition.get('version')}: a JOIN waits for "
                f'{count(len(hasty) + len(unable), "step")} without "permissive": {listing([*hasty, *unable])}'
            )
            yield Finding("forks", Level.WARNING, one_line(what), _WHY, _ADVICE + (_ONE_FORM if unable else ""))
    if not warned:
        yield Finding("forks", Level.OK, "every JOIN waits for the retries of perago's tasks")


def _is_of_perago(definition: Mapping[str, Any]) -> bool:
    """Whether a TaskDef is one that `perago register` writes, by the name of its input schema."""
    schema = definition.get("inputSchema")
    return isinstance(schema, Mapping) and schema.get("name") == f"{definition['name']}.input"


def _is_hasty(step: Mapping[str, Any], joined: Set[str], retries: Mapping[str, int]) -> bool:
    """Whether a JOIN waits for this step, which is retried and is neither permissive nor optional."""
    override = step.get("retryCount")
    retried = step["name"] in retries and (retries[step["name"]] if override is None else override)
    waits = step.get("type", "SIMPLE") == "SIMPLE" and step["taskReferenceName"] in joined
    return bool(waits and retried and not step.get("permissive") and not step.get("optional"))


def _joined(steps: Iterable[Mapping[str, Any]], inputs: Iterable[Any]) -> Set[str]:
    """Return the reference names that a JOIN waits for: those in `joinOn`, and the steps in inputs of dynamic forks."""
    named = [name for step in steps if isinstance(names := step.get("joinOn"), list) for name in names]
    listed = [step["taskReferenceName"] for given in inputs for step in _steps(given)]
    return {name for name in (*named, *listed) if isinstance(name, str)}


def _tasks_without_a_step(inputs: Iterable[Any]) -> Iterator[str]:
    """Yield the task types that dynamic forks name in the two forms that have no place for `permissive`."""
    for one in (one for given in inputs for one in _objects(given)):
        name = one.get("forkTaskName") or one.get("taskName")
        if isinstance(name, str):
            yield name


def _steps(value: Any) -> list[Mapping[str, Any]]:
    """Return all steps in a part of a definition: those in branches, cases, loops and inputs of dynamic forks, too."""
    named = ("name", "taskReferenceName")
    return [one for one in _objects(value) if all(isinstance(one.get(key), str) for key in named)]


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every JSON object in a value, at any depth."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(reversed(value))
