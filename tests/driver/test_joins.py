"""Inputs that give several commits: what is continued, what is refused, and what that costs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import TaskTerminalError, WorkspaceSpec, task
from perago.ports import Forbidden, TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of

from ..definitions import flow, forking, operator, simple
from . import tasks
from .tasks import Params, assert_ended

REPOSITORY = "workspace"
NOWHERE = "0" * 64
TERMINAL = TaskStatus.FAILED_WITH_TERMINAL_ERROR


def commits_in_line(services: InMemoryServices, number: int) -> list[str]:
    """Oldest first."""
    tree = {"raw/a.csv": "1", "raw/b.csv": "2", "readme": "3"}
    return [services.seed({**tree, "count": str(each)}) for each in range(number)]


def start(services: InMemoryServices, ref: Any, function: Any = tasks.edit, do: str = "edit") -> None:
    task = task_of(function)
    block = {"repository": REPOSITORY, "branch": "main", "ref_type": "commit", "ref": ref}
    services.start_raw(task, {"workspace": block, "params": Params(do=do).model_dump()})


def run(services: InMemoryServices, ref: Any, function: Any = tasks.edit, do: str = "edit") -> Outcome:
    start(services, ref, function, do)
    return services.attempt(function)


def output(ref: str | list[str]) -> dict[str, Any]:
    return {"workspace": {"repository": REPOSITORY, "branch": "main", "ref_type": "commit", "ref": ref}, "result": {}}


def two_branches(services: InMemoryServices) -> tuple[str, str, str]:
    """The commit at which they part, and the head of each."""
    base = commits_in_line(services, 2)[-1]
    services.lakefs.create_branch(REPOSITORY, "other", base)
    other = services.lakefs.seed(REPOSITORY, "other", {"theirs": "1"}).id
    return base, services.seed({"ours": "1"}), other


@pytest.mark.parametrize("order", [[0, 2, 4], [4, 2, 0], [2, 4, 4, 0]])
def test_the_newest_of_a_list_is_continued_in_any_order(services: InMemoryServices, order: list[int]) -> None:
    commits = commits_in_line(services, 5)
    outcome = run(services, [commits[each] for each in order])

    assert outcome.status is TaskStatus.COMPLETED
    assert outcome.input_ref == commits[4]
    merge = services.lakefs.get_commit(REPOSITORY, "main")
    assert merge.parents[0] == merge.metadata["perago.input_ref"] == commits[4]
    assert outcome.output["workspace"] == output(merge.id)["workspace"]
    assert services.tree()["count"] == b"4"


def test_the_output_of_a_join_is_read_at_any_depth(services: InMemoryServices) -> None:
    commits = commits_in_line(services, 4)
    joined = {
        "left": output(commits[1]),
        "inner": {"a": output(commits[3]), "b": {"result": {}}},
        "same": output(commits[0]),
    }
    assert run(services, joined).input_ref == commits[3]


def test_a_task_that_only_reads_does_not_look_at_the_branch(services: InMemoryServices) -> None:
    commits = commits_in_line(services, 3)
    services.seed({"later": "1"})
    outcome = run(services, commits, tasks.look, "nothing")

    assert outcome.input_ref == commits[-1]
    assert services.faults.calls("history") == 0


@pytest.mark.parametrize("entries", [["a", "a"], [None, "a"], "map"])
def test_a_single_commit_in_another_form_costs_nothing(services: InMemoryServices, entries: Any) -> None:
    ref = commits_in_line(services, 1)[0]
    named = {"left": output(ref), "right": output(ref)} if entries == "map" else [each and ref for each in entries]
    assert run(services, named).input_ref == ref
    assert services.faults.calls("ancestry") == 0


def test_500_entries_are_read_in_a_bounded_number_of_requests(services: InMemoryServices) -> None:
    commits = commits_in_line(services, 500)
    given = list(commits)
    random.Random(13).shuffle(given)
    assert run(services, given).input_ref == commits[-1]
    assert services.faults.calls("ancestry") < 150


def test_commits_of_two_branches_are_refused_before_anything_is_downloaded(services: InMemoryServices) -> None:
    base, ours, other = two_branches(services)
    outcome = run(services, {"left": output(ours), "right": output(other), "read": output(base)})

    assert outcome.status is TERMINAL
    first, second = sorted([ours, other])
    assert str(outcome.reason) == (
        f"The 3 commits of workspace.ref are not one line of history: {second[:12]} is not in the first-parent history "
        f"of {first[:12]}, nor the other way round. No task can continue two branches: let the tasks publish to one "
        f"branch, or merge the branches and give the merge commit alone. Given: {ours[:12]}, {other[:12]}, {base[:12]}."
    )
    assert outcome.input_ref is None
    assert services.faults.calls("download") == 0
    assert services.faults.calls("ancestry") <= 3
    assert services.lakefs.get_commit(REPOSITORY, "main").id == ours


def test_a_merge_of_the_branches_is_continued_alone(services: InMemoryServices) -> None:
    _, ours, other = two_branches(services)
    merged = services.lakefs.merge(REPOSITORY, other, "main", "merge by hand", {})
    assert run(services, [ours, merged]).input_ref == merged
    services.lakefs.merge(REPOSITORY, merged, "main", "again", {}, allow_empty=True)
    assert run(services, [ours, other, merged]).status is TERMINAL


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_unknown_commit_is_named(services: InMemoryServices, place: int) -> None:
    given = commits_in_line(services, 2)
    given.insert(place, NOWHERE)
    outcome = run(services, given)
    assert outcome.status is TERMINAL
    assert "It is one of the 3 commits of workspace.ref; give only what tasks have published" in str(outcome.reason)
    assert ", ".join(each[:12] for each in given) in str(outcome.reason)
    assert services.faults.calls("download") == 0


def test_forbidden_calls_can_be_retried(services: InMemoryServices) -> None:
    commits = commits_in_line(services, 3)
    services.faults.before("ancestry", error=Forbidden)
    assert run(services, commits).status is TaskStatus.FAILED


def test_results_in_the_output_of_a_join_are_never_quoted(services: InMemoryServices) -> None:
    ref = commits_in_line(services, 1)[0]
    outcome = run(
        services,
        {"left": output(ref), "right": {**output(["canary-4711"]), "result": {"token": "canary-4711"}}},
    )
    assert_ended(outcome, TERMINAL, "/workspace/ref/right/workspace/ref/0: must be a full commit id")
    assert "canary" not in str(outcome.reason)


# ----------------------------------------------------------------------------------------------------
# Forks on the embedded Conductor: the task behind a join continues a commit that has what all branches published.


JOINED = "${fork_join.output}"


class Name(BaseModel):
    name: str


class Names(BaseModel):
    names: list[str]


@task(name="fork.part", owner_email="d@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def part(workspace: Path, params: Name) -> Names:
    if params.name == "broken":
        raise TaskTerminalError("broken")
    if params.name != "idle":
        (workspace / "parts").mkdir(exist_ok=True)
        (workspace / "parts" / params.name).write_text(params.name)
    return Names(names=[])


@task(name="fork.look", owner_email="d@example.com", workspace=WorkspaceSpec(read_only=True))
def look(workspace: Path, params: Name) -> Names:
    return Names(names=[])


@task(name="fork.plain", owner_email="d@example.com")
def plain(params: Name) -> Names:
    return Names(names=[])


@task(name="fork.gather", owner_email="d@example.com", workspace=WorkspaceSpec())
def gather(workspace: Path, params: Name) -> Names:
    found = sorted(path.name for path in workspace.glob("parts/*"))
    (workspace / "summary").write_text(",".join(found))
    return Names(names=found)


def block(ref: str) -> dict[str, Any]:
    return {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": ref}


def step(function: Any, name: str, workspace: object = "${workflow.input.workspace}") -> dict[str, Any]:
    inputs = {} if function is plain else {"workspace": workspace}
    return simple(f"fork.{function.__name__}", name, params={"name": name}, **inputs)


def fork(*steps: dict[str, Any]) -> list[dict[str, Any]]:
    return forking("fork", *([each] for each in steps))


def assert_gathers(services: InMemoryServices, steps: list[dict[str, Any]], *names: str) -> None:
    """Run a workflow. Its last step sees what all branches published, and publishes directly on that."""
    conductor = services.conductor
    conductor.register(part, look, plain, gather)
    conductor.create_workflow_definition(flow(*steps, name="forked"))
    workflow = conductor.start_workflow("forked", {"workspace": block(services.seed({"raw/a.csv": "1"}))})
    *_, last = conductor.drain()

    assert conductor.workflow(workflow)["status"] == "COMPLETED"
    assert last.result == {"names": sorted(names)}
    assert last.input_ref == services.lakefs.get_commit("workspace", "main").parents[0]
    assert {key.removeprefix("parts/") for key in services.tree() if key.startswith("parts/")} == set(names)


def test_siblings_without_a_publication_do_not_interfere(services: InMemoryServices) -> None:
    optional = {**step(part, "broken"), "optional": True}
    branches = step(part, "a"), step(look, "look"), step(plain, "plain"), step(part, "idle"), step(part, "b"), optional
    assert_gathers(services, [*fork(*branches), step(gather, "gather", block(JOINED))], "a", "b")


def test_a_sub_workflow_that_puts_out_a_workspace_with_a_join_as_its_ref(services: InMemoryServices) -> None:
    inner = flow(*fork(step(part, "a"), step(part, "b")), name="inner", outputParameters={"workspace": block(JOINED)})
    services.conductor.create_workflow_definition(inner)
    inputs = {"workspace": "${workflow.input.workspace}"}
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "inner"}, inputParameters=inputs)
    assert_gathers(services, [sub, step(gather, "gather", "${sub.output.workspace}")], "a", "b")
