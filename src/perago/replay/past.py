"""An attempt of the past together with what lakeFS knows of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perago.ports import WorkspaceStore
from perago.replay.attempts import PastAttempt, attempt_from
from perago.replay.fetching import Chosen, bring, everything
from perago.replay.publications import Published, gone_is_told, input_commit, published_by
from perago.testing.difference import Content, Digest, digest_of, most_compared
from perago.testing.remains import Differences, Remains, differences, with_untouched
from perago.workspace.changes import Changes


@dataclass(frozen=True, slots=True)
class Past:
    """What the attempt read and left. `prefix` is what the keys of its workspace begin with."""

    attempt: PastAttempt
    prefix: str
    input_ref: str | None = None
    published: Published = field(default_factory=Published)


def look_up(store: WorkspaceStore | None, attempt: PastAttempt, prefix: str) -> Past:
    """What lakeFS knows of an attempt.

    Args:
        store: the lakeFS; not needed for a task without a workspace.
        attempt: as Conductor has it.
        prefix: what the keys of the task's workspace begin with.

    Raises:
        NotReplayable: lakeFS no longer has it.
        ServiceError: lakeFS did not answer.
    """
    if attempt.workspace is None or store is None:
        return Past(attempt, prefix)
    with gone_is_told(attempt):
        ref = input_commit(store, attempt.workspace)
        return Past(attempt, prefix, ref, published_by(store, attempt.workspace, ref, prefix))


def fetch_input(
    store: WorkspaceStore | None,
    past: Past,
    directory: Path,
    chosen: Chosen = everything,
    workspace_limit: int | None = None,
) -> dict[str, Path]:
    """Download the input tree into an empty directory.

    Args:
        store: the lakeFS.
        past: the attempt.
        directory: where the files go.
        chosen: which of them; all that the task sees.
        workspace_limit: `PERAGO_MAX_WORKSPACE_BYTES`.

    Raises:
        NotReplayable: it does not fit the disk, or is gone.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    workspace = past.attempt.workspace
    if store is None or workspace is None or past.input_ref is None:
        return {}
    with gone_is_told(past.attempt):
        return bring(
            store,
            workspace.repository,
            past.input_ref,
            past.prefix,
            directory,
            chosen=chosen,
            workspace_limit=workspace_limit,
        )


def differences_to(past: Past, now: Remains, store: WorkspaceStore | None, tree: Mapping[str, Content]) -> Differences:
    """How what an attempt leaves today differs from what the past one left. Only files that differ are downloaded.

    Args:
        past: the attempt of the past.
        now: what that of today left.
        store: the lakeFS of the past one.
        tree: what both began with, by path.

    Raises:
        NotReplayable: what was published is gone.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    attempt, published = past.attempt, past.published
    with tempfile.TemporaryDirectory(prefix="perago-then-") as name:
        known = {path: digest for path, digest in published.files.items() if digest is not None}
        then = Remains(attempt.ending, attempt.reason, attempt.result, known, published.removed)
        files = _then(past, with_untouched(now, then, tree), store, Path(name))
        return differences(replace(then, files=files), now, tree)


def remains_of(
    store: WorkspaceStore, row: Mapping[str, Any], changes: Changes, prefix: str, directory: Path
) -> Remains:
    """What an attempt on local services left.

    Args:
        store: the local lakeFS.
        row: the attempt as Conductor shows it after its end.
        changes: what the function did to its workspace.
        prefix: what the keys of the workspace begin with.
        directory: where the files go; it exists, and is empty.

    Raises:
        OSError: the disk refused.
    """
    attempt = attempt_from(row)
    workspace = attempt.workspace
    if attempt.ending != "completed" or workspace is None or workspace.output_ref is None:
        return Remains(attempt.ending, attempt.reason, attempt.result)
    listed = {file.path: Digest(file.size, file.checksum) for file in (*changes.added, *changes.changed)}
    small = {path for path, digest in listed.items() if digest.size <= most_compared(path)}
    commit = workspace.output_ref
    files: dict[str, Content | Digest] = dict(listed)
    if small:
        files |= bring(store, workspace.repository, commit, prefix, directory, chosen=small.__contains__)
    removed = frozenset(file.path for file in changes.removed)
    return Remains(attempt.ending, attempt.reason, attempt.result, files, removed)


def _then(past: Past, now: Remains, store: WorkspaceStore | None, directory: Path) -> dict[str, Content | Digest]:
    """The published files; those that differ today and are not too large with their contents."""
    published, workspace = past.published, past.attempt.workspace
    if store is None or workspace is None or published.commit is None:
        return {}
    differing = {path for path, digest in published.files.items() if _differs(path, digest, now.files.get(path))}
    brought: dict[str, Path] = {}
    if differing:
        with gone_is_told(past.attempt):
            brought = bring(
                store, workspace.repository, published.commit, past.prefix, directory, chosen=differing.__contains__
            )
    digests = {path: digest for path, digest in published.files.items() if digest is not None}
    return {**digests, **brought}


def _differs(path: str, then: Digest | None, now: Content | Digest | None) -> bool:
    if now is None:
        return then is None
    return then is None or (then.size <= most_compared(path) and then != digest_of(now))
