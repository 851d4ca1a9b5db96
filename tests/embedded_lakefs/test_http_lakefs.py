"""lakeFS's REST API on the model: statuses and bodies as measured (`docs/servers/lakefs.md` 2), seen by plain HTTP."""

from __future__ import annotations

import os

import pytest

from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.blobs import SPOOL_THRESHOLD
from perago.embedded.lakefs.fence import FENCE_PATH

from .http_cases import CASES
from .http_client import Http

# ------------------------------------------------------------- keys and routes


@pytest.mark.parametrize("credentials", ["AKIATEST:wrong", "wrong:secret", ":", "AKIATEST:secret\n"])
def test_wrong_keys_are_401(shared: tuple[LakeFSServer, Http], credentials: str) -> None:
    answer = Http(shared[1].url, credentials)("GET", "/api/v1/repositories")
    assert (answer.status, answer.json) == (401, {"message": "error authenticating request"})


@pytest.mark.parametrize("header", ["Bearer x", "Basic ???", "Basic", ""])
def test_what_is_not_basic_authentication_is_401(shared: tuple[LakeFSServer, Http], header: str) -> None:
    answer = shared[1]("GET", "/api/v1/repositories", headers={"authorization": header})
    assert answer.status == 401


def test_health_needs_no_key(shared: tuple[LakeFSServer, Http]) -> None:
    keyless = Http(shared[1].url, ":")
    assert keyless("GET", "/api/v1/healthcheck").status == 204
    assert keyless("GET", "/_health").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "branches/main/import"),
        ("GET", "branch_protection"),
        ("POST", "gc/prepare_commits"),
        ("GET", "metadata/meta_range/x"),
        ("PUT", "branches/main/objects?path=a"),
    ],
)
def test_a_call_that_is_not_modelled_is_501_and_named(http: Http, method: str, path: str) -> None:
    answer = http(method, path)
    assert answer.status == 501
    assert f"does not model {method} /api/v1/repositories/repo/{path.partition('?')[0]}" in answer.json["message"]


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


def test_the_configuration_names_version_and_store_without_presigned_transfers(http: Http) -> None:
    config = http("GET", "/api/v1/config").json
    assert config["version_config"]["version"] == "1.84.0"
    assert config["storage_config"]["blockstore_type"] == "local"
    assert config["storage_config"]["pre_sign_support"] is False


# ---------------------------------------------------------- one row, one answer


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"), CASES, ids=[f"{m} {p[:45]} {b!r}"[:90] for m, p, b, _, _ in CASES]
)
def test_a_refusal_has_the_servers_status_and_words(
    http: Http, method: str, path: str, body: object, status: int, words: str
) -> None:
    answer = http(method, path, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert words in answer.json["message"]
    assert answer.data.endswith(b"\n")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("refs/main/objects/ls?prefix=a&prefix=b", "multiple values for single value parameter 'prefix'"),
        ("branches?amount=", "multiple values for single value parameter 'amount'"),
        ("refs/main/diff/side?type=", "multiple values for single value parameter 'type'"),
        ("refs/main/commits?since=2020-01-01T00:00:00", "as RFC3339 or 2006-01-02 time"),
    ],
)
def test_a_parameter_given_twice_or_not_readable_is_refused_in_plain_text(http: Http, path: str, words: str) -> None:
    answer = http("GET", path)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.data.decode().startswith("Invalid format for parameter")
    assert words in answer.data.decode()


def test_a_name_keeps_its_escaped_slash_and_is_refused_as_one_name(http: Http) -> None:
    assert http("GET", "branches/a%2Fb").json["message"].startswith("argument branch: branch id: invalid")
    assert http("GET", "branches/a/b").json["message"] == "invalid API endpoint"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{", "unexpected EOF"),
        (b'{"message": }', "invalid character '}' looking for beginning of value"),
        (b'{"message" 1}', "invalid character '1' after object key"),
        (b'{"message": "m",}', "looking for beginning of object key string"),
    ],
    ids=repr,
)
def test_a_body_that_is_no_json_is_refused_in_the_words_of_the_real_reader(http: Http, body: bytes, words: str) -> None:
    answer = http("POST", "branches/main/commits", body, {"content-type": "application/json"})
    assert answer.status == 400
    assert words in answer.json["message"]


