"""A schedule as workflow definitions of Conductor, and the function of every task."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from perago.authoring import Task
from perago.driver import Raised, Returned

from .attempts import Attempt
from .editing import TASKS, Params, Result, applied, difference, read, write
from .schedules import ROUNDS, Node, Schedule, Step

if TYPE_CHECKING:
    from .world import World


_QUIET = {1: ("first",), 2: ("again",), 3: ("again", "later")}
"""When a step changes nothing, by the number of its run; 3: it or a later one."""


def run_function(
    world: World, attempt: Attempt, task: Task, workspace: Path | None, params: BaseModel
) -> Returned | Raised:
    """Change the workspace as the step of the schedule says, and remember that as the attempt's plan."""
    if workspace is None or task.workspace is None:
        raise TypeError("the tasks of the simulation have workspaces")
    attempt.calls["function"] += 1
    step, prefix = world.steps[cast("Params", params).step], task.workspace.key_prefix
    files = read(workspace)
    tree = world.tree(attempt.ref)
    whole = {path[len(prefix) :]: text for path, text in tree.items() if path.startswith(prefix)}
    if files != whole:
        world.problems.append(f"#{attempt.index} got another workspace than its input: {files} for {whole}")
    try:
        world.happen(attempt, "function", "before", None)
    except RuntimeError as error:
        return Raised("failed", str(error))
    key = (world.root_workflow(attempt), attempt.delivery.reference_name)
    world.runs[key] += 1
    is_quiet = step.quiet in _QUIET[min(world.runs[key], 3)]
    changes = difference(files, applied(() if is_quiet else step.edits, files, attempt.stamp))
    if attempt.wipes and files:
        shutil.rmtree(workspace)
        workspace.mkdir()
        write(workspace, {path: text for path, text in changes.items() if text is not None})
    else:
        write(workspace, changes)
    attempt.plan = {prefix + path: text for path, text in changes.items()}
    world.log(f"#{attempt.index} changes {attempt.plan}")
    return Returned(Result(stamp=attempt.stamp))


MAIN = "simulated"
_INPUT = "${workflow.input.workspace}"
_MOOD = "${workflow.input.mood}"


Workspace = str | dict[str, str]
"""What a step gets as its workspace: an expression, or a block with one."""
Branch = tuple[Step, ...]
Made = tuple[list[dict[str, Any]], Workspace]


@dataclass(slots=True)
class Definitions:
    """The workflows, sub-workflows first, and the steps by the names that the params give."""

    workflows: list[dict[str, Any]] = field(default_factory=list)
    steps: dict[str, Step] = field(default_factory=dict)


def define(schedule: Schedule) -> Definitions:
    """The definitions of a schedule. Behind a fork the workflow continues from what its JOIN gives."""
    made = Definitions()
    tasks: list[dict[str, Any]] = []
    workspace: Workspace = _INPUT
    for number, node in enumerate(schedule.nodes):
        node_tasks, workspace = _node(made, f"n{number}", node, workspace)
        tasks += node_tasks
    made.workflows.append(_workflow(MAIN, tasks, workspace))
    return made


def _workflow(name: str, tasks: list[dict[str, Any]], workspace: Workspace) -> dict[str, Any]:
    output = {"workspace": workspace}
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": tasks, "outputParameters": output}


def _node(made: Definitions, name: str, node: Node, workspace: Workspace) -> tuple[list[dict[str, Any]], Workspace]:
    if node.kind in ("fork", "nest", "dynamic"):
        return _any_fork(made, name, node, workspace)
    if node.kind == "rounds":
        return _loop(made, name, lambda start: _fork(made, name, node.branches, start), workspace)
    if node.kind == "loop":
        return _loop(made, name, lambda start: _chain(made, name, node.branches[0], start), workspace)
    if node.kind == "sub":
        return _sub(made, name, node.branches[0], workspace)
    if node.kind == "subs":
        subs = [_sub(made, f"{name}b{number}", steps, workspace) for number, steps in enumerate(node.branches) if steps]
        return _forked(name, [tasks for tasks, _ in subs])
    if node.kind == "switch":
        return _switch(made, name, node.branches[0], workspace)
    if node.kind == "aside":
        tasks, _ = _chain(made, name, node.branches[0], workspace)
        return [{**task, "optional": True} for task in tasks], workspace
    if node.kind == "subloop":
        return _loop(made, name, lambda start: _sub(made, name, node.branches[0], start), workspace)
    return _chain(made, name, node.branches[0], workspace)


