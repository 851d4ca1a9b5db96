"""Listings as raw JSON: the SDK's models cost more than the listing itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from os.path import commonprefix
from sys import intern
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from perago.adapters.http import Answer, CallPolicy, HttpPool
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.errors import Call
from perago.ports import ObjectEntry, OnPage
from perago.retry import retry

PAGE = 1000
"""Objects a page, the server's maximum."""
_LONGEST_AFTER = 1000
"""Bytes of a key at which a page can begin. lakeFS takes 1,024."""
_SURROGATES = range(0xD800, 0xE000)
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


def list_objects(
    pool: HttpPool, policy: CallPolicy, repository: str, commit: str, prefix: str, on_page: OnPage | None = None
) -> list[ObjectEntry]:
    """List the objects below a prefix. `on_page` as in `WorkspaceStore.list_objects`.

    Raises:
        NotFound: no such repository or commit.
        Unavailable: a page could not be read.
    """
    call = Call(f"list {repository} at {commit[:12]}…", repository, f"commit {commit}")
    found: list[ObjectEntry] = []
    for page in _pages(pool, policy, call, commit, prefix):
        if on_page is not None:
            on_page(page)
        found += page
    return found


def stat_objects(
    pool: HttpPool,
    policy: CallPolicy,
    repository: str,
    commit: str,
    keys: Collection[str],
    stat: Callable[[str], ObjectEntry | None],
) -> dict[str, ObjectEntry]:
    """Return those of the objects `keys` that are there.

    A page of the listing begins at the first key that is not settled, so each page settles one key at least, and no
    object is listed twice. The last key, and one at which no page can begin, is settled by `stat`.

    Raises:
        NotFound: no such repository or commit.
        Unavailable: a page could not be read.
    """
    call = Call(f"list {repository} at {commit[:12]}…", repository, f"commit {commit}")
    left, found = sorted(keys, reverse=True), dict[str, ObjectEntry]()  # code points are in the order of their UTF-8
    while left:
        key, after = left[-1], _before(left[-1])
        if len(left) > 1 and after is not None:
            page, more, last = retry(lambda at=after: _page(pool, call, commit, "", at), policy.retries())  # type: ignore[misc]
            listed = {entry.key: entry for entry in page}
            while left and not (more and left[-1] > last):
                if left[-1] in listed:
                    found[left[-1]] = listed[left[-1]]
                left.pop()
        if left and left[-1] == key:
            if (entry := stat(key)) is not None:
                found[key] = entry
            left.pop()
    return found


def _before(key: str) -> str | None:
    """Return a text below `key` that has hardly any key between itself and `key`; None: there is no such text."""
    last = ord(key[-1])
    is_short = len(key.encode(errors="replace")) <= _LONGEST_AFTER
    return f"{key[:-1]}{chr(last - 1)}\U0010ffff" if is_short and last > 0 and last - 1 not in _SURROGATES else None


def newest_upload(
    pool: HttpPool, policy: CallPolicy, repository: str, branch: str, staged: Collection[str]
) -> int | None:
    """The upload second of the newest of the objects `staged` on a branch; None if none of them is there any more.

    Only the bare name of a branch shows what is staged on it (`docs/dev/servers/lakefs.md` 3), and only a listing its
    times.

    Raises:
        NotFound: no such repository or branch.
        Unavailable: a page could not be read.
    """
    call = Call(f"list {repository} at {branch}", repository, f"branch {branch}")
    last = max(staged)  # code points are in the order of their UTF-8
    shared = commonprefix(list(staged))  # noqa: RUF071 - a listing's prefix is one of characters, too
    times: list[int] = []
    for page in _pages(pool, policy, call, branch, shared):
        times += [entry.mtime for entry in page if entry.key in staged]
        if page and page[-1].key >= last:
            break
    return max(times, default=None)


def _pages(pool: HttpPool, policy: CallPolicy, call: Call, commit: str, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
    after, more = "", True
    while more:
        page, more, after = retry(lambda at=after: _page(pool, call, commit, prefix, at), policy.retries())  # type: ignore[misc]
        yield page


def _page(pool: HttpPool, call: Call, commit: str, prefix: str, after: str) -> tuple[Sequence[ObjectEntry], bool, str]:
    query = urlencode({"prefix": prefix, "after": after, "amount": PAGE}, quote_via=quote)
    target = f"/repositories/{quote(call.repository, safe='')}/refs/{quote(commit, safe='')}/objects/ls?{query}"

    def read(answer: Answer) -> tuple[Sequence[ObjectEntry], bool, str]:
        page = json.loads(answer.body)
        entries = [_entry(item) for item in page["results"]]
        more, offset = bool(page["pagination"]["has_more"]), str(page["pagination"]["next_offset"])
        if more and (offset <= after or not entries):
            raise ValueError("this listing would be read forever")
        return entries, more, offset

    return errors.ask(pool, call, target, read)


def _entry(item: dict[str, Any]) -> ObjectEntry:
    return ObjectEntry(
        key=item["path"],
        size=item["size_bytes"],
        checksum=item["checksum"],
        mtime=item["mtime"],
        content_type=intern(item.get("content_type") or "application/octet-stream"),  # one text for 100,000 objects
        metadata=item.get("metadata") or _NO_METADATA,
        physical_address=item.get("physical_address") or "",
    )
