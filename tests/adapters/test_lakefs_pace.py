"""A transfer has more streams while that makes it faster, and fewer where a server has no time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from perago.adapters.lakefs.transfers import CALM_SECONDS, FIRST_LARGE, FIRST_SMALL, LARGE, PATIENCE, Pace
from perago.retry import BackOff

from ..transfers import download, files_in, to_upload
from .lakefs_script import CALM, COMMIT, Tree, lakefs
from .scripted import Action, Reply, Request, reply_json
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
def test_streams_that_bring_nothing_are_given_up_and_tried_again_now_and_then(capacity: float, best: int) -> None:
    server = Server(capacity)
    pace = server.pace(64)
    widths = server.serve(pace, 3000)
    assert widths[widths.index(best) :][:4] == [best, 2 * best, best, 2 * best]
    assert len(widths) < 2 * 3000 / (4 * best * PATIENCE) + 6


def test_a_server_that_becomes_faster_gets_more_streams_later() -> None:
    server = Server(8)
    pace = server.pace(32)
    server.serve(pace, 200)
    server.capacity = 1000
    assert server.serve(pace, 2000)[-1] == 32


def test_large_objects_begin_with_few_streams_and_following_small_ones_are_judged_separately() -> None:
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
    assert server.serve(pace, 4 * PATIENCE - 1) == [1]
    assert server.serve(pace, 2000)[-1] == 16


def test_no_request_starts_before_the_server_is_ready_and_overloads_in_between_count_once() -> None:
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
        assert store.take_notes() == ()
        assert sum(request.path.endswith("/objects") for request in asked) == 15
        assert len(stored) == 60
    assert files_in(tmp_path / "w") == objects
