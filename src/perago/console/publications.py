"""Which commits the attempts of a workflow published: found on the branch itself, so that a publication shows even
where its report never reached Conductor."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perago.console import links
from perago.console.commits import SHORT_ID, commit_link
from perago.console.links import Link, link
from perago.console.models import Models
from perago.embedded.lakefs.errors import LakeFSError

_LOOK_BACK = 1000
"""How many commits of a branch are looked at."""


class WorkspaceRef(NamedTuple):
    """What an attempt was given to work on."""

    repository: str
    branch: str
    ref: str

    def branch_link(self) -> Link:
        """The branch that success advances."""
        return link(f"{self.repository}/{self.branch}", links.branch(self.repository, self.branch))

    def commit_link(self) -> Link:
        """The input commit."""
        return link(self.ref[:SHORT_ID], links.commit(self.repository, self.ref))


def workspace_ref(payload: Any, models: Models) -> WorkspaceRef | None:
    """The workspace that a task's input names; None if there is none, or not in these services."""
    workspace = payload.get("workspace") if isinstance(payload, Mapping) else None
    if not isinstance(workspace, Mapping):
        return None
    fields = [workspace.get(name) for name in WorkspaceRef._fields]
    if not all(isinstance(field, str) and field for field in fields):
        return None
    found = WorkspaceRef(*map(str, fields))
    try:
        models.lakefs.get_branch(found.repository, found.branch)
        models.lakefs.get_commit(found.repository, found.ref)
    except LakeFSError:
        return None
    return found


def publications(models: Models, tasks: Sequence[Mapping[str, Any]]) -> Mapping[str, tuple[Link, ...]]:
    """The commits between input ref and branch head that name an attempt, by task id, oldest first."""
    found: defaultdict[str, tuple[Link, ...]] = defaultdict(tuple)
    for workspace in {workspace_ref(task.get("inputData"), models) for task in tasks} - {None}:
        if workspace is not None:
            _look(models, workspace, found)
    return found


def _look(models: Models, workspace: WorkspaceRef, found: defaultdict[str, tuple[Link, ...]]) -> None:
    records = models.lakefs.first_parents(workspace.repository, workspace.branch)
    for record in itertools.islice(records, _LOOK_BACK):
        if record.commit.id == workspace.ref:
            return
        task_id = record.commit.metadata.get("perago.task_id")
        commit = commit_link(workspace.repository, record.commit.id)
        if task_id and commit not in found[task_id]:
            found[task_id] = (commit, *found[task_id])
