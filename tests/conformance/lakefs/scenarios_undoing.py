"""Undoing and repeating commits: reverts, cherry-picks, hard resets."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import Files, diverged, repository

BASE: Files = {"a": "0", "b": "0"}


@scenario
def a_commit_is_reverted(rest: Rest) -> None:
    """A revert is a commit that takes a change back and says whose."""
    repo = repository(rest, BASE)
    repo.show("main")
    repo.commit_files({"a": "1", "b": None, "c": "1"}, message="change")
    repo.revert(repo.head())
    repo.show("main")
    repo.tree("main")


@scenario
def an_older_commit_is_reverted(rest: Rest) -> None:
    """A revert of an older commit keeps what came later."""
    repo = repository(rest, BASE)
    repo.commit_files({"a": "1"})
    repo.commit_files({"c": "1"})
    repo.revert("main~")
    repo.tree("main")
    repo.show("main")


@scenario
def a_revert_of_what_changed_since(rest: Rest) -> None:
    """A revert in the way of later changes is a conflict and changes nothing."""
    repo = repository(rest, BASE)
    repo.commit_files({"a": "1"})
    repo.commit_files({"a": "2"})
    repo.revert("main~")
    repo.tree("main")
    repo.log("main")


@scenario
def a_revert_of_nothing(rest: Rest) -> None:
    """A revert that changes nothing is refused, unless empty commits are allowed."""
    repo = repository(rest, BASE)
    repo.commit_files({}, message="empty")
    repo.revert("main")
    repo.revert("main", allow_empty=True)
    repo.log("main")


@scenario
def a_commit_is_reverted_twice(rest: Rest) -> None:
    """A second revert of the same commit has nothing to do; a revert of the revert brings the change back."""
    repo = repository(rest, BASE)
    change = repo.commit_files({"a": "1", "c": "1"})
    repo.revert(change)
    repo.revert(change)
    repo.revert("main")
    repo.tree("main")


@scenario
def a_merge_is_reverted_by_parent(rest: Rest) -> None:
    """A revert of a merge needs to be told which parent stays."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    with rest.unnoted():
        repo.merge()
    repo.revert("main")
    repo.revert("main", parent=3)
    repo.revert("main", parent=1)
    repo.tree("main")


@scenario
def a_merge_is_reverted_to_its_second_parent(rest: Rest) -> None:
    """With the second parent, the target's own changes are taken back."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    with rest.unnoted():
        repo.merge()
    repo.revert("main", parent=2)
    repo.tree("main")


@scenario
def a_parent_that_is_not_there(rest: Rest) -> None:
    """An ordinary commit has one parent."""
    repo = repository(rest, BASE)
    repo.commit_files({"a": "1"})
    repo.revert("main", parent=2)
    repo.revert("main", parent=-1)
    repo.revert("main", parent=1)
    repo.tree("main")


@scenario
def the_first_commit_is_reverted(rest: Rest) -> None:
    """The commit of a new repository changed nothing, so there is nothing to revert."""
    repo = repository(rest, BASE)
    repo.revert("main~")


@scenario
def a_revert_on_a_dirty_branch(rest: Rest) -> None:
    """A dirty branch can neither be reverted nor picked on."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.stage_files({"d": "1"})
    repo.revert("main")
    repo.pick("side")
    repo.staged()


@scenario
def a_revert_of_what_is_not_there(rest: Rest) -> None:
    """Unknown commits and branches are a 404."""
    repo = repository(rest, BASE)
    repo.revert("nope")
    repo.revert("main", "nope")
    repo.pick("nope")
    repo.pick("main", "nope")


@scenario
def a_revert_needs_its_members(rest: Rest) -> None:
    """The commit and the parent's number are required."""
    repo = repository(rest, BASE)
    repo.post("/branches/main/revert", {"ref": "main"})
    repo.post("/branches/main/revert", {"parent_number": 0})
    repo.post("/branches/main/revert", {"ref": "main", "parent_number": "1"})
    repo.post("/branches/main/cherry-pick", {})


@scenario
def a_revert_says_more(rest: Rest) -> None:
    """A revert takes a message, metadata and a date of its own."""
    repo = repository(rest, BASE)
    repo.commit_files({"a": "1"})
    overrides = {"message": "taken back", "metadata": {"k": "v"}}
    repo.revert("main", commit_overrides=overrides)
    repo.show("main")


@scenario
def two_publications_are_superseded(rest: Rest) -> None:
    """Reverting two merges, newest first, on a branch from the head gives the first tree exactly."""
    repo = diverged(rest, BASE, side={"s": "1", "a": "1"})
    repo.show("main")
    with rest.unnoted():
        repo.merge()
    repo.commit_files({"t": "1", "a": "2"}, "side")
    with rest.unnoted():
        repo.merge()
    repo.add_branch("undo")
    repo.revert("main", "undo", 1)
    repo.revert("main~", "undo", 1)
    repo.show("undo")
    repo.diff("main~2", "undo", type="two_dot")


