"""A lakeFS that was kept answers like the one that was."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import LakeFSServer, commits, objects, references
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.values import SPOOL_THRESHOLD, KeyPair, NoChanges, RepositoryInfo
from perago.embedded.persistence import StateError, persisted
from perago.ports import VirtualClock

from .completeness import unless_late

BIG = b"0123456789abcdef" * (SPOOL_THRESHOLD // 16 + 1)


def put(server: LakeFSServer, branch: str, path: str, data: bytes, **more: Any) -> None:
    objects.put_object(server.repository("repo"), branch, path, server.blobs.of_bytes(data), **more)


def make_busy(server: LakeFSServer, clock: VirtualClock) -> None:
    """Commits, merges, a revert, a deleted branch, tags, staged changes, equal and large objects."""
    server.create_repository("repo")
    server.create_repository("other", default_branch="trunk")
    put(server, "main", "größe/日本.csv", b"x", content_type="text/csv", metadata={"a": "b"})
    put(server, "main", "empty", b"")
    put(server, "main", "same", b"x")
    first = commits.commit(server.repository("repo"), "main", "one", {"k": "v"}).commit.id
    clock.advance(3)
    references.create_branch(server.repository("repo"), "work", "main", hidden=True)
    put(server, "work", "big.bin", BIG)
    objects.delete_object(server.repository("repo"), "work", "same")
    commits.commit(server.repository("repo"), "work", "two")
    commits.merge(server.repository("repo"), "work", "main", "three")
    references.delete_branch(server.repository("repo"), "work")
    references.create_tag(server.repository("repo"), "v1", "main")
    clock.advance(3)
    put(server, "main", "later", b"later")
    commits.commit(server.repository("repo"), "main", "four")
    commits.revert(server.repository("repo"), "main", "main")
    references.create_branch(server.repository("repo"), "draft", first)
    put(server, "draft", "staged", b"not committed")
    objects.delete_object(server.repository("repo"), "draft", "empty")


def answers(server: LakeFSServer) -> dict[str, Any]:
    """Everything that can be asked."""
    log = [record.commit for record in commits.log(server.repository("repo"), "main")]
    refs = ["draft", "draft@", "v1", "main", "main~2", *(commit.id for commit in log)]
    return {
        "repositories": [server.repository(name).info for name in ("repo", "other")],
        "branches": [references.get_branch(server.repository("repo"), name) for name in ("main", "draft")],
        "log": log,
        "objects": {
            ref: [_listing_of(entry) for entry in objects.all_objects(server.repository("repo"), ref)] for ref in refs
        },
        "diff": [
            (difference.path, difference.type, difference.size)
            for difference in commits.diff_branch(server.repository("repo"), "draft").results
        ],
    }


def _listing_of(entry: Any) -> tuple[Any, ...]:
    return entry.path, entry.content_type, dict(entry.metadata), entry.mtime, entry.address, entry.blob.read()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def opened(path: Path, server: LakeFSServer, clock: VirtualClock) -> AbstractContextManager[KeyPair]:
    return persisted(path, InMemoryConductor(clock), server, KeyPair.random(), unless_late)


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
        known = {entry.address for entry in objects.all_objects(after.repository("repo"), "v1")}
        put(after, "main", "new", b"new")
        record = commits.commit(after.repository("repo"), "main", "five")
        assert record.tree.entries["new"].address not in known
        assert record.generation == 1 + commits.get_commit(before.repository("repo"), "main").generation
        with pytest.raises(NoChanges):
            commits.commit(after.repository("repo"), "main", "nothing")
        assert (
            commits.get_commit(after.repository("repo"), "v1").commit
            == commits.get_commit(before.repository("repo"), "v1").commit
        )


def test_bytes_that_nothing_refers_to_are_removed_at_the_next_start(tmp_path: Path, clock: VirtualClock) -> None:
    with opened(tmp_path / "state", LakeFSServer(clock), clock):
        pass
    stray = tmp_path / "state" / "blobs" / "00000000000000000000000000000000-3"
    stray.write_bytes(b"abc")
    with opened(tmp_path / "state", LakeFSServer(clock), clock):
        assert not stray.exists()


def test_every_attribute_is_kept_or_left_out_on_purpose(clock: VirtualClock) -> None:
    server = LakeFSServer(clock)
    assert set(vars(Repository(server, RepositoryInfo("r", "local://r", "main", 0)))) == {
        "server",
        "info",
        "graph",
        "branches",
        "tags",
        "metadata",
        "protected",
        "runs",
    }
    persisted = {"repositories", "namespaces", "addresses"}
    how_it_runs = {"blobs", "started", "clock", "committer", "fence", "lock", "linkable", "journal"}
    assert set(vars(server)) == persisted | how_it_runs


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
