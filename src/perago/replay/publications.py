"""What an attempt of the past read and published, from the commits of its repository."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perago.attempt import publication as notes
from perago.attempt.joining import PAGE, NotOneLine, newest_of
from perago.ports import Commit, NotFound, ObjectEntry, Refused, WorkspaceStore
from perago.replay.attempts import NotReplayable, PastAttempt, PastWorkspace
from perago.testing.difference import Digest
from perago.workspace.keys import is_reserved

_MD5 = re.compile(r"[0-9a-f]{32}")
_MOST_ADOPTIONS = 20


@dataclass(frozen=True, slots=True)
class Published:
    """What the attempt published. Paths are relative to its workspace."""

    commit: str | None = None
    """The commit that has the files; None if nothing was published."""
    files: Mapping[str, Digest | None] = field(default_factory=dict)
    """What it added and changed; None where lakeFS knows no MD5."""
    removed: frozenset[str] = frozenset()


@contextlib.contextmanager
def gone_is_told(attempt: PastAttempt) -> Iterator[None]:
    """What lakeFS no longer has makes an attempt one that cannot be run again.

    Raises:
        NotReplayable: instead of `NotFound` and `Refused`.
    """
    try:
        yield
    except (NotFound, Refused) as error:  # an object that was collected as garbage is refused: 410
        raise NotReplayable(
            f"what task {attempt.task_id} read or published is gone from lakeFS: {error.operation}: {error.detail}",
            "garbage collection, or the removal of a branch or a repository, takes old commits and objects away; "
            "choose a later attempt",
        ) from error


def input_commit(store: WorkspaceStore, workspace: PastWorkspace) -> str:
    """The commit that the attempt read: the one of its input, or of several the one that continues all others.

    Raises:
        NotReplayable: none of them does.
        ServiceError: lakeFS did not answer.
    """
    try:
        return newest_of(workspace.refs, lambda ref: store.ancestry(workspace.repository, ref, limit=PAGE))
    except NotOneLine as error:
        raise NotReplayable(str(error)) from error


def published_by(store: WorkspaceStore, workspace: PastWorkspace, input_ref: str, prefix: str) -> Published:
    """What the attempt added, changed and removed, without what others have published at the same time.

    Args:
        store: the lakeFS.
        workspace: where it read and published.
        input_ref: the commit that it read.
        prefix: what the keys of the task's workspace begin with.

    Raises:
        ServiceError: lakeFS did not answer, or no longer has the commits.
    """
    if workspace.output_ref is None or workspace.output_ref == input_ref:
        return Published()
    repository = workspace.repository
    commit = _with_files(store, repository, workspace.output_ref)
    base = _base(commit, input_ref)
    changed = {
        key: size
        for key, size in store.diff(repository, base, commit.id).items()
        if key.startswith(prefix) and not is_reserved(key)
    }
    # What another branch of a fork had published already with the same bytes is in no diff, but is its own as well.
    shared = {key for key in notes.shared([commit]) or () if key.startswith(prefix)}
    there = {key for key, size in changed.items() if size is not None} | shared
    listed = {entry.key: entry for entry in store.list_objects(repository, commit.id, prefix) if entry.key in there}
    files = {key[len(prefix) :]: _digest(entry) for key, entry in listed.items() if not key.endswith("/")}
    gone = {key for key, size in changed.items() if size is None} | (shared - listed.keys())
    removed = frozenset(key[len(prefix) :] for key in gone)
    return Published(commit.id, files, removed)


def _digest(entry: ObjectEntry) -> Digest | None:
    return Digest(entry.size, entry.checksum) if _MD5.fullmatch(entry.checksum) else None


def _with_files(store: WorkspaceStore, repository: str, ref: str) -> Commit:
    """The publication itself: an adoption reports a commit of its own, which changes nothing."""
    commit = store.get_commit(repository, ref)
    for _ in range(_MOST_ADOPTIONS):
        adopted = notes.adopted(commit)
        if adopted is None:
            break
        commit = store.get_commit(repository, adopted)
    return commit


def _base(commit: Commit, input_ref: str) -> str:
    """What the publication is compared with: the head that it was built on. Where it has also undone a stale
    publication, that head is not what the function saw."""
    if commit.metadata.get(notes.SUPERSEDES) or not commit.parents:
        return input_ref
    return commit.parents[0]
