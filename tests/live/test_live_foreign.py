"""Others work on the branch, too: their data survive whatever an attempt does, and the attempt says what it saw."""

from __future__ import annotations

import pytest

from .commands import Worker
from .conftest import Deploy
from .deploying import Deployment, Gate, input_of
from .proxy import Cut, Proxy
from .repositories import Repository

pytestmark = pytest.mark.live

Seeded = tuple[Repository, str]
TERMINAL = ["FAILED_WITH_TERMINAL_ERROR"]


def test_a_foreign_commit_during_the_function_stays_and_ends_the_attempt(
    workspace: Deployment, worker: Worker, seeded: Seeded, gate: Gate
) -> None:
    repository, ref = seeded
    workflow_id = workspace.start(input_of(repository, ref, {"write": {"raw/a.txt": "mine"}, "gate": str(gate)}))
    gate.entered()
    foreign = repository.commit({"raw/a.txt": b"theirs", "foreign.txt": b"f"}, "Somebody else's work")
    gate.open()
    workspace.conductor.wait(workflow_id)
    (task,) = workspace.conductor.tasks(workflow_id)
    assert task["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert ref[:12] in task["reasonForIncompletion"]
    assert foreign[:12] in task["reasonForIncompletion"]
    assert (repository.head(), repository.branches()) == (foreign, {"main"})
    assert (repository.read("raw/a.txt"), repository.read("foreign.txt")) == (b"theirs", b"f")
    assert workspace.environment.attempt_directories() == []


@pytest.mark.parametrize("path", ["raw/a.txt", "foreign.txt"], ids=["on the same file", "on another file"])
def test_a_foreign_commit_between_the_last_read_and_the_merge_is_never_lost_silently(
    deploy: Deploy, seeded: Seeded, lakefs_proxy: Proxy, path: str
) -> None:
    repository, ref = seeded
    foreign: list[str] = []
    trap = lakefs_proxy.trap(
        "POST .*/merge/main", Cut.NOWHERE, first=lambda: foreign.append(repository.commit({path: b"theirs"}))
    )
    workspace = deploy("workspace", LAKECTL_SERVER_ENDPOINT_URL=lakefs_proxy.url)
    workspace.worker()
    workflow_id = workspace.start(input_of(repository, ref, {"write": {"raw/a.txt": "mine"}}))
    workspace.conductor.wait(workflow_id)
    trap.wait()
    assert workspace.conductor.statuses(workflow_id) == TERMINAL
    assert repository.read(path) == b"theirs"
    assert foreign[0] in [repository.head(), *repository.get(repository.head())["parents"]]
    assert repository.branches() == {"main"}


def test_uncommitted_changes_on_the_branch_are_left_alone_and_can_be_retried(
    workspace: Deployment, worker: Worker, seeded: Seeded
) -> None:
    repository, ref = seeded
    repository.stage("staged.txt", b"not yet committed")
    workflow_id = workspace.start(input_of(repository, ref, {"write": {"o": "1"}}))
    workspace.conductor.wait(workflow_id)
    assert workspace.conductor.statuses(workflow_id) == ["FAILED", "FAILED"]
    assert "uncommitted changes" in workspace.conductor.tasks(workflow_id)[-1]["reasonForIncompletion"]
    assert (repository.head(), repository.branches()) == (ref, {"main"})
    assert repository.uncommitted() == {"staged.txt"}
