"""Merges: results, refusals, and what a merge can be asked for: message, metadata, strategies, squashes.

The last tables are three-way merges in which lakeFS loses a change, and their harmless neighbors
(`docs/dev/servers/lakefs.md`, "lakeFS's three-way merge"). The server compares a new path with the *next* entry of the
base by content alone.
"""

from __future__ import annotations

from ..scenario import Declared, each, scenario_with, to
from .repositories import Files, Repository, diverged, empty, one_file, repo, repository

BASE: Files = {"a": "0", "b": "0", "c": "0"}


@scenario_with(diverged, BASE, main={"a": "1"}, side={"b": "1"})
def lines_that_crossed(repo: Repository) -> None:
    """Two branches that merged one another's heads have two merge bases, of which one is taken."""
    main, side = repo.head("main"), repo.head("side")
    repo.silent.merge(side, "main")
    repo.silent.merge(main, "side")
    repo.commit_files({"a": "2"})
    repo.commit_files({"b": "2"}, "side")
    repo.diff("main", "side")
    repo.merge()
    repo.tree()


STRATEGIES: dict[str, tuple[str, Files, Files]] = {
    # The strategy takes its side of every conflict, deletions too, and nothing else.
    "the_source_wins": ("source-wins", {"a": "1", "b": "1", "m": "1"}, {"a": "2", "b": None, "s": "2"}),
    "the_target_wins": ("dest-wins", {"a": "1", "b": None, "m": "1"}, {"a": "2", "b": "2", "s": "2"}),
    # Without a conflict a strategy changes nothing but the metadata.
    "a_strategy_without_a_conflict": ("dest-wins", {"a": "1"}, {"b": "2", "c": None}),
}


LOSSES: dict[str, tuple[Files, Files, Files]] = {
    # Both added `q`; the target's has the content of the next base entry and is overwritten without a conflict.
    "the_addition_of_the_target_is_overwritten": ({"a": "", "t": "same"}, {"q": "same"}, {"q": "other"}),
    # Both added `q`; the source's has the content of the next base entry and is dropped without a conflict.
    "the_addition_of_the_source_is_dropped": ({"a": "", "t": "same"}, {"q": "other"}, {"q": "same"}),
    # The source's new `m` has the content of `z`, which the target deleted: it is missing.
    "an_added_file_is_lost": ({"a": "1", "z": ""}, {"z": None}, {"m": ""}),
    # The target's new `m` has the content of `z`, which the source deleted: it is gone.
    "a_published_file_is_lost": ({"a": "1", "z": ""}, {"m": ""}, {"z": None}),
    # The source's new `m` has the content of `z`, which the target deleted next to another change: it is missing.
    "a_renamed_file_is_lost": ({"a": "1", "z": "data"}, {"a": "2", "z": None}, {"m": "data"}),
    # Both added `q` with contents that the base has nowhere: a conflict.
    "other_content_is_a_conflict": ({"a": "", "t": "same"}, {"q": "1"}, {"q": "2"}),
    # A new file beside a deletion stays if its content is another.
    "other_content_is_kept": ({"a": "1", "z": ""}, {"z": None}, {"m": "new"}),
    # A path that the base holds is compared with itself, whatever the next one contains.
    "a_path_of_the_base_is_safe": ({"m": "1", "z": ""}, {"z": None}, {"m": ""}),
}


