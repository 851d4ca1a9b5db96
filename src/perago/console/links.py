"""Addresses of the pages.

Names that may hold anything are in the query: browsers resolve dots and slashes in paths.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

OVERVIEW = "/"
TASK_TYPES = "/task-types"
REPOSITORIES = "/repositories"
RUNNING = "/running"
WORKERS = "/workers"
SEARCH = "/search"


def with_query(address: str, /, **parameters: str | int | None) -> str:
    """Return `address` with the parameters that are not None."""
    query = {name: value for name, value in parameters.items() if value is not None}
    return f"{address}?{urlencode(query, errors='replace')}" if query else address


def workflow(workflow_id: str, task_id: str | None = None) -> str:
    """Return the address of a workflow, or one of its attempts."""
    fragment = "" if task_id is None else f"#{attempt_anchor(task_id)}"
    return f"/workflows/{_part(workflow_id)}{fragment}"


def attempt_anchor(task_id: str) -> str:
    """Return the id of an attempt within its workflow's page."""
    return f"attempt-{_part(task_id)}"


def worker(worker_id: str) -> str:
    """Return the address of one worker in the list of workers."""
    return with_query(WORKERS, worker=worker_id)


def search(text: str) -> str:
    """Return the address of a search."""
    return with_query(SEARCH, q=text)


def task_type(name: str) -> str:
    """Return the address of a task definition."""
    return with_query("/task-types/definition", name=name)


def workflow_type(name: str, version: int) -> str:
    """Return the address of a workflow definition."""
    return with_query("/workflow-types/definition", name=name, version=version)


def start(name: str, version: int) -> str:
    """Return the address of the form that starts a workflow."""
    return with_query("/start", name=name, version=version)


def signal(workflow_id: str, step: str) -> str:
    """Return the address of the form that answers a step which waits for a signal."""
    return f"/workflows/{_part(workflow_id)}/signals/{_part(step)}"


def terminate(workflow_id: str) -> str:
    """Return the address that ends a workflow."""
    return f"/workflows/{_part(workflow_id)}/terminate"


def repository(name: str) -> str:
    """Return the address of a repository."""
    return f"{REPOSITORIES}/{_part(name)}"


def branch(repository_name: str, name: str) -> str:
    """Return the address of a branch."""
    return f"{repository(repository_name)}/branches/{_part(name)}"


def commit(repository_name: str, commit_id: str) -> str:
    """Return the address of a commit."""
    return f"{repository(repository_name)}/commits/{_part(commit_id)}"


def files(repository_name: str, commit_id: str, prefix: str = "") -> str:
    """Return the address of one directory of a commit's tree; an empty `prefix` is the root."""
    return with_query(f"{commit(repository_name, commit_id)}/files", prefix=prefix or None)


def file(repository_name: str, commit_id: str, path: str) -> str:
    """Return the address of one file of a commit."""
    return with_query(f"{commit(repository_name, commit_id)}/file", path=path)


def diff(repository_name: str, commit_id: str, path: str, base: str | None = None) -> str:
    """Return the address of the changes of a file since another commit; by default since the first parent."""
    return with_query(f"{commit(repository_name, commit_id)}/diff", path=path, base=base)


def download(repository_name: str, commit_id: str, path: str) -> str:
    """Return the address of the bytes of one file of a commit."""
    return with_query(f"{commit(repository_name, commit_id)}/download", path=path)


def image(repository_name: str, commit_id: str, path: str) -> str:
    """Return the address of the bytes of an image of a commit, to be shown."""
    return with_query(f"{commit(repository_name, commit_id)}/image", path=path)


def _part(text: str) -> str:
    return quote(text, safe="", errors="replace")
