"""Behavior of the lakeFS model that no real server shows: its clock, threads, memory, and merges done right."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import ActionNotRun, LakeFSServer, ServerDivergence, commits, objects, references
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.values import (
    SPOOL_THRESHOLD,
    BlobSink,
    BlobStore,
    Conflict,
    Invalid,
    KeyPair,
    ReadOnly,
    Strategy,
)
from perago.embedded.persistence import persisted
from perago.ports import VirtualClock

from ..embedded_saving.completeness import unless_late

Changes = Mapping[str, str | None]

DIVERGENCES = [
    pytest.param({"a": "", "t": "same"}, {"q": "same"}, {"q": "other"}, "q", None, id="target's add overwritten"),
    pytest.param({"a": "", "t": "same"}, {"q": "other"}, {"q": "same"}, "q", None, id="source's add dropped"),
    pytest.param({"a": "1", "z": ""}, {"z": None}, {"m": ""}, "m", {"a": "1", "m": ""}, id="added file lost"),
    pytest.param({"a": "1", "z": ""}, {"m": ""}, {"z": None}, "m", {"a": "1", "m": ""}, id="published file lost"),
    pytest.param(
        {"a": "1", "z": "data"},
        {"a": "2", "z": None},
        {"m": "data"},
        "m",
        {"a": "2", "m": "data"},
        id="renamed file lost",
    ),
]


def commit(server: LakeFSServer, branch: str, changes: Changes, message: str = "m") -> str:
    for path, content in changes.items():
        if content is None:
            objects.delete_object(server.repository("repo"), branch, path)
        else:
            objects.put_object(server.repository("repo"), branch, path, content.encode())
    return commits.commit(server.repository("repo"), branch, message).commit.id


def contents(server: LakeFSServer, ref: str) -> dict[str, str]:
    return {entry.path: entry.blob.read().decode() for entry in objects.all_objects(server.repository("repo"), ref)}


def diverge(server: LakeFSServer, base: Changes, target: Changes, source: Changes) -> None:
    """`main` with `base` then `target`, `side` with `base` then `source`."""
    commit(server, "main", base)
    references.create_branch(server.repository("repo"), "side", "main")
    commit(server, "main", target)
    commit(server, "side", source)


def commit_on_new_branch(server: LakeFSServer, name: str, changes: Changes) -> str:
    references.create_branch(server.repository("repo"), name, "main")
    return commit(server, name, changes)


def test_a_commit_id_is_that_of_its_contents(clock: VirtualClock, server: LakeFSServer) -> None:
    for name in ("b1", "b2", "b3"):
        references.create_branch(server.repository("repo"), name, "main")
    same = [commits.commit(server.repository("repo"), name, "m", allow_empty=True).commit.id for name in ("b1", "b2")]
    clock.advance(1)
    later = commits.commit(server.repository("repo"), "b3", "m", allow_empty=True).commit.id
    assert same[0] == same[1] != later


def crowd(server: LakeFSServer, clock: VirtualClock) -> None:
    """Commit `b2`, `b0`, `b3`, `b1` in this order within one second, each on its own branch; merge them into `b0`."""
    for number in range(4):
        references.create_branch(server.repository("repo"), f"b{number}", "main")
    for number in (2, 0, 3, 1):
        clock.advance(0.01)
        commits.commit(server.repository("repo"), f"b{number}", f"b{number}", allow_empty=True)
    for number in range(1, 4):
        commits.merge(server.repository("repo"), f"b{number}", "b0", "merge")


def test_commits_of_one_second_are_shown_in_the_order_of_their_making(
    server: LakeFSServer, clock: VirtualClock
) -> None:
    crowd(server, clock)
    history = [
        record.commit
        for record in commits.log(server.repository("repo"), "b0")
        if record.commit.message.startswith("b")
    ]
    assert [made.message for made in history] == ["b1", "b3", "b0", "b2"]
    assert len({made.created for made in history}) == 1


def test_commits_of_one_second_keep_their_order_in_a_state(tmp_path: Path, clock: VirtualClock) -> None:
    before, after = LakeFSServer(clock), LakeFSServer(clock)
    for server in (before, after):
        keys = KeyPair.random()
        with persisted(tmp_path / "state", InMemoryConductor(clock), server, keys, unless_late):
            if server is before:
                server.create_repository("repo")
                crowd(server, clock)
    histories = [[made.commit for made in commits.log(server.repository("repo"), "b0")] for server in (before, after)]
    assert histories[0] == histories[1]


def _of_each_operation(repo: Repository) -> None:
    references.create_branch(repo, "new", "main")
    references.delete_branch(repo, "new")
    references.create_tag(repo, "v1", "main")
    references.delete_tag(repo, "v1")
    commits.commit(repo, "main", "m", allow_empty=True)
    commits.merge(repo, "side", "main", allow_empty=True)
    objects.put_object(repo, "main", "new", b"x")
    commits.commit(repo, "main", "m")
    commits.revert(repo, "main", "main")
    commits.cherry_pick(repo, "main", "main~1")


EVENTS = ["create-branch", "delete-branch", "create-tag", "delete-tag", "commit", "merge", "revert", "cherry-pick"]


@pytest.mark.parametrize("operation", EVENTS)
@pytest.mark.parametrize("when", ["pre", "post"])
def test_an_action_file_that_the_model_does_not_know_passes_with_a_warning(
    server: LakeFSServer, operation: str, when: str
) -> None:
    repo, event = server.repository("repo"), f"{when}-{operation}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ActionNotRun)
        commit(server, "main", {"_lakefs_actions/x.yaml": f"name: x\non:\n  {event}:\n"})
        references.create_branch(repo, "side", "main")
        objects.put_object(repo, "side", "s", b"x")
        commits.commit(repo, "side", "s")
    repo.runs.clear()
    with pytest.warns(ActionNotRun, match=rf"does not run the {event} hooks of '_lakefs_actions/x\.yaml'"):
        _of_each_operation(repo)
    runs = commits.list_runs(repo).results
    assert {run.event for run in runs} == {event}
    assert {(hook.passed, hook.skipped) for run in runs for hook in run.hooks} == {(True, True)}


@pytest.mark.parametrize(("base", "target", "source", "path", "merged"), DIVERGENCES)
def test_a_merge_in_which_the_server_loses_data_is_flagged_and_done_right(
    server: LakeFSServer, base: Changes, target: Changes, source: Changes, path: str, merged: dict[str, str] | None
) -> None:
    diverge(server, base, target, source)
    outcome = pytest.raises(Conflict) if merged is None else nullcontext()
    with pytest.warns(ServerDivergence, match=repr(path)), outcome:
        commits.merge(server.repository("repo"), "side", "main")
    if merged is not None:
        assert contents(server, "main") == merged


def test_a_strategy_does_not_hide_that_the_server_overwrites(server: LakeFSServer) -> None:
    """Seen on lakeFS 1.84.0: `q` becomes the source's although the destination is to win, as it does with `a`."""
    diverge(server, {"a": "0", "t": "same"}, {"a": "1", "q": "same"}, {"a": "2", "q": "other"})
    with pytest.warns(ServerDivergence, match="overwrite 'q' in"):
        commits.merge(server.repository("repo"), "side", "main", strategy=Strategy.DEST_WINS)
    assert contents(server, "main") == {"a": "1", "q": "same", "t": "same"}


