"""The repository of `perago dev`, and for every module a workflow of one task and the line that starts it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.embedded.lakefs import commits, objects, references
from perago.failure import Failure
from perago.text import json_text

if TYPE_CHECKING:
    from perago.embedded.services import EmbeddedServices
    from perago.probe import TaskSummary


REPOSITORY = "dev"
BRANCH = "main"
_REFERENCE = "task"


def workflow_name(task: TaskSummary, command: str = "dev") -> str:
    """A name of our own, so that a workflow that a user registers under the task's name is left alone."""
    return f"{command}.{task.name}"


def workflow_definition(task: TaskSummary, command: str = "dev") -> dict[str, Any]:
    """Input and output are those of the task (docs/dev/contract.md 4). `command` is the one that makes the
    workflow."""
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
        "name": workflow_name(task, command),
        "version": 1,
        "schemaVersion": 2,
        "description": f"One attempt of {task.name}, made by perago {command}.",
        "ownerEmail": json.loads(task.definition).get("ownerEmail"),
        "tasks": [step],
        "outputParameters": {key: f"${{{_REFERENCE}.output.{key}}}" for key in made},
    }


def params_of(task: TaskSummary) -> Any:
    """Parameters to start with: those of the first example, or a skeleton."""
    if task.example is not None:
        return task.example
    from perago.taskdef.schema import skeleton_of

    return skeleton_of(json.loads(task.definition)["inputSchema"]["data"]["properties"]["params"])


def payload_of(task: TaskSummary, ref: str) -> dict[str, Any]:
    """An input that starts it on commit `ref`."""
    params = params_of(task)
    if task.workspace is None:
        return {"params": params}
    workspace = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
    return {"workspace": workspace, "params": params}


def curl_line(conductor_url: str, task: TaskSummary, ref: str, environment: Mapping[str, str] = os.environ) -> str:
    """A line for a POSIX shell that starts the workflow and prints its id.

    Args:
        conductor_url: The address of Conductor's API.
        task: The task of the workflow.
        ref: The commit that the workflow works on.
        environment: Where a proxy may be set, which the line passes by.
    """
    payload = json_text(payload_of(task, ref), separators=(",", ":"))
    words = ["curl", "-sS", "-w", r"\n"]
    if any(environment.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY")):
        words += ["--noproxy", "*"]
    url = f"{conductor_url}/workflow/{workflow_name(task)}"
    return shlex.join([*words, "-H", "Content-Type: application/json", "-d", payload, url])


def send_line(module: str, task: TaskSummary) -> str:
    """A line that starts a workflow on what the branch has when it is run."""
    place = [] if task.workspace is None else ["--workspace", f"{REPOSITORY}/{BRANCH}"]
    params = json_text(params_of(task), separators=(",", ":"))
    return shlex.join(["perago", "send", module, *place, "--params", params, "--follow"])


def seed(services: EmbeddedServices, directory: Path | None) -> None:
    """Make repository and branch where they are missing, and commit what `directory` has that the branch has not.

    Nothing is removed from the branch: what tasks have published stays. Links are refused, never followed.

    Raises:
        Failure: the directory cannot be a workspace.
    """
    from perago.embedded.lakefs.values import LakeFSError, Missing, NoChanges
    from perago.history.running import files_below
    from perago.workspace.scan import WorkspaceError

    server = services.lakefs.server
    try:
        references.get_branch(server.repository(REPOSITORY), BRANCH)
    except Missing:
        server.create_repository(REPOSITORY, default_branch=BRANCH)
    if directory is None:
        return
    try:
        files = files_below(directory, "")
        blobs = {key: server.blobs.of_file(file) for key, file in files.items() if isinstance(file, Path)}
        for key, blob in blobs.items():  # only now, when nothing can fail half-way any more
            objects.put_object(server.repository(REPOSITORY), BRANCH, key, blob)
        commits.commit(server.repository(REPOSITORY), BRANCH, f"The files of {directory}")
    except NoChanges:
        return
    except (WorkspaceError, OSError) as error:
        raise Failure(str(error)) from error
    except LakeFSError as error:
        raise Failure(f"{directory} cannot be committed: {error.message}") from error


def head(services: EmbeddedServices) -> str:
    """The commit that the branch points at now."""
    return references.get_branch(services.lakefs.server.repository(REPOSITORY), BRANCH).commit_id
