"""Repositories as a whole: their metadata, read-only ones and bare ones (`docs/servers/lakefs.md` 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.errors import Invalid, Missing, ReadOnly


def test_metadata_is_added_to_and_taken_from(server: LakeFSServer) -> None:
    server.set_metadata("repo", {"a": "1", "b": "2"})
    server.set_metadata("repo", {"a": "3"})
    server.delete_metadata("repo", ["b", "missing"])
    assert server.get_metadata("repo") == {"a": "3"}
    with pytest.raises(Missing):
        server.set_metadata("nope", {"a": "1"})
    server.set_metadata("nope", {})


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


def test_a_batch_of_deletions_says_so_for_each_path(server: LakeFSServer) -> None:
    server.create_repository("frozen", read_only=True)
    failed = server.delete_objects("frozen", "main", ["a", "b"])
    assert [(each.path, each.status) for each in failed] == [("a", 403), ("b", 403)]


def test_force_writes_to_a_read_only_repository(server: LakeFSServer) -> None:
    server.create_repository("frozen", read_only=True)
    server.create_branch("frozen", "side", "main", force=True)
    server.put_object("frozen", "side", "a", b"1", force=True)
    server.commit("frozen", "side", "m", force=True)
    server.merge("frozen", "side", "main", force=True)
    assert [entry.path for entry in server.all_objects("frozen", "main")] == ["a"]
    server.delete_repository("frozen", force=True)


def test_a_bare_repository_has_no_branch_and_takes_no_namespace(server: LakeFSServer) -> None:
    server.create_repository("bare", "local://shared", bare=True)
    assert server.list_branches("bare").results == ()
    server.create_repository("other", "local://shared")
    with pytest.raises(Invalid, match="storage namespace already in use"):
        server.create_repository("third", "local://shared/")
