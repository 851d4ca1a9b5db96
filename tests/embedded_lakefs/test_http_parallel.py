"""The facade under many clients at once: nothing is lost, nobody waits for somebody else's large work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.values import SPOOL_THRESHOLD

from .http_client import Http

WORKERS = 8
PATIENCE = 20.0


def test_uploads_deletions_commits_and_merges_of_eight_clients_lose_nothing(http: Http) -> None:
    def work(worker: int) -> list[str]:
        branch = f"w{worker}"
        assert http("POST", "branches", {"name": branch, "source": "main"}).status == 201
        for number in range(10):
            for name in (f"{branch}/{number}", f"{branch}/gone"):
                assert http("POST", f"branches/{branch}/objects?path={name}", name.encode()).status == 201
            assert http("DELETE", f"branches/{branch}/objects?path={branch}/gone").status == 204
            assert http("POST", f"branches/{branch}/commits", {"message": str(number)}).status == 201
            assert http("POST", f"refs/{branch}/merge/main", {}).status == 200
            assert http("GET", f"refs/main/objects?path={branch}/{number}").data == f"{branch}/{number}".encode()
        return [f"{branch}/{number}" for number in range(10)]

    with ThreadPoolExecutor(WORKERS) as pool:
        expected = [path for paths in pool.map(work, range(WORKERS)) for path in paths]
    listed = http("GET", "refs/main@/objects/ls?prefix=w&amount=1000").json["results"]
    assert [entry["path"] for entry in listed] == sorted(expected)
    first_parents = http("GET", "refs/main/commits?first_parent=true&amount=1000").json["results"]
    assert sum(len(commit["parents"]) == 2 for commit in first_parents) == WORKERS * 10


def test_one_of_many_exclusive_uploads_wins(http: Http) -> None:
    def upload(worker: int) -> int:
        body = str(worker).encode()
        return http("POST", "branches/main/objects?path=claim", body, {"If-None-Match": "*"}).status

    with ThreadPoolExecutor(WORKERS) as pool:
        statuses = sorted(pool.map(upload, range(WORKERS)))
    assert statuses == [201] + [412] * (WORKERS - 1)


def test_concurrent_large_uploads_are_complete(http: Http) -> None:
    contents = [os.urandom(SPOOL_THRESHOLD + 1000 * number) for number in range(4)]

    def there_and_back(number: int) -> bytes:
        path = f"objects?path=big{number}"
        pieces = (contents[number][start : start + 50_000] for start in range(0, len(contents[number]), 50_000))
        assert http("POST", f"branches/main/{path}", pieces).status == 201
        return http("GET", f"refs/main/{path}").data

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(there_and_back, range(4))) == contents


def test_a_call_that_waits_for_the_model_delays_no_other_call(shared: tuple[LakeFSServer, Http], http: Http) -> None:
    server, _ = shared
    with ThreadPoolExecutor(1) as pool:
        with server.lock:  # as a merge of a large tree holds it
            waiting = pool.submit(http, "GET", "branches/main")
            deadline = time.monotonic() + PATIENCE
            while http("GET", "/api/v1/healthcheck").status != 204:
                assert time.monotonic() < deadline
            assert not waiting.done()
        assert waiting.result(PATIENCE).status == 200


def test_a_client_that_stops_sending_blocks_no_other_client(http: Http) -> None:
    stopped, go_on = threading.Event(), threading.Event()

    def halting() -> Iterator[bytes]:
        yield b"first"
        stopped.set()
        go_on.wait(PATIENCE)
        yield b"second"

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(http, "POST", "branches/main/objects?path=slow", halting())
        assert stopped.wait(PATIENCE)
        assert http("POST", "branches/main/objects?path=quick", b"x").status == 201
        assert http("GET", "refs/main/objects/stat?path=slow").status == 404
        go_on.set()
        assert slow.result(PATIENCE).json["size_bytes"] == len(b"firstsecond")
