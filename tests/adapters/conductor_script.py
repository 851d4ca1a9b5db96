"""A scripted Conductor, and one delivery as it stands on the wire and in the port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perago.adapters.conductor import ConductorQueue
from perago.adapters.http import CallPolicy
from perago.ports import Report, TaskStatus
from perago.settings import ConductorSettings
from tests.deliveries import make_delivery

from .lakefs_script import CALM
from .scripted import Action, Reply, Script, ScriptedServer, reply_json

POLLED = {
    "taskType": "features.build",
    "status": "IN_PROGRESS",
    "inputData": {"params": {"big": 2**70, "one": 1.0, "nothing": None, "text": "ü\u0000😀"}},
    "referenceTaskName": "build__2",
    "retryCount": 0,
    "pollCount": 3,
    "taskDefName": "features.build",
    "startTime": 1_795_565_787_436,
    "updateTime": 1_795_565_799_936,
    "queueWaitTime": 1250,
    "responseTimeoutSeconds": 20,
    "workflowInstanceId": "workflow",
    "workflowType": "nightly",
    "taskId": "task",
    "retriedTaskId": "earlier",
    "iteration": 2,
    "taskDefinition": {"timeoutSeconds": 50},
}
DELIVERY = make_delivery(
    task_id="task",
    poll_count=3,
    start_time=1_795_565_787_436,
    workflow_id="workflow",
    reference_name="build__2",
    iteration=2,
    retried_task_id="earlier",
    input=POLLED["inputData"],
    response_timeout_seconds=20,
    timeout_seconds=50,
    spent_seconds=12.5,
    waited_seconds=1.25,
)
ACCEPTED = Reply(200, b"task", {"Content-Type": "text/plain"})
REPORT = Report(TaskStatus.COMPLETED, {"result": {"big": 2**70, "one": 1.0, "nothing": None}}, None)


@contextmanager
def conductor(
    script: Script | Action, policy: CallPolicy = CALM, *, traced: bool = False
) -> Iterator[tuple[ConductorQueue, ScriptedServer]]:
    """A queue on a scripted server."""
    with ScriptedServer(script if callable(script) else lambda _: script) as server:
        queue = ConductorQueue(ConductorSettings(f"{server.url}/api"), policy=policy, traced=traced)
        try:
            yield queue, server
        finally:
            queue.close()


def conductor_error(status: int, message: str, **more: object) -> Reply:
    return reply_json({"status": status, "message": message, "instance": "host", "retryable": False, **more}, status)