@scenario
def a_commit_is_picked(rest: Rest) -> None:
    """A cherry-pick repeats a change on another branch, with its message, and notes where it came from."""
    repo = diverged(rest, BASE, main={"m": "1"})
    picked = repo.commit_files({"a": "1", "b": None, "s": "1"}, "side", "change", metadata={"k": "v"})
    repo.commit_files({"t": "1"}, "side", "later")
    repo.pick(picked)
    repo.show("main")
    repo.tree("main")


@scenario
def a_pick_in_the_way_of_changes(rest: Rest) -> None:
    """A cherry-pick of what the branch changed differently is a conflict."""
    repo = diverged(rest, BASE, main={"a": "1"}, side={"a": "2"})
    repo.pick("side")
    repo.log("main")


@scenario
def a_pick_of_nothing(rest: Rest) -> None:
    """A cherry-pick of an empty commit is refused, one of what the branch has already is an empty commit."""
    repo = diverged(rest, BASE, main={"a": "1"}, side={"a": "1"})
    repo.pick("side")
    repo.pick("main")
    repo.commit_files({}, "side", "empty")
    repo.pick("side")
    repo.diff("main~2", "main", type="two_dot")


@scenario
def a_picked_commit_with_metadata_is_lost(rest: Rest) -> None:
    """A commit with metadata is not found by its id once it was picked: the server spoils what it remembers of it."""
    repo = diverged(rest, BASE, main={"m": "1"})
    picked = repo.commit_files({"s": "1"}, "side", "change", metadata={"k": "v"})
    repo.show(picked)
    repo.pick(picked)
    repo.show(picked)
    repo.tree(picked)
    repo.merge(picked)


@scenario
def a_picked_commit_without_metadata_stays(rest: Rest) -> None:
    """A commit without metadata is as it was after it was picked."""
    repo = diverged(rest, BASE, main={"m": "1"})
    picked = repo.commit_files({"s": "1"}, "side", "change")
    repo.pick(picked)
    repo.show(picked)
    repo.tree(picked)


@scenario
def a_commit_picked_with_other_metadata_stays(rest: Rest) -> None:
    """A commit with metadata is as it was if it was picked with metadata of the pick's own."""
    repo = diverged(rest, BASE, main={"m": "1"})
    picked = repo.commit_files({"s": "1"}, "side", "change", metadata={"k": "v"})
    repo.pick(picked, commit_overrides={"metadata": {"k": "w"}})
    repo.show(picked)
    repo.show("main")


@scenario
def a_pick_that_forces_its_way(rest: Rest) -> None:
    """`force` picks onto a branch all the same."""
    repo = diverged(rest, BASE, main={"a": "1"}, side={"s": "1"})
    repo.pick("side", force=True)
    repo.tree("main")


@scenario
def a_pick_says_more(rest: Rest) -> None:
    """A cherry-pick takes a message and metadata of its own."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.pick("side", commit_overrides={"message": "picked", "metadata": {"k": "v"}})
    repo.show("main")


@scenario
def a_pick_says_something_else(rest: Rest) -> None:
    """Metadata of its own replaces that of the picked commit, and does not add to it."""
    repo = diverged(rest, BASE)
    repo.stage_files({"s": "1"}, "side")
    with rest.unnoted():
        repo.commit("side", metadata={"a": "1", "k": "0"})
    repo.pick("side", commit_overrides={"metadata": {"k": "v"}})
    repo.show("main")


@scenario
def a_merge_is_picked_by_parent(rest: Rest) -> None:
    """A cherry-pick of a merge needs to be told against which parent."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    repo.add_branch("other", "main~")
    with rest.unnoted():
        repo.merge()
    repo.pick("main", "other")
    repo.pick("main", "other", parent_number=3)
    repo.pick("main", "other", parent_number=1)
    repo.tree("other")
    repo.show("other")


@scenario
def a_pick_loses_a_file_as_a_merge_does(rest: Rest) -> None:
    """A picked new file with the content of a file that the same commit deleted is missing afterwards."""
    repo = diverged(rest, {"a": "1", "z": ""}, main={"a": "2", "z": None}, side={"m": "", "z": None})
    repo.pick("side")
    repo.tree("main")


@scenario
def a_branch_is_reset_to_a_commit(rest: Rest) -> None:
    """A hard reset moves a branch to any commit and keeps the commits it leaves."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    left = repo.head()
    repo.hard_reset("main~")
    repo.get("/branches/main")
    repo.tree("main")
    repo.hard_reset(repo.head("side"))
    repo.log("main")
    repo.show(left)


@scenario
def a_hard_reset_with_staged_changes(rest: Rest) -> None:
    """A hard reset passes over staged changes; what is staged afterwards shows in listing and diff."""
    repo = repository(rest, BASE)
    repo.commit_files({"a": "1"})
    repo.stage_files({"a": "2", "d": "1"})
    repo.hard_reset("main~")
    repo.tree("main")
    repo.staged("main")


@scenario
def a_hard_reset_to_nowhere(rest: Rest) -> None:
    """A hard reset needs a commit of this repository and a branch."""
    repo = repository(rest, BASE)
    repo.hard_reset("nope")
    repo.hard_reset("main", "nope")
    repo.hard_reset("")
    repo.hard_reset("main$")
    repo.call("PUT", "/branches/main/hard_reset")
    repo.get("/branches/main")
