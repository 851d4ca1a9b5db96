"""Commits."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository


@scenario_with(repository, {"a": "1"})
def a_commit_takes_over_what_is_staged(repo: Repository) -> None:
    """A commit answers itself, is the new head, and leaves nothing staged."""
    repo.stage_files({"a": None, "b": "2"})
    repo.commit(message="second")
    repo.get("/branches/main")
    repo.show("main")
    repo.tree("main@")
    repo.staged()
    repo.log()


@scenario_with(repository, {"a": "1"})
def a_commit_of_nothing(repo: Repository) -> None:
    """Without changes there is nothing to commit."""
    repo.commit()
    repo.log()


@scenario_with(repository, {"a": "1"})
def an_empty_commit_on_request(repo: Repository) -> None:
    """`allow_empty` commits the same tree again."""
    repo.commit(message="empty", allow_empty=True)
    repo.log()
    repo.tree("main@")


@scenario_with(repository, {"a": "1"})
def an_empty_commit_drops_an_unchanged_upload(repo: Repository) -> None:
    """`allow_empty` with an identical upload keeps the tree and clears what is staged."""
    repo.stat("a")
    repo.stage_files({"a": "1"})
    repo.commit(allow_empty=True)
    repo.stat("a")
    repo.diff("main~", "main", type="two_dot")


@scenario_with(repository)
def a_commit_has_metadata(repo: Repository) -> None:
    """Metadata is kept word by word, with any key."""
    repo.stage_files({"a": "1"})
    metadata = {"k": "v", "": "empty key", "perago.Key": "", "ä": "日本", ".lakefs.x": "y", "a b/c": "line\nline"}
    repo.commit(metadata=metadata)
    repo.show("main")


@scenario_with(repository)
def metadata_holds_text_only(repo: Repository) -> None:
    """Metadata maps text to text and is not null."""
    repo.stage_files({"a": "1"})
    for metadata in ({"k": 1}, {"k": None}, {"k": ["v"]}, ["k"], "k", None):
        repo.commit(metadata=metadata)
    repo.log()


@scenario_with(repository)
def a_commit_needs_a_message(repo: Repository) -> None:
    """The message is required, and may be empty."""
    repo.stage_files({"a": "1"})
    repo.post("/branches/main/commits", {})
    repo.post("/branches/main/commits", {"message": None})
    repo.post("/branches/main/commits", {"message": 1})
    repo.commit(message="")


@scenario_with(repository)
def messages_are_kept(repo: Repository) -> None:
    """A message of several lines and scripts comes back as it was."""
    repo.commit(message='Line 1\n\n  Line <3> & "ä" 日本 \U0001f600\t\n', allow_empty=True)
    repo.show("main")


@scenario_with(repository)
def a_commit_to_a_branch_that_is_not_there(repo: Repository) -> None:
    """A commit to an unknown branch is a 404 in the words of a hook."""
    repo.commit("nope")
    repo.commit("no.pe")


@scenario_with(repository, {"a": "1"})
def a_commit_to_something_else(repo: Repository) -> None:
    """A tag, a commit id or an expression cannot be committed to."""
    with repo.rest.unnoted():
        repo.tag("v1")
    for place in ("v1", repo.head(), "main~"):
        repo.commit(place)


@scenario_with(repository)
def a_date_of_choice(repo: Repository) -> None:
    """Any whole number is taken as the date, 0 and negative ones too."""
    repo.commit(date=0, allow_empty=True)
    repo.commit(date=-5, allow_empty=True)
    repo.commit(date="yesterday", allow_empty=True)
    repo.commit(date=1.5, allow_empty=True)
    with repo.rest.unnoted():
        dates = [commit["creation_date"] for commit in repo.log().json["results"]]
    repo.rest.note("dates but that of the first commit", [str(date) for date in dates[:-1]])


@scenario_with(repository, {"a": "1"})
def the_same_tree_has_the_same_id(repo: Repository) -> None:
    """The id of a tree depends on what it holds; that of a commit is always another."""
    repo.commit_files({"b": "2"})
    repo.commit_files({"b": None})
    repo.show("main")
    repo.show("main~2")


@scenario_with(repository, {"a": "1"})
def the_generation_counts_the_longest_line(repo: Repository) -> None:
    """A commit's generation is one above the highest of its parents."""
    repo.add_branch()
    repo.commit_files({"b": "1"}, "side")
    repo.commit_files({"b": "2"}, "side")
    with repo.rest.unnoted():
        repo.merge("side")
    repo.show("main")
    repo.show("main~")
    repo.show("side")


@scenario_with(repository)
def unknown_members_are_ignored(repo: Repository) -> None:
    """A commit's body may hold more than the server knows."""
    repo.commit(allow_empty=True, author="me", force=False)


@scenario_with(repository)
def a_large_commit_message_and_metadata(repo: Repository) -> None:
    """Half a megabyte of metadata is kept."""
    text = "x" * 500_000
    repo.commit(allow_empty=True, metadata={"result": text})
    with repo.rest.unnoted():
        kept = repo.show("main").json["metadata"]
    repo.rest.note("kept whole", kept == {"result": text})


@scenario_with(repository, {"a": "1"})
def a_commit_of_an_unknown_tree(repo: Repository) -> None:
    """`source_metarange` is taken without a look, and afterwards the branch cannot be read."""
    repo.post("/branches/main/commits", {"message": "m"}, query={"source_metarange": "no-such-tree"})
    repo.tree("main")
    repo.commit(allow_empty=True)
    repo.hard_reset("main~")
    repo.tree("main")


@scenario_with(repository)
def commits_that_are_not_there(repo: Repository) -> None:
    """Unknown commits are a 404."""
    repo.show("nope")
    repo.show("0" * 64)
    repo.show("f" * 63)
    repo.show("g" * 64)
