"""`LakeFSBrowser`: a lakeFS server looked at page by page, as people do. Everything here only reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from urllib3.exceptions import HTTPError

from perago.adapters.http import Answer, CallPolicy, NoAnswerError, clean, no_answer, read_whole
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.errors import Call
from perago.adapters.lakefs.store import open_pool
from perago.retry import retry
from perago.settings import LakeFSSettings

MOST = 1000
"""Entries of a page, the server's maximum."""
_CONNECTIONS = 8
_CHUNK = 64 * 1024

Json: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = tuple[Sequence[Json], str | None]
"""Some entries of a list as JSON, and the entry after which the next ones begin; None at the end."""


class LakeFSBrowser:
    """Safe to use from several threads; opens no connection before the first call. All calls raise a ServiceError if
    they do not succeed, `NotFound` for what is not there.

    Lists begin after the entry `after` (empty: with the first) and have at most `limit` entries, 1,000 at most.

    Args:
        settings: where the server is.
        policy: time limits and repetitions.
    """

    def __init__(self, settings: LakeFSSettings, *, policy: CallPolicy) -> None:
        self._policy = policy
        self._pool = open_pool(settings, _CONNECTIONS, policy)

    def repositories(self, after: str, limit: int) -> Rows:
        """Repositories by name."""
        call = Call("list the repositories", "", "the list of repositories")
        return self._rows(call, "/repositories", after, limit)

    def repository(self, name: str) -> Json:
        """One repository."""
        return self._one(Call(f"read repository {name}", name, f"repository {name}"), f"/repositories/{_part(name)}")

    def branches(self, repository: str, after: str, limit: int, *, prefix: str = "", hidden: bool = False) -> Rows:
        """Branches by name; hidden ones only if they are asked for."""
        call = Call(f"list the branches of {repository}", repository, f"repository {repository}")
        options = {"prefix": prefix, "show_hidden": "true" if hidden else "false"}
        return self._rows(call, f"/repositories/{_part(repository)}/branches", after, limit, options)

    def branch(self, repository: str, name: str) -> Json:
        """One branch."""
        call = Call(f"read branch {name} of {repository}", repository, f"branch {name}")
        return self._one(call, f"/repositories/{_part(repository)}/branches/{_part(name)}")

    def tags(self, repository: str, after: str, limit: int) -> Rows:
        """Tags by name."""
        call = Call(f"list the tags of {repository}", repository, f"repository {repository}")
        return self._rows(call, f"/repositories/{_part(repository)}/tags", after, limit)

    def commit(self, repository: str, ref: str) -> Json:
        """The commit that a branch, a tag or the beginning of an id names."""
        call = Call(f"read commit {ref[:12]} of {repository}", repository, f"commit {ref}")
        return self._one(call, f"/repositories/{_part(repository)}/commits/{_part(ref)}")

    def first_parents(self, repository: str, commit_id: str, limit: int) -> Sequence[Json]:
        """A commit, its first parent, and so on."""
        call = Call(f"read the history of {repository}", repository, f"commit {commit_id}")
        path = f"{_refs(repository, commit_id)}/commits"
        return self._rows(call, path, "", limit, {"first_parent": "true"})[0]

    def changes(self, repository: str, left: str, right: str, after: str, limit: int) -> Rows:
        """The keys at which two commits differ, by key; a size is that of the right side, or of what was removed."""
        call = Call(f"compare commits of {repository}", repository, f"commit {left} or {right}")
        path = f"{_refs(repository, left)}/diff/{_part(right)}"
        return self._rows(call, path, after, limit, {"type": "two_dot"})

    def uncommitted(self, repository: str, branch: str, limit: int) -> Rows:
        """The keys at which a branch differs from its head."""
        call = Call(f"look for uncommitted changes on {branch} of {repository}", repository, f"branch {branch}")
        return self._rows(call, f"/repositories/{_part(repository)}/branches/{_part(branch)}/diff", "", limit)

    def objects(self, repository: str, ref: str, prefix: str, after: str, limit: int, *, delimiter: str = "") -> Rows:
        """Objects by key; with a delimiter, what is below a directory is one entry of the type `common_prefix`."""
        call = Call(f"list {repository} at {ref[:12]}", repository, f"commit {ref}")
        options = {"prefix": prefix, "delimiter": delimiter}
        return self._rows(call, f"{_refs(repository, ref)}/objects/ls", after, limit, options)

    def stat(self, repository: str, ref: str, key: str) -> Json:
        """One object."""
        return self._one(_of_object(repository, ref, key), f"{_refs(repository, ref)}/objects/stat", {"path": key})

    def read(self, repository: str, ref: str, key: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes of an object, which has at least so many."""
        call = _of_object(repository, ref, key)
        target = f"{_refs(repository, ref)}/objects?{urlencode({'path': key}, quote_via=quote, errors='replace')}"
        ends = time.monotonic() + self._policy.connect + self._policy.answer + size / self._policy.slowest
        try:
            response = self._pool.open("GET", target, headers={"Range": f"bytes=0-{size - 1}"} if size else None)
        except NoAnswerError as failure:
            raise errors.unanswered(call, failure) from failure
        left = size
        try:
            if response.status not in (200, 206):
                raise errors.refusal(call, Answer(response.status, response.headers, read_whole(response, ends)))
            place = response.headers.get("Content-Range", "no place of its bytes")
            if response.status == 206 and not place.startswith(f"bytes 0-{size - 1}/"):
                raise errors.unanswered(call, NoAnswerError(f"the server sends {clean(place)}", sent=True))
            while left and time.monotonic() < ends and (chunk := response.read1(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        except (HTTPError, HTTPException, OSError) as error:
            raise errors.unanswered(call, no_answer(error)) from error
        finally:
            response.close()
        if left:
            raise errors.unanswered(call, NoAnswerError("the object was cut off, or came too slowly", sent=True))

    def close(self) -> None:
        """Close the connections; calls after this fail."""
        self._pool.close()

    def _rows(self, call: Call, path: str, after: str, limit: int, options: Mapping[str, str] | None = None) -> Rows:
        query = {**(options or {}), "after": after, "amount": str(min(limit, MOST))}

        def read(found: Any) -> Rows:
            rows = [dict(each) for each in found["results"]]
            following = str(found["pagination"]["next_offset"]) if rows and found["pagination"]["has_more"] else None
            return rows, following

        rows: Rows = self._get(call, path, query, read)
        return rows

    def _one(self, call: Call, path: str, query: Mapping[str, str] | None = None) -> Json:
        found: Json = self._get(call, path, query or {}, dict)
        return found

    def _get(self, call: Call, path: str, query: Mapping[str, str], read: Callable[[Any], Any]) -> Any:
        given = {name: value for name, value in query.items() if value}
        target = f"{path}?{urlencode(given, quote_via=quote, errors='replace')}" if given else path

        return retry(
            lambda: errors.ask(self._pool, call, target, lambda answer: read(json.loads(answer.body))),
            self._policy.retries(),
        )


def _of_object(repository: str, ref: str, key: str) -> Call:
    return Call(f"read {key!r} of {repository} at {ref[:12]}", repository, f"object {key!r}")


def _refs(repository: str, ref: str) -> str:
    return f"/repositories/{_part(repository)}/refs/{_part(ref)}"


def _part(text: str) -> str:
    """One part of a path. What would be resolved as a directory cannot be a name; lakeFS has none for it."""
    return quote(text, safe="", errors="replace")
