"""The workflow of one task that `perago dev` keeps ready for every module, and the line that starts it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perago.cli.dev.skeleton import skeleton_of
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary

REPOSITORY = "dev"
BRANCH = "main"
_REFERENCE = "task"


def workflow_name(task: TaskSummary) -> str:
    """A name of our own, so that a workflow that somebody registers under the task's name is left alone."""
    return f"dev.{task.name}"


def workflow_definition(task: TaskSummary) -> dict[str, Any]:
    """Input and output are those of the task (contract 4)."""
    has_workspace = task.workspace is not None
    given = ("workspace", "params") if has_workspace else ("params",)
    made = ("workspace", "result") if has_workspace else ("result",)
    step = {
        "name": task.name,
        "taskReferenceName": _REFERENCE,
        "type": "SIMPLE",
        "inputParameters": {key: f"${{workflow.input.{key}}}" for key in given},
    }
    return {
        "name": workflow_name(task),
        "version": 1,
        "schemaVersion": 2,
        "description": f"One attempt of {task.name}, made by perago dev.",
        "ownerEmail": json.loads(task.definition).get("ownerEmail"),
        "tasks": [step],
        "outputParameters": {key: f"${{{_REFERENCE}.output.{key}}}" for key in made},
    }


def payload_of(task: TaskSummary, ref: str) -> dict[str, Any]:
    """An input that starts it: on commit `ref`, with the parameters of the first example or a skeleton."""
    if task.example is not None:
        params = task.example
    else:
        params = skeleton_of(json.loads(task.definition)["inputSchema"]["data"]["properties"]["params"])
    if task.workspace is None:
        return {"params": params}
    workspace = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
    return {"workspace": workspace, "params": params}


def curl_line(conductor_url: str, task: TaskSummary, ref: str, environment: Mapping[str, str] = os.environ) -> str:
    """A line for a POSIX shell that starts the workflow and prints its id."""
    payload = json_text(payload_of(task, ref), separators=(",", ":"))
    words = ["curl", "-sS", "-w", r"\n"]
    if any(environment.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY")):
        words += ["--noproxy", "*"]
    url = f"{conductor_url}/workflow/{workflow_name(task)}"
    return shlex.join([*words, "-H", "Content-Type: application/json", "-d", payload, url])