def _sub(made: Definitions, name: str, steps: tuple[Step, ...], workspace: Workspace) -> Made:
    inner, last = _chain(made, name, steps, _INPUT)
    made.workflows.append(_workflow(name, inner, last))
    inputs = {"workspace": workspace, "mood": _MOOD}
    step = _system(name, "SUB_WORKFLOW", subWorkflowParam={"name": name}, inputParameters=inputs)
    return [step], f"${{{name}.output.workspace}}"


def _chain(
    made: Definitions, name: str, steps: tuple[Step, ...], workspace: Workspace
) -> tuple[list[dict[str, Any]], Workspace]:
    tasks = []
    for number, step in enumerate(steps):
        reference = f"{name}s{number}"
        made.steps[reference] = step
        inputs = {"workspace": workspace, "params": {"step": reference, "mood": _MOOD}}
        tasks.append(
            {
                "name": TASKS[step.mode].name,
                "taskReferenceName": reference,
                "type": "SIMPLE",
                "inputParameters": inputs,
            }
        )
        workspace = f"${{{reference}.output.workspace}}"
    return tasks, workspace


def _any_fork(made: Definitions, name: str, node: Node, workspace: Workspace) -> Made:
    if node.kind == "dynamic":
        return _dynamic(made, name, node.branches, workspace)
    if node.kind == "nest" and len(node.branches) > 2:
        outer, _ = _chain(made, f"{name}b", node.branches[0], workspace)
        inner, _ = _fork(made, f"{name}in", node.branches[1:], workspace)
        return _forked(name, [outer, inner] if outer else [inner])
    return _fork(made, name, node.branches, workspace)


def _fork(made: Definitions, name: str, branches: tuple[Branch, ...], workspace: Workspace) -> Made:
    chains = (_chain(made, f"{name}b{number}", steps, workspace) for number, steps in enumerate(branches) if steps)
    return _forked(name, [tasks for tasks, _ in chains])


def _forked(name: str, branches: list[list[dict[str, Any]]]) -> Made:
    fork = _system(f"{name}fork", "FORK_JOIN", forkTasks=branches)
    join = _system(f"{name}join", "JOIN", joinOn=[tasks[-1]["taskReferenceName"] for tasks in branches])
    return [fork, join], _joined(name)


def _dynamic(made: Definitions, name: str, branches: tuple[Branch, ...], workspace: Workspace) -> Made:
    """A step for each branch, its first one."""
    chains = [_chain(made, f"{name}b{number}", steps[:1], workspace)[0] for number, steps in enumerate(branches)]
    tasks = [dict(task) for chain in chains for task in chain]
    inputs = {task["taskReferenceName"]: task.pop("inputParameters") for task in tasks}
    fork = _system(
        f"{name}fork",
        "FORK_JOIN_DYNAMIC",
        inputParameters={"tasks": tasks, "inputs": inputs},
        dynamicForkTasksParam="tasks",
        dynamicForkTasksInputParamName="inputs",
    )
    return [fork, _system(f"{name}join", "JOIN")], _joined(name)


def _joined(name: str) -> Workspace:
    block = {"repository": "workspace", "branch": "main", "ref_type": "commit"}
    return {**block, "ref": f"${{{name}join.output}}"}


def _loop(made: Definitions, name: str, body: Callable[[Workspace], Made], workspace: Workspace) -> Made:
    variable = f"${{workflow.variables.{name}}}"
    inner, last = body(variable)
    begin = _system(f"{name}begin", "SET_VARIABLE", inputParameters={name: workspace})
    keep = _system(f"{name}keep", "SET_VARIABLE", inputParameters={name: last})
    condition = f"$.{name}loop['iteration'] < {ROUNDS}"
    loop = _system(f"{name}loop", "DO_WHILE", loopCondition=condition, loopOver=[*inner, keep])
    return [begin, loop], variable


def _switch(made: Definitions, name: str, steps: tuple[Step, ...], workspace: Workspace) -> Made:
    """The first mood of a workflow takes the branch, all others take none."""
    inner, last = _chain(made, name, steps, workspace)
    begin = _system(f"{name}begin", "SET_VARIABLE", inputParameters={name: workspace})
    keep = _system(f"{name}keep", "SET_VARIABLE", inputParameters={name: last})
    choice: dict[str, Any] = {"evaluatorType": "value-param", "expression": "mood", "inputParameters": {"mood": _MOOD}}
    switch = _system(f"{name}switch", "SWITCH", decisionCases={"0": [*inner, keep]}, defaultCase=[], **choice)
    return [begin, switch], f"${{workflow.variables.{name}}}"


def _system(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": name, "type": kind, **fields}
