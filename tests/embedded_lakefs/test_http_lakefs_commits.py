"""The embedded lakeFS over REST: commits, merges, diffs and what undoes them."""

from __future__ import annotations

from perago.embedded.lakefs.fence import FENCE_PATH

from .http_client import Http

# ------------------------------------------------------------- keys and routes


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
