"""Models full of what would break a careless page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perago.embedded.lakefs import commits, objects
from perago.testing.services import InMemoryServices

from ..definitions import simple
from .filled import REPOSITORY, define
from .site import Site

SCRIPT = "<script>document.title='taken'</script>"
ATTRIBUTE = "\"><img src=x onerror=\"document.title='taken'\">'"
CLOSING = "</pre></title></textarea></style>--><svg onload=alert(1)>"
TEMPLATE = "{{ 7 * 7 }}{% raw %}"
REORDER = "invoice\u202efdp.exe\u2066\u200b\ufeff"
CONTROL = "a\x1b[31mred\x00\x07\x7f\u0085"
NASTY = SCRIPT + ATTRIBUTE + CLOSING + TEMPLATE + REORDER + CONTROL
LONG = "x" * 1_000_000

TASK_NAME = "../../" + SCRIPT
KEYS = (
    "a/../../b",
    "//double//slash/",
    "/absolute",
    "query?x=1&y=2#z",
    SCRIPT,
    ATTRIBUTE,
    REORDER,
    "line\nbreak\r\ttab",
    "percent%2e%2e%2f%00",
    "ä" * 500,
)


@dataclass(frozen=True)
class Hostile:
    """Models that hold all of it, and their page."""

    services: InMemoryServices
    site: Site
    workflow: str
    commit: str


def hostile_workflow(services: InMemoryServices) -> str:
    """A workflow that ended; everything about it is nasty. Its id."""
    conductor = services.conductor
    conductor.register_task_definitions([{"name": TASK_NAME, "description": NASTY, "ownerEmail": "a@b.example"}])
    name = f"flow {ATTRIBUTE}"
    taken = {key: f"${{workflow.input.{key}}}" for key in ("params", "workspace")}
    define(conductor, name, simple(TASK_NAME, f"step{ATTRIBUTE}", **taken))
    deep: Any = "bottom"
    for _ in range(100):
        deep = {"d": deep}
    payload = {
        "params": {NASTY: NASTY, "long": LONG, "deep": deep, "list": list(range(5000)), "after": "still here"},
        "workspace": {"repository": NASTY, "branch": ["no text"], "ref": None},
    }
    workflow = conductor.start_workflow(name, payload, correlation_id=NASTY)
    [task] = conductor.poll_tasks(TASK_NAME, f"worker{NASTY}", wait_seconds=0)
    for text in (NASTY, LONG + "the end", "one\r\ntwo"):
        conductor.add_log(task["taskId"], text)
    conductor.update_task(
        {
            "taskId": task["taskId"],
            "workflowInstanceId": workflow,
            "status": "FAILED_WITH_TERMINAL_ERROR",
            "reasonForIncompletion": NASTY,
            "outputData": {"workspace": NASTY, "result": LONG},
            "logs": [{"log": "a time beyond all calendars", "createdTime": 2**62}],
        }
    )
    return workflow


def hostile_commit(services: InMemoryServices, workflow: str) -> str:
    """A commit of nasty keys that pretends to come from `workflow`. Its id."""
    services.seed({})
    for key in KEYS:
        objects.put_object(
            services.lakefs.server.repository(REPOSITORY),
            "main",
            key,
            NASTY.encode(),
            content_type=f"text/html{ATTRIBUTE}",
            metadata={NASTY: NASTY},
        )
    metadata = {
        "perago.workflow_id": workflow,
        "perago.task_id": ATTRIBUTE,
        "perago.reference_name": NASTY,
        "perago.task_name": "javascript:alert(1)",
        "perago.input_ref": "../../..",
        "perago.branch": "main/../..",
        "perago.result": "[" * 100_000,
        "perago.adopts": LONG,
        NASTY: f"javascript:alert(1)\n{NASTY}",
    }
    return commits.commit(services.lakefs.server.repository(REPOSITORY), "main", f"{NASTY}\n{LONG}", metadata).commit.id
