"""A commit and what it did to its branch, as facts that JSON can hold.

A commit is shown as what it says of itself: one of a person, of an earlier perago, or with metadata that a person has
written by hand. None of it is trusted to be well formed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from perago.attempt import publication as notes
from perago.attempt.fence import FENCE_PATH, fence_in
from perago.ports import Commit, ObjectEntry

Facts = dict[str, Any]

MOST_COMMITS = 200
"""Commits of a branch, from its head, among which a publication and what undid it are looked for."""
MOST_FILES = 10_000
"""Changed files that are counted."""
_PAGE = 1000
_KINDS = ("added", "changed", "removed")


class Repository(Protocol):
    """What is asked of lakeFS. Every method may raise any `ServiceError`."""

    def get_commit(self, repository: str, ref: str) -> Commit:
        """The commit of a full id, or the head of a branch."""
        ...

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """First-parent commits of a branch down to `until`, left out."""
        ...

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """Return the objects that a commit has at `keys`."""
        ...


class Browser(Protocol):
    """What is asked of lakeFS page by page."""

    def changes(
        self, repository: str, left: str, right: str, after: str, limit: int
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """Some of the keys at which two commits differ, as JSON, and where the next ones begin."""
        ...


def commit_facts(repository: str, commit: Commit) -> Facts:
    """What a commit says of itself; `publication` is null for one that perago did not make."""
    noted = {key.removeprefix("perago."): value for key, value in commit.metadata.items() if key.startswith("perago.")}
    noted.pop("result", None)
    return {
        "repository": repository,
        "commit": commit.id,
        "parents": list(commit.parents),
        "committer": commit.committer,
        "message": commit.message,
        "created": commit.created * 1000,
        "publication": {key: value or None for key, value in sorted(noted.items())} or None,
    }


def find_publication(store: Repository, repository: str, branch: str, input_ref: str, task_id: str) -> Commit | None:
    """The newest of the last `MOST_COMMITS` commits of a branch since `input_ref` that names this task, reported or
    not."""
    for commit in store.history(repository, branch, until=input_ref, limit=MOST_COMMITS):
        if commit.metadata.get(notes.TASK_ID) == task_id:
            return commit
    return None


def with_files(store: Repository, repository: str, commit: Commit) -> Commit:
    """The publication itself: an adoption has a commit of its own, which changes nothing."""
    adopted = notes.adopted(commit)
    return store.get_commit(repository, adopted) if adopted else commit


def undone_by(store: Repository, repository: str, branch: str, commit: Commit) -> Facts:
    """The later commit of the branch that has undone a publication, if one of the last `MOST_COMMITS` has."""
    later = store.history(repository, branch, until=commit.id, limit=MOST_COMMITS)
    by = next((one.id for one in later if commit.id in notes.superseded(one)), None)
    return {"commit": by, "later_commits": len(later), "all_seen": len(later) < MOST_COMMITS}


def fence_of(store: Repository, repository: str, commit: Commit) -> str:
    """Whether the publish fence is in the tree of a commit."""
    return fence_in(store.stat_objects(repository, commit.id, [FENCE_PATH])).value


def file_facts(browser: Browser, repository: str, commit: Commit, listed: int | None) -> Facts | None:
    """What a commit changed on its branch: how many files of each kind, and the first `listed` of them (None: all).
    The size of a removed file is the one that it had. Nothing for the first commit of a repository."""
    if not commit.parents:
        return None
    counts: dict[str, int] = dict.fromkeys(_KINDS, 0)
    files: list[Facts] = []
    for row in _changes(browser, repository, commit):
        if listed is not None and sum(counts.values()) >= MOST_FILES:
            return {"counts": counts, "all_counted": False, "files": files}
        kind = str(row.get("type"))
        counts[kind] = counts.get(kind, 0) + 1
        if listed is None or len(files) < listed:
            files.append({"kind": kind, "path": str(row.get("path")), "size": row.get("size_bytes")})
    return {"counts": counts, "all_counted": True, "files": files}


def _changes(browser: Browser, repository: str, commit: Commit) -> Iterator[Mapping[str, Any]]:
    following: str | None = ""
    while following is not None:
        page, following = browser.changes(repository, commit.parents[0], commit.id, following, _PAGE)
        yield from page
