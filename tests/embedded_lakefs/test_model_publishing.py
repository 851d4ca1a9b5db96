"""Commits, the log, and merges (`docs/servers/lakefs.md` 2 and 3)."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.lakefs import LakeFSServer, ServerDivergence
from perago.embedded.lakefs.errors import Conflict, Dirty, Invalid, LakeFSError, Missing, NoChanges
from perago.embedded.lakefs.merging import Strategy

from .divergences import DIVERGENCES, Changes
from .history import commit, contents, diverge

# -------------------------------------------------------------------- commits


def test_a_commit_carries_message_metadata_parent_committer_and_time(clock: VirtualClock, server: LakeFSServer) -> None:
    parent = server.get_branch("repo", "main").commit_id
    clock.advance(5)
    server.put_object("repo", "main", "a", b"")
    made = server.commit("repo", "main", "hello", {"k": "v"})
    assert (made.commit.message, made.commit.metadata, made.commit.parents) == ("hello", {"k": "v"}, (parent,))
    assert (made.commit.committer, made.commit.created, made.generation) == ("admin", 1_000_005, 2)


def test_an_empty_commit_needs_permission(server: LakeFSServer) -> None:
    with pytest.raises(NoChanges, match="commit: no changes"):
        server.commit("repo", "main", "m")
    assert server.commit("repo", "main", "m", allow_empty=True, date=-7).commit.created == -7


def test_committing_on_an_unknown_branch_answers_in_the_hooks_words(server: LakeFSServer) -> None:
    with pytest.raises(Missing, match=r"prepare-commit hook aborted.*not found"):
        server.commit("repo", "nope", "m")


def test_equal_trees_have_equal_meta_range_ids(server: LakeFSServer) -> None:
    first = commit(server, "main", {"a": "1"})
    commit(server, "main", {"b": "2"})
    back = commit(server, "main", {"b": None})
    ids = [server.get_commit("repo", ref).commit.meta_range_id for ref in (first, back, "main~1")]
    assert ids[0] == ids[1] != ids[2]


def test_the_same_content_uploaded_twice_is_another_tree(server: LakeFSServer) -> None:
    server.create_branch("repo", "b", "main")
    ids = {server.get_commit("repo", commit(server, name, {"a": "1"})).commit.meta_range_id for name in ("main", "b")}
    assert len(ids) == 2


def test_the_log_follows_all_parents_or_the_first_only(clock: VirtualClock, server: LakeFSServer) -> None:
    clock.advance(1)
    commit(server, "main", {"a": "1"}, "base")
    server.create_branch("repo", "side", "main")
    clock.advance(1)
    commit(server, "side", {"b": "1"}, "side")
    clock.advance(1)
    commit(server, "main", {"c": "1"}, "main")
    clock.advance(1)
    server.merge("repo", "side", "main", "merge")
    messages = [record.commit.message for record in server.log("repo", "main")]
    assert messages == ["merge", "main", "side", "base", "Repository created"]
    first = [record.commit.message for record in server.log("repo", "main", first_parent=True)]
    assert first == ["merge", "main", "base", "Repository created"]
    later = [record.commit.message for record in server.log("repo", "main", after="main~1")]
    assert later == ["side", "base", "Repository created"]


def test_the_log_stops_at_a_ref_and_includes_it(server: LakeFSServer) -> None:
    for number in range(3):
        commit(server, "main", {"a": str(number)}, str(number))
    assert [record.commit.message for record in server.log("repo", "main", stop_at="main~1")] == ["2", "1"]
    with pytest.raises(Missing, match=r"^stop_at: not found$"):
        server.log("repo", "main", stop_at="nope")


def test_reverting_to_the_first_tree_gives_its_empty_id_but_emptying_a_tree_another(server: LakeFSServer) -> None:
    commit(server, "main", {"a": "1"})
    server.create_branch("repo", "side", "main")
    assert server.revert("repo", "side", "side").commit.meta_range_id == ""
    assert server.get_commit("repo", commit(server, "main", {"a": None})).commit.meta_range_id != ""


def test_an_empty_commit_on_a_new_repository_has_a_tree_of_its_own_and_merges(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    server.commit("repo", "side", "empty", allow_empty=True)
    assert server.merge("repo", "side", "main").commit.meta_range_id != ""


def test_the_log_names_an_unknown_ref(server: LakeFSServer) -> None:
    with pytest.raises(Missing, match=r"^ref: not found$"):
        server.log("repo", "nope")
    with pytest.raises(Missing, match=r"^from ref: not found$"):
        server.log("repo", "main", after="nope")


# --------------------------------------------------------------------- merges


def test_a_merge_on_an_unmoved_head_is_exactly_the_source_tree_and_never_a_fast_forward(server: LakeFSServer) -> None:
    base = commit(server, "main", {"a": "1"})
    server.create_branch("repo", "side", "main")
    staged = commit(server, "side", {"a": "2", "b": "3"})
    merged = server.merge("repo", staged, "main", metadata={"k": "v"})
    assert merged.commit.parents == (base, staged)
    assert merged.commit.meta_range_id == server.get_commit("repo", staged).commit.meta_range_id
    assert merged.commit.metadata == {"k": "v", ".lakefs.merge.strategy": "default"}
    assert merged.commit.message == f"Merge '{staged}' into 'main'"
    assert server.get_branch("repo", "main").commit_id == merged.commit.id


def test_a_commit_id_merges_after_its_branch_is_gone(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    staged = commit(server, "side", {"a": "1"})
    server.delete_branch("repo", "side")
    server.merge("repo", staged, "main")
    assert contents(server, "main@") == {"a": "1"}


@pytest.mark.parametrize(
    ("base", "target", "source", "merged"),
    [
        pytest.param({"a": "1", "b": "1"}, {"a": "2"}, {"b": "2"}, {"a": "2", "b": "2"}, id="different paths"),
        pytest.param({"a": "1", "b": "1"}, {"a": None}, {"a": None, "c": "c"}, {"b": "1", "c": "c"}, id="both deleted"),
        pytest.param({"z": "1"}, {"a": "new"}, {"a": "new"}, {"a": "new", "z": "1"}, id="both added the same"),
        pytest.param({"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "2"}, id="both changed to the same"),
        pytest.param({"a": "1"}, {"a": "2"}, {"a": "3"}, None, id="both changed"),
        pytest.param({"a": "1", "b": "1"}, {"a": None}, {"a": "3"}, None, id="deleted and changed"),
        pytest.param({"a": "1", "b": "1"}, {"a": "3"}, {"a": None}, None, id="changed and deleted"),
        pytest.param({"z": "1"}, {"a": "2"}, {"a": "3"}, None, id="different adds"),
    ],
)
def test_a_merge_decides_path_by_path_against_the_merge_base(
    server: LakeFSServer, base: Changes, target: Changes, source: Changes, merged: dict[str, str] | None
) -> None:
    diverge(server, base, target, source)
    before = server.get_branch("repo", "main")
    if merged is None:
        with pytest.raises(Conflict):
            server.merge("repo", "side", "main")
        assert server.get_branch("repo", "main") == before
    else:
        server.merge("repo", "side", "main")
        assert contents(server, "main") == merged


def test_when_both_added_the_same_content_the_sources_address_wins(server: LakeFSServer) -> None:
    diverge(server, {"z": "1"}, {"a": "new"}, {"a": "new"})
    address = server.stat_object("repo", "side", "a").address
    server.merge("repo", "side", "main")
    assert server.stat_object("repo", "main", "a").address == address


def test_what_one_side_uploaded_anew_with_the_same_content_keeps_the_source_s_address(server: LakeFSServer) -> None:
    """Seen on lakeFS 1.84.0, whichever side it was."""
    commit(server, "main", {"a": "1", "b": "1", "z": "1"})
    server.create_branch("repo", "side", "main")
    for branch, path in (("main", "a"), ("side", "b")):
        commit(server, branch, {path: None})
        commit(server, branch, {path: "1", f"only-{branch}": "2"})
    addresses = {path: server.stat_object("repo", "side", path).address for path in ("a", "b")}
    server.merge("repo", "side", "main")
    assert {path: server.stat_object("repo", "main", path).address for path in ("a", "b")} == addresses


def test_different_content_types_on_both_sides_conflict(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    for branch, content_type in (("main", "text/plain"), ("side", "text/csv")):
        server.put_object("repo", branch, "a", b"x", content_type=content_type)
        server.commit("repo", branch, "m")
    with pytest.raises(Conflict):
        server.merge("repo", "side", "main")


@pytest.mark.parametrize(("strategy", "winner"), [(Strategy.DEST_WINS, "2"), (Strategy.SOURCE_WINS, "3")])
def test_a_strategy_decides_conflicts(server: LakeFSServer, strategy: Strategy, winner: str) -> None:
    diverge(server, {"a": "1"}, {"a": "2"}, {"a": "3", "b": "b"})
    made = server.merge("repo", "side", "main", strategy=strategy)
    assert contents(server, "main") == {"a": winner, "b": "b"}
    assert made.commit.metadata[".lakefs.merge.strategy"] == strategy


def test_the_same_source_again_has_no_changes(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    commit(server, "side", {"a": "1"})
    server.merge("repo", "side", "main")
    with pytest.raises(NoChanges, match=r"^update branch main: no changes$"):
        server.merge("repo", "side", "main")


def test_no_changes_means_source_equals_merge_base_even_if_the_result_equals_the_target(server: LakeFSServer) -> None:
    diverge(server, {"z": "1"}, {"a": "new"}, {"a": "new"})
    before = server.get_branch("repo", "main").commit_id
    assert server.merge("repo", "side", "main").commit.parents[0] == before


def test_squashing_the_same_source_again_makes_a_commit_and_resurrects_a_deleted_key(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    commit(server, "side", {"a": "1"})
    head = server.get_branch("repo", "main").commit_id
    made = server.merge("repo", "side", "main", squash=True)
    assert (made.commit.parents, made.generation) == ((head,), 3)
    commit(server, "main", {"a": None, "b": "1"})
    commit(server, "main", {"b": None})
    server.merge("repo", "side", "main", squash=True)
    assert contents(server, "main") == {"a": "1"}


def test_an_empty_fence_commit_moves_the_head_and_keeps_the_tree(server: LakeFSServer) -> None:
    head = commit(server, "main", {"a": "1"})
    made = server.merge("repo", head, "main", allow_empty=True)
    assert made.commit.parents == (head, head)
    assert made.commit.meta_range_id == server.get_commit("repo", head).commit.meta_range_id
    assert server.get_branch("repo", "main").commit_id == made.commit.id != head


@pytest.mark.parametrize("source", ["side", "nope"])
def test_a_dirty_target_is_found_first_and_masks_every_other_error(server: LakeFSServer, source: str) -> None:
    diverge(server, {"a": "1"}, {"a": "2"}, {"a": "3"})
    server.put_object("repo", "main", "dirt", b"")
    with pytest.raises(Dirty, match="dirty branch"):
        server.merge("repo", source, "main", allow_empty=True)


def test_a_dirty_source_merges_with_its_committed_head(server: LakeFSServer) -> None:
    server.create_branch("repo", "side", "main")
    commit(server, "side", {"a": "1"})
    server.put_object("repo", "side", "dirt", b"")
    server.merge("repo", "side", "main")
    assert contents(server, "main") == {"a": "1"}


@pytest.mark.parametrize(
    ("source", "target", "error", "words"),
    [
        ("nope", "main", Missing, "update branch main: get commit by ref nope: not found"),
        ("main", "nope", Missing, "branch not found"),
        ("main$", "main", Invalid, "reference to staging area with \\$ is not a commit"),
    ],
)
def test_unknown_sides_of_a_merge_are_named(
    server: LakeFSServer, source: str, target: str, error: type[LakeFSError], words: str
) -> None:
    with pytest.raises(error, match=words):
        server.merge("repo", source, target)


def test_a_commit_id_is_no_merge_target(server: LakeFSServer) -> None:
    with pytest.raises(Missing, match="branch not found"):
        server.merge("repo", "main", server.get_branch("repo", "main").commit_id)


# ----------------------------------------------------- where the server differs


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
