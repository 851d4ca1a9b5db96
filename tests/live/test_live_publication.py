"""What a workspace task leaves behind when all goes well: one commit that explains itself, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .commands import Worker
from .deploying import Deployment, block, input_of
from .repositories import Repository
from .waiting import wait_for
from .workflows import step

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
    assert repository.branches() == {"main"}, "the staging branch is gone"
    assert workspace.environment.attempt_directories() == []


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
    log = _eventually_logged(workspace, task["taskId"])
    assert log.splitlines()[-2:] == ["first", "second"]


def _eventually_logged(workspace: Deployment, task_id: str) -> str:
    return wait_for("the task's log", lambda: workspace.conductor.task_log(task_id))


def test_a_step_hands_its_publication_to_the_next(workspace: Deployment, worker: Worker, seeded: Seeded) -> None:
    repository, ref = seeded
    chain = f"{workspace.task}.chain"
    second = {"workspace": "${first.output.workspace}", "params": "${workflow.input.second}"}
    first = {"workspace": "${workflow.input.workspace}", "params": "${workflow.input.first}"}
    workspace.conductor.define(
        chain, [step(workspace.task, "first", **first), step(workspace.task, "second", **second)]
    )
    payload = {
        "workspace": block(repository, ref),
        "first": {"write": {"one.txt": "1"}},
        "second": {"write": {"two.txt": "2"}},
    }
    workflow_id = workspace.start(payload, chain)
    workspace.conductor.completed(workflow_id)
    one, two = (task["outputData"] for task in workspace.conductor.tasks(workflow_id))
    assert two["result"]["seen"]["one.txt"] == "1"
    assert [commit["id"] for commit in repository.since(ref)] == [two["workspace"]["ref"], one["workspace"]["ref"]]
    assert repository.since(ref)[0]["metadata"]["perago.reference_name"] == "second"
    assert repository.branches() == {"main"}


def test_names_of_all_kinds_make_the_round_trip(workspace: Deployment, worker: Worker, seeded: Seeded) -> None:
    repository, _ = seeded
    names = ["a b+c%41.txt", "ü/\u0075\u0308.txt", "日本/😀.txt", "_private/.hidden", "deep/" * 20 + "x"]
    ref = repository.commit(dict.fromkeys(names, b"old"))
    workflow_id = workspace.start(input_of(repository, ref, {"write": {f"copy/{name}": "new" for name in names}}))
    seen = workspace.conductor.output(workflow_id)["result"]["seen"]
    assert {name for name, text in seen.items() if text == "old"} == set(names)
    assert {path for path in repository.tree() if path.startswith("copy/")} == {f"copy/{name}" for name in names}
