"""lakeFS's REST API on the model: statuses and bodies, many clients at the same time, and serving on loopback.

Statuses and bodies are as measured (`docs/dev/servers/lakefs.md`, "REST facts").
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import pytest

from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.values import SPOOL_THRESHOLD

from .conftest import Http

# ------------------------------------------------------------- keys and routes


@pytest.mark.parametrize("path", ["repositories", "repositories/repo/branches", "auth/users"])
def test_a_head_request_for_anything_but_an_object_is_not_a_call(http: Http, path: str) -> None:
    """As on the real server, whether the GET is served or not."""
    assert http("HEAD", f"/api/v1/{path}").status == 404


def test_every_call_of_lakefs_is_served_or_named(shared: tuple[LakeFSServer, Http]) -> None:
    """No call in the description of lakeFS's API is answered like one that does not exist."""
    http, unserved = shared[1], set[str]()
    for line in files("perago.embedded.http").joinpath("lakefs_operations.txt").read_text().splitlines():
        method, path, name = line.split()
        answer = http(method, "/api/v1" + re.sub(r"\{\w+\}", "none", path))
        assert answer.status != 405, name
        assert b"invalid API endpoint" not in answer.data, name
        if answer.status == 501:
            unserved.add(name)
            assert answer.json["message"].startswith(f"{name} ({method} /api/v1/")
    assert {"importStart", "prepareGarbageCollectionCommits", "createUser", "getGroupACL", "stsLogin"} <= unserved


def test_setup_and_login_need_no_key_and_a_login_gives_a_token(shared: tuple[LakeFSServer, Http]) -> None:
    http = shared[1]

    def ask(method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = http.pool.request(method, f"{http.url}/api/v1/{path}", json=body, headers=headers)
        return answer.status, answer.json()

    assert ask("GET", "setup_lakefs")[1]["state"] == "initialized"
    assert ask("POST", "setup_lakefs", {"username": "x"})[0] == 409
    assert ask("POST", "auth/login", {"access_key_id": "AKIATEST", "secret_access_key": "wrong"})[0] == 401
    status, login = ask("POST", "auth/login", {"access_key_id": "AKIATEST", "secret_access_key": "secret"})
    assert status == 200
    assert ask("GET", "user", token=login["token"])[1]["user"]["id"] == "admin"
    assert ask("GET", "user", token="another")[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "branches/main/commits?source_metarange=x"),
        ("DELETE", "branches/main/objects?path=a&no_tombstone=true"),
        ("POST", "branches/main/objects/delete?no_tombstone=1"),
    ],
)
def test_a_parameter_that_would_change_the_meaning_is_501_and_named(http: Http, method: str, path: str) -> None:
    answer = http(method, path, {"message": "m", "paths": []} if method == "POST" else None)
    assert answer.status == 501
    called = re.escape(f"{method} /api/v1/repositories/repo/{path.partition('?')[0]}")
    assert re.match(rf"{called} with \w+ is not modelled; use a real lakeFS$", answer.json["message"])


# -------------------------------------------------------------------- successes


def test_headers_of_lakefs_own_clients_become_metadata(http: Http) -> None:
    """`lakectl fs upload --recursive` and `lakectl local` keep times and permissions of files so."""
    headers = {"x-lakefs-internal-Client-Mtime": "123", "x-lakefs-meta-k": "v"}
    stored = http("POST", "branches/main/objects?path=x", b"x", headers)
    assert stored.json["metadata"] == {"::lakefs::client-mtime": "123", "k": "v"}
    assert http("GET", "refs/main/objects/stat?path=x").json["metadata"] == stored.json["metadata"]


def test_an_object_is_linked_to_an_address_and_its_bytes_are_elsewhere(http: Http) -> None:
    address = http("GET", "branches/main/staging/backing?path=l").json
    link = {"staging": address, "checksum": "abc", "size_bytes": 5, "user_metadata": {"K": "V"}, "mtime": 77}
    linked = http("PUT", "branches/main/staging/backing?path=l", link)
    assert linked.status == 200
    assert http("GET", "refs/main/objects/stat?path=l").json == linked.json
    assert {k: linked.json[k] for k in ("checksum", "size_bytes", "metadata", "mtime", "physical_address")} == {
        "checksum": "abc",
        "size_bytes": 5,
        "metadata": {"K": "V"},
        "mtime": 77,
        "physical_address": address["physical_address"],
    }
    assert http("GET", "refs/main/objects?path=l").status == 410
    foreign = {**link, "staging": {"physical_address": address["physical_address"] + "0"}}
    assert http("PUT", "branches/main/staging/backing?path=m", foreign).status == 400
    again = http("PUT", "branches/main/staging/backing?path=l", link, {"If-None-Match": "*"})
    assert again.status == 412
    assert http("GET", "branches/main/staging/backing?path=l&presign=true").status == 500


def test_sample_data_is_refused_by_its_name(http: Http) -> None:
    body = {"name": "samples", "storage_namespace": "local://samples", "sample_data": True}
    answer = http("POST", "/api/v1/repositories", body)
    assert (answer.status, "sample_data" in answer.json["message"]) == (501, True)


@pytest.mark.filterwarnings("ignore::perago.embedded.lakefs.ActionNotRun")
def test_an_action_file_passes_and_its_run_says_that_it_was_skipped(http: Http) -> None:
    http("POST", "branches/side/objects?path=_lakefs_actions%2Fmine.yaml", b"name: mine\non:\n  pre-merge:\n")
    assert http("POST", "branches/side/commits", {"message": "m"}).status == 201
    assert http("POST", "refs/side/merge/main").status == 200
    run = http("GET", "actions/runs?branch=main").json["results"][0]
    hook = http("GET", f"actions/runs/{run['run_id']}/hooks").json["results"][0]
    assert (run["status"], hook["status"]) == ("completed", "skipped")
    output = http("GET", f"actions/runs/{run['run_id']}/hooks/{hook['hook_run_id']}/output")
    assert b"does not run the pre-merge hooks of '_lakefs_actions/mine.yaml'" in output.data


# ---------------------------------------------------------------------- forms

FORM = {"content-type": 'multipart/form-data; boundary="XX"'}


def test_a_refused_form_is_refused_for_its_path_first(http: Http) -> None:
    assert http("POST", "branches/nope/objects?path=f", b"no form", FORM).status == 404
    assert http("POST", "branches/main/objects?path=a/1", b"no form", {**FORM, "If-None-Match": "*"}).status == 412


WORKERS = 8
PATIENCE = 20.0


def test_uploads_commits_and_merges_of_eight_clients_lose_nothing(http: Http) -> None:
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


def test_serving_binds_loopback_only_and_stops_despite_an_idle_client(server: LakeFSServer) -> None:
    with serve(lakefs_app(server, access_key_id="k", secret_access_key="s")) as url:
        address = urlsplit(url)
        assert address.hostname == "127.0.0.1"
        assert address.port
        idle = socket.create_connection((address.hostname, address.port), timeout=5)
        started = time.monotonic()
    assert time.monotonic() - started < PATIENCE
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)
