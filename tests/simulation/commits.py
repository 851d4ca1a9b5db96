"""What a commit of the branch tells of itself, and what Conductor holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.embedded.lakefs.repository import CommitRecord

from .world import World

Changes = Mapping[str, str | None]


def is_whole(record: CommitRecord) -> bool:
    """Whether a publication came on the head that it was built on."""
    return record.commit.parents[0] == record.commit.metadata.get("perago.expected_head")


def patched(tree: Mapping[str, str], changes: Changes) -> dict[str, str]:
    """A tree with changes."""
    put = {key: text for key, text in changes.items() if text is not None}
    return {key: text for key, text in tree.items() if key not in changes} | put


def name(record: CommitRecord) -> str:
    """A commit, for messages."""
    found = record.commit.metadata
    what = f"{found.get('perago.phase')} of {found.get('perago.reference_name')}, " if found else ""
    return f"commit {record.commit.id[:12]} ({what}{record.commit.message.split(':')[0]})"


def stamp_of(record: CommitRecord) -> str:
    """The identity of the delivery that has published a commit."""
    found = record.commit.metadata
    return "/".join(found.get(f"perago.{key}", "") for key in ("task_id", "poll_count", "start_time"))


def supersedes(record: CommitRecord) -> list[str]:
    """The commits that a publication has undone, newest first."""
    return [gone for gone in record.commit.metadata.get("perago.supersedes", "").split(",") if gone]


def moves_data(record: CommitRecord) -> bool:
    """Whether it is no fence commit."""
    return record.commit.metadata["perago.phase"] != "fence"


def has_fence(record: CommitRecord) -> bool:
    """Whether the publish fence is in a commit."""
    entry = record.tree.get(FENCE_PATH)
    return entry is not None and entry.blob.read().decode() == FENCE_TEXT


def rows_of(world: World, workflow: str) -> Iterator[Mapping[str, Any]]:
    """The attempts that Conductor knows of a workflow and of the sub-workflows that it has now."""
    rows = world.services.conductor.workflow(workflow)["tasks"]
    children = {row["referenceTaskName"]: row.get("subWorkflowId") for row in rows if row["taskType"] == "SUB_WORKFLOW"}
    for child in filter(None, children.values()):
        yield from rows_of(world, child)
    for row in rows:
        if row["taskType"].startswith("simulation."):
            yield row
