"""Commits."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository


@scenario
def a_commit_takes_over_what_is_staged(rest: Rest) -> None:
    """A commit answers itself, is the new head, and leaves nothing staged."""
    repo = repository(rest, {"a": "1"})
    repo.stage_files({"a": None, "b": "2"})
    repo.commit(message="second")
    repo.get("/branches/main")
    repo.show("main")
    repo.tree("main@")
    repo.staged()
    repo.log()


@scenario
def a_commit_of_nothing(rest: Rest) -> None:
    """Without changes there is nothing to commit."""
    repo = repository(rest, {"a": "1"})
    repo.commit()
    repo.log()


@scenario
def an_empty_commit_on_request(rest: Rest) -> None:
    """`allow_empty` commits the same tree again."""
    repo = repository(rest, {"a": "1"})
    repo.commit(message="empty", allow_empty=True)
    repo.log()
    repo.tree("main@")


@scenario
def an_empty_commit_drops_an_unchanged_upload(rest: Rest) -> None:
    """`allow_empty` with an identical upload keeps the tree and clears what is staged."""
    repo = repository(rest, {"a": "1"})
    repo.stat("a")
    repo.stage_files({"a": "1"})
    repo.commit(allow_empty=True)
    repo.stat("a")
    repo.diff("main~", "main", type="two_dot")


@scenario
def a_commit_has_metadata(rest: Rest) -> None:
    """Metadata is kept word by word, with any key."""
    repo = repository(rest)
    repo.stage_files({"a": "1"})
    metadata = {"k": "v", "": "empty key", "perago.Key": "", "ä": "日本", ".lakefs.x": "y", "a b/c": "line\nline"}
    repo.commit(metadata=metadata)
    repo.show("main")


@scenario
def metadata_holds_text_only(rest: Rest) -> None:
    """Metadata maps text to text and is not null."""
    repo = repository(rest)
    repo.stage_files({"a": "1"})
    for metadata in ({"k": 1}, {"k": None}, {"k": ["v"]}, ["k"], "k", None):
        repo.commit(metadata=metadata)
    repo.log()


@scenario
def a_commit_needs_a_message(rest: Rest) -> None:
    """The message is required, and may be empty."""
    repo = repository(rest)
    repo.stage_files({"a": "1"})
    repo.post("/branches/main/commits", {})
    repo.post("/branches/main/commits", {"message": None})
    repo.post("/branches/main/commits", {"message": 1})
    repo.commit(message="")


@scenario
def messages_are_kept(rest: Rest) -> None:
    """A message of several lines and scripts comes back as it was."""
    repo = repository(rest)
    repo.commit(message='Line 1\n\n  Line <3> & "ä" 日本 \U0001f600\t\n', allow_empty=True)
    repo.show("main")


@scenario
def a_commit_to_a_branch_that_is_not_there(rest: Rest) -> None:
    """A commit to an unknown branch is a 404 in the words of a hook."""
    repo = repository(rest)
    repo.commit("nope")
    repo.commit("no.pe")


@scenario
def a_commit_to_something_else(rest: Rest) -> None:
    """A tag, a commit id or an expression cannot be committed to."""
    repo = repository(rest, {"a": "1"})
    with rest.unnoted():
        repo.tag("v1")
    for place in ("v1", repo.head(), "main~"):
        repo.commit(place)


@scenario
def a_date_of_choice(rest: Rest) -> None:
    """Any whole number is taken as the date, 0 and negative ones too."""
    repo = repository(rest)
    repo.commit(date=0, allow_empty=True)
    repo.commit(date=-5, allow_empty=True)
    repo.commit(date="yesterday", allow_empty=True)
    repo.commit(date=1.5, allow_empty=True)
    with rest.unnoted():
        dates = [commit["creation_date"] for commit in repo.log().json["results"]]
    rest.note("dates but that of the first commit", [str(date) for date in dates[:-1]])


@scenario
def the_same_tree_has_the_same_id(rest: Rest) -> None:
    """The id of a tree depends on what it holds; that of a commit is always another."""
    repo = repository(rest, {"a": "1"})
    repo.commit_files({"b": "2"})
    repo.commit_files({"b": None})
    repo.show("main")
    repo.show("main~2")


@scenario
def the_generation_counts_the_longest_line(rest: Rest) -> None:
    """A commit's generation is one above the highest of its parents."""
    repo = repository(rest, {"a": "1"})
    repo.add_branch()
    repo.commit_files({"b": "1"}, "side")
    repo.commit_files({"b": "2"}, "side")
    with rest.unnoted():
        repo.merge("side")
    repo.show("main")
    repo.show("main~")
    repo.show("side")


@scenario
def unknown_members_are_ignored(rest: Rest) -> None:
    """A commit's body may hold more than the server knows."""
    repo = repository(rest)
    repo.commit(allow_empty=True, author="me", force=False)


@scenario
def a_large_commit_message_and_metadata(rest: Rest) -> None:
    """Half a megabyte of metadata is kept."""
    repo = repository(rest)
    text = "x" * 500_000
    repo.commit(allow_empty=True, metadata={"result": text})
    with rest.unnoted():
        kept = repo.show("main").json["metadata"]
    rest.note("kept whole", kept == {"result": text})


@scenario
def a_commit_of_an_unknown_tree(rest: Rest) -> None:
    """`source_metarange` is taken without a look, and afterwards the branch cannot be read."""
    repo = repository(rest, {"a": "1"})
    repo.post("/branches/main/commits", {"message": "m"}, query={"source_metarange": "no-such-tree"})
    repo.tree("main")
    repo.commit(allow_empty=True)
    repo.hard_reset("main~")
    repo.tree("main")


@scenario
def commits_that_are_not_there(rest: Rest) -> None:
    """Unknown commits are a 404."""
    repo = repository(rest)
    repo.show("nope")
    repo.show("0" * 64)
    repo.show("f" * 63)
    repo.show("g" * 64)
