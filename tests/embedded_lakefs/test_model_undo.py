"""Reverts and cherry-picks (`docs/servers/lakefs.md` 2 and 7)."""

from __future__ import annotations

import pytest

from perago.embedded.lakefs import LakeFSServer, ServerDivergence
from perago.embedded.lakefs.errors import Conflict, Dirty, Invalid, LakeFSError, Missing, NoChanges

from .history import commit, commit_on_new_branch, contents


def test_reverting_newest_first_gives_the_tree_of_the_input_ref_and_moves_no_object(server: LakeFSServer) -> None:
    start = commit(server, "main", {"a": "1", "b": "1"})
    for name, changes in (("s1", {"a": "2", "c": "1"}), ("s2", {"b": None, "c": "2"})):
        server.merge("repo", commit_on_new_branch(server, name, changes), "main")
    server.create_branch("repo", "undo", "main")
    for ref in ("main", "main~1"):
        made = server.revert("repo", "undo", ref, parent_number=1)
    assert made.commit.meta_range_id == server.get_commit("repo", start).commit.meta_range_id
    assert made.commit.message == "Revert main~1"
    assert contents(server, "undo") == {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("ref", "parent", "error", "words"),
    [
        ("main", 0, Conflict, "must specify 1-based parent number for reverting merge commit"),
        ("main", 3, Invalid, "given commit does not have the given parent number: parent 3"),
        ("nope", 1, Missing, "get commit from ref nope: not found"),
        ("empty", 0, NoChanges, "update branch: no changes"),
    ],
)
def test_a_revert_that_cannot_be_done_says_why(
    server: LakeFSServer, ref: str, parent: int, error: type[LakeFSError], words: str
) -> None:
    server.merge("repo", commit_on_new_branch(server, "side", {"a": "1"}), "main")
    server.create_branch("repo", "empty", "main")
    server.commit("repo", "empty", "empty", allow_empty=True)
    with pytest.raises(error, match=words):
        server.revert("repo", "main", ref, parent_number=parent)


def test_a_revert_under_later_changes_of_the_same_path_conflicts(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1"})
    commit(server, "main", {"a": "2"})
    commit(server, "main", {"a": "3"})
    with pytest.raises(Conflict):
        server.revert("repo", "main", "main~1")


def test_a_dirty_branch_is_neither_reverted_nor_picked_to(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1"})
    server.put_object("repo", "main", "dirt", b"")
    with pytest.raises(Dirty):
        server.revert("repo", "main", "main")
    with pytest.raises(Dirty):
        server.cherry_pick("repo", "main", "main")


def test_a_cherry_pick_repeats_the_change_with_message_metadata_and_origin(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1"})
    server.create_branch("repo", "side", "main")
    server.put_object("repo", "side", "b", b"2")
    picked = server.commit("repo", "side", "my change", {"k": "v"}).commit
    head = commit(server, "main", {"c": "3"})
    made = server.cherry_pick("repo", "main", picked.id)
    assert contents(server, "main") == {"a": "1", "b": "2", "c": "3"}
    assert (made.commit.parents, made.commit.message) == ((head,), "my change")
    assert made.commit.metadata == {"k": "v", "cherry-pick-origin": picked.id, "cherry-pick-committer": "admin"}
    assert server.stat_object("repo", "main", "b") == server.stat_object("repo", picked.id, "b")


def test_a_cherry_pick_in_which_the_server_loses_data_is_flagged_and_done_right(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1", "z": ""})
    server.create_branch("repo", "side", "main")
    picked = commit(server, "side", {"m": "", "z": None})
    commit(server, "main", {"z": None})
    with pytest.warns(ServerDivergence, match="'m'"):
        server.cherry_pick("repo", "main", picked)
    assert contents(server, "main") == {"a": "1", "m": ""}


def test_a_merge_commit_is_picked_with_a_parent_number_only(server: LakeFSServer) -> None:
    server.merge("repo", commit_on_new_branch(server, "side", {"a": "1"}), "main")
    server.create_branch("repo", "other", "main~1")
    with pytest.raises(Invalid, match="must specify 1-based parent number for cherry-picking merge commit"):
        server.cherry_pick("repo", "other", "main")
    server.cherry_pick("repo", "other", "main", parent_number=1)
    assert contents(server, "other") == {"a": "1"}
