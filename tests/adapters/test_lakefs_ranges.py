"""How many streams a transfer has, and the ranges of large objects that they bring.

A transfer has more streams while that makes it faster, and fewer where a server has no time. Large objects come as
ranges side by side, each resumed where it broke. If anything about that is odd, they come as a unit.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr

from perago.adapters.http import CallPolicy
from perago.adapters.http_connections import Wire
from perago.adapters.lakefs import download as downloading
from perago.adapters.lakefs.block_store import BlockStore
from perago.adapters.lakefs.session import LakeFSSession
from perago.adapters.lakefs.transfers import (
    CALM_SECONDS,
    FIRST_LARGE,
    FIRST_SMALL,
    LARGE,
    RETRY_WINDOWS,
    Pace,
    Transfer,
)
from perago.cache import ObjectCache, usage
from perago.ports import CorruptTransfer, Refused, ServiceError, Unavailable
from perago.retry import BackOff
from perago.settings import LakeFSSettings

from ..transfers import download, files_in, to_upload
from .lakefs_script import API, CALM, COMMIT, SECRET, Tree, entry_of, lakefs, md5
from .scripted import Action, Drop, Reply, Request, ScriptedServer, object_reply, reply_json
from .signing import Signing, Store, signing

SMALL = 4096


class Server:
    """One that answers up to `capacity` streams in the same time, and more of them no faster; the clock is its own."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.time = 100.0

    def serve(self, pace: Pace, objects: int, size: int = SMALL) -> list[int]:
        """The numbers of streams that a transfer of so many objects has had."""
        widths = [pace.width]
        for _ in range(objects):
            self.time += 0.01 / min(self.capacity, pace.width)
            pace.finished(size)
            if pace.width != widths[-1]:
                widths.append(pace.width)
        return widths

    def pace(self, most: int, *, large: bool = False) -> Pace:
        return Pace(most, large=large, now=lambda: self.time)


@pytest.mark.parametrize(
    ("capacity", "most", "expected"),
    [(1000, 16, [8, 16]), (1000, 100, [8, 16, 32, 64, 100]), (1000, 4, [4]), (10, 16, [8, 16]), (1000, 1, [1])],
)
def test_streams_double_while_that_is_faster(capacity: float, most: int, expected: list[int]) -> None:
    server = Server(capacity)
    assert server.serve(server.pace(most), 1000)[: len(expected)] == expected


@pytest.mark.parametrize(("capacity", "best"), [(8, 8), (16, 16), (4, 8), (30, 32)])
def test_streams_without_a_gain_are_given_up_and_tried_again_later(capacity: float, best: int) -> None:
    server = Server(capacity)
    pace = server.pace(64)
    widths = server.serve(pace, 3000)
    assert widths[widths.index(best) :][:4] == [best, 2 * best, best, 2 * best]
    assert len(widths) < 2 * 3000 / (4 * best * RETRY_WINDOWS) + 6


def test_a_server_that_becomes_faster_gets_more_streams_later() -> None:
    server = Server(8)
    pace = server.pace(32)
    server.serve(pace, 200)
    server.capacity = 1000
    assert server.serve(pace, 2000)[-1] == 32


def test_large_objects_begin_with_few_streams_and_small_ones_with_more() -> None:
    server = Server(4)
    pace = server.pace(16, large=True)
    assert pace.width == FIRST_LARGE
    server.serve(pace, 100, LARGE)
    server.capacity = 1000
    assert server.serve(pace, 1)[-1] == FIRST_SMALL
    assert server.serve(pace, 200)[-1] == 16


def test_one_overload_halves_the_streams_only_once() -> None:
    server = Server(1000)
    pace = server.pace(16)
    server.serve(pace, 100)
    for _ in range(16):
        pace.overloaded(0)
    assert pace.width == 8
    server.time += CALM_SECONDS
    pace.overloaded(0)
    assert pace.width == 4
    for _ in range(10):
        server.time += CALM_SECONDS
        pace.overloaded(0)
    assert pace.width == 1
    assert server.serve(pace, 4 * RETRY_WINDOWS - 1) == [1]
    assert server.serve(pace, 2000)[-1] == 16


