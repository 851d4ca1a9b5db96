"""The difference between a workflow definition and the one on the server, which fills in defaults of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

from perago.failure import Finding, Level
from perago.taskdef.compatibility import Change, Impact, classify, judge_field
from perago.taskdef.definition import SCHEMAS, Declared, json_differences
from perago.text import count, listing, one_line
from perago.workflows.picture import walk

_FREE = frozenset({"inputParameters", "inputTemplate", "outputParameters", "data"})
"""The keys in these are the author's, so one that only the server has is a difference."""
_OF_A_SCHEMA = {"inputParameters": "inputSchema", "inputTemplate": "inputSchema", "outputParameters": "outputSchema"}
"""The schema that says what a field means for those who start a workflow or read its output."""
_OPTIONAL = {
    "description": None,
    "failureWorkflow": "",
    "failureWorkflowVersion": None,
    "optional": False,
    "permissive": False,
    "retryCount": None,
    "startDelay": 0,
}
"""Fields that a definition can leave out, with the value that the server then has."""


class Definitions(Protocol):
    """The questions to Conductor. Each method can raise any `ServiceError`."""

    def workflow_versions(self, name: str) -> Sequence[int]:
        """Return the registered versions of a workflow, the oldest first."""
        ...

    def workflow_definition(self, name: str, version: int) -> Mapping[str, Any]:
        """Return one version of a workflow."""
        ...


def compare_with_server(
    definitions: Definitions, definition: Mapping[str, Any]
) -> tuple[int | None, tuple[Change, ...]]:
    """Return the changes to the same version on the server, or to its newest version, and the number of that version.

    Raises:
        ServiceError: Conductor did not answer.
    """
    name, version = definition["name"], definition["version"]
    known = definitions.workflow_versions(name)
    if not known:
        return None, ()
    base = version if version in known else known[-1]
    return base, classify_workflows(definitions.workflow_definition(name, base), definition)


