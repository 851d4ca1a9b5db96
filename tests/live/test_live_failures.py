"""Every way to fail, as Conductor shows it: status, reason, retries; and a branch that nobody has touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .commands import Worker
from .deploying import Deployment, block, input_of
from .repositories import Repository

pytestmark = pytest.mark.live

Seeded = tuple[Repository, str]
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
