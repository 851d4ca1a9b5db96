"""Whole workflows with forks on the embedded Conductor: the task behind a join continues a commit that has it all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, TaskTerminalError, WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.driver.rebase import TURNS_FILE
from perago.testing import InMemoryServices, Outcome

CONTROLS = TaskControls(retry=RetryPolicy(count=2, delay_seconds=1))
START = "${workflow.input.workspace.ref}"
JOINED = "${join.output}"
TREE = {"raw/a.csv": "1", FENCE_PATH: FENCE_TEXT}


class Name(BaseModel):
    name: str


class Nothing(BaseModel):
    pass


class Names(BaseModel):
    names: list[str]


@task(name="fork.part", owner_email="d@example.com", controls=CONTROLS, workspace=WorkspaceSpec(on_moved_head="rebase"))
def part(workspace: Path, params: Name) -> Nothing:
    if params.name == "broken":
        raise TaskTerminalError("broken")
    if params.name != "idle":
        (workspace / "parts").mkdir(exist_ok=True)
        (workspace / "parts" / params.name).write_text(params.name)
    return Nothing()


@task(name="fork.look", owner_email="d@example.com", controls=CONTROLS, workspace=WorkspaceSpec(read_only=True))
def look(workspace: Path, params: Nothing) -> Names:
    return Names(names=sorted(path.name for path in (workspace / "raw").iterdir()))


@task(name="fork.plain", owner_email="d@example.com", controls=CONTROLS)
def plain(params: Nothing) -> Names:
    return Names(names=["none"])


@task(name="fork.gather", owner_email="d@example.com", controls=CONTROLS, workspace=WorkspaceSpec())
def gather(workspace: Path, params: Nothing) -> Names:
    found = sorted(path.name for path in workspace.glob("parts/*"))
    (workspace / "summary").write_text(",".join(found))
    return Names(names=found)


@task(
    name="fork.clean", owner_email="d@example.com", controls=CONTROLS, workspace=WorkspaceSpec(on_moved_head="rebase")
)
def clean(workspace: Path, params: Nothing) -> Nothing:
    for path in workspace.glob("parts/*"):
        path.unlink()
    return Nothing()


Json = dict[str, Any]


def block(ref: Any) -> Json:
    return {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": ref}


def step(function: Any, reference: str, ref: Any = START, **params: Any) -> Json:
    inputs = {"params": params} if function is plain else {"workspace": block(ref), "params": params}
    name = f"fork.{function.__name__}"
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": inputs}


def operator(kind: str, reference: str, **fields: Any) -> Json:
    return {"name": reference, "taskReferenceName": reference, "type": kind, **fields}


def fork(reference: str, *branches: list[Json], join: str = "join") -> list[Json]:
    """A fork, and a join of the last task of each branch."""
    ends = [branch[-1]["taskReferenceName"] for branch in branches]
    return [
        operator("FORK_JOIN", reference, forkTasks=[list(branch) for branch in branches]),
        operator("JOIN", join, joinOn=ends),
    ]


@pytest.fixture
def services() -> Iterator[InMemoryServices]:
    with InMemoryServices() as found:
        yield found
        assert {path.name for path in found.workspace_root.iterdir()} <= {TURNS_FILE}


class Run:
    """One workflow, run to its end with one worker, in the order in which Conductor hands out."""

    def __init__(self, services: InMemoryServices, steps: Sequence[Json], **inputs: Any) -> None:
        self.services = services
        conductor = services.conductor
        conductor.register(part, look, plain, gather, clean)
        self.ref = services.seed(TREE)
        definition = {"name": "forked", "version": 1, "schemaVersion": 2, "tasks": list(steps)}
        conductor.create_workflow_definition(definition)
        self.id = conductor.start_workflow("forked", {"workspace": block(self.ref), **inputs})
        self.outcomes = conductor.drain()

    @property
    def status(self) -> str:
        return str(self.services.conductor.workflow(self.id)["status"])

    def of(self, reference: str) -> Outcome:
        """The only attempt of a step."""
        (found,) = [each for each in self.outcomes if each.record.delivery.reference_name == reference]
        return found

    def line(self) -> list[str]:
        """The steps that published, oldest first; their commits are one first-parent line from the input ref."""
        commits = self.services.lakefs.history("workspace", "main", until=self.ref, limit=1000)
        parents = [*(commit.id for commit in commits[1:]), self.ref]
        assert [commit.parents[0] for commit in commits] == parents
        return [commit.metadata["perago.reference_name"] for commit in reversed(commits)]


def ends_well(run: Run, *names: str, reference: str = "gather") -> None:
    """The task behind the join saw what all others published, and its publication comes directly after theirs."""
    assert run.status == "COMPLETED", run.services.conductor.workflow(run.id).get("reasonForIncompletion")
    last = run.of(reference)
    assert last.result == {"names": sorted(names)}
    assert run.line()[-1] == reference
    assert last.record.input_ref == run.services.lakefs.get_commit("workspace", "main").parents[0]
    found = {key.removeprefix("parts/") for key in run.services.tree() if key.startswith("parts/")}
    assert found == set(names)


def parts(*names: str, ref: Any = START) -> list[list[Json]]:
    return [[step(part, name, ref, name=name)] for name in names]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_fork_whose_tasks_publish_to_one_branch(services: InMemoryServices, count: int) -> None:
    names = [f"p{number}" for number in range(count)]
    run = Run(services, [*fork("fork", *parts(*names)), step(gather, "gather", JOINED)])
    ends_well(run, *names)
    assert sorted(run.line()[:-1]) == sorted(names)


def test_the_list_of_refs_does_the_same(services: InMemoryServices) -> None:
    refs = [f"${{{name}.output.workspace.ref}}" for name in ("a", "b", "c")]
    ends_well(Run(services, [*fork("fork", *parts("a", "b", "c")), step(gather, "gather", refs)]), "a", "b", "c")


def test_siblings_that_publish_nothing_do_not_stand_in_the_way(services: InMemoryServices) -> None:
    branches = [
        *parts("a"),
        [step(look, "look")],
        [step(plain, "plain")],
        [step(part, "idle", name="idle")],
        *parts("b"),
        [{**step(part, "broken", name="broken"), "optional": True}],
    ]
    run = Run(services, [*fork("fork", *branches), step(gather, "gather", JOINED)])
    ends_well(run, "a", "b")
    assert run.of("look").commit == run.ref


def test_a_join_of_tasks_that_all_changed_nothing_continues_their_input(services: InMemoryServices) -> None:
    branches = [[step(look, "one")], [step(look, "other")]]
    run = Run(services, [*fork("fork", *branches), step(gather, "gather", JOINED)])
    ends_well(run)
    assert run.of("gather").record.input_ref == run.ref
    assert services.faults.calls("ancestry") == 0


def test_a_branch_of_several_tasks(services: InMemoryServices) -> None:
    long = [
        step(part, "a1", name="a1"),
        step(part, "a2", "${a1.output.workspace.ref}", name="a2"),
        step(part, "a3", "${a2.output.workspace.ref}", name="a3"),
    ]
    ends_well(Run(services, [*fork("fork", long, *parts("b")), step(gather, "gather", JOINED)]), "a1", "a2", "a3", "b")


def test_nested_forks(services: InMemoryServices) -> None:
    inner = fork("inner", *parts("a", "b"), join="inner_join")
    outer = fork("fork", inner, *parts("c"))
    ends_well(Run(services, [*outer, step(gather, "gather", JOINED)]), "a", "b", "c")


def test_a_dynamic_fork(services: InMemoryServices) -> None:
    names = ["d0", "d1", "d2", "d3"]
    tasks = [{"name": "fork.part", "taskReferenceName": name, "type": "SIMPLE"} for name in names]
    dynamic = operator(
        "FORK_JOIN_DYNAMIC",
        "fork",
        inputParameters={"tasks": "${workflow.input.tasks}", "inputs": "${workflow.input.inputs}"},
        dynamicForkTasksParam="tasks",
        dynamicForkTasksInputParamName="inputs",
    )
    ref = services.seed(TREE)
    inputs = {name: {"workspace": block(ref), "params": {"name": name}} for name in names}
    steps = [dynamic, operator("JOIN", "join"), step(gather, "gather", JOINED)]
    ends_well(Run(services, steps, tasks=tasks, inputs=inputs), *names)


def test_a_loop_with_a_fork_inside_and_a_task_behind_it(services: InMemoryServices) -> None:
    """Each round continues the one before: the first has no join to look back at, and gets null for it."""
    rounds = [
        [step(part, name, [START, JOINED], name=f"{name}${{loop.output.iteration}}")] for name in ("left", "right")
    ]
    loop = operator(
        "DO_WHILE",
        "loop",
        evaluatorType="javascript",
        loopCondition="$.loop['iteration'] < 3",
        loopOver=fork("fork", *rounds),
        inputParameters={},
    )
    run = Run(services, [loop, step(gather, "gather", "${loop.output}")])
    assert run.status == "COMPLETED", [each.reason for each in run.outcomes]
    assert sorted(run.line()[:-1]) == sorted(f"{name}__{number}" for name in ("left", "right") for number in (1, 2, 3))
    assert run.of("gather").record.input_ref == services.lakefs.get_commit("workspace", "main").parents[0]
    second = [each for each in run.outcomes if each.record.delivery.iteration == 2]
    assert {each.record.input_ref for each in second} == {
        next(each.commit for each in reversed(run.outcomes) if each.record.delivery.iteration == 1)
    }


def test_sub_workflows_that_share_the_branch(services: InMemoryServices) -> None:
    """Each has a fork of its own, and hands on its join."""
    for name in ("x", "y"):
        inner = fork("fork", *parts(f"{name}1", f"{name}2"))
        services.conductor.create_workflow_definition(
            {
                "name": f"sub_{name}",
                "version": 1,
                "schemaVersion": 2,
                "tasks": inner,
                "outputParameters": {"all": JOINED},
            }
        )
    branches = [
        [
            operator(
                "SUB_WORKFLOW",
                f"sub_{name}",
                subWorkflowParam={"name": f"sub_{name}"},
                inputParameters={"workspace": "${workflow.input.workspace}"},
            )
        ]
        for name in ("x", "y")
    ]
    run = Run(services, [*fork("outer", *branches), step(gather, "gather", JOINED)])
    ends_well(run, "x1", "x2", "y1", "y2")


def test_a_sub_workflow_that_puts_out_a_workspace_with_a_join_as_its_ref(services: InMemoryServices) -> None:
    services.conductor.create_workflow_definition(
        {
            "name": "inner",
            "version": 1,
            "schemaVersion": 2,
            "tasks": fork("fork", *parts("a", "b")),
            "outputParameters": {"workspace": block(JOINED)},
        }
    )
    sub = operator(
        "SUB_WORKFLOW",
        "sub",
        subWorkflowParam={"name": "inner"},
        inputParameters={"workspace": "${workflow.input.workspace}"},
    )
    last = step(gather, "gather")
    last["inputParameters"]["workspace"] = "${sub.output.workspace}"
    ends_well(Run(services, [sub, last]), "a", "b")


def test_a_sibling_that_is_rerun_after_the_join_has_run(services: InMemoryServices) -> None:
    """Its publication is undone below that of the task behind the join, which is stale, too, and runs anew, on both."""
    run = Run(services, [*fork("fork", *parts("a", "b")), step(gather, "gather", JOINED)])
    ends_well(run, "a", "b")
    services.conductor.advance(2)
    services.conductor.rerun_workflow(run.id, run.of("b").record.delivery.task_id)
    again = services.conductor.drain()
    last = again[-1]
    assert run.status == "COMPLETED", [each.reason for each in again]
    assert last.record.delivery.reference_name == "gather"
    assert last.result == {"names": ["a", "b"]}
    assert last.record.input_ref in {each.commit for each in again[:-1]}
    tree = services.tree()
    assert {key for key in tree if not key.startswith("_")} == {"raw/a.csv", "parts/a", "parts/b", "summary"}


def test_a_sibling_is_rerun_after_a_task_behind_the_join_has_removed_what_another_sibling_wrote(
    services: InMemoryServices,
) -> None:
    """The living sibling has published above the one that is rerun, and below the task behind the join."""
    conductor = services.conductor
    conductor.register(part, clean)
    steps = [*fork("fork", *parts("a", "b")), step(clean, "clean", JOINED)]
    conductor.create_workflow_definition({"name": "forked", "version": 1, "schemaVersion": 2, "tasks": steps})
    workflow = conductor.start_workflow("forked", {"workspace": block(services.seed(TREE))})
    of = {each.reference_name: each for each in conductor.poll("fork.part", "w", count=2, wait_seconds=0)}
    services.attempt(part, of["b"]).assert_completed()
    services.attempt(part, of["a"]).assert_completed()
    conductor.drain()
    conductor.advance(2)
    conductor.rerun_workflow(workflow, of["b"].task_id)
    again = conductor.drain()

    assert [each.record.delivery.reference_name for each in again] == ["b", "clean"]
    assert conductor.workflow(workflow)["status"] == "COMPLETED", [each.reason for each in again]
    assert {key for key in services.tree() if not key.startswith("_")} == {"raw/a.csv"}
