"""A lakeFS that was kept answers like the one that was."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.keys import KeyPair
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import SPOOL_THRESHOLD, NoChanges, RepositoryInfo
from perago.embedded.persistence import StateError, kept_in

BIG = b"0123456789abcdef" * (SPOOL_THRESHOLD // 16 + 1)


def put(server: LakeFSServer, branch: str, path: str, data: bytes, **more: Any) -> None:
    server.put_object("repo", branch, path, server.blobs.of_bytes(data), **more)


def make_busy(server: LakeFSServer, clock: VirtualClock) -> None:
    """Commits, merges, a revert, a deleted branch, tags, staged changes, equal and large objects."""
    server.create_repository("repo")
    server.create_repository("other", default_branch="trunk")
    put(server, "main", "größe/日本.csv", b"x", content_type="text/csv", metadata={"a": "b"})
    put(server, "main", "empty", b"")
    put(server, "main", "same", b"x")
    first = server.commit("repo", "main", "one", {"k": "v"}).commit.id
    clock.advance(3)
    server.create_branch("repo", "work", "main", hidden=True)
    put(server, "work", "big.bin", BIG)
    server.delete_object("repo", "work", "same")
    server.commit("repo", "work", "two")
    server.merge("repo", "work", "main", "three")
    server.delete_branch("repo", "work")
    server.create_tag("repo", "v1", "main")
    clock.advance(3)
    put(server, "main", "later", b"later")
    server.commit("repo", "main", "four")
    server.revert("repo", "main", "main")
    server.create_branch("repo", "draft", first)
    put(server, "draft", "staged", b"not committed")
    server.delete_object("repo", "draft", "empty")


def answers(server: LakeFSServer) -> dict[str, Any]:
    """Everything that can be asked."""
    log = [record.commit for record in server.log("repo", "main")]
    refs = ["draft", "draft@", "v1", "main", "main~2", *(commit.id for commit in log)]
    return {
        "repositories": [server.get_repository(name) for name in ("repo", "other")],
        "branches": [server.get_branch("repo", name) for name in ("main", "draft")],
        "log": log,
        "objects": {ref: [_told(entry) for entry in server.all_objects("repo", ref)] for ref in refs},
        "diff": [(found.path, found.type, found.size) for found in server.diff_branch("repo", "draft").results],
    }


def _told(entry: Any) -> tuple[Any, ...]:
    return entry.path, entry.content_type, dict(entry.metadata), entry.mtime, entry.address, entry.blob.read()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def opened(path: Path, server: LakeFSServer, clock: VirtualClock) -> AbstractContextManager[KeyPair]:
    return kept_in(path, InMemoryConductor(clock), server, KeyPair.random(), lambda text: pytest.fail(text))


def test_a_busy_model_gives_equal_answers_after_a_restart(tmp_path: Path, clock: VirtualClock) -> None:
    before, after = LakeFSServer(clock), LakeFSServer(clock)
    with opened(tmp_path / "state", before, clock):
        make_busy(before, clock)
    expected = answers(before)
    before.close()
    with opened(tmp_path / "state", after, clock):
        assert answers(after) == expected


def test_it_goes_on_with_fresh_addresses_and_the_same_graph(tmp_path: Path, clock: VirtualClock) -> None:
    before, after = LakeFSServer(clock), LakeFSServer(clock)
    with opened(tmp_path / "state", before, clock):
        make_busy(before, clock)
    with opened(tmp_path / "state", after, clock):
        known = {entry.address for entry in after.all_objects("repo", "v1")}
        put(after, "main", "new", b"new")
        record = after.commit("repo", "main", "five")
        assert record.tree.entries["new"].address not in known
        assert record.generation == 1 + before.get_commit("repo", "main").generation
        with pytest.raises(NoChanges):
            after.commit("repo", "main", "nothing")
        assert after.get_commit("repo", "v1").commit == before.get_commit("repo", "v1").commit


def test_bytes_that_nothing_refers_to_are_removed_at_the_next_start(tmp_path: Path, clock: VirtualClock) -> None:
    with opened(tmp_path / "state", LakeFSServer(clock), clock):
        pass
    stray = tmp_path / "state" / "blobs" / "00000000000000000000000000000000-3"
    stray.write_bytes(b"abc")
    with opened(tmp_path / "state", LakeFSServer(clock), clock):
        assert not stray.exists()


def test_every_attribute_is_kept_or_left_out_on_purpose(clock: VirtualClock) -> None:
    assert set(vars(Repository(RepositoryInfo("r", "local://r", "main", 0)))) == {
        "info",
        "graph",
        "branches",
        "tags",
        "metadata",
        "protected",
        "runs",
    }
    kept = {"_repositories", "_namespaces", "_addresses"}
    how_it_runs = {"blobs", "started", "_clock", "committer", "_hooks", "_lock", "_linkable"}
    assert set(vars(ServerState(clock, committer="", hooks={}))) == kept | how_it_runs


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_bytes_are_noticed_and_nothing_is_changed(tmp_path: Path, clock: VirtualClock, damage: str) -> None:
    server = LakeFSServer(clock)
    with opened(tmp_path / "state", server, clock):
        make_busy(server, clock)
    (blob,) = (tmp_path / "state" / "blobs").glob(f"*-{len(BIG)}")
    if damage == "missing":
        blob.unlink()
    else:
        blob.write_bytes(BIG[:100])
    database = tmp_path / "state" / "state.sqlite"
    before = database.read_bytes()
    with pytest.raises(StateError, match=blob.name), opened(tmp_path / "state", LakeFSServer(clock), clock):
        pass
    assert database.read_bytes() == before