def test_what_follows_a_json_body_is_not_looked_at(http: Http) -> None:
    body = b'{"message": "m", "allow_empty": true, "force": null} and more'
    assert http("POST", "branches/main/commits", body, {"content-type": "application/json"}).status == 201


def test_a_stranger_is_a_user_without_a_name(shared: tuple[LakeFSServer, Http]) -> None:
    http = shared[1]
    stranger = http.pool.request("GET", f"{http.url}/api/v1/user")
    assert (stranger.status, stranger.json()) == (200, {"user": {"creation_date": 0, "id": ""}})
    assert http.pool.request("HEAD", f"{http.url}/api/v1/repositories/repo/refs/main/objects?path=a").status == 401


# -------------------------------------------------------------------- successes


def test_creating_a_branch_answers_the_bare_commit_id(http: Http) -> None:
    head = http("GET", "branches/main").json["commit_id"]
    answer = http("POST", "branches", {"name": "b", "source": "main", "hidden": True})
    assert (answer.status, answer.data.decode()) == (201, head)
    assert [found["id"] for found in http("GET", "branches").json["results"]] == ["main", "side"]
    shown = http("GET", "branches?show_hidden=true&amount=2").json
    assert [found["id"] for found in shown["results"]] == ["b", "main"]
    assert shown["pagination"] == {"has_more": True, "max_per_page": 1000, "next_offset": "main", "results": 2}
    assert http("DELETE", "branches/b").status == 204


def test_an_upload_is_raw_and_comes_back_described(http: Http) -> None:
    answer = http(
        "POST",
        "branches/main/objects?path=dir%2Fx+y",
        b"hello",
        {"content-type": "image/png", "x-lakefs-meta-Owner": "Me"},
    )
    assert answer.status == 201
    described = answer.json
    assert described.pop("physical_address").startswith("local://")
    assert described == {
        "checksum": "5d41402abc4b2a76b9719d911017c592",
        "content_type": "image/png",
        "metadata": {"owner": "Me"},
        "mtime": 1_000_000,
        "path": "dir/x y",
        "path_type": "object",
        "size_bytes": 5,
    }
    stat = http("GET", "refs/main/objects/stat?path=dir/x%20y&user_metadata=false").json
    assert (stat["size_bytes"], stat["metadata"]) == (5, {})


def test_a_body_without_a_type_is_an_octet_stream(http: Http) -> None:
    stored = http("POST", "branches/main/objects?path=x", b"x")
    assert stored.json["content_type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"If-None-Match": "*"}, 412), ({"If-None-Match": '"x"'}, 501), ({"If-Match": "*"}, 501)],
    ids=str,
)
def test_conditional_uploads(http: Http, headers: dict[str, str], status: int) -> None:
    assert http("POST", "branches/main/objects?path=a/1", b"x", headers).status == status
    if status == 412:
        assert http("POST", "branches/main/objects?path=new", b"x", headers).status == 201


def test_a_large_body_streams_through_in_chunks_both_ways(http: Http) -> None:
    content = os.urandom(SPOOL_THRESHOLD * 3)
    pieces = (content[start : start + 70_000] for start in range(0, len(content), 70_000))
    assert http("POST", "branches/main/objects?path=big", pieces).json["size_bytes"] == len(content)
    answer = http("GET", "refs/main/objects?path=big")
    assert answer.data == content
    assert answer.headers["content-length"] == str(len(content))
    part = http("GET", "refs/main/objects?path=big", headers={"Range": "bytes=1000000-2000000"})
    assert part.data == content[1_000_000:2_000_001]


def test_a_get_carries_etag_time_and_type_but_no_user_metadata(http: Http) -> None:
    answer = http("GET", "refs/main/objects?path=a/1")
    assert (answer.status, answer.data) == (200, b"hello")
    wanted = {
        "etag": '"5d41402abc4b2a76b9719d911017c592"',
        "last-modified": "Mon, 12 Jan 1970 13:46:40 GMT",
        "content-type": "text/csv",
        "content-disposition": "attachment",
        "cache-control": "no-store, must-revalidate",
    }
    assert wanted.items() <= answer.headers.items()
    assert not [name for name in answer.headers if name.startswith("x-lakefs-meta")]


