"""`LakeFSBrowser`: reads a lakeFS server page by page, for people. It changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException

from urllib3.exceptions import HTTPError

from perago.adapters.http import Answer, CallPolicy, read_whole
from perago.adapters.http_answers import NoAnswerError, clean, no_answer, unanswered
from perago.adapters.lakefs.session import (
    PAGE,
    SERVICE,
    Call,
    Json,
    LakeFSSession,
    Page,
    commit_of,
    path_in,
    refusal,
    with_query,
)
from perago.ports import Commit
from perago.settings import LakeFSSettings
from perago.text import short

_CONNECTIONS = 8
_CHUNK = 64 * 1024


class LakeFSBrowser:
    """Reads a lakeFS server page by page. Safe to use from several threads; opens no connection before the first call.
    All calls raise a ServiceError if they do not succeed, `NotFound` for what does not exist.

    Lists begin after the entry `after` (empty: with the first) and have at most `limit` entries, 1,000 at most.

    Args:
        settings: where the server is.
        policy: time limits and retries.
    """

    def __init__(self, settings: LakeFSSettings, *, policy: CallPolicy | None = None) -> None:
        self._session = LakeFSSession(settings, policy or CallPolicy(), _CONNECTIONS)

    def repositories(self, after: str, limit: int) -> Page[Json]:
        """Return repositories, by name."""
        call = Call("list the repositories", "", "the list of repositories")
        return self._session.page(call, "/repositories", dict, {}, after, min(limit, PAGE))

    def repository(self, name: str) -> Json:
        """Return one repository."""
        return self._session.get(Call(f"read repository {name}", name, f"repository {name}"), path_in(name), dict)

    def branches(
        self, repository: str, after: str, limit: int, *, prefix: str = "", hidden: bool = False
    ) -> Page[Json]:
        """Return branches, by name. Hidden ones are included only on request."""
        call = Call(f"list the branches of {repository}", repository, f"repository {repository}")
        query = {"prefix": prefix, "show_hidden": "true" if hidden else "false"}
        return self._page(call, after, limit, ("branches",), query)

    def branch(self, repository: str, name: str) -> Json:
        """Return one branch."""
        call = Call(f"read branch {name} of {repository}", repository, f"branch {name}")
        return self._session.get(call, path_in(repository, "branches", name), dict)

    def tags(self, repository: str, after: str, limit: int) -> Page[Json]:
        """Return tags, by name."""
        call = Call(f"list the tags of {repository}", repository, f"repository {repository}")
        return self._page(call, after, limit, ("tags",))

    def commit(self, repository: str, ref: str) -> Commit:
        """Return the commit that a branch, a tag or the beginning of an id names."""
        call = Call(f"read commit {short(ref)} of {repository}", repository, f"commit {ref}")
        return self._session.get(call, path_in(repository, "commits", ref), commit_of)

    def first_parents(self, repository: str, commit_id: str, limit: int) -> Sequence[Commit]:
        """Return a commit, its first parent, and so on."""
        call = Call(f"read the history of {repository}", repository, f"commit {commit_id}")
        path = path_in(repository, "refs", commit_id, "commits")
        return self._session.page(call, path, commit_of, {"first_parent": "true"}, amount=min(limit, PAGE))[0]

    def changes(self, repository: str, left: str, right: str, after: str, limit: int) -> Page[Json]:
        """Return the keys at which two commits differ, by key. A size is that of the right side, or of the removed
        object."""
        call = Call(f"compare commits of {repository}", repository, f"commit {left} or {right}")
        return self._page(call, after, limit, ("refs", left, "diff", right), {"type": "two_dot"})

    def uncommitted(self, repository: str, branch: str, limit: int) -> Page[Json]:
        """Return the keys at which a branch differs from its head."""
        call = Call(f"look for uncommitted changes on {branch} of {repository}", repository, f"branch {branch}")
        return self._page(call, "", limit, ("branches", branch, "diff"))

    def objects(
        self, repository: str, ref: str, prefix: str, after: str, limit: int, *, delimiter: str = ""
    ) -> Page[Json]:
        """Return objects, by key; with a delimiter, a directory is one entry of the type `common_prefix`."""
        call = Call(f"list {repository} at {short(ref)}", repository, f"commit {ref}")
        query = {"prefix": prefix, "delimiter": delimiter}
        return self._page(call, after, limit, ("refs", ref, "objects", "ls"), query)

    def stat(self, repository: str, ref: str, key: str) -> Json:
        """Return one object."""
        path = path_in(repository, "refs", ref, "objects", "stat")
        return self._session.get(_of_object(repository, ref, key), path, dict, {"path": key})

    def read(self, repository: str, ref: str, key: str, size: int) -> Iterator[bytes]:
        """Yield the first `size` bytes of an object that is at least that large."""
        call, policy = _of_object(repository, ref, key), self._session.policy
        target = with_query(path_in(repository, "refs", ref, "objects"), {"path": key})
        ends = time.monotonic() + policy.connect + policy.answer + size / policy.slowest
        try:
            headers = {"Range": f"bytes=0-{size - 1}"} if size else None
            response = self._session.pool.open("GET", target, headers=headers, ends=ends)
            if response.status not in (200, 206):
                raise refusal(call, Answer(response.status, response.headers, read_whole(response, policy.largest)))
        except NoAnswerError as failure:
            raise unanswered(SERVICE, call.operation, failure) from failure
        left = size
        try:
            place = response.headers.get("Content-Range", "no place of its bytes")
            if response.status == 206 and not place.startswith(f"bytes 0-{size - 1}/"):
                raise unanswered(SERVICE, call.operation, NoAnswerError(f"the server sends {clean(place)}", sent=True))
            while left and (chunk := response.read1(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        except (HTTPError, HTTPException, OSError) as error:
            raise unanswered(SERVICE, call.operation, no_answer(error)) from error
        finally:
            response.close()
        if left:
            raise unanswered(SERVICE, call.operation, NoAnswerError("the object was cut off", sent=True))

    def close(self) -> None:
        """Close the connections; calls after this fail."""
        self._session.pool.close()

    def _page(
        self, call: Call, after: str, limit: int, parts: Sequence[str], query: Mapping[str, str] | None = None
    ) -> Page[Json]:
        path = path_in(call.repository, *parts)
        return self._session.page(call, path, dict, query or {}, after, min(limit, PAGE))


def _of_object(repository: str, ref: str, key: str) -> Call:
    return Call(f"read {key!r} of {repository} at {short(ref)}", repository, f"object {key!r}")