SCENARIOS: Declared = {
    # A merge adds, changes and deletes what the source did, and keeps what the target did.
    "a_merge_takes_over_the_changes": to(
        diverged, BASE, main={"a": "1", "m": "1"}, side={"b": "2", "c": None, "s": "2"}
    )(
        repo.merge("side", "main", message="merged", metadata={"k": "v"}),
        repo.tree("main@"),
        repo.show(),
        repo.log(amount=2),
        repo.get("/branches/side"),
    ),
    # Content type and metadata belong to what both sides compare.
    "the_same_bytes_of_another_type_are_a_conflict": to(diverged, BASE)(
        repo.silent.upload("d", "1", "main"),
        repo.silent.upload("d", "1", "side", headers={"Content-Type": "text/csv"}),
        *repo.silent.commit.each("main", "side"),
        repo.merge(),
    ),
    # Only a branch can be merged into.
    "targets_of_the_wrong_kind": to(diverged, BASE, side={"a": "1"})(
        repo.silent.tag("v1"), *(repo.merge("side", target) for target in ("nope", "v1", repo.head(), "main~", "main@"))
    ),
    # Merge what both sides did with this strategy.
    **each(
        STRATEGIES,
        lambda case: to(diverged, BASE, main=case[1], side=case[2])(
            repo.merge(strategy=case[0]), repo.tree(), repo.show()
        ),
    ),
    # What the diff says, what the merge answers, and what is left.
    **each(
        LOSSES,
        lambda case: to(diverged, case[0], main=case[1], side=case[2])(
            repo.diff("main", "side"), repo.merge(), repo.tree()
        ),
    ),
    # With an unmoved target the source's tree is taken as it is, renames included.
    "an_unmoved_target_is_safe": to(diverged, {"a": "1", "z": ""}, side={"m": "", "z": None})(
        repo.merge(), repo.tree()
    ),
    # A merge into an unmoved target is a merge commit whose tree is the source's.
    "a_merge_is_never_a_fast_forward": to(diverged, BASE, side={"a": "1", "b": None, "d": "1"})(
        repo.show(), repo.show("side"), repo.merge(), repo.show(), repo.tree()
    ),
    # A conflict is a 409 with an empty reference and no message, and changes nothing.
    "both_changed_a_path": to(diverged, BASE, main={"a": "1"}, side={"a": "2", "d": "2"})(
        repo.merge(), repo.tree(), repo.log()
    ),
    # Different additions are a conflict.
    "both_added_a_path": to(diverged, BASE, main={"d": "1"}, side={"d": "2"})(repo.merge(), repo.tree()),
    # Changed here and deleted there is a conflict, whichever side deleted.
    "one_changed_what_the_other_deleted": to(diverged, BASE, main={"a": "1"}, side={"a": None})(
        repo.merge(), repo.merge("main", "side")
    ),
    # The same change on both sides is no conflict: a merge commit with the target's tree.
    "both_did_the_same": to(diverged, BASE, main={"a": "1", "b": None, "d": "1"}, side={"a": "1", "b": None, "d": "1"})(
        repo.show(), repo.merge(), repo.show(), repo.tree()
    ),
    # Where both sides added the same, the source's address wins.
    "both_uploaded_the_same_bytes": to(diverged, BASE)(
        repo.upload("d", "1", "main"),
        repo.upload("d", "1", "side"),
        repo.silent.commit("main"),
        repo.silent.commit("side"),
        repo.silent.merge(),
        repo.stat("d"),
    ),
    # A source that did nothing is refused.
    "nothing_to_merge": to(diverged, BASE, main={"a": "1"})(
        repo.merge(), repo.merge("main", "main"), repo.merge("main~"), repo.log()
    ),
    # A source that was merged has nothing more, also by its commit id.
    "the_same_source_again": to(diverged, BASE, side={"a": "1"})(
        repo.merge(), repo.merge(), repo.merge(repo.head("side")), repo.log()
    ),
    # A source whose tree is that of the merge base has no changes, however many commits it has.
    "a_source_that_did_and_undid": to(diverged, BASE, side={"d": "1"})(
        repo.commit_files({"d": None}, "side"), repo.merge(), repo.commit_files({"a": "1"}), repo.merge()
    ),
    # Staged changes on the target mask every other refusal, and `force` does not help.
    "a_dirty_target_is_refused_first": to(diverged, BASE, side={"a": "1"})(
        repo.stage_files({"d": "1"}),
        repo.merge(),
        repo.merge(force=True),
        repo.merge("nope"),
        repo.merge("main"),
        repo.reset(type="reset"),
        repo.merge(),
    ),
    # What is staged on the source is not merged and stays staged.
    "a_dirty_source_does_not_matter": to(diverged, BASE, side={"a": "1"})(
        repo.stage_files({"d": "1"}, "side"), repo.merge(), repo.tree(), repo.staged("side")
    ),
    # `side$` cannot be merged.
    "a_staging_area_is_no_source": to(diverged, BASE, side={"a": "1"})(repo.merge("side$")),
    # A tag, an expression and a commit id can be merged.
    "sources_of_every_kind": to(diverged, BASE, side={"a": "1"})(
        repo.commit_files({"b": "1"}, "side"),
        repo.commit_files({"c": "1"}, "side"),
        repo.silent.tag("v1", "side~"),
        repo.merge("side~2"),
        repo.merge("v1"),
        repo.merge(repo.head("side")),
        repo.tree(),
    ),
    # An unknown source is a 404 that names it.
    "a_source_that_is_not_there": to(diverged, BASE)(repo.merge("nope"), repo.merge("0" * 64), repo.merge("main~99")),
    # A hidden branch is merged like any other, and its name is in the message.
    "a_hidden_branch_is_merged": to(repository, BASE)(
        repo.add_branch("staging", hidden=True),
        repo.commit_files({"a": "1"}, "staging"),
        repo.merge("staging"),
        repo.show(),
        repo.delete("/branches/staging"),
        repo.tree(),
    ),
    # Each merge moves the merge base: later merges see only what is new.
    "merging_back_and_forth": to(diverged, BASE, main={"a": "1"}, side={"b": "1"})(
        repo.merge(),
        repo.merge("main", "side"),
        repo.commit_files({"a": "2"}, "side"),
        repo.merge(),
        repo.tree(),
        repo.log(),
    ),
    # What was merged and reverted on the target is not merged again.
    "a_merge_of_a_reverted_merge": to(diverged, BASE, side={"d": "1"})(
        repo.merge(),
        repo.silent.revert("main", parent=1),
        repo.merge(),
        repo.commit_files({"e": "1"}, "side"),
        repo.merge(),
        repo.tree(),
    ),
    # `out` on one side and `out/part` on the other are two paths, and both are kept.
    "a_file_meets_a_folder": to(diverged, BASE, main={"out": "1"}, side={"out/part": "2"})(repo.merge(), repo.tree()),
    # A source that deleted everything empties an unmoved target.
    "an_empty_source_tree": to(diverged, BASE, side={"a": None, "b": None, "c": None})(
        repo.merge(), repo.tree("main@"), repo.show()
    ),
    # The first commit, which has no tree, is a merge base like any other.
    "a_merge_into_an_empty_repository": empty(
        repo.add_branch(),
        repo.commit_files({"s": "1"}, "side"),
        repo.commit_files({"m": "1"}),
        repo.merge(),
        repo.tree(),
    ),
    # What came through a third branch is known: merging it directly brings nothing new.
    "three_branches": to(diverged, BASE, side={"s": "1"})(
        repo.add_branch("third", "side"),
        repo.commit_files({"t": "1"}, "third"),
        repo.merge("third", "main"),
        repo.merge(),
        repo.commit_files({"s": "2"}, "side"),
        repo.merge(),
        repo.tree(),
    ),
    # What the target changed and changed back is no change of its own, so the source's change is taken.
    "a_change_taken_back_on_the_target": to(diverged, BASE, main={"a": "1"}, side={"a": "2"})(
        repo.commit_files({"a": "0"}), repo.diff("main", "side"), repo.merge(), repo.tree()
    ),
    # Without a message, a merge says what it merged into what, as the source was written.
    "the_default_message_names_both_sides": to(diverged, BASE, side={"a": "1"})(
        repo.merge("side@"), repo.show(), repo.merge(repo.commit_files({"a": "2"}, "side"), message=""), repo.show()
    ),
    # A merge needs no body.
    "a_merge_without_a_body": to(diverged, BASE, side={"a": "1"})(repo.post("/refs/side/merge/main"), repo.show()),
    # Every merge commit says its strategy, whatever the request's metadata says.
    "the_strategy_is_noted_in_the_metadata": to(diverged, BASE, side={"a": "1"})(
        repo.merge(metadata={".lakefs.merge.strategy": "mine", "k": "v"}),
        repo.show(),
        repo.commit_files({"a": "2"}, "side"),
        repo.merge(strategy="source-wins"),
        repo.show(),
        repo.commit_files({"a": "3"}, "side"),
        repo.merge(strategy=""),
        repo.show(),
    ),
    # An unknown strategy is refused.
    "a_strategy_that_is_not_there": to(diverged, BASE, side={"a": "1"})(
        repo.merge(strategy="theirs"), repo.merge(strategy=1), repo.log()
    ),
    # `allow_empty` makes a merge commit of a source without changes.
    "an_empty_merge_on_request": to(diverged, BASE, main={"a": "1"})(
        repo.show(), repo.merge(allow_empty=True), repo.show(), repo.tree()
    ),
    # `force` lifts the refusal of an empty merge as `allow_empty` does.
    "force_merges_nothing_too": to(diverged, BASE)(repo.merge(force=True), repo.log()),
    # An empty merge of a head into its own branch moves the head and keeps the tree.
    "a_branch_merges_itself": one_file(
        repo.show(), repo.merge(repo.head(), allow_empty=True, metadata={"k": "v"}), repo.show()
    ),
    # A squash merge takes over the tree in a commit with the target as its only parent.
    "a_squash_has_one_parent": to(diverged, BASE, main={"m": "1"}, side={"s": "1"})(
        repo.commit_files({"t": "1"}, "side"), repo.merge(squash_merge=True), repo.show(), repo.tree(), repo.log()
    ),
    # Squashing the same source again succeeds with an empty commit.
    "a_squash_of_the_same_source_again": to(diverged, BASE, side={"s": "1"})(
        repo.merge(squash_merge=True), repo.merge(squash_merge=True), repo.log(), repo.tree()
    ),
    # A key that the target deleted after a squash comes back with the next one.
    "a_squash_brings_back_what_was_deleted": to(diverged, BASE, side={"s": "1"})(
        repo.merge(squash_merge=True), repo.commit_files({"s": None}), repo.merge(squash_merge=True), repo.tree()
    ),
    # A merge's body is checked by the schema.
    "members_of_the_wrong_type": to(diverged, BASE, side={"a": "1"})(
        repo.merge(message=1),
        repo.merge(metadata={"k": 1}),
        repo.merge(force="yes"),
        repo.merge(squash_merge=1),
        repo.merge(unknown=1, message="fine"),
    ),
    # A squash leaves the merge base where it was: what both sides have by now is the same change.
    "a_merge_after_a_squash": to(diverged, BASE, side={"s": "1"})(
        repo.merge(squash_merge=True),
        repo.commit_files({"t": "1"}, "side"),
        repo.get("/refs/side/merge/main"),
        repo.merge(),
        repo.tree(),
        repo.show(),
    ),
    # Metadata of a merge is kept word by word, and what is no text is refused.
    "metadata_of_a_merge": to(diverged, BASE, side={"a": "1"})(
        repo.merge(metadata={"": "x", "ä": "日本", "long": "x" * 300, "K": "v", "k": "w"}, message=" two\nlines "),
        repo.show(),
        repo.merge(metadata=None),
    ),
}
