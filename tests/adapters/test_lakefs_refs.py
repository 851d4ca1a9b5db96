"""Commits, branches and merges: what is sent how often, and what each answer means."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from perago.adapters.lakefs import LakeFSStore
from perago.ports import (
    FENCE_MARKER,
    AccessDenied,
    MergeRefusal,
    MergeRefused,
    NotFound,
    Refused,
    RevertConflict,
    ServiceError,
    Unavailable,
    Unclear,
)

from .lakefs_script import API, COMMIT, HEAD, QUICK, Tree, branch_json, failure, lakefs, policy_for, routes
from .scripted import Action, Drop, Hang, Reply, Request, Script, Trickle, reply_json


def commit_json(commit_id: str = COMMIT, *parents: str) -> dict[str, object]:
    return {
        "id": commit_id,
        "parents": list(parents),
        "committer": "someone",
        "message": "a message",
        "creation_date": 1_700_000_000,
        "meta_range_id": "tree",
        "metadata": {"perago.phase": "merge"},
    }


# ------------------------------------------------------------------- reading


def test_an_id_that_lakefs_resolves_to_another_commit_does_not_exist() -> None:
    with lakefs(lambda _: reply_json(commit_json(HEAD))) as (store, _), pytest.raises(NotFound, match=COMMIT):
        store.get_commit("repo", COMMIT)


def history_script(chain: list[str], page: int) -> Script:
    """A branch whose first-parent history is `chain`, newest first."""

    def script(request: Request) -> Action:
        if request.path.endswith("/branches/main"):
            return branch_json(chain[0])
        assert request.query["first_parent"] in ("True", "true")
        start = chain.index(request.query["after"]) + 1 if "after" in request.query else 0
        amount = min(page, int(request.query["amount"]))
        shown = chain[start : start + amount]
        pagination = {
            "has_more": start + amount < len(chain),
            "next_offset": shown[-1] if shown else "",
            "results": len(shown),
            "max_per_page": 1000,
        }
        return reply_json({"pagination": pagination, "results": [commit_json(commit_id) for commit_id in shown]})

    return script


CHAIN = [f"{number:064x}" for number in range(9, 0, -1)]


def test_other_names_that_lakefs_resolves_are_not_commits() -> None:
    with lakefs(history_script(CHAIN, 10)) as (store, _), pytest.raises(NotFound, match=f"commit {'e' * 64} does not"):
        store.ancestry("repo", "e" * 64, limit=1)


def test_a_long_history_of_large_commits_is_read_in_small_pages() -> None:
    amounts: list[int] = []
    metadata = {"perago.task_id": "t", "perago.shared": "x" * 5000, "perago.step_key": "x" * 5000}
    by = {"perago.result": "x" * 5000, "theirs": "y", **metadata}

    def script(request: Request) -> Action:
        answer = history_script([f"{number:064x}" for number in range(99, 0, -1)], 1000)(request)
        if "amount" in request.query and isinstance(answer, Reply):
            amounts.append(int(request.query["amount"]))
            page = json.loads(answer.body)
            page["results"] = [{**commit, "metadata": by, "message": "m" * 5000} for commit in page["results"]]
            return reply_json(page)
        return answer

    with lakefs(script) as (store, _):
        head, *below = store.history("repo", "main", until="f" * 64, limit=50)
    assert max(amounts) == 10
    assert (head.metadata, len(head.message)) == (by, 5000), "the head may be adopted, with its result"
    assert [commit.metadata for commit in below] == [metadata] * 49
    assert {len(commit.message) for commit in below} == {1000}


def test_the_newest_staged_object_is_found_among_all_that_the_branch_lists() -> None:
    """Staged deletions have no time, other objects do not count, and pages after the last staged key are not read."""
    staged = [("in/b", "changed"), ("in/d", "added"), ("in/gone", "removed")]
    listed = [("in/a", 900), ("in/b", 50), ("in/c", 900), ("in/d", 70), ("in/e", 900), ("in/f", 900)]

    def answer(request: Request) -> Action:
        after = request.query.get("after", "")
        page: list[dict[str, object]]
        if request.path.endswith("/branches/staging/diff"):
            changes = [change for change in staged if change[0] > after][:2]
            page = [{"type": kind, "path": path, "path_type": "object"} for path, kind in changes]
            last, final = str(page[-1]["path"]), "in/gone"
        else:
            assert (request.path, request.query["prefix"]) == (f"{API}/refs/staging/objects/ls", "in/")
            objects = [(path, mtime) for path, mtime in listed if path > after][:2]
            page = [{"path": path, "size_bytes": 1, "checksum": "x", "mtime": mtime} for path, mtime in objects]
            last, final = objects[-1][0], "in/f"
        pagination = {"has_more": last != final, "next_offset": last, "results": len(page), "max_per_page": 1000}
        return reply_json({"pagination": pagination, "results": page})

    with lakefs(answer) as (store, server):
        assert store.newest_staged("repo", "staging") == 70
    assert [request.query.get("after") for request in server.requests if request.path.endswith("/ls")] == [None, "in/b"]


PINGS: dict[str, tuple[Action, type[ServiceError], str]] = {
    "rejected": (failure(401, "error authenticating request"), AccessDenied, "authenticating"),
    "another server": (
        Reply(200, b"<html>"),
        Unavailable,
        "answer as expected: the answer is not lakeFS's (it is not JSON",
    ),
    "wrong path": (failure(404, "invalid API endpoint"), Unavailable, "LAKECTL_SERVER_ENDPOINT_URL"),
    "starting up": (failure(503, "not ready"), Unavailable, "not ready"),
}


@pytest.mark.parametrize(("answer", "error", "text"), PINGS.values(), ids=PINGS.keys())
def test_a_ping_distinguishes_the_failures(answer: Action, error: type[ServiceError], text: str) -> None:
    with lakefs(lambda _: answer) as (store, _), pytest.raises(error) as caught:
        store.ping()
    assert text in str(caught.value)


def test_a_read_is_repeated_and_then_given_up() -> None:
    with lakefs(lambda _: Drop()) as (store, server), pytest.raises(Unavailable, match="closed"):
        store.get_commit("repo", "main")
    assert len(server.requests) == 3


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("head", [None, b"", OK + b"X: ", OK + b"Transfer-Encoding: chunked\r\n\r\n1;"], ids=repr)
def test_an_answer_that_trickles_ends_within_its_limit(head: bytes | None) -> None:
    """Each byte ends the silence that a socket's timeout limits, wherever in the answer it is."""
    policy = replace(QUICK, connect=0.1, tries=1)
    expected = pytest.raises(Unavailable, match="no answer within the time limit")
    with lakefs(lambda _: Trickle(40, 0.05, head), policy) as (store, _), expected:
        store.get_commit("repo", "main")


