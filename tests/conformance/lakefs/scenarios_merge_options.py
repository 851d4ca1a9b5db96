"""What a merge can be asked for: message, metadata, strategies, empty merges, squashes."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import Files, diverged, repository

BASE: Files = {"a": "0", "b": "0", "c": "0"}


@scenario
def the_default_message_names_both_sides(rest: Rest) -> None:
    """Without a message, a merge says what it merged into what, as the source was written."""
    repo = diverged(rest, BASE, side={"a": "1"})
    repo.merge("side@")
    repo.show("main")
    kept = repo.commit_files({"a": "2"}, "side")
    repo.merge(kept, message="")
    repo.show("main")


@scenario
def a_merge_without_a_body(rest: Rest) -> None:
    """A merge needs no body."""
    repo = diverged(rest, BASE, side={"a": "1"})
    repo.post("/refs/side/merge/main")
    repo.show("main")


@scenario
def the_strategy_is_noted_in_the_metadata(rest: Rest) -> None:
    """Every merge commit says its strategy, whatever the request's metadata says."""
    repo = diverged(rest, BASE, side={"a": "1"})
    repo.merge(metadata={".lakefs.merge.strategy": "mine", "k": "v"})
    repo.show("main")
    repo.commit_files({"a": "2"}, "side")
    repo.merge(strategy="source-wins")
    repo.show("main")
    repo.commit_files({"a": "3"}, "side")
    repo.merge(strategy="")
    repo.show("main")


@scenario
def the_source_wins(rest: Rest) -> None:
    """`source-wins` takes the source's side of every conflict, deletions too, and nothing else."""
    repo = diverged(rest, BASE, main={"a": "1", "b": "1", "m": "1"}, side={"a": "2", "b": None, "s": "2"})
    repo.merge(strategy="source-wins")
    repo.tree("main")
    repo.show("main")


@scenario
def the_target_wins(rest: Rest) -> None:
    """`dest-wins` takes the target's side of every conflict, deletions too, and nothing else."""
    repo = diverged(rest, BASE, main={"a": "1", "b": None, "m": "1"}, side={"a": "2", "b": "2", "s": "2"})
    repo.merge(strategy="dest-wins")
    repo.tree("main")
    repo.show("main")


@scenario
def a_strategy_that_is_not_there(rest: Rest) -> None:
    """An unknown strategy is refused."""
    repo = diverged(rest, BASE, side={"a": "1"})
    repo.merge(strategy="theirs")
    repo.merge(strategy=1)
    repo.log("main")


@scenario
def an_empty_merge_on_request(rest: Rest) -> None:
    """`allow_empty` makes a merge commit of a source without changes."""
    repo = diverged(rest, BASE, main={"a": "1"})
    repo.show("main")
    repo.merge(allow_empty=True)
    repo.show("main")
    repo.tree("main")


@scenario
def force_merges_nothing_too(rest: Rest) -> None:
    """`force` lifts the refusal of an empty merge as `allow_empty` does."""
    repo = diverged(rest, BASE)
    repo.merge(force=True)
    repo.log("main")


@scenario
def a_branch_merges_itself(rest: Rest) -> None:
    """An empty merge of a head into its own branch moves the head and keeps the tree."""
    repo = repository(rest, {"a": "1"})
    repo.show("main")
    repo.merge(repo.head(), allow_empty=True, metadata={"k": "v"})
    repo.show("main")


@scenario
def a_squash_has_one_parent(rest: Rest) -> None:
    """A squash merge takes over the tree in a commit with the target as its only parent."""
    repo = diverged(rest, BASE, main={"m": "1"}, side={"s": "1"})
    repo.commit_files({"t": "1"}, "side")
    repo.merge(squash_merge=True)
    repo.show("main")
    repo.tree("main")
    repo.log("main")


@scenario
def a_squash_of_the_same_source_again(rest: Rest) -> None:
    """Squashing the same source again succeeds with an empty commit."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.merge(squash_merge=True)
    repo.merge(squash_merge=True)
    repo.log("main")
    repo.tree("main")


@scenario
def a_squash_brings_back_what_was_deleted(rest: Rest) -> None:
    """A key that the target deleted after a squash comes back with the next one."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.merge(squash_merge=True)
    repo.commit_files({"s": None}, "main")
    repo.merge(squash_merge=True)
    repo.tree("main")


@scenario
def members_of_the_wrong_type(rest: Rest) -> None:
    """A merge's body is checked by the schema."""
    repo = diverged(rest, BASE, side={"a": "1"})
    repo.merge(message=1)
    repo.merge(metadata={"k": 1})
    repo.merge(force="yes")
    repo.merge(squash_merge=1)
    repo.merge(unknown=1, message="fine")


@scenario
def a_merge_after_a_squash(rest: Rest) -> None:
    """A squash leaves the merge base where it was: what both sides have by now is the same change."""
    repo = diverged(rest, BASE, side={"s": "1"})
    repo.merge(squash_merge=True)
    repo.commit_files({"t": "1"}, "side")
    repo.get("/refs/side/merge/main")
    repo.merge()
    repo.tree("main")
    repo.show("main")


@scenario
def a_strategy_without_a_conflict(rest: Rest) -> None:
    """Without a conflict a strategy changes nothing but the metadata."""
    repo = diverged(rest, BASE, main={"a": "1"}, side={"b": "2", "c": None})
    repo.merge(strategy="dest-wins")
    repo.tree("main")
    repo.show("main")


@scenario
def metadata_of_a_merge(rest: Rest) -> None:
    """Metadata of a merge is kept word by word, and what is no text is refused."""
    repo = diverged(rest, BASE, side={"a": "1"})
    repo.merge(metadata={"": "x", "ä": "日本", "long": "x" * 300, "K": "v", "k": "w"}, message=" two\nlines ")
    repo.show("main")
    repo.merge(metadata=None)
