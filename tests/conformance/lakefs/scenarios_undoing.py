"""Undoing and repeating commits: reverts, cherry-picks, hard resets."""

from __future__ import annotations

from ..scenario import Declared, to
from .repositories import Files, diverged, repo, repository

BASE: Files = {"a": "0", "b": "0"}


SCENARIOS: Declared = {
    # A second revert of the same commit has nothing to do; a revert of the revert brings the change back.
    "a_commit_is_reverted_twice": to(repository, BASE)(
        repo.commit_files({"a": "1", "c": "1"}),
        repo.revert(repo.commit_id(2)),
        repo.revert(repo.commit_id(2)),
        repo.revert("main"),
        repo.tree(),
    ),
    # A revert takes a message, metadata and a date of its own.
    "a_revert_says_more": to(repository, BASE)(
        repo.commit_files({"a": "1"}),
        repo.revert("main", commit_overrides={"message": "taken back", "metadata": {"k": "v"}}),
        repo.show(),
    ),
    # A cherry-pick repeats a change on another branch, with its message, and notes where it came from.
    "a_commit_is_picked": to(diverged, BASE, main={"m": "1"})(
        repo.commit_files({"a": "1", "b": None, "s": "1"}, "side", "change", metadata={"k": "v"}),
        repo.commit_files({"t": "1"}, "side", "later"),
        repo.pick(repo.commit_id(3)),
        repo.show(),
        repo.tree(),
    ),
    # A commit with metadata is not found by its id once it was picked: the server spoils what it remembers of it.
    "a_picked_commit_with_metadata_is_lost": to(diverged, BASE, main={"m": "1"})(
        repo.commit_files({"s": "1"}, "side", "change", metadata={"k": "v"}),
        *(ask(repo.commit_id(3)) for ask in (repo.show, repo.pick, repo.show, repo.tree, repo.merge)),
    ),
    # A commit without metadata is as it was after it was picked.
    "a_picked_commit_without_metadata_stays": to(diverged, BASE, main={"m": "1"})(
        repo.commit_files({"s": "1"}, "side", "change"),
        *(ask(repo.commit_id(3)) for ask in (repo.pick, repo.show, repo.tree)),
    ),
    # A commit with metadata is as it was if it was picked with metadata of the pick's own.
    "a_commit_picked_with_other_metadata_stays": to(diverged, BASE, main={"m": "1"})(
        repo.commit_files({"s": "1"}, "side", "change", metadata={"k": "v"}),
        repo.pick(repo.commit_id(3), commit_overrides={"metadata": {"k": "w"}}),
        repo.show(repo.commit_id(3)),
        repo.show(),
    ),
    # A hard reset moves a branch to any commit and keeps the commits it leaves.
    "a_branch_is_reset_to_a_commit": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.hard_reset("main~"),
        repo.get("/branches/main"),
        repo.tree(),
        repo.hard_reset(repo.head("side")),
        repo.log(),
        repo.show(repo.commit_id(2)),
    ),
    # A revert is a commit that takes a change back and says whose.
    "a_commit_is_reverted": to(repository, BASE)(
        repo.show(),
        repo.commit_files({"a": "1", "b": None, "c": "1"}, message="change"),
        repo.revert(repo.head()),
        repo.show(),
        repo.tree(),
    ),
    # A revert of an older commit keeps what came later.
    "an_older_commit_is_reverted": to(repository, BASE)(
        repo.commit_files({"a": "1"}), repo.commit_files({"c": "1"}), repo.revert("main~"), repo.tree(), repo.show()
    ),
    # A revert in the way of later changes is a conflict and changes nothing.
    "a_revert_of_what_changed_since": to(repository, BASE)(
        repo.commit_files({"a": "1"}), repo.commit_files({"a": "2"}), repo.revert("main~"), repo.tree(), repo.log()
    ),
    # A revert that changes nothing is refused, unless empty commits are allowed.
    "a_revert_of_nothing": to(repository, BASE)(
        repo.commit_files({}, message="empty"), repo.revert("main"), repo.revert("main", allow_empty=True), repo.log()
    ),
    # A revert of a merge needs to be told which parent stays.
    "a_merge_is_reverted_by_parent": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.silent.merge(),
        repo.revert("main"),
        repo.revert("main", parent=3),
        repo.revert("main", parent=1),
        repo.tree(),
    ),
    # With the second parent, the target's own changes are taken back.
    "a_merge_is_reverted_to_its_second_parent": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.silent.merge(), repo.revert("main", parent=2), repo.tree()
    ),
    # An ordinary commit has one parent.
    "a_parent_that_is_not_there": to(repository, BASE)(
        repo.commit_files({"a": "1"}),
        repo.revert("main", parent=2),
        repo.revert("main", parent=-1),
        repo.revert("main", parent=1),
        repo.tree(),
    ),
    # The commit of a new repository changed nothing, so there is nothing to revert.
    "the_first_commit_is_reverted": to(repository, BASE)(repo.revert("main~")),
    # A dirty branch can neither be reverted nor picked on.
    "a_revert_on_a_dirty_branch": to(diverged, BASE, side={"s": "1"})(
        repo.stage_files({"d": "1"}), repo.revert("main"), repo.pick("side"), repo.staged()
    ),
    # Unknown commits and branches are a 404.
    "a_revert_of_what_is_not_there": to(repository, BASE)(
        repo.revert("nope"), repo.revert("main", "nope"), repo.pick("nope"), repo.pick("main", "nope")
    ),
    # The commit and the parent's number are required.
    "a_revert_needs_its_members": to(repository, BASE)(
        repo.post("/branches/main/revert", {"ref": "main"}),
        repo.post("/branches/main/revert", {"parent_number": 0}),
        repo.post("/branches/main/revert", {"ref": "main", "parent_number": "1"}),
        repo.post("/branches/main/cherry-pick", {}),
    ),
    # Reverting two merges, newest first, on a branch from the head gives the first tree exactly.
    "two_publications_are_superseded": to(diverged, BASE, side={"s": "1", "a": "1"})(
        repo.show(),
        repo.silent.merge(),
        repo.commit_files({"t": "1", "a": "2"}, "side"),
        repo.silent.merge(),
        repo.add_branch("undo"),
        repo.revert("main", "undo", 1),
        repo.revert("main~", "undo", 1),
        repo.show("undo"),
        repo.diff("main~2", "undo", type="two_dot"),
    ),
    # A cherry-pick of what the branch changed differently is a conflict.
    "a_pick_in_the_way_of_changes": to(diverged, BASE, main={"a": "1"}, side={"a": "2"})(repo.pick("side"), repo.log()),
    # A cherry-pick of an empty commit is refused, one of what the branch has already is an empty commit.
    "a_pick_of_nothing": to(diverged, BASE, main={"a": "1"}, side={"a": "1"})(
        repo.pick("side"),
        repo.pick("main"),
        repo.commit_files({}, "side", "empty"),
        repo.pick("side"),
        repo.diff("main~2", "main", type="two_dot"),
    ),
    # `force` picks onto a branch all the same.
    "a_pick_that_forces_its_way": to(diverged, BASE, main={"a": "1"}, side={"s": "1"})(
        repo.pick("side", force=True), repo.tree()
    ),
    # A cherry-pick takes a message and metadata of its own.
    "a_pick_says_more": to(diverged, BASE, side={"s": "1"})(
        repo.pick("side", commit_overrides={"message": "picked", "metadata": {"k": "v"}}), repo.show()
    ),
    # Metadata of its own replaces that of the picked commit, and does not add to it.
    "a_pick_says_something_else": to(diverged, BASE)(
        repo.stage_files({"s": "1"}, "side"),
        repo.silent.commit("side", metadata={"a": "1", "k": "0"}),
        repo.pick("side", commit_overrides={"metadata": {"k": "v"}}),
        repo.show(),
    ),
    # A cherry-pick of a merge needs to be told against which parent.
    "a_merge_is_picked_by_parent": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.add_branch("other", "main~"),
        repo.silent.merge(),
        repo.pick("main", "other"),
        repo.pick("main", "other", parent_number=3),
        repo.pick("main", "other", parent_number=1),
        repo.tree("other"),
        repo.show("other"),
    ),
    # A picked new file with the content of a file that the same commit deleted is missing afterwards.
    "a_pick_loses_a_file_as_a_merge_does": to(
        diverged, {"a": "1", "z": ""}, main={"a": "2", "z": None}, side={"m": "", "z": None}
    )(repo.pick("side"), repo.tree()),
    # A hard reset passes over staged changes; what is staged afterwards shows in listing and diff.
    "a_hard_reset_with_staged_changes": to(repository, BASE)(
        repo.commit_files({"a": "1"}),
        repo.stage_files({"a": "2", "d": "1"}),
        repo.hard_reset("main~"),
        repo.tree(),
        repo.staged(),
    ),
    # A hard reset needs a commit of this repository and a branch.
    "a_hard_reset_to_nowhere": to(repository, BASE)(
        repo.hard_reset("nope"),
        repo.hard_reset("main", "nope"),
        repo.hard_reset(""),
        repo.hard_reset("main$"),
        repo.call("PUT", "/branches/main/hard_reset"),
        repo.get("/branches/main"),
    ),
}
