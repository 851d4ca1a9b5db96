"""lakeFS's REST API on the model: statuses and bodies as measured (`docs/dev/servers/lakefs.md`, "REST facts"), seen by
plain HTTP."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from perago.embedded.lakefs import LakeFSServer

from .http_client import Http

# ------------------------------------------------------------- keys and routes


def test_health_needs_no_key(shared: tuple[LakeFSServer, Http]) -> None:
    keyless = Http(shared[1].url, ":")
    assert keyless("GET", "/api/v1/healthcheck").status == 204
    assert keyless("GET", "/_health").status == 200


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "repositories/repo/branches/main/import", "importStart"),
        ("POST", "repositories/repo/gc/prepare_commits", "prepareGarbageCollectionCommits"),
        ("PUT", "repositories/repo/branches/main/objects?path=a", "stageObject"),
        ("PATCH", "repositories/repo/pulls/1", "updatePullRequest"),
        ("POST", "auth/users", "createUser"),
        ("GET", "auth/groups/g/acl", "getGroupACL"),
        ("POST", "sts/login", "stsLogin"),
    ],
)
def test_a_call_that_is_not_served_is_501_and_named(http: Http, method: str, path: str, name: str) -> None:
    answer = http(method, f"/api/v1/{path}")
    assert answer.status == 501
    assert f"does not model {name} ({method} /api/v1/{path.partition('?')[0]})" in answer.json["message"]


@pytest.mark.parametrize("path", ["repositories", "repositories/repo/branches", "auth/users"])
def test_a_head_request_for_anything_but_an_object_is_not_a_call(http: Http, path: str) -> None:
    """As on the real server, whether the GET is served or not."""
    assert http("HEAD", f"/api/v1/{path}").status == 404


def test_every_call_of_lakefs_is_served_or_named(shared: tuple[LakeFSServer, Http]) -> None:
    """No call in the description of lakeFS's API is answered like one that does not exist."""
    http = shared[1]
    for line in files("perago.embedded.http").joinpath("lakefs_operations.txt").read_text().splitlines():
        method, path, name = line.split()
        answer = http(method, "/api/v1" + re.sub(r"\{\w+\}", "none", path))
        assert answer.status != 405, name
        assert b"invalid API endpoint" not in answer.data, name


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
    assert "does not model the parameter" in answer.json["message"]


# ---------------------------------------------------------------------- bodies


def test_a_stranger_is_a_user_without_a_name(shared: tuple[LakeFSServer, Http]) -> None:
    http = shared[1]
    stranger = http.pool.request("GET", f"{http.url}/api/v1/user")
    assert (stranger.status, stranger.json()) == (200, {"user": {"creation_date": 0, "id": ""}})
    assert http.pool.request("HEAD", f"{http.url}/api/v1/repositories/repo/refs/main/objects?path=a").status == 401


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
