"""The work of the hosts of a simulation: three task types, and workflows of four kinds.

* `single`: one step without a workspace.
* `chain`: four steps on a branch of its own, one after the other.
* `fork`: eight simultaneous steps on a branch of its own, which they all advance, and one step after them.
* `shared`: one step on a branch that all workflows of this kind advance.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.authoring.context import Current
from perago.authoring.task import get_task
from perago.driver import FunctionCaller, Raised, Returned
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import InMemoryLakeFS
from perago.ports import Clock
from perago.taskdef import build_task_definition

REPOSITORIES = 4
BRANCH = "main"
LENGTH, WIDTH = 4, 8
"""Of a chain, and of a fork."""
SIZES = {"single": 1, "chain": LENGTH, "fork": WIDTH + 1, "shared": 1}
"""Tasks of a workflow of each kind."""
_CONTROLS = TaskControls(retry=RetryPolicy(delay_seconds=5))


class Params(BaseModel):
    """The duration of the function, and the file that it writes."""

    seconds: float
    path: str


class Result(BaseModel):
    """The written file."""

    path: str


@task(name="hosts.single", owner_email="benchmark@example.com", controls=_CONTROLS)
def single(params: Params) -> Result:
    return Result(path=params.path)


@task(name="hosts.chain", owner_email="benchmark@example.com", controls=_CONTROLS, workspace=WorkspaceSpec())
def chain(workspace: Path, params: Params) -> Result:
    (workspace / params.path).write_text(params.path)
    return Result(path=params.path)


@task(
    name="hosts.rebase",
    owner_email="benchmark@example.com",
    controls=_CONTROLS,
    workspace=WorkspaceSpec(on_moved_head="rebase"),
)
def rebase(workspace: Path, params: Params) -> Result:
    (workspace / params.path).write_text(params.path)
    return Result(path=params.path)


TASKS: dict[str, Task] = {
    declared.name: declared for declared in map(get_task, (single, chain, rebase)) if declared is not None
}


def runner(clock: Clock) -> FunctionCaller:
    """Return a caller of the functions in virtual time. `perago.driver.call_function` would change the process, which
    all hosts share."""

    def run(task: Task, workspace: Path | None, params: BaseModel, _: Current) -> Returned | Raised:
        if isinstance(params, Params):
            clock.sleep(params.seconds)
        return Returned(task.function(**({"workspace": workspace} if workspace else {}), params=params))

    return run


@dataclass(frozen=True, slots=True)
class Start:
    """One workflow: its start, in seconds after the beginning, and the seconds of its steps."""

    at: float
    kind: str
    seconds: tuple[float, ...]
    number: int


def plan(rng: random.Random, mixture: Mapping[str, int], *, over: float, longest: float) -> list[Start]:
    """Return workflows of each kind, spread over `over` seconds. A function takes up to `longest` seconds."""
    kinds = [kind for kind, number in mixture.items() for _ in range(number)]
    rng.shuffle(kinds)
    starts = [
        Start(rng.uniform(0, over), kind, tuple(rng.uniform(longest / 10, longest) for _ in range(SIZES[kind])), number)
        for number, kind in enumerate(kinds)
    ]
    return sorted(starts, key=lambda start: start.at)


class Work:
    """Sets up repositories and definitions, and starts workflows."""

    def __init__(self, conductor: InMemoryConductor, lakefs: InMemoryLakeFS) -> None:
        self._conductor, self._lakefs = conductor, lakefs
        files = {FENCE_PATH: FENCE_TEXT, "input.csv": "1\n"}
        self.heads = {f"data{number}": lakefs.seed(f"data{number}", BRANCH, files).id for number in range(REPOSITORIES)}
        conductor.register_task_definitions([build_task_definition(task) for task in TASKS.values()])
        for definition in _definitions():
            conductor.create_workflow_definition(definition)

    def start(self, start: Start) -> str:
        """Start a workflow, and return its id."""
        repository, branch = f"data{start.number % REPOSITORIES}", f"run{start.number}"
        if start.kind == "shared":
            repository, branch = "data0", BRANCH
            ref = self._lakefs.get_commit(repository, BRANCH).id
        else:
            ref = self.heads[repository]
            if start.kind != "single":
                self._lakefs.create_branch(repository, branch, ref)
        workspace = {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ref}
        params = [{"seconds": seconds, "path": f"{start.number}-{step}"} for step, seconds in enumerate(start.seconds)]
        return self._conductor.start_workflow(start.kind, {"workspace": workspace, "params": params})


def _definitions() -> Iterator[dict[str, Any]]:
    block = "${workflow.input.workspace}"
    yield _workflow("single", [_step(single, 0, None)])
    yield _workflow(
        "chain",
        [_step(chain, number, f"${{s{number - 1}.output.workspace}}" if number else block) for number in range(LENGTH)],
    )
    branches = [[_step(rebase, number, block) | {"permissive": True}] for number in range(WIDTH)]
    joined = {key: f"${{workflow.input.workspace.{key}}}" for key in ("repository", "branch", "ref_type")}
    yield _workflow(
        "fork",
        [
            {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": branches},
            {
                "name": "join",
                "taskReferenceName": "join",
                "type": "JOIN",
                "joinOn": [f"s{number}" for number in range(WIDTH)],
            },
            _step(rebase, WIDTH, {**joined, "ref": "${join.output}"}),
        ],
    )
    yield _workflow("shared", [_step(rebase, 0, block)])


def _workflow(name: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": steps}


def _step(function: Any, number: int, workspace: Any) -> dict[str, Any]:
    declared = get_task(function)
    inputs = {"params": f"${{workflow.input.params[{number}]}}"} | ({"workspace": workspace} if workspace else {})
    return {
        "name": declared.name if declared else "",
        "taskReferenceName": f"s{number}",
        "type": "SIMPLE",
        "inputParameters": inputs,
    }