def classify_workflows(registered: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes and their effect on those who start the workflow or read its output.

    The server adds fields, and their defaults, to a definition and to its tasks. Such fields do not count.
    The version does not count, so that a new version can be compared with an older one.
    """
    old = {**declared_part(registered, definition), "version": definition.get("version")}
    schemas = [{key: side[key] for key in SCHEMAS if key in side} for side in (old, definition)]
    changes = list(classify(*schemas))
    for difference in json_differences(old, definition):
        field = difference.path.split("/")[1]
        if field in SCHEMAS:
            continue
        schema = _OF_A_SCHEMA.get(field)
        if field == "tasks":
            impact, reason = Impact.COMPATIBLE, "running workflows keep the steps that they started with"
        elif field.startswith("failureWorkflow"):
            impact, reason = Impact.COMPATIBLE, "it runs after a failure, and does not change the workflow itself"
        elif schema is not None and all(schema in side for side in schemas):
            impact, reason = Impact.COMPATIBLE, f"{schema} says what it means for others"
        else:
            impact, reason = judge_field(field, old, definition)
        changes.append(Change(difference.path, difference.old, difference.new, impact, reason))
    return tuple(sorted(changes, key=lambda change: change.pointer))


def declared_part(registered: Any, definition: Any, key: str = "") -> Any:
    """Return the part of `registered` that `definition` says something about."""
    if key in _FREE:
        return registered
    if isinstance(registered, Mapping) and isinstance(definition, Mapping):
        shared = [name for name in registered if name in definition or key == "decisionCases"]
        absent = ((name, value) for name, value in _OPTIONAL.items() if name not in shared)
        removed = [name for name, value in absent if registered.get(name) not in (None, value)]
        return {name: declared_part(registered[name], definition.get(name), name) for name in (*shared, *removed)}
    if isinstance(registered, list) and isinstance(definition, list) and len(registered) == len(definition):
        return [declared_part(old, new) for old, new in zip(registered, definition, strict=True)]
    return registered


def check_workflow(definitions: Definitions, module: str, definition: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare a workflow of a module with the same version on the server.

    Raises:
        ServiceError: Conductor did not answer.
    """
    base, changes = compare_with_server(definitions, definition)
    label = f"version {definition['version']} of the workflow"
    if base != definition["version"]:
        which = "" if base is None else f"; the newest one there is version {base}"
        why, register = "no client can start it by its name", f"perago register {module}"
        yield Finding(definition["name"], Level.PROBLEM, f"{label} is not registered{which}", why, register)
    elif changes:
        shown = listing([one_line(change.difference) for change in changes], 3)
        what = f"{label} on the server differs in {count(len(changes), 'place')}: {shown}"
        why, advice = "new runs have the steps of the server", f"perago diff {module}; then increase version="
        yield Finding(definition["name"], Level.WARNING, what, why, advice)
    else:
        yield Finding(definition["name"], Level.OK, f"{label} on the server is the same as in the module")


_WHY = "the JOIN can fail the workflow while such a step is retried (perago help fork-and-join)"
_ADVICE = 'add "permissive": true to these steps, and register the workflow as a new version'
_ONE_FORM = "; a dynamic fork takes it only in the form dynamicForkTasksParam"


class Registered(Protocol):
    """The definitions on a Conductor. Each method can raise any `ServiceError`."""

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return all TaskDefs."""
        ...

    def workflow_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest version of each workflow."""
        ...


def check_forks(registered: Registered, tasks: Sequence[Declared] | None) -> Iterator[Finding]:
    """Warn about each workflow with a JOIN that does not wait for the retries of one of these tasks.

    Args:
        registered: Conductor.
        tasks: None for all that perago has registered there.

    Raises:
        ServiceError: Conductor did not answer.
    """
    if tasks is None:
        definitions = [definition for definition in registered.task_definitions() if _is_of_perago(definition)]
    else:
        definitions = [json.loads(task.definition) for task in tasks]
    retries = {definition["name"]: definition["retryCount"] for definition in definitions}
    warned = False
    for definition in registered.workflow_definitions():
        steps = _steps(definition.get("tasks"))
        inputs = [step.get("inputParameters") for step in steps if step.get("type") == "FORK_JOIN_DYNAMIC"]
        lacking = [
            step["taskReferenceName"] for step in steps if _lacks_permissive(step, _joined(steps, inputs), retries)
        ]
        unable = [name for name in _tasks_without_a_step(inputs) if retries.get(name)]
        if lacking or unable:
            warned = True
            which = f'{count(len(lacking) + len(unable), "step")} without "permissive": {listing([*lacking, *unable])}'
            what = f"workflow {definition['name']}, version {definition.get('version')}: a JOIN waits for {which}"
            yield Finding("forks", Level.WARNING, one_line(what), _WHY, _ADVICE + (_ONE_FORM if unable else ""))
    if not warned:
        yield Finding("forks", Level.OK, "every JOIN waits for retries of perago tasks")


def _is_of_perago(definition: Mapping[str, Any]) -> bool:
    """Whether a TaskDef is one that `perago register` writes, by the name of its input schema."""
    schema = definition.get("inputSchema")
    return isinstance(schema, Mapping) and schema.get("name") == f"{definition['name']}.input"


def _lacks_permissive(step: Mapping[str, Any], joined: Set[str], retries: Mapping[str, int]) -> bool:
    """Whether a JOIN waits for this step, which is retried and is neither permissive nor optional."""
    override = step.get("retryCount")
    retried = step["name"] in retries and (retries[step["name"]] if override is None else override)
    waits = step.get("type", "SIMPLE") == "SIMPLE" and step["taskReferenceName"] in joined
    return bool(waits and retried and not step.get("permissive") and not step.get("optional"))


def _joined(steps: Iterable[Mapping[str, Any]], inputs: Iterable[Any]) -> Set[str]:
    """Return the reference names that a JOIN waits for: those in `joinOn`, and the steps in inputs of dynamic forks."""
    named = [name for step in steps if isinstance(names := step.get("joinOn"), list) for name in names]
    listed = [step["taskReferenceName"] for task_input in inputs for step in _steps(task_input)]
    return {name for name in (*named, *listed) if isinstance(name, str)}


def _tasks_without_a_step(inputs: Iterable[Any]) -> Iterator[str]:
    """Yield the task types that dynamic forks name in the two forms that have no place for `permissive`."""
    for fork in (fork for task_input in inputs for fork in walk(task_input)):
        name = fork.get("forkTaskName") or fork.get("taskName")
        if isinstance(name, str):
            yield name


def _steps(value: Any) -> list[Mapping[str, Any]]:
    """Return all steps in a part of a definition, including those in branches, cases, loops and inputs of dynamic
    forks."""
    named = ("name", "taskReferenceName")
    return [step for step in walk(value) if all(isinstance(step.get(key), str) for key in named)]
