"""Which commits a log shows, what a merge compares, and what the hooks left behind."""

from __future__ import annotations

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.comparing import LogQuery
from perago.embedded.lakefs.errors import HookAborted, Invalid
from perago.embedded.lakefs.fence import EXPECTED_HEAD, FENCE_PATH
from perago.embedded.lakefs.persistence import LakeFSSource

from .history import commit, commit_on_new_branch


@pytest.fixture
def lines(server: LakeFSServer, clock: VirtualClock) -> LakeFSServer:
    """Commits a minute apart: `one` (a/1), `two` (b/1), `side` (a/2) on a side branch, `three` (a/1), and the merge."""
    for message, branch, path in (("one", "main", "a/1"), ("two", "main", "b/1"), ("side", "side", "a/2")):
        if branch == "side":
            server.create_branch("repo", "side", "main")
        clock.advance(60)
        server.put_object("repo", branch, path, message.encode())
        server.commit("repo", branch, message)
    clock.advance(60)
    server.put_object("repo", "main", "a/1", b"again")
    server.commit("repo", "main", "three")
    clock.advance(60)
    server.merge("repo", "side", "main", "merge")
    return server


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        (LogQuery(), ["merge", "three", "side", "two", "one", "Repository created"]),
        (LogQuery(first_parent=True), ["merge", "three", "two", "one", "Repository created"]),
        (LogQuery(objects=["a/1"]), ["three", "one"]),
        (LogQuery(prefixes=["a/"]), ["three", "side", "one"]),
        (LogQuery(prefixes=["a/"], first_parent=True), ["three", "one"]),
        (LogQuery(objects=["a/2"], prefixes=["b/"]), ["side", "two"]),
        (LogQuery(after="side"), ["two", "one", "Repository created"]),
        (LogQuery(stop_at="side"), ["merge", "three", "side"]),
        (LogQuery(since=1_000_000 + 150), ["merge", "three", "side"]),
        (LogQuery(since=1_000_000 + 150, prefixes=["a/1"]), ["three"]),
        (LogQuery(since=1_000_000 + 9999), []),
    ],
    ids=str,
)
def test_a_log_shows_the_wanted_commits_newest_first(lines: LakeFSServer, query: LogQuery, messages: list[str]) -> None:
    assert [record.commit.message for record in lines.log("repo", "main", query)] == messages


@pytest.fixture
def crowded(server: LakeFSServer, clock: VirtualClock) -> LakeFSServer:
    """Commits `b2`, `b0`, `b3`, `b1` in this order within one second, each on a branch of its own, merged into `b0`."""
    for number in range(4):
        server.create_branch("repo", f"b{number}", "main")
    for number in (2, 0, 3, 1):
        clock.advance(0.01)
        server.commit("repo", f"b{number}", f"b{number}", allow_empty=True)
    for number in range(1, 4):
        server.merge("repo", f"b{number}", "b0", "merge")
    return server


def test_commits_of_one_second_are_shown_in_the_order_of_their_making(crowded: LakeFSServer) -> None:
    found = [record.commit for record in crowded.log("repo", "b0") if record.commit.message.startswith("b")]
    assert [made.message for made in found] == ["b1", "b3", "b0", "b2"]
    assert len({made.created for made in found}) == 1


def test_commits_of_one_second_are_shown_in_the_same_order_after_they_were_kept(
    crowded: LakeFSServer, clock: VirtualClock
) -> None:
    source = LakeFSSource(crowded, lambda blob: None)
    records = {key: source.encode(key, captured) for key, captured in source.capture().items()}
    again = LakeFSServer(clock)
    LakeFSSource(again, lambda blob: None).restore(records, lambda checksum, size: again.blobs.of_bytes(b""))
    assert [record.commit for record in again.log("repo", "b0")] == [
        record.commit for record in crowded.log("repo", "b0")
    ]


def test_the_merge_base_is_answered_with_source_and_destination_swapped_as_lakefs_does(server: LakeFSServer) -> None:
    base = commit(server, "main", {"a": "1"})
    server.create_branch("repo", "side", "main")
    ours, theirs = commit(server, "main", {"b": "1"}), commit(server, "side", {"c": "1"})
    found = server.find_merge_base("repo", "side", "main")
    assert (found.base, found.destination, found.source) == (base, theirs, ours)


def test_a_two_dot_diff_takes_staged_changes_on_its_right_side_only(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1"})
    server.put_object("repo", "main", "b", b"2")
    found = server.diff_refs("repo", "main", "main$", two_dot=True).results
    assert [(each.path, each.type.value) for each in found] == [("b", "added")]
    with pytest.raises(Invalid, match="reference to staging area"):
        server.diff_refs("repo", "main$", "main", two_dot=True)
    with pytest.raises(Invalid, match="get commit by ref main"):
        server.diff_refs("repo", "main", "main$")


def test_every_run_of_the_fence_is_kept_refused_or_not(server: LakeFSServer, clock: VirtualClock) -> None:
    head = commit(server, "main", {FENCE_PATH: "fence"})
    source = commit_on_new_branch(server, "side", {"a": "1"})
    with pytest.raises(HookAborted) as refused:
        server.merge("repo", source, "main", metadata={EXPECTED_HEAD: "0" * 64})
    clock.advance(1)
    merged = server.merge("repo", source, "main", metadata={EXPECTED_HEAD: head}).commit.id
    passed, failed = server.list_runs("repo").results
    assert (passed.passed, passed.commit_id, failed.passed, failed.branch) == (True, merged, False, "main")
    assert failed.id in refused.value.message
    assert failed.hooks[0].output.startswith("Error: action failed: perago-publish-fence: head moved")
    assert server.list_runs("repo", commit=merged).results == (passed,)
    assert server.list_runs("repo", after=passed.id).results == (failed,)
    assert server.get_run("repo", failed.id) == failed