def test_a_head_has_the_headers_of_a_get_and_no_body(http: Http) -> None:
    found, missing = http("HEAD", "refs/main/objects?path=a/1"), http("HEAD", "refs/main/objects?path=nope")
    assert (found.status, found.headers["content-length"], found.data) == (200, "5", b"")
    assert (missing.status, missing.data) == (404, b"")


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=1-2", 206, b"el", "bytes 1-2/5"),
        ("bytes=3-", 206, b"lo", "bytes 3-4/5"),
        ("bytes=-2", 206, b"lo", "bytes 3-4/5"),
        ("bytes=0-99", 206, b"hello", "bytes 0-4/5"),
        ("bytes=-99", 206, b"hello", "bytes 0-4/5"),
        ("bytes=5-6", 416, None, "bytes */5"),
        ("bytes=0-1,3-4", 416, None, None),
        ("bytes=2-1", 416, None, None),
        ("bytes=-0", 416, None, "bytes */5"),
        ("bytes=-", 416, None, None),
        ("lines=1-2", 400, None, None),
    ],
)
def test_ranges(http: Http, header: str, status: int, body: bytes | None, content_range: str | None) -> None:
    answer = http("GET", "refs/main/objects?path=a/1", headers={"Range": header})
    assert (answer.status, answer.headers.get("content-range")) == (status, content_range)
    if body is None:
        assert "message" in answer.json
    else:
        assert answer.data == body


@pytest.mark.parametrize(
    ("etag", "status"), [('"5d41402abc4b2a76b9719d911017c592"', 304), ("5d41402abc4b2a76b9719d911017c592", 200)]
)
def test_only_the_quoted_etag_is_not_modified(http: Http, etag: str, status: int) -> None:
    assert http("GET", "refs/main/objects?path=a/1", headers={"If-None-Match": etag}).status == status


def test_a_listing_folds_prefixes_and_leaves_empty_metadata_out(http: Http) -> None:
    http("POST", "branches/main/objects?path=b", b"")
    results = http("GET", "refs/main/objects/ls?delimiter=/").json["results"]
    assert results[0] == {
        "checksum": "",
        "mtime": 0,
        "path": "a/",
        "path_type": "common_prefix",
        "physical_address": "",
    }
    assert "metadata" not in results[1]
    assert http("GET", "refs/main/objects/ls?prefix=a/").json["results"][0]["metadata"] == {"k": "v"}


def test_deletions_answer_success_whether_or_not_there_was_an_object(http: Http) -> None:
    assert http("DELETE", "branches/main/objects?path=a/1").status == 204
    assert http("DELETE", "branches/main/objects?path=a/1").status == 204
    answer = http("POST", "branches/nope/objects/delete", {"paths": ["a/1"]})
    assert (answer.status, answer.json) == (200, {"errors": []})
    assert http("GET", "branches/main/diff").json["results"] == [
        {"path": "a/1", "path_type": "object", "size_bytes": 0, "type": "removed"}
    ]


def test_commit_and_log(http: Http) -> None:
    head = http("GET", "branches/main").json["commit_id"]
    http("POST", "branches/main/objects?path=b", b"x")
    made = http("POST", "branches/main/commits", {"message": "m", "metadata": {"k": "v"}, "date": 5})
    assert made.status == 201
    assert made.json["parents"] == [head]
    assert {
        k: made.json[k] for k in ("committer", "creation_date", "generation", "message", "metadata", "version")
    } == {
        "committer": "admin",
        "creation_date": 5,
        "generation": 3,
        "message": "m",
        "metadata": {"k": "v"},
        "version": 1,
    }
    assert http("GET", f"commits/{made.json['id']}").json == made.json
    page = http("GET", "refs/main/commits?amount=1&first_parent=true").json
    assert (page["results"], page["pagination"]["has_more"]) == ([made.json], True)
    rest = http("GET", f"refs/main/commits?after={page['pagination']['next_offset']}").json
    assert [found["message"] for found in rest["results"]] == ["first", "Repository created"]
    assert http("GET", "refs/main/commits?amount=1&limit=true").json["pagination"]["has_more"] is False