def test_no_request_starts_during_an_overload_which_counts_once() -> None:
    server = Server(1000)
    pace = server.pace(16)
    assert pace.pause == 0
    pace.overloaded(5)
    server.time += 3
    assert pace.pause == 2
    pace.overloaded(0)
    assert (pace.pause, pace.width) == (2, 4)
    server.time += 2
    assert pace.pause == 0


def test_a_pause_that_the_server_asks_for_holds_back_every_stream(tmp_path: Path) -> None:
    """It asks for an hour, and gets what the policy allows. What is on its way by then is answered late, so that each
    stream can begin one request before it hears of the pause."""
    policy, begun = replace(CALM, delays=BackOff(0.01, 0.5)), list[float]()

    def refuse_one(request: Request) -> Action | None:
        if request.method != "POST":
            return None
        begun.append(time.monotonic())
        if len(begun) == 10:
            return reply_json({"message": "slow down"}, 429, Retry_After="3600")
        if 10 < len(begun) <= 18:
            time.sleep(0.2)
        return None

    with lakefs(Tree({}, refuse_one), policy, threads=8) as (store, _):
        store.upload("repo", "staging", [to_upload(tmp_path / str(number), b"1") for number in range(60)])
    refused = begun[9]
    assert len([moment for moment in begun[10:] if moment < refused + 0.45]) <= 8
    assert len(begun) == 61


def test_a_block_store_without_a_date_is_not_broken(tmp_path: Path) -> None:
    """What it does not give comes through lakeFS, and it is asked for the next one."""
    objects = {str(number): bytes([number]) * 100 for number in range(60)}
    slow = Store(objects, lambda request: Reply(503) if int(request.path.rpartition("/")[2]) % 4 == 0 else None)
    with signing(Signing(objects), slow) as (store, asked, stored):
        download(store, "repo", COMMIT, tmp_path / "w")
        assert store.take_notes().texts == ()
        assert sum(request.path.endswith("/objects") for request in asked) == 15
        assert len(stored) == 60
    assert files_in(tmp_path / "w") == objects


OBJECT = f"{API}/refs/{COMMIT}/objects"
RANGE = 100_000
CONTENT = os.urandom(10 * RANGE - 7)
OTHER = os.urandom(len(CONTENT))


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "CHUNK", RANGE // 5)
    monkeypatch.setattr(downloading, "RANGE", RANGE)
    monkeypatch.setattr(downloading, "LARGEST_WHOLE", 2 * RANGE)


