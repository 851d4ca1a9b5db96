"""What perago wrote into a commit, led back to the workflow, the attempt and the commits that it names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from perago.console import links
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.text import Shown, block, line, readable_json
from perago.embedded.lakefs.errors import LakeFSError
from perago.ports import Commit

_WORKFLOW = "perago.workflow_id"
_TASK = "perago.task_id"
_COMMITS = frozenset({"perago.input_ref", "perago.expected_head", "perago.adopts", "perago.supersedes"})
_BRANCHES = frozenset({"perago.branch", "perago.staging_branch"})
_TASKS = frozenset({_TASK, "perago.retried_task_id"})
_RESULT = "perago.result"


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """One entry of a commit's metadata. `url` is None where it names nothing that is here."""

    key: Shown
    value: Shown
    url: str | None
    is_block: bool


class WorkflowLinks:
    """Leads from commits to the attempts that published them, as far as this Conductor knows the workflow."""

    def __init__(self, workflow_ids: frozenset[str]) -> None:
        self._workflow_ids = workflow_ids

    def of(self, commit: Commit) -> Link | None:
        """The attempt, or None for a commit that perago did not publish."""
        workflow_id, task_id = commit.metadata.get(_WORKFLOW), commit.metadata.get(_TASK)
        if workflow_id is None or task_id is None:
            return None
        reference = commit.metadata.get("perago.reference_name", "step")
        return link(reference, self.url(workflow_id, task_id))

    def url(self, workflow_id: str, task_id: str | None = None) -> str | None:
        """The page of a workflow or attempt; None if the workflow is not here."""
        return links.workflow(workflow_id, task_id) if workflow_id in self._workflow_ids else None


def workflow_links(models: Models) -> WorkflowLinks:
    """For the workflows of now."""
    return WorkflowLinks(frozenset(models.conductor.workflow_ids()))


def metadata_rows(models: Models, repository: str, commit: Commit) -> tuple[MetadataRow, ...]:
    """All metadata in the order in which they were written."""
    known = workflow_links(models)
    return tuple(_row(models, repository, commit, known, key) for key in commit.metadata)


def _row(models: Models, repository: str, commit: Commit, known: WorkflowLinks, key: str) -> MetadataRow:
    value = commit.metadata[key]
    if key == _RESULT:
        return MetadataRow(line(key), _json(value), None, is_block=True)
    url = _address(models, repository, commit.metadata, known, key)
    is_block = url is None and "\n" in value
    return MetadataRow(line(key), block(value) if is_block else line(value), url, is_block)


def _json(text: str) -> Shown:
    try:
        return readable_json(json.loads(text))
    except (ValueError, RecursionError):
        return block(text)


def _address(
    models: Models, repository: str, metadata: Mapping[str, str], known: WorkflowLinks, key: str
) -> str | None:
    value = metadata[key]
    if not value:
        return None
    if key == _WORKFLOW:
        return known.url(value)
    if key in _TASKS:
        return known.url(metadata.get(_WORKFLOW, ""), value)
    if key == "perago.task_name":
        return links.task_type(value) if models.conductor.get_task_definition(value) else None
    if key in _COMMITS and _exists(lambda: models.lakefs.get_commit(repository, value)):
        return links.commit(repository, value)
    if key in _BRANCHES and _exists(lambda: models.lakefs.get_branch(repository, value)):
        return links.branch(repository, value)
    return None


def _exists(look: Callable[[], object]) -> bool:
    try:
        look()
    except LakeFSError:
        return False
    return True