def test_merge_answers_its_reference_a_conflict_an_empty_one_and_a_dirty_target_400(http: Http) -> None:
    for branch in ("side", "main"):
        http("POST", f"branches/{branch}/objects?path=a/1", branch.encode())
    dirty = http("POST", "refs/side/merge/main", {})
    assert (dirty.status, dirty.json) == (400, {"message": "uncommitted changes (dirty branch)"})
    for branch in ("side", "main"):
        http("POST", f"branches/{branch}/commits", {"message": branch})
    conflict = http("POST", "refs/side/merge/main", {})
    assert (conflict.status, conflict.json) == (409, {"reference": ""})
    merged = http(
        "POST", "refs/side/merge/main", {"strategy": "source-wins", "message": "mine", "metadata": {"k": "v"}}
    )
    found = http("GET", "commits/main").json
    assert (merged.status, merged.json) == (200, {"reference": found["id"]})
    assert found["metadata"] == {".lakefs.merge.strategy": "source-wins", "k": "v"}


def test_the_publish_fence_answers_412_with_the_hooks_text(http: Http) -> None:
    http("POST", f"branches/side/objects?path={FENCE_PATH}", b"fence")
    staged = http("POST", "branches/side/commits", {"message": "m"}).json["id"]
    answer = http("POST", f"refs/{staged}/merge/main", {"metadata": {"perago.expected_head": "0" * 64}})
    assert answer.status == 412
    assert answer.json["message"].startswith("update branch main: pre-merge hook aborted, run id '")
    assert "action failed: perago-publish-fence" in answer.json["message"]


def test_an_empty_fence_commit_is_one_request(http: Http) -> None:
    head = http("GET", "branches/main").json["commit_id"]
    answer = http("POST", f"refs/{head}/merge/main", {"allow_empty": True})
    assert answer.status == 200
    assert http("GET", "commits/main").json["parents"] == [head, head]


def test_diffs(http: Http) -> None:
    http("POST", "branches/side/objects?path=dir/b", b"xyz")
    http("POST", "branches/side/commits", {"message": "m"})
    added = {"path": "dir/b", "path_type": "object", "size_bytes": 3, "type": "added"}
    for query in ("", "?type=two_dot", "?type=three_dot"):
        assert http("GET", f"refs/main/diff/side{query}").json["results"] == [added]
    assert http("GET", "refs/side/diff/main").json["results"] == []
    assert http("GET", "refs/side/diff/main?type=two_dot").json["results"] == [added | {"type": "removed"}]
    folded = http("GET", "refs/main/diff/side?delimiter=/").json["results"]
    assert folded == [{"path": "dir/", "path_type": "common_prefix", "type": "prefix_changed"}]


def test_revert_answers_204_and_cherry_pick_201(http: Http) -> None:
    http("POST", "branches/side/objects?path=b", b"x")
    picked = http("POST", "branches/side/commits", {"message": "pick me"}).json["id"]
    made = http("POST", "branches/main/cherry-pick", {"ref": picked})
    assert (made.status, made.json["metadata"]["cherry-pick-origin"]) == (201, picked)
    body = {"ref": "main", "parent_number": 0, "commit_overrides": {"message": "undo", "metadata": {"k": "v"}}}
    answer = http("POST", "branches/main/revert", body)
    assert (answer.status, answer.data) == (204, b"")
    undone = http("GET", "commits/main").json
    assert (undone["message"], undone["metadata"]) == ("undo", {"k": "v"})
    again = http("POST", "branches/main/revert", body | {"ref": "main~2"})
    assert again.status in (204, 409)


def test_paths_are_byte_exact_through_the_query(http: Http) -> None:
    names = ["/a", "a//b", "..", "a\nb", "%41", "a+b", "\u00e4", "a\u0308", "\U0001f600", "a&b=c", "x/"]
    for name in names:
        encoded = "".join(f"%{byte:02X}" for byte in name.encode())
        assert http("POST", f"branches/main/objects?path={encoded}", b"x").json["path"] == name
    listed = http("GET", "refs/main/objects/ls").json["results"]
    assert {found["path"] for found in listed} == {*names, "a/1"}
