"""Calls that a signal handler ends in the middle, as when a worker's delivery is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from perago.adapters.lakefs import LakeFSStore

from ..transfers import download, to_upload
from .lakefs_script import COMMIT, lakefs
from .scripted import Action, Hang, Reply, Request


class Lost(BaseException):
    """The delivery."""


class Loss:
    """Raises `Lost` once in the main thread, from a signal handler, as a slot does; some time after `come`.

    The signal is sent to that thread until it is taken: one that comes right before a call blocks does not end it.
    """

    def __init__(self) -> None:
        self._taken = threading.Event()
        self._sender = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Loss:
        self._before = signal.signal(signal.SIGALRM, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._taken.set()
        self._sender.join(10)
        signal.signal(signal.SIGALRM, self._before)

    def come(self) -> None:
        """From any thread, once."""
        self._sender.start()

    def _send(self) -> None:
        time.sleep(0.1)
        while not self._taken.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _take(self, _signum: int, _frame: FrameType | None) -> None:
        if not self._taken.is_set():
            self._taken.set()
            raise Lost


STREAMS = 8
CALLS: dict[str, Callable[[LakeFSStore, Path], object]] = {
    "download": lambda store, place: download(store, "repo", COMMIT, place),
    "upload": lambda store, place: store.upload(
        "repo", "staging", [to_upload(place / str(number), b"1") for number in range(20)]
    ),
    "commit": lambda store, _: store.commit("repo", "staging", "m", {}),
    "merge": lambda store, _: store.merge("repo", COMMIT, "main", "m", {}),
    "history": lambda store, _: store.history("repo", "main", until=COMMIT, limit=3),
    "ancestry": lambda store, _: store.ancestry("repo", COMMIT, limit=3),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupted_call_ends_immediately_and_the_store_can_still_clean_up(tmp_path: Path, call: str) -> None:
    loss = Loss()
    on_their_way = threading.Semaphore(STREAMS - 1 if call == "upload" else 0)

    def script(request: Request) -> Action:
        if request.method == "DELETE":
            return Reply(204)
        if not on_their_way.acquire(blocking=False):
            loss.come()
        return Hang()

    with lakefs(script) as (store, server):  # asserts that no thread of a transfer is left
        begun = time.monotonic()
        with pytest.raises(Lost), loss:
            CALLS[call](store, tmp_path)
        assert time.monotonic() - begun < 45, "they hang for 60 s"
        sent = len(server.requests)
        store.delete_branch("repo", "staging")
        assert [request.method for request in server.requests[sent:]] == ["DELETE"]