def test_a_cherry_pick_in_which_the_server_loses_data_is_flagged(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1", "z": ""})
    references.create_branch(server.repository("repo"), "side", "main")
    picked = commit(server, "side", {"m": "", "z": None})
    commit(server, "main", {"z": None})
    with pytest.warns(ServerDivergence, match="'m'"):
        commits.cherry_pick(server.repository("repo"), "main", picked)
    assert contents(server, "main") == {"a": "1", "m": ""}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda repo: references.delete_branch(repo, "nope"), id="delete branch"),
        pytest.param(lambda repo: objects.set_user_metadata(repo, "main", "a", {}), id="user metadata"),
        pytest.param(lambda repo: commits.merge(repo, "main", "main"), id="merge"),
        pytest.param(lambda repo: commits.revert(repo, "main", "main"), id="revert"),
        pytest.param(lambda repo: commits.cherry_pick(repo, "main", "main"), id="cherry-pick"),
        pytest.param(lambda repo: references.reset_branch(repo, "main"), id="reset"),
        pytest.param(lambda repo: references.reset_object(repo, "main", "a"), id="reset object"),
        pytest.param(lambda repo: references.hard_reset_branch(repo, "main", "main"), id="hard reset"),
    ],
)
def test_a_read_only_repository_refuses_writes_that_no_recording_has(
    server: LakeFSServer, write: Callable[[Repository], object]
) -> None:
    server.create_repository("frozen", read_only=True)
    with pytest.raises(ReadOnly, match="read-only repository"):
        write(server.repository("frozen"))


def test_a_path_that_is_not_utf_8_is_refused(server: LakeFSServer) -> None:
    with pytest.raises(Invalid):
        objects.put_object(server.repository("repo"), "main", "\ud800", b"")


def test_large_objects_live_on_disk_until_the_model_is_closed() -> None:
    blobs = BlobStore()
    data = b"x" * (SPOOL_THRESHOLD + 1)
    with BlobSink(blobs) as sink:
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
    with BlobSink(blobs) as sink:
        sink.write(b"x" * (SPOOL_THRESHOLD + 1))
    directory = blobs.new_path().parent
    assert list(directory.iterdir()) == []
    blobs.close()


def test_small_objects_stay_in_memory() -> None:
    assert BlobStore().of_bytes(b"x" * SPOOL_THRESHOLD).path is None
