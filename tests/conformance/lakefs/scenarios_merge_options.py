"""What a merge can be asked for: message, metadata, strategies, empty merges, squashes."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .repositories import Files, Repository, diverged, repository

BASE: Files = {"a": "0", "b": "0", "c": "0"}


@scenario_with(diverged, BASE, side={"a": "1"})
def the_default_message_names_both_sides(repo: Repository) -> None:
    """Without a message, a merge says what it merged into what, as the source was written."""
    repo.merge("side@")
    repo.show("main")
    kept = repo.commit_files({"a": "2"}, "side")
    repo.merge(kept, message="")
    repo.show("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def a_merge_without_a_body(repo: Repository) -> None:
    """A merge needs no body."""
    repo.post("/refs/side/merge/main")
    repo.show("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def the_strategy_is_noted_in_the_metadata(repo: Repository) -> None:
    """Every merge commit says its strategy, whatever the request's metadata says."""
    repo.merge(metadata={".lakefs.merge.strategy": "mine", "k": "v"})
    repo.show("main")
    repo.commit_files({"a": "2"}, "side")
    repo.merge(strategy="source-wins")
    repo.show("main")
    repo.commit_files({"a": "3"}, "side")
    repo.merge(strategy="")
    repo.show("main")


STRATEGIES: dict[str, tuple[str, Files, Files]] = {
    # The strategy takes its side of every conflict, deletions too, and nothing else.
    "the_source_wins": ("source-wins", {"a": "1", "b": "1", "m": "1"}, {"a": "2", "b": None, "s": "2"}),
    "the_target_wins": ("dest-wins", {"a": "1", "b": None, "m": "1"}, {"a": "2", "b": "2", "s": "2"}),
    # Without a conflict a strategy changes nothing but the metadata.
    "a_strategy_without_a_conflict": ("dest-wins", {"a": "1"}, {"b": "2", "c": None}),
}


@scenario_for_each(STRATEGIES)
def strategies(rest: Rest, case: tuple[str, Files, Files]) -> None:
    """Merge what both sides did with this strategy."""
    strategy, main, side = case
    repo = diverged(rest, BASE, main=main, side=side)
    repo.merge(strategy=strategy)
    repo.tree("main")
    repo.show("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def a_strategy_that_is_not_there(repo: Repository) -> None:
    """An unknown strategy is refused."""
    repo.merge(strategy="theirs")
    repo.merge(strategy=1)
    repo.log("main")


@scenario_with(diverged, BASE, main={"a": "1"})
def an_empty_merge_on_request(repo: Repository) -> None:
    """`allow_empty` makes a merge commit of a source without changes."""
    repo.show("main")
    repo.merge(allow_empty=True)
    repo.show("main")
    repo.tree("main")


@scenario_with(diverged, BASE)
def force_merges_nothing_too(repo: Repository) -> None:
    """`force` lifts the refusal of an empty merge as `allow_empty` does."""
    repo.merge(force=True)
    repo.log("main")


@scenario_with(repository, {"a": "1"})
def a_branch_merges_itself(repo: Repository) -> None:
    """An empty merge of a head into its own branch moves the head and keeps the tree."""
    repo.show("main")
    repo.merge(repo.head(), allow_empty=True, metadata={"k": "v"})
    repo.show("main")


@scenario_with(diverged, BASE, main={"m": "1"}, side={"s": "1"})
def a_squash_has_one_parent(repo: Repository) -> None:
    """A squash merge takes over the tree in a commit with the target as its only parent."""
    repo.commit_files({"t": "1"}, "side")
    repo.merge(squash_merge=True)
    repo.show("main")
    repo.tree("main")
    repo.log("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def a_squash_of_the_same_source_again(repo: Repository) -> None:
    """Squashing the same source again succeeds with an empty commit."""
    repo.merge(squash_merge=True)
    repo.merge(squash_merge=True)
    repo.log("main")
    repo.tree("main")


@scenario_with(diverged, BASE, side={"s": "1"})
def a_squash_brings_back_what_was_deleted(repo: Repository) -> None:
    """A key that the target deleted after a squash comes back with the next one."""
    repo.merge(squash_merge=True)
    repo.commit_files({"s": None}, "main")
    repo.merge(squash_merge=True)
    repo.tree("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def members_of_the_wrong_type(repo: Repository) -> None:
    """A merge's body is checked by the schema."""
    repo.merge(message=1)
    repo.merge(metadata={"k": 1})
    repo.merge(force="yes")
    repo.merge(squash_merge=1)
    repo.merge(unknown=1, message="fine")


@scenario_with(diverged, BASE, side={"s": "1"})
def a_merge_after_a_squash(repo: Repository) -> None:
    """A squash leaves the merge base where it was: what both sides have by now is the same change."""
    repo.merge(squash_merge=True)
    repo.commit_files({"t": "1"}, "side")
    repo.get("/refs/side/merge/main")
    repo.merge()
    repo.tree("main")
    repo.show("main")


@scenario_with(diverged, BASE, side={"a": "1"})
def metadata_of_a_merge(repo: Repository) -> None:
    """Metadata of a merge is kept word by word, and what is no text is refused."""
    repo.merge(metadata={"": "x", "ä": "日本", "long": "x" * 300, "K": "v", "k": "w"}, message=" two\nlines ")
    repo.show("main")
    repo.merge(metadata=None)