# ------------------------------------------------------------------- writing

Write = Callable[[LakeFSStore], object]
WRITES: dict[str, Write] = {
    "commit": lambda store: store.commit("repo", "staging", "text", {}),
    "merge": lambda store: store.merge("repo", COMMIT, "main", "text", {}),
    "revert": lambda store: store.revert("repo", "staging", COMMIT),
}
ANSWERS: dict[str, tuple[Action, type[ServiceError]]] = {
    "dropped": (Drop(), Unclear),
    "silent": (Hang(), Unclear),
    "cut off": (Reply(200, b"{", length=50), Unclear),
    "502 of a proxy": (Reply(502, b"<html>"), Unclear),
    "500": (failure(500, "boom"), Unclear),
    "504": (failure(504, "time-out"), Unclear),
    "not JSON": (Reply(200, b"<html>"), Unclear),
    "another JSON": (reply_json({}, 201), Unclear),
    "429": (failure(429, "too many"), Unavailable),
    "503": (failure(503, "busy"), Unavailable),
    "423": (failure(423, "locked"), Unavailable),
    "lost race": (failure(500, "update branch: predicate failed"), Unavailable),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize(("answer", "error"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_write_is_sent_once_and_its_answer_decides(write: Write, answer: Action, error: type[ServiceError]) -> None:
    """Unclear: it may have taken effect. Unavailable: it certainly did not."""
    with lakefs(lambda _: answer, policy_for(answer)) as (store, server), pytest.raises(error):
        write(store)
    assert len(server.requests) == 1


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_server_that_is_down_certainly_did_nothing(write: Write) -> None:
    with lakefs(lambda _: Drop()) as (store, server):
        server.__exit__()
        with pytest.raises(Unavailable, match="connection refused"):
            write(store)


COMMIT_REFUSALS: dict[str, tuple[Action, type[ServiceError]]] = {
    "no branch": (
        failure(404, "prepare-commit hook aborted, run id 'x': list actions from commit: listing actions: not found"),
        NotFound,
    ),
    "bad action file": (failure(500, "prepare-commit hook aborted, run id 'x': parsing"), Refused),
    "protected": (failure(403, "cannot write to protected branch"), AccessDenied),
}


@pytest.mark.parametrize(("answer", "error"), COMMIT_REFUSALS.values(), ids=COMMIT_REFUSALS.keys())
def test_a_refused_commit_says_why(answer: Action, error: type[ServiceError]) -> None:
    with lakefs(lambda _: answer) as (store, _), pytest.raises(error):
        store.commit("repo", "staging", "text", {})


def test_a_merge_goes_by_commit_id_without_any_flag() -> None:
    with lakefs(lambda _: reply_json({"reference": HEAD})) as (store, server):
        assert store.merge("repo", COMMIT, "main", "text", {"perago.expected_head": "x"}) == HEAD
    (request,) = server.requests
    assert request.path == f"{API}/refs/{COMMIT}/merge/main"
    assert (request.json["message"], request.json["metadata"]) == ("text", {"perago.expected_head": "x"})
    assert not any(request.json.get(flag) for flag in ("strategy", "force", "allow_empty", "squash_merge"))


@pytest.mark.parametrize(("status", "kind"), [(409, RevertConflict), (400, Refused)])
def test_a_revert_distinguishes_later_changes_from_staged_objects(status: int, kind: type[ServiceError]) -> None:
    with lakefs(lambda _: failure(status, "update branch: ...")) as (store, _), pytest.raises(Refused) as refused:
        store.revert("repo", "staging", COMMIT)
    assert type(refused.value) is kind


def test_a_listing_that_makes_no_progress_is_refused() -> None:
    pagination = {"has_more": True, "next_offset": "", "results": 1, "max_per_page": 1000}
    results = [{"type": "added", "path": "a", "path_type": "object"}]
    page = reply_json({"pagination": pagination, "results": results})
    with lakefs(lambda _: page, policy=QUICK) as (store, server), pytest.raises(Unavailable, match="not lakeFS's"):
        store.diff("repo", COMMIT, HEAD)
    assert len(server.requests) == 1


def test_an_object_is_missing_if_lakefs_knows_the_commit() -> None:
    known = routes(GET_stat=failure(404, "not found"), **{f"GET_{COMMIT}": reply_json(commit_json(COMMIT))})
    with lakefs(known) as (store, _):
        assert store.stat_objects("repo", COMMIT, ["_lakefs_actions/x.yaml"]) == {}


@pytest.mark.parametrize(
    ("objects", "keys", "requests"),
    [
        pytest.param(3000, [1500], 1, id="one key"),
        pytest.param(3000, range(3000), 3, id="all keys"),
        pytest.param(3000, range(990, 1990), 1, id="one page from the middle"),
        pytest.param(30_000, [0, 15_000, 29_999], 3, id="keys far apart"),
        pytest.param(3000, [2998, 5000], 1, id="a key after the end"),
    ],
)
def test_objects_are_read_by_the_page_or_one_by_one_if_that_is_cheaper(
    objects: int, keys: Sequence[int], requests: int
) -> None:
    tree = Tree({f"dir/{number:05}": b"" for number in range(objects)})

    with lakefs(tree) as (store, server):
        entries = store.stat_objects("repo", COMMIT, [f"dir/{number:05}" for number in keys])
    assert sorted(entries) == [f"dir/{number:05}" for number in keys if number < objects]
    assert len(server.requests) == requests


@pytest.mark.parametrize("key", ["\0", "a/\ue000", "k" * 1020])
def test_keys_before_which_no_page_can_begin_are_found(key: str) -> None:
    tree = Tree({key: b"", f"{key}x": b""})
    with lakefs(tree) as (store, _):
        assert sorted(store.stat_objects("repo", COMMIT, tree.objects)) == sorted(tree.objects)


FENCED = f"update branch main: pre-merge hook aborted, run id 'x':\n\t* action failed: {FENCE_MARKER}: head moved"
MERGE_REFUSALS: dict[str, tuple[Action, MergeRefusal]] = {
    "perago's fence": (failure(412, FENCED), MergeRefusal.HEAD_MOVED),
    "another hook": (failure(412, "pre-merge hook aborted:\n1 error:\n\n* policy"), MergeRefusal.HOOK),
}


@pytest.mark.parametrize(("answer", "reason"), MERGE_REFUSALS.values(), ids=MERGE_REFUSALS.keys())
def test_a_refused_merge_names_its_reason(answer: Action, reason: MergeRefusal) -> None:
    with lakefs(lambda _: answer) as (store, _), pytest.raises(MergeRefused) as caught:
        store.merge("repo", COMMIT, "main", "text", {})
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value), "the hook's text is made fit for one line"
    assert pickle.loads(pickle.dumps(caught.value)).reason is reason


def test_a_merge_waits_for_its_answer_as_long_as_the_caller_allows() -> None:
    with lakefs(lambda _: Hang()) as (store, server), pytest.raises(Unclear):
        store.merge("repo", COMMIT, "main", "text", {}, within=0.2)
    assert server.count("POST") == 1


def test_a_409_of_a_proxy_is_not_a_conflict_of_lakefs() -> None:
    with lakefs(lambda _: Reply(409, b"<html>")) as (store, _), pytest.raises(Refused) as caught:
        store.merge("repo", COMMIT, "main", "text", {})
    assert not isinstance(caught.value, MergeRefused)


# ------------------------------------------------------------------ branches


def test_a_new_branch_is_hidden() -> None:
    with lakefs(lambda _: Reply(201, COMMIT.encode())) as (store, server):
        store.create_branch("repo", "perago-x", COMMIT)
    sent = server.requests[0].json
    assert (sent["name"], sent["source"], sent["hidden"]) == ("perago-x", COMMIT, True)


@pytest.mark.parametrize(
    ("action", "error"),
    [(Drop(), Unclear), (failure(500, "boom"), Unclear), (failure(503, "busy"), Unavailable)],
    ids=["dropped", "500", "503"],
)
def test_a_branch_is_asked_for_once(action: Action, error: type[ServiceError]) -> None:
    """The driver asks again: it knows what an existing branch means then, and how long to wait."""
    with lakefs(routes(POST_branches=action)) as (store, server), pytest.raises(error):
        store.create_branch("repo", "x", COMMIT)
    assert server.count("POST") == 1


def test_deleting_a_branch_is_repeated_and_accepts_a_missing_one() -> None:
    with lakefs(routes(DELETE_x=[Drop(), failure(404, "branch not found")])) as (store, server):
        store.delete_branch("repo", "x")
    assert server.count("DELETE") == 2


@pytest.mark.parametrize("status", [400, 500])
def test_a_repository_with_an_impossible_name_does_not_exist(status: int) -> None:
    """lakeFS answers 500 where a commit of it is read, which is no outage."""
    answer = failure(status, "argument repository: repository id: invalid value: validation error")
    with lakefs(lambda _: answer) as (store, server):
        with pytest.raises(NotFound, match="repository Not_One does not exist"):
            store.get_commit("Not_One", COMMIT)
        assert len(server.requests) == 1


def test_a_quoted_not_found_answer_is_not_a_not_found_answer() -> None:
    """A hook may refuse a name in such words. To read the text takes time by its length, not by the square of it."""
    text = "argument branch: " * 100_000 + "branch id: invalid value: validation error"
    with (
        lakefs(routes(DELETE_x=failure(412, f"hook aborted: {text}"))) as (store, _),
        pytest.raises(Refused, match="hook aborted"),
    ):
        store.delete_branch("repo", "x")


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.history("repo", "main", until=HEAD, limit=9),
        lambda store: store.ancestry("repo", COMMIT, limit=9),
    ],
    ids=["history", "ancestry"],
)
def test_a_history_without_its_head_is_not_an_empty_range(read: Callable[[LakeFSStore], object]) -> None:
    """lakeFS leaves out a commit whose date was set to a time before the year 1, and what is below it. Others' commits
    would go unseen."""
    empty = {"results": [], "pagination": {"has_more": False, "next_offset": "", "results": 0, "max_per_page": 1000}}

    def script(request: Request) -> Action:
        return branch_json(COMMIT) if request.path.endswith("/branches/main") else reply_json(empty)

    with lakefs(script) as (store, _), pytest.raises(Refused, match="lists no commit"):
        read(store)
