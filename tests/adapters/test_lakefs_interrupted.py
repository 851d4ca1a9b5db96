"""Calls that a signal handler ends in the middle, as when a worker's delivery is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from perago.adapters.lakefs import LakeFSStore

from .lakefs_script import COMMIT, into, lakefs, to_upload
from .scripted import Action, Hang, Reply, Request


class Lost(BaseException):
    """The delivery."""


@contextmanager
def lost_after(seconds: float) -> Iterator[None]:
    """Raise in the main thread, from a signal handler, as a slot does."""

    def handler(_signum: int, _frame: FrameType | None) -> None:
        raise Lost

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


CALLS: dict[str, Callable[[LakeFSStore, Path], object]] = {
    "download": lambda store, place: store.download("repo", COMMIT, "", into(place)),
    "upload": lambda store, place: store.upload(
        "repo", "staging", [to_upload(place / str(number), b"1") for number in range(20)]
    ),
    "commit": lambda store, _: store.commit("repo", "staging", "m", {}),
    "merge": lambda store, _: store.merge("repo", COMMIT, "main", "m", {}),
    "history": lambda store, _: store.history("repo", "main", until=COMMIT, limit=3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_call_that_is_interrupted_ends_at_once_and_the_store_can_still_tidy_up(
    tmp_path: Path, call: Callable[[LakeFSStore, Path], object]
) -> None:
    def script(request: Request) -> Action:
        return Reply(204) if request.method == "DELETE" else Hang()

    with lakefs(script) as (store, server):  # asserts that no thread of a transfer is left
        begun = time.monotonic()
        with pytest.raises(Lost), lost_after(0.3):
            call(store, tmp_path)
        assert time.monotonic() - begun < 5
        sent = len(server.requests)
        store.delete_branch("repo", "staging")
        assert [request.method for request in server.requests[sent:]] == ["DELETE"]
