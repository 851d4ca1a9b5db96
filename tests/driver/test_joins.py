"""Inputs that give several commits: what is continued, what is refused, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from perago.ports import Forbidden, TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of

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

    assert outcome.input_ref == outcome.commit == commits[-1]
    assert services.faults.calls("history") == 0


@pytest.mark.parametrize("entries", [["a", "a"], [None, "a"], "map"])
def test_a_single_commit_in_another_form_costs_nothing(services: InMemoryServices, entries: Any) -> None:
    ref = commits_in_line(services, 1)[0]
    named = {"left": output(ref), "right": output(ref)} if entries == "map" else [each and ref for each in entries]
    assert run(services, named).input_ref == ref
    assert services.faults.calls("ancestry") == 0


def test_commits_of_two_branches_are_refused_before_anything_is_downloaded(services: InMemoryServices) -> None:
    base, ours, other = two_branches(services)
    outcome = run(services, {"left": output(ours), "right": output(other), "read": output(base)})

    assert_ended(outcome, TERMINAL, "The 3 commits of workspace.ref are not one line of history", ours[:12], other[:12])
    assert outcome.input_ref is None
    assert services.faults.calls("download") == 0
    assert services.faults.calls("ancestry") <= 3
    assert services.lakefs.get_commit(REPOSITORY, "main").id == ours


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