STARTS = [len(CONTENT) * number // 10 for number in range(10)]


def asked_for(requests: list[Request]) -> list[str]:
    """The ranges of the object's bytes that were asked for, in their order; "" is the whole object."""
    headers = [request.headers.get("range", "") for request in requests if request.path == OBJECT]
    return sorted(headers, key=lambda header: int(re.sub(r"\D", "", header.partition("-")[0]) or 0))


def begin_of(request: Request) -> int | None:
    """Where the range that is asked for begins; None where the whole object is, or anything else."""
    header = request.headers.get("range", "")
    return int(header.removeprefix("bytes=").partition("-")[0]) if header else None


def test_a_large_object_is_downloaded_as_parallel_ranges(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def wait_for_each_other(request: Request) -> Action | None:
        if begin_of(request) in STARTS[:4]:
            together.wait(30)
        return None

    with lakefs(Tree({"large": CONTENT}, wait_for_each_other)) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
        ranges = asked_for(server.requests)
    assert files_in(tmp_path) == {"w/large": CONTENT}
    assert ranges == [f"bytes={start}-{end - 1}" for start, end in pairwise([*STARTS, len(CONTENT)])]


def breaking(content: bytes, begins: Iterable[int | None]) -> Callable[[Request], Action | None]:
    """The first answer for each range ends after half of it."""
    left = set(begins)

    def trouble(request: Request) -> Action | None:
        begin = begin_of(request)
        if not request.path.endswith(("/objects", "/data/large")) or begin not in left:
            return None
        left.discard(begin)
        reply = object_reply(request, content, md5(content))
        return replace(reply, body=reply.body[: len(reply.body) // 2], length=len(reply.body))

    return trouble


@pytest.mark.parametrize(("size", "begins"), [(RANGE, [None]), (len(CONTENT), STARTS)], ids=["whole", "ranges"])
def test_a_broken_connection_is_resumed_where_it_broke(tmp_path: Path, size: int, begins: list[int | None]) -> None:
    content = CONTENT[:size]
    with lakefs(Tree({"large": content}, breaking(content, begins))) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
        asked = asked_for(server.requests)
    assert files_in(tmp_path) == {"w/large": content}
    assert len(asked) == 2 * len(begins)
    assert f"bytes={RANGE // 2}-{RANGE - 1}" in asked or len(begins) > 1


def test_a_failed_transfer_from_the_block_store_is_resumed_there(tmp_path: Path) -> None:
    objects = {"large": CONTENT}

    def slow(request: Request) -> None:
        if request.path.endswith("/stat"):
            time.sleep(0.3)  # all threads want the address meanwhile

    with signing(Signing(objects, slow), Store(objects, breaking(CONTENT, STARTS))) as (store, asked, stored):
        download(store, "repo", COMMIT, tmp_path / "w")
        assert asked_for(asked) == []
        assert len(stored) == 20
        assert sum(request.path.endswith("/stat") for request in asked) == 1
        assert store.take_notes().texts == ()
    assert files_in(tmp_path) == {"w/large": CONTENT}


def test_the_rest_of_a_range_comes_through_lakefs_if_the_store_breaks_off(tmp_path: Path) -> None:
    """The first half of the first range is from the store."""
    objects = {"large": CONTENT}
    half = breaking(CONTENT, STARTS[:1])
    troubles = Store(objects, lambda request: half(request) or (Reply(500) if begin_of(request) else None))
    with signing(Signing(objects), troubles) as (store, asked, _):
        download(store, "repo", COMMIT, tmp_path / "w")
        begin = int(asked_for(asked)[0].removeprefix("bytes=").partition("-")[0])
    assert files_in(tmp_path) == {"w/large": CONTENT}
    assert begin != 0


def test_an_old_error_of_the_block_store_explains_no_outage(tmp_path: Path) -> None:
    """The store gives no ranges. lakeFS gives them, and then nothing more."""
    objects, has_come = {"large": CONTENT, "small": b"small"}, threading.Event()

    def go_away(request: Request) -> Action | None:
        if request.path != OBJECT or request.query["path"] == "large":
            return None
        assert has_come.wait(30)
        return Drop()

    stored = Store(objects, lambda request: Reply(200, CONTENT) if request.path.endswith("/large") else Drop())
    with signing(Signing(objects, go_away), stored) as (store, _, _), pytest.raises(Unavailable):
        download(store, "repo", COMMIT, tmp_path / "w", on_progress=lambda *_: has_come.set())


def _placed(place: str) -> Callable[[Request], Reply]:
    return lambda request: replace(object_reply(request, CONTENT), headers={"Content-Range": place})


ODD: dict[str, Callable[[Request], Reply]] = {
    "no ranges": lambda _: Reply(200, CONTENT),
    "none of these bytes": lambda _: Reply(416),
    "other bytes": _placed(f"bytes 0-{RANGE - 1}/{len(CONTENT)}"),
    "of another size": _placed(f"bytes {STARTS[3]}-{STARTS[4] - 1}/{len(CONTENT) + 1}"),
    "of no place": lambda request: replace(object_reply(request, CONTENT), headers={}),
    "of another version": lambda request: object_reply(request, CONTENT, "another"),
    "wrong": lambda request: object_reply(request, OTHER, md5(CONTENT)),
    "too long": lambda request: replace(
        object_reply(request, CONTENT), body=CONTENT[STARTS[3] : STARTS[4] + 1], length=STARTS[4] - STARTS[3]
    ),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_if_a_range_is_wrong_the_complete_object_is_downloaded(
    tmp_path: Path, answer: Callable[[Request], Reply]
) -> None:
    tree = Tree({"large": CONTENT}, lambda request: answer(request) if begin_of(request) == STARTS[3] else None)
    with lakefs(tree) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
        assert asked_for(server.requests).count("") == (0 if answer is ODD["too long"] else 1)
    assert files_in(tmp_path) == {"w/large": CONTENT}


def test_a_server_without_ranges_sends_the_complete_object(tmp_path: Path) -> None:
    tree = Tree({"large": CONTENT}, lambda request: Reply(200, CONTENT) if request.path == OBJECT else None)
    with lakefs(tree) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
        assert asked_for(server.requests).count("") == 1
        assert len(asked_for(server.requests)) < 10
    assert files_in(tmp_path) == {"w/large": CONTENT}


@pytest.mark.parametrize("size", [RANGE, len(CONTENT)], ids=["small", "large"])
def test_an_object_without_an_md5_comes_from_one_answer_alone(tmp_path: Path, size: int) -> None:
    """It may be replaced in the store behind lakeFS, whose ETag stays the same, and nothing else would tell."""
    before, after = CONTENT[:size], OTHER[:size]
    tree = Tree({"a": after}, breaking(before, [None]), listed={"a": {"checksum": "composite-2"}})
    with lakefs(tree) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
        assert asked_for(server.requests) == ["", ""]
    assert files_in(tmp_path) == {"w/a": after}


@pytest.mark.parametrize(
    ("held", "listed"),
    [
        pytest.param(CONTENT, {"size_bytes": len(CONTENT) + 5 * RANGE}, id="fewer bytes than listed"),
        pytest.param(CONTENT, {"size_bytes": len(CONTENT) - 5 * RANGE}, id="more bytes than listed"),
        pytest.param(OTHER, {"checksum": md5(CONTENT)}, id="other bytes than listed"),
    ],
)
def test_an_object_that_is_not_the_listed_one_is_refused(
    tmp_path: Path, held: bytes, listed: dict[str, object]
) -> None:
    tree = Tree({"large": held}, listed={"large": listed})
    with lakefs(tree) as (store, _), pytest.raises(CorruptTransfer, match="differs from the listing"):
        download(store, "repo", COMMIT, tmp_path / "w")
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("answer", "error"), [(Reply(503), Unavailable), (Reply(410), Refused), (Drop(), Unavailable)], ids=str
)
def test_a_range_that_cannot_be_had_fails_the_download(
    tmp_path: Path, answer: Action, error: type[ServiceError]
) -> None:
    tree = Tree({"large": CONTENT}, lambda request: answer if begin_of(request) == STARTS[3] else None)
    with lakefs(tree) as (store, _), pytest.raises(error):
        download(store, "repo", COMMIT, tmp_path / "w")
    assert files_in(tmp_path) == {}


def test_objects_that_arrived_as_ranges_are_in_the_cache(cache: ObjectCache, tmp_path: Path) -> None:
    tree = Tree({"large": CONTENT}, listed={"large": {"physical_address": "s3://bucket/large"}})
    with lakefs(tree, cache=cache) as (store, server):
        download(store, "repo", COMMIT, tmp_path / "w")
        del server.requests[:]
        download(store, "repo", COMMIT, tmp_path / "again")
        assert asked_for(server.requests) == []
    assert files_in(tmp_path / "again") == {"large": CONTENT}
    cached = usage(cache.root)
    assert (cached.hits, cached.misses) == (1, 1)


class Limits(Wire):
    """Notes how long each exchange may take."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    @contextmanager
    def exchange(self, seconds: float) -> Iterator[None]:
        self.seconds.append(seconds)
        with super().exchange(seconds):
            yield


def test_a_remainder_that_arrives_as_the_complete_object_has_its_mtime(tmp_path: Path) -> None:
    """A server without ranges sends everything when a broken object is asked for again."""
    policy, limits = CallPolicy(connect=1, answer=1, slowest=len(CONTENT) / 60), Limits()
    with ScriptedServer(lambda _: Reply(200, CONTENT)) as server, (tmp_path / "file").open("w+b", buffering=0) as file:
        session = LakeFSSession(LakeFSSettings(server.url, "key", SecretStr(SECRET)), policy, 1)
        arrival = downloading.Arrival(entry_of("large", CONTENT), tmp_path / "unused")
        arrival.file = downloading.Unfinished(file.name, file.fileno())
        (whole,) = arrival.ranges
        whole.add(CONTENT[:-1])
        transfer = Transfer(session, 1, "repo", None, BlockStore(session, 1))
        downloading.Download(transfer, COMMIT).fetch_through_lakefs(whole, limits)
        file.seek(0)
        assert file.read() == CONTENT
        session.pool.close()
    assert limits.seconds == [pytest.approx(62)]
