"""Behavior of the lakeFS model that no real server shows: its clock, threads, memory, and merges done right."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from perago.attempt.publication import EXPECTED_HEAD, FENCE_PATH
from perago.embedded.clock import VirtualClock
from perago.embedded.lakefs import ActionNotRun, LakeFSServer, ServerDivergence
from perago.embedded.lakefs.persistence import LakeFSSource
from perago.embedded.lakefs.values import SPOOL_THRESHOLD, BlobStore, Conflict, HookAborted, Invalid, ReadOnly, Strategy

from .divergences import DIVERGENCES, Changes
from .history import commit, commit_on_new_branch, contents, diverge


def test_a_commit_id_is_that_of_its_contents(clock: VirtualClock, server: LakeFSServer) -> None:
    for name in ("b1", "b2", "b3"):
        server.create_branch("repo", name, "main")
    same = [server.commit("repo", name, "m", allow_empty=True).commit.id for name in ("b1", "b2")]
    clock.advance(1)
    later = server.commit("repo", "b3", "m", allow_empty=True).commit.id
    assert same[0] == same[1] != later


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


def test_of_many_publishers_with_one_expected_head_exactly_one_wins(server: LakeFSServer) -> None:
    head = commit(server, "main", {FENCE_PATH: "the action file"})
    staged = [commit_on_new_branch(server, f"b{number}", {f"x{number}": "1"}) for number in range(8)]
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def publish(commit_id: str) -> None:
        barrier.wait(10)
        try:
            server.merge("repo", commit_id, "main", metadata={EXPECTED_HEAD: head})
            outcomes.append("won")
        except HookAborted:
            outcomes.append("fenced")

    threads = [threading.Thread(target=publish, args=(commit_id,)) for commit_id in staged]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ["fenced"] * 7 + ["won"]


def test_an_action_file_that_the_model_does_not_know_passes_with_a_warning(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    commit(server, "side", {"_lakefs_actions/x.yaml": "name: x"})
    with pytest.warns(ActionNotRun, match=r"does not run the action file '_lakefs_actions/x\.yaml'"):
        server.merge("repo", "side", "main")
    (run,) = server.list_runs("repo").results
    assert [(hook.passed, hook.skipped) for hook in run.hooks] == [(True, True)]


@pytest.mark.parametrize(("base", "target", "source", "path", "merged"), DIVERGENCES)
def test_a_merge_in_which_the_server_loses_data_is_flagged_and_done_right(
    server: LakeFSServer, base: Changes, target: Changes, source: Changes, path: str, merged: dict[str, str] | None
) -> None:
    diverge(server, base, target, source)
    outcome = pytest.raises(Conflict) if merged is None else nullcontext()
    with pytest.warns(ServerDivergence, match=repr(path)), outcome:
        server.merge("repo", "side", "main")
    if merged is not None:
        assert contents(server, "main") == merged


def test_a_strategy_does_not_hide_that_the_server_overwrites(server: LakeFSServer) -> None:
    """Seen on lakeFS 1.84.0: `q` becomes the source's although the destination is to win, as it does with `a`."""
    diverge(server, {"a": "0", "t": "same"}, {"a": "1", "q": "same"}, {"a": "2", "q": "other"})
    with pytest.warns(ServerDivergence, match="overwrite 'q' in"):
        server.merge("repo", "side", "main", strategy=Strategy.DEST_WINS)
    assert contents(server, "main") == {"a": "1", "q": "same", "t": "same"}


@pytest.mark.parametrize(("base", "target", "source", "path", "merged"), DIVERGENCES)
def test_the_same_change_on_an_unmoved_head_is_safe(
    server: LakeFSServer, base: Changes, target: Changes, source: Changes, path: str, merged: dict[str, str] | None
) -> None:
    commit(server, "main", base)
    server.create_branch("repo", "side", "main")
    staged = commit(server, "side", source)
    server.merge("repo", staged, "main")
    assert contents(server, "main") == contents(server, staged)


def test_a_cherry_pick_in_which_the_server_loses_data_is_flagged_and_done_right(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1", "z": ""})
    server.create_branch("repo", "side", "main")
    picked = commit(server, "side", {"m": "", "z": None})
    commit(server, "main", {"z": None})
    with pytest.warns(ServerDivergence, match="'m'"):
        server.cherry_pick("repo", "main", picked)
    assert contents(server, "main") == {"a": "1", "m": ""}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda s: s.create_branch("frozen", "b", "main"), id="branch"),
        pytest.param(lambda s: s.delete_branch("frozen", "nope"), id="delete branch"),
        pytest.param(lambda s: s.create_tag("frozen", "t", "main"), id="tag"),
        pytest.param(lambda s: s.put_object("frozen", "main", "a", b""), id="upload"),
        pytest.param(lambda s: s.delete_object("frozen", "main", "a"), id="delete"),
        pytest.param(lambda s: s.set_user_metadata("frozen", "main", "a", {}), id="user metadata"),
        pytest.param(lambda s: s.commit("frozen", "main", "m", allow_empty=True), id="commit"),
        pytest.param(lambda s: s.merge("frozen", "main", "main"), id="merge"),
        pytest.param(lambda s: s.revert("frozen", "main", "main"), id="revert"),
        pytest.param(lambda s: s.cherry_pick("frozen", "main", "main"), id="cherry-pick"),
        pytest.param(lambda s: s.reset_branch("frozen", "main"), id="reset"),
        pytest.param(lambda s: s.reset_object("frozen", "main", "a"), id="reset object"),
        pytest.param(lambda s: s.hard_reset_branch("frozen", "main", "main"), id="hard reset"),
        pytest.param(lambda s: s.delete_repository("frozen"), id="delete repository"),
    ],
)
def test_a_read_only_repository_refuses_every_write(
    server: LakeFSServer, write: Callable[[LakeFSServer], object]
) -> None:
    server.create_repository("frozen", read_only=True)
    with pytest.raises(ReadOnly, match="read-only repository"):
        write(server)


def test_a_path_that_is_not_utf_8_is_refused(server: LakeFSServer) -> None:
    with pytest.raises(Invalid):
        server.put_object("repo", "main", "\ud800", b"")


def test_large_objects_live_on_disk_until_the_model_is_closed() -> None:
    blobs = BlobStore()
    data = b"x" * (SPOOL_THRESHOLD + 1)
    with blobs.sink() as sink:
        for start in range(0, len(data), 100_000):
            sink.write(data[start : start + 100_000])
        blob = sink.finish()
    assert blob.path is not None
    assert (blob.size, blob.checksum) == (len(data), hashlib.md5(data).hexdigest())
    assert blob.read() == data
    assert b"".join(blob.chunks(10, 5)) == b"x" * 5
    directory = blob.path.parent
    assert directory.stat().st_mode & 0o777 == 0o700
    blobs.close()
    assert not directory.exists()


def test_a_large_upload_that_breaks_off_leaves_nothing_on_disk() -> None:
    blobs = BlobStore()
    with blobs.sink() as sink:
        sink.write(b"x" * (SPOOL_THRESHOLD + 1))
    directory = blobs.new_path().parent
    assert list(directory.iterdir()) == []
    blobs.close()


def test_small_objects_stay_in_memory() -> None:
    assert BlobStore().of_bytes(b"x" * SPOOL_THRESHOLD).path is None
