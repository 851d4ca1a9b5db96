"""Merges: results and refusals."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Files, Repository, diverged, repository

BASE: Files = {"a": "0", "b": "0", "c": "0"}


@scenario_with(diverged, BASE, main={"a": "1", "m": "1"}, side={"b": "2", "c": None, "s": "2"})
def a_merge_takes_over_the_changes(repo: Repository) -> None:
    """A merge adds, changes and deletes what the source did, and keeps what the target did."""
    repo.merge("side", "main", message="merged", metadata={"k": "v"})
    repo.tree("main@")
    repo.show("main")
    repo.log("main", amount=2)
    repo.get("/branches/side")


@scenario_with(diverged, BASE, side={"a": "1", "b": None, "d": "1"})
def a_merge_is_never_a_fast_forward(repo: Repository) -> None:
    """A merge into an unmoved target is a merge commit whose tree is the source's."""
    repo.show("main")
    repo.show("side")
    repo.merge()
    repo.show("main")
    repo.tree("main")


@scenario_with(diverged, BASE, main={"a": "1"}, side={"a": "2", "d": "2"})
def both_changed_a_path(repo: Repository) -> None:
    """A conflict is a 409 with an empty reference and no message, and changes nothing."""
    repo.merge()
    repo.tree("main")
    repo.log("main")


@scenario_with(diverged, BASE, main={"d": "1"}, side={"d": "2"})
def both_added_a_path(repo: Repository) -> None:
    """Different additions are a conflict."""
    repo.merge()
    repo.tree("main")


@scenario_with(diverged, BASE, main={"a": "1"}, side={"a": None})
def one_changed_what_the_other_deleted(repo: Repository) -> None:
    """Changed here and deleted there is a conflict, whichever side deleted."""
    repo.merge("side", "main")
    repo.merge("main", "side")


@scenario_with(diverged, BASE, main={"a": "1", "b": None, "d": "1"}, side={"a": "1", "b": None, "d": "1"})
def both_did_the_same(repo: Repository) -> None:
    """The same change on both sides is no conflict: a merge commit with the target's tree."""
    repo.show("main")
    repo.merge()
    repo.show("main")
    repo.tree("main")


@scenario_with(diverged, BASE)
def both_uploaded_the_same_bytes(repo: Repository) -> None:
    """Where both sides added the same, the source's address wins."""
    repo.upload("d", "1", "main")
    repo.upload("d", "1", "side")
    with repo.rest.unnoted():
        repo.commit("main")
        repo.commit("side")
        repo.merge()
    repo.stat("d")


@scenario_with(diverged, BASE)
def the_same_bytes_of_another_type_are_a_conflict(repo: Repository) -> None:
    """Content type and metadata belong to what both sides compare."""
    with repo.rest.unnoted():
        repo.upload("d", "1", "main")
        repo.upload("d", "1", "side", headers={"Content-Type": "text/csv"})
        repo.commit("main")
        repo.commit("side")
    repo.merge()


