"""Downloads: what reaches the disk, when, and what happens if the server misbehaves."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from perago.ports import (
    AccessDenied,
    CorruptTransfer,
    NotFound,
    ObjectEntry,
    Placement,
    Refused,
    ServiceError,
    Unavailable,
)
from perago.workspace.layout import LayoutRefused

from ..transfers import download, files_in
from .lakefs_script import API, COMMIT, PASSING, Tree, failure, lakefs, policy_for
from .scripted import Action, Chunked, Drop, Hang, Reply, Request, reply_json

OBJECT = f"{API}/refs/{COMMIT}/objects"


def on_object(*actions: Action, key: str = "a") -> Callable[[Request], Action | None]:
    """Answer the first requests for a key with `actions`, later ones properly."""
    queue = list(actions)

    def trouble(request: Request) -> Action | None:
        if request.path == OBJECT and request.query["path"] == key and queue:
            return queue.pop(0)
        return None

    return trouble


def always(action: Action, key: str = "a") -> Callable[[Request], Action | None]:
    """Answer every request for a key with `action`."""
    return lambda request: action if request.path == OBJECT and request.query["path"] == key else None


def test_every_object_below_the_prefix_arrives_with_its_bytes_and_time(tmp_path: Path) -> None:
    objects = {"in/a": b"1", "in/deep/ü +%41&?.txt": b"22", "in/empty": b"", "out/b": b"no"}
    workspace = tmp_path / "attempt" / "workspace"
    finished: list[tuple[int, int]] = []
    with lakefs(Tree(objects)) as (store, server):
        placements = download(store, "repo", COMMIT, workspace, "in/", lambda n, b: finished.append((n, b)))
    assert files_in(tmp_path / "attempt") == {
        "workspace/a": b"1",
        "workspace/deep/ü +%41&?.txt": b"22",
        "workspace/empty": b"",
    }
    assert [place.name for place in (tmp_path / "attempt").iterdir()] == ["workspace"], "nothing is left beside it"
    assert {placement.entry.key for placement in placements} == {"in/a", "in/deep/ü +%41&?.txt", "in/empty"}
    assert (workspace / "a").stat().st_mtime == 1_700_000_000
    assert sorted(finished)[-1] == (3, 3)
    assert server.count("GET", "/objects") == 2, "an empty object costs no request"


def test_a_listing_that_its_reader_refuses_ends_at_that_page() -> None:
    def refuse(page: Sequence[ObjectEntry]) -> None:
        read.extend(entry.key for entry in page)
        if len(read) > 4:
            raise LayoutRefused("too many", retryable=False)

    read: list[str] = []
    tree = Tree({f"f{number}": b"1" for number in range(9)}, page=3)
    with lakefs(tree) as (store, server), pytest.raises(LayoutRefused, match="too many"):
        store.list_objects("repo", COMMIT, "", refuse)
    assert read == [f"f{number}" for number in range(6)]
    assert server.count("GET", "/objects/ls") == 2


def test_files_are_0644_less_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with lakefs(Tree({"a": b"1"})) as (store, _):
            download(store, "repo", COMMIT, tmp_path / "w")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w" / "a").stat().st_mode) == 0o640


def test_an_object_without_a_place_is_not_fetched(tmp_path: Path) -> None:
    with lakefs(Tree({"_hidden": b"1", "a": b"2"})) as (store, server):
        hidden, entry = store.list_objects("repo", COMMIT, "")
        store.download(
            "repo", COMMIT, tmp_path / "w", [Placement(hidden, None), Placement(entry, tmp_path / "w" / "a")]
        )
    assert files_in(tmp_path) == {"w/a": b"2"}
    assert server.count("GET", "/objects") == 1


PASSING_HERE: dict[str, Action] = {
    **PASSING,
    "429": failure(429, "slow down"),
    "half a head": Drop(b"HTTP/1.1 200 OK\r\nContent-"),
    "not HTTP": Drop(b"SSH-2.0-OpenSSH\r\n"),
    "wrong bytes once": Reply(200, b"wrong"),
}


@pytest.mark.parametrize("action", PASSING_HERE.values(), ids=PASSING_HERE)
def test_a_passing_fault_is_not_seen(tmp_path: Path, action: Action) -> None:
    with lakefs(Tree({"a": b"right"}, on_object(action))) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
    assert files_in(tmp_path) == {"w/a": b"right"}
    assert server.count("GET", "/objects") == 2


LASTING: dict[str, tuple[Action, type[ServiceError], str]] = {
    "500": (failure(500, "boom"), Unavailable, "boom"),
    "503": (failure(503, "busy"), Unavailable, "busy"),
    "401": (failure(401, "error authenticating request"), AccessDenied, "authenticating"),
    "404": (failure(404, "not found"), NotFound, "object 'a' does not exist"),
    "404 of a proxy": (Reply(404, b"<html>"), Unavailable, "proxy"),
    "410": (failure(410, "No data"), Refused, "No data"),
    "redirect": (Reply(307, b"", {"Location": "http://127.0.0.1:1/"}), Refused, "redirects"),
    "cut off": (Reply(200, b"ri", length=5), Unavailable, "cut off"),
    "too short": (Reply(200, b"righ"), CorruptTransfer, "sends 4 bytes"),
    "too long": (Reply(200, b"right+"), CorruptTransfer, "sends 6 bytes"),
    "too long, without a length": (Chunked(b"right+"), CorruptTransfer, "more than 5 bytes"),
    "too short, without a length": (Chunked(b"righ"), Unavailable, "cut off after 4 of 5 bytes"),
    "wrong bytes": (Reply(200, b"wrong"), CorruptTransfer, "MD5"),
    "silence": (
        Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nri"),
        Unavailable,
        "no answer within the time limit",
    ),
}


@pytest.mark.parametrize(("action", "error", "text"), LASTING.values(), ids=LASTING.keys())
def test_a_lasting_fault_fails_the_download_and_leaves_no_partial_file(
    tmp_path: Path, action: Action, error: type[ServiceError], text: str
) -> None:
    tree, policy = Tree({"a": b"right"}, always(action)), policy_for(action)
    with lakefs(tree, policy) as (store, _), pytest.raises(error, match="read 'a'") as caught:
        download(store, "repo", COMMIT, tmp_path / "w")
    assert text in str(caught.value)
    assert files_in(tmp_path) == {}


def test_the_first_error_ends_the_waits_of_all_streams(tmp_path: Path) -> None:
    arrived = threading.Barrier(8)

    def trouble(request: Request) -> Action | None:
        if request.path != OBJECT:
            return None
        arrived.wait(60)
        return failure(403, "no permission") if request.query["path"] == "k3" else Hang()

    tree = Tree({f"k{number}": b"x" for number in range(8)}, trouble)
    with lakefs(tree) as (store, _):
        started = time.monotonic()
        with pytest.raises(AccessDenied, match="k3"):
            download(store, "repo", COMMIT, tmp_path / "w")
        assert time.monotonic() - started < 45, "the others hang for 60 s if nobody cuts them"
    assert files_in(tmp_path) == {}


def test_a_disk_that_refuses_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a").write_text("a file where a directory must be")
    with lakefs(Tree({"a/b": b"1"})) as (store, _), pytest.raises(OSError):
        download(store, "repo", COMMIT, tmp_path / "w")


LISTINGS: dict[str, tuple[Action, type[ServiceError], str]] = {
    "not JSON": (Reply(200, b"<html>"), Unavailable, "not lakeFS's"),
    "a page that does not advance": (
        reply_json({"pagination": {"has_more": True, "next_offset": ""}, "results": []}),
        Unavailable,
        "not lakeFS's",
    ),
    "a page without objects before the end": (
        reply_json({"pagination": {"has_more": True, "next_offset": "a"}, "results": []}),
        Unavailable,
        "not lakeFS's",
    ),
    "unknown repository": (failure(404, "repository not found"), NotFound, "repository repo does not exist"),
    "unknown commit": (failure(404, "not found"), NotFound, f"commit {COMMIT} does not exist"),
    "wrong address": (failure(404, "invalid API endpoint"), Refused, "invalid API endpoint"),
    "rejected": (failure(401, "error authenticating request"), AccessDenied, "authenticating"),
}


@pytest.mark.parametrize(("action", "error", "text"), LISTINGS.values(), ids=LISTINGS.keys())
def test_a_listing_that_fails_says_why(tmp_path: Path, action: Action, error: type[ServiceError], text: str) -> None:
    with lakefs(lambda _: action) as (store, _), pytest.raises(error) as caught:
        download(store, "repo", COMMIT, tmp_path / "w")
    assert text in str(caught.value)
