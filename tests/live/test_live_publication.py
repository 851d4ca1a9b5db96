"""What a workspace task leaves behind: when all goes well, in every way to fail, and when others work on the branch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .commands import Worker
from .conftest import Deploy
from .deploying import Deployment, Gate, block, input_of
from .proxy import Cut, Proxy
from .repositories import Repository
from .waiting import wait_for

pytestmark = pytest.mark.live

Seeded = tuple[Repository, str]


def test_a_publication_is_one_merge_on_the_input_ref(workspace: Deployment, worker: Worker, seeded: Seeded) -> None:
    repository, ref = seeded
    before = repository.tree()
    orders = {"write": {"out/c.txt": "new", "raw/a.txt": "changed"}, "remove": ["raw/b.txt"], "say": "hello log"}
    workflow_id = workspace.start(input_of(repository, ref, orders))
    output = workspace.conductor.output(workflow_id)
    published = output["workspace"]["ref"]
    (task,) = workspace.conductor.tasks(workflow_id)

    assert output["workspace"] == block(repository, published)
    assert output["result"]["seen"] == {"raw/a.txt": "a", "raw/b.txt": "b", "doc/readme.txt": "read me"}
    assert repository.head() == published
    (merge,) = repository.since(ref)
    assert merge["parents"][0] == ref
    assert merge["metadata"] == {**merge["metadata"], **_expected_metadata(task, ref, output)}
    staging = repository.get(merge["parents"][1])
    assert (staging["parents"], staging["metadata"]["perago.phase"]) == ([ref], "staging")
    assert staging["metadata"]["perago.task_id"] == task["taskId"]

    after = repository.tree()
    assert set(after) == {"raw/a.txt", "doc/readme.txt", "out/c.txt"}
    assert after["doc/readme.txt"] == before["doc/readme.txt"], "what did not change was not written again"
    assert after["raw/a.txt"].physical_address != before["raw/a.txt"].physical_address
    assert repository.read("raw/a.txt") == b"changed"
    repository.wait_for_removal_of_staging()
    workspace.environment.wait_for_removal_of_directories()


def _expected_metadata(task: dict[str, Any], ref: str, output: dict[str, Any]) -> dict[str, str]:
    return {
        "perago.phase": "merge",
        "perago.step_key": f"{task['workflowInstanceId']}:step:{task['taskDefName']}",
        "perago.workflow_id": task["workflowInstanceId"],
        "perago.task_name": task["taskDefName"],
        "perago.reference_name": "step",
        "perago.iteration": "0",
        "perago.task_id": task["taskId"],
        "perago.retry_count": "0",
        "perago.retried_task_id": "",
        "perago.poll_count": str(task["pollCount"]),
        "perago.start_time": str(task["startTime"]),
        "perago.input_ref": ref,
        "perago.branch": "main",
        "perago.prefix": "/",
        "perago.expected_head": ref,
        "perago.result": json.dumps(output["result"], separators=(",", ":")),
    }


def test_the_worker_says_one_line_and_conductor_has_the_output(
    workspace: Deployment, worker: Worker, seeded: Seeded
) -> None:
    repository, ref = seeded
    workflow_id = workspace.start(input_of(repository, ref, {"say": "first\nsecond", "write": {"o": "1"}}))
    published = workspace.conductor.output(workflow_id)["workspace"]["ref"]
    (task,) = workspace.conductor.tasks(workflow_id)
    line = worker.line(task["taskId"])
    assert f"completed {workspace.task} {task['taskId']}" in line
    assert f"workspace at {published[:12]}" in line
    assert line.startswith(f"{task['workerId'].partition('@')[0]}:")
    assert sum(task["taskId"] in said for said in worker.lines) == 1
    log = wait_for("the task's log", lambda: workspace.conductor.task_log(task["taskId"]))
    assert log.splitlines()[-2:] == ["first", "second"]


def test_names_of_all_kinds_make_the_round_trip(workspace: Deployment, worker: Worker, seeded: Seeded) -> None:
    repository, _ = seeded
    names = ["a b+c%41.txt", "ü/\u0075\u0308.txt", "日本/😀.txt", "_private/.hidden", "deep/" * 20 + "x"]
    ref = repository.commit(dict.fromkeys(names, b"old"))
    workflow_id = workspace.start(input_of(repository, ref, {"write": {f"copy/{name}": "new" for name in names}}))
    texts = workspace.conductor.output(workflow_id)["result"]["seen"]
    assert {name for name, text in texts.items() if text == "old"} == set(names)
    assert {path for path in repository.tree() if path.startswith("copy/")} == {f"copy/{name}" for name in names}


Payload = dict[str, Any]
TERMINAL = ["FAILED_WITH_TERMINAL_ERROR"]
RETRIED = ["FAILED", "FAILED"]
NO_COMMIT = "f" * 64


def _orders(**orders: Any) -> Callable[[Repository, str], Payload]:
    return lambda repository, ref: input_of(repository, ref, {"write": {"out.txt": "o"}, **orders})


def _block(**changes: Any) -> Callable[[Repository, str], Payload]:
    def make(repository: Repository, ref: str) -> Payload:
        changed = {**block(repository, ref), **changes}
        return {"workspace": {key: value for key, value in changed.items() if value is not None}, "params": {}}

    return make


FUNCTION = [
    pytest.param(_orders(ending="fail"), RETRIED, "the weather is bad", id="TaskFailed"),
    pytest.param(_orders(ending="give up"), TERMINAL, "there is no such measurement", id="TaskTerminalError"),
    pytest.param(_orders(ending="large result"), TERMINAL, "PERAGO_MAX_RESULT_BYTES", id="an oversized result"),
    pytest.param(_orders(write={"a.tmp": "x"}), RETRIED, "post guardrail forbid_glob('**/*.tmp')", id="post guardrail"),
    pytest.param(_orders(link="out/link"), RETRIED, "link", id="a symbolic link"),
]
INPUT = [
    pytest.param(_orders(sleep="long"), TERMINAL, "/params/sleep", id="invalid params"),
    pytest.param(_block(colour="red"), TERMINAL, "/workspace/colour", id="an unknown key"),
    pytest.param(_block(ref=NO_COMMIT), TERMINAL, NO_COMMIT[:12], id="an unknown commit"),
    pytest.param(_block(repository="perago-live-nowhere"), TERMINAL, "perago-live-nowhere", id="an unknown repository"),
]


@pytest.mark.parametrize(("payload", "statuses", "reason"), [*FUNCTION, *INPUT])
def test_a_failure_has_its_status_its_reason_and_its_retries(
    workspace: Deployment,
    worker: Worker,
    seeded: Seeded,
    payload: Callable[[Repository, str], Payload],
    statuses: list[str],
    reason: str,
) -> None:
    repository, ref = seeded
    workflow_id = workspace.start(payload(repository, ref))
    assert workspace.conductor.wait(workflow_id)["status"] == "FAILED"
    assert workspace.conductor.statuses(workflow_id) == statuses
    for task in workspace.conductor.tasks(workflow_id):
        assert reason in task["reasonForIncompletion"]
        line = worker.line(task["taskId"])
        assert f": {task['status'].lower()} {workspace.task}" in line
        assert reason[:40] in line
    assert (repository.head(), repository.branches()) == (ref, {"main"})
    assert workspace.environment.attempt_directories() == []


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
def test_a_foreign_commit_just_before_the_merge_is_never_lost_silently(
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


def test_uncommitted_changes_stay_and_the_attempt_can_be_retried(
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
