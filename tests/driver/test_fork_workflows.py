"""Whole workflows with forks on the embedded Conductor: the task behind a join continues a commit that has it all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, TaskTerminalError, WorkspaceSpec, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
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