@scenario_with(diverged, BASE, main={"a": "1"})
def nothing_to_merge(repo: Repository) -> None:
    """A source that did nothing is refused."""
    repo.merge()
    repo.merge("main", "main")
    repo.merge("main~")
    repo.log("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def the_same_source_again(repo: Repository) -> None:
    """A source that was merged has nothing more, also by its commit id."""
    repo.merge()
    repo.merge()
    repo.merge(repo.head("side"))
    repo.log("main")


@scenario_with(diverged, BASE, side={"d": "1"})
def a_source_that_did_and_undid(repo: Repository) -> None:
    """A source whose tree is that of the merge base has no changes, however many commits it has."""
    repo.commit_files({"d": None}, "side")
    repo.merge()
    repo.commit_files({"a": "1"}, "main")
    repo.merge()


@scenario_with(diverged, BASE, side={"a": "1"})
def a_dirty_target_is_refused_first(repo: Repository) -> None:
    """Staged changes on the target mask every other refusal, and `force` does not help."""
    repo.stage_files({"d": "1"}, "main")
    repo.merge()
    repo.merge(force=True)
    repo.merge("nope")
    repo.merge("main")
    repo.reset("main", type="reset")
    repo.merge()


@scenario_with(diverged, BASE, side={"a": "1"})
def a_dirty_source_does_not_matter(repo: Repository) -> None:
    """What is staged on the source is not merged and stays staged."""
    repo.stage_files({"d": "1"}, "side")
    repo.merge()
    repo.tree("main")
    repo.staged("side")


@scenario_with(diverged, BASE, side={"a": "1"})
def a_staging_area_is_no_source(repo: Repository) -> None:
    """`side$` cannot be merged."""
    repo.merge("side$")


@scenario_with(diverged, BASE, side={"a": "1"})
def sources_of_every_kind(repo: Repository) -> None:
    """A tag, an expression and a commit id can be merged."""
    repo.commit_files({"b": "1"}, "side")
    repo.commit_files({"c": "1"}, "side")
    with repo.rest.unnoted():
        repo.tag("v1", "side~")
    repo.merge("side~2")
    repo.merge("v1")
    repo.merge(repo.head("side"))
    repo.tree("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def targets_of_the_wrong_kind(repo: Repository) -> None:
    """Only a branch can be merged into."""
    with repo.rest.unnoted():
        repo.tag("v1")
    for target in ("nope", "v1", repo.head(), "main~", "main@"):
        repo.merge("side", target)


@scenario_with(diverged, BASE)
def a_source_that_is_not_there(repo: Repository) -> None:
    """An unknown source is a 404 that names it."""
    repo.merge("nope")
    repo.merge("0" * 64)
    repo.merge("main~99")


@scenario_with(repository, BASE)
def a_hidden_branch_is_merged(repo: Repository) -> None:
    """A hidden branch is merged like any other, and its name is in the message."""
    repo.add_branch("staging", hidden=True)
    repo.commit_files({"a": "1"}, "staging")
    repo.merge("staging")
    repo.show("main")
    repo.call("DELETE", "/branches/staging")
    repo.tree("main")


@scenario_with(diverged, BASE, main={"a": "1"}, side={"b": "1"})
def merging_back_and_forth(repo: Repository) -> None:
    """Each merge moves the merge base: later merges see only what is new."""
    repo.merge("side", "main")
    repo.merge("main", "side")
    repo.commit_files({"a": "2"}, "side")
    repo.merge("side", "main")
    repo.tree("main")
    repo.log("main")


@scenario_with(diverged, BASE, side={"d": "1"})
def a_merge_of_a_reverted_merge(repo: Repository) -> None:
    """What was merged and reverted on the target is not merged again."""
    repo.merge()
    with repo.rest.unnoted():
        repo.revert("main", parent=1)
    repo.merge()
    repo.commit_files({"e": "1"}, "side")
    repo.merge()
    repo.tree("main")


@scenario_with(diverged, BASE, main={"out": "1"}, side={"out/part": "2"})
def a_file_meets_a_folder(repo: Repository) -> None:
    """`out` on one side and `out/part` on the other are two paths, and both are kept."""
    repo.merge()
    repo.tree("main")


@scenario_with(diverged, BASE, side={"a": None, "b": None, "c": None})
def an_empty_source_tree(repo: Repository) -> None:
    """A source that deleted everything empties an unmoved target."""
    repo.merge()
    repo.tree("main@")
    repo.show("main")


@scenario_with(repository)
def a_merge_into_an_empty_repository(repo: Repository) -> None:
    """The first commit, which has no tree, is a merge base like any other."""
    repo.add_branch()
    repo.commit_files({"s": "1"}, "side")
    repo.commit_files({"m": "1"}, "main")
    repo.merge()
    repo.tree("main")


@scenario_with(diverged, BASE, main={"a": "1"}, side={"b": "1"})
def lines_that_crossed(repo: Repository) -> None:
    """Two branches that merged one another's heads have two merge bases, of which one is taken."""
    main, side = repo.head("main"), repo.head("side")
    with repo.rest.unnoted():
        repo.merge(side, "main")
        repo.merge(main, "side")
    repo.commit_files({"a": "2"}, "main")
    repo.commit_files({"b": "2"}, "side")
    repo.diff("main", "side")
    repo.merge()
    repo.tree("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def three_branches(repo: Repository) -> None:
    """What came through a third branch is known: merging it directly brings nothing new."""
    repo.add_branch("third", "side")
    repo.commit_files({"t": "1"}, "third")
    repo.merge("third", "main")
    repo.merge("side", "main")
    repo.commit_files({"s": "2"}, "side")
    repo.merge("side", "main")
    repo.tree("main")


@scenario_with(diverged, BASE, main={"a": "1"}, side={"a": "2"})
def a_change_taken_back_on_the_target(repo: Repository) -> None:
    """What the target changed and changed back is no change of its own, so the source's change is taken."""
    repo.commit_files({"a": "0"}, "main")
    repo.diff("main", "side")
    repo.merge()
    repo.tree("main")
