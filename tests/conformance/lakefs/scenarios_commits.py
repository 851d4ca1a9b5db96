"""Commits, and the history of a ref."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, scenario_with, to
from .repositories import Repository, diverged, empty, one_file, repo, repository


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


@scenario_with(repository)
def a_large_commit_message_and_metadata(repo: Repository) -> None:
    """Half a megabyte of metadata is kept."""
    text = "x" * 500_000
    repo.commit(allow_empty=True, metadata={"result": text})
    metadata = repo.silent.show().json["metadata"]
    repo.rest.note("kept whole", metadata == {"result": text})


METADATA = {"k": "v", "": "empty key", "perago.Key": "", "ä": "日本", ".lakefs.x": "y", "a b/c": "line\nline"}


def line(rest: Rest) -> Repository:
    """Five commits in a line, dated a minute apart from one another. All of their ids are known."""
    repo = repository(rest)
    repo.head()
    for n in range(1, 5):
        repo.commit_files({f"{n}": "1"}, message=f"number {n}", date=1_000_000 + 60 * n)
    return repo


def diamond(rest: Rest) -> Repository:
    """A merge of two lines with two commits each."""
    repo = diverged(rest, {"base": ""}, main={"m1": "1"}, side={"s1": "1"})
    repo.commit_files({"m2": "1"}, "main", "main again")
    repo.commit_files({"s2": "1"}, "side", "side again")
    repo.silent.merge("side", message="merged")
    return repo


SCENARIOS: Declared = {
    # Metadata is kept word by word, with any key.
    "a_commit_has_metadata": empty(repo.stage_files({"a": "1"}), repo.commit(metadata=METADATA), repo.show()),
    # A tag, a commit id or an expression cannot be committed to.
    "a_commit_to_something_else": one_file(repo.silent.tag("v1"), *repo.commit.each("v1", repo.head(), "main~")),
    # A log goes back from the ref to the first commit.
    "newest_first": to(line)(repo.log("main~")),
    # `next_offset` of a page is the `after` of the next; `after` is exclusive.
    "pages_of_a_log": to(line)(
        repo.log(amount=2),
        repo.log(amount=2, after=repo.commit_id(4)),
        repo.log(amount=2, after=repo.commit_id(2)),
        repo.log(after=repo.commit_id(1)),
    ),
    # `stop_at` is the last commit shown.
    "a_log_stops_at_a_commit": to(line)(
        repo.log(stop_at=repo.commit_id(3)),
        repo.log(stop_at="main~1"),
        repo.log(stop_at=repo.commit_id(5)),
        repo.log(stop_at=repo.commit_id(3), amount=1),
        repo.log(stop_at=repo.commit_id(3), after=repo.commit_id(5)),
    ),
    # `since` leaves out commits from before a time.
    "a_log_since_a_time": to(line)(
        *(repo.log(since=since) for since in ("1970-01-12T13:49:00Z", "2100-01-01T00:00:00Z", "yesterday"))
    ),
    # With `limit` the amount is all there is: no more is promised.
    "a_limited_log": to(line)(repo.log(limit="true", amount=2), repo.log(limit="false", amount=2)),
    # A log starts at a tag, a commit id or an expression as well.
    "a_log_of_anything": to(line)(
        repo.silent.tag("v1", repo.commit_id(2)), *repo.log.each("v1", repo.commit_id(2), "main~3")
    ),
    # A commit answers itself, is the new head, and leaves nothing staged.
    "a_commit_takes_over_what_is_staged": one_file(
        repo.stage_files({"a": None, "b": "2"}),
        repo.commit(message="second"),
        repo.get("/branches/main"),
        repo.show(),
        repo.tree("main@"),
        repo.staged(),
        repo.log(),
    ),
    # Without changes there is nothing to commit.
    "a_commit_of_nothing": one_file(repo.commit(), repo.log()),
    # `allow_empty` commits the same tree again.
    "an_empty_commit_on_request": one_file(
        repo.commit(message="empty", allow_empty=True), repo.log(), repo.tree("main@")
    ),
    # `allow_empty` with an identical upload keeps the tree and clears what is staged.
    "an_empty_commit_drops_an_unchanged_upload": one_file(
        repo.stat("a"),
        repo.stage_files({"a": "1"}),
        repo.commit(allow_empty=True),
        repo.stat("a"),
        repo.diff("main~", "main", type="two_dot"),
    ),
    # Metadata maps text to text and is not null.
    "metadata_holds_text_only": empty(
        repo.stage_files({"a": "1"}),
        *(repo.commit(metadata=metadata) for metadata in ({"k": 1}, {"k": None}, {"k": ["v"]}, ["k"], "k", None)),
        repo.log(),
    ),
    # The message is required, and may be empty.
    "a_commit_needs_a_message": empty(
        repo.stage_files({"a": "1"}),
        repo.post("/branches/main/commits", {}),
        repo.post("/branches/main/commits", {"message": None}),
        repo.post("/branches/main/commits", {"message": 1}),
        repo.commit(message=""),
    ),
    # A message of several lines and scripts comes back as it was.
    "messages_are_kept": empty(
        repo.commit(message='Line 1\n\n  Line <3> & "ä" 日本 \U0001f600\t\n', allow_empty=True), repo.show()
    ),
    # A commit to an unknown branch is a 404 in the words of a hook.
    "a_commit_to_a_branch_that_is_not_there": empty(repo.commit("nope"), repo.commit("no.pe")),
    # The id of a tree depends on what it holds; that of a commit is always another.
    "the_same_tree_has_the_same_id": one_file(
        repo.commit_files({"b": "2"}), repo.commit_files({"b": None}), repo.show(), repo.show("main~2")
    ),
    # A commit's generation is one above the highest of its parents.
    "the_generation_counts_the_longest_line": one_file(
        repo.add_branch(),
        repo.commit_files({"b": "1"}, "side"),
        repo.commit_files({"b": "2"}, "side"),
        repo.silent.merge("side"),
        repo.show(),
        repo.show("main~"),
        repo.show("side"),
    ),
    # A commit's body may hold more than the server knows.
    "unknown_members_are_ignored": empty(repo.commit(allow_empty=True, author="me", force=False)),
    # `source_metarange` is taken without a look, and afterwards the branch cannot be read.
    "a_commit_of_an_unknown_tree": one_file(
        repo.post("/branches/main/commits", {"message": "m"}, query={"source_metarange": "no-such-tree"}),
        repo.tree(),
        repo.commit(allow_empty=True),
        repo.hard_reset("main~"),
        repo.tree(),
    ),
    # Unknown commits are a 404.
    "commits_that_are_not_there": empty(
        repo.show("nope"), repo.show("0" * 64), repo.show("f" * 63), repo.show("g" * 64)
    ),
    # Behind a merge, both lines of history are mixed by the time of their commits.
    "a_log_shows_both_lines": to(diamond)(repo.log()),
    # With `first_parent` a log leaves merged lines out.
    "first_parents_only": to(diamond)(
        repo.log(first_parent="true"), repo.log(first_parent="true", amount=2), repo.log(first_parent="false", amount=2)
    ),
    # The order is that of dates, so a commit dated back comes after its elders of another line.
    "dates_decide_the_order": to(diverged, {"base": ""})(
        repo.commit_files({"s": "1"}, "side", "old", date=1_000),
        repo.commit_files({"m": "1"}, "main", "new", date=2_000_000_000),
        repo.silent.merge("side", message="merged"),
        repo.log(),
    ),
    # Pages go along first parents, too, and a commit of another line is no place to go on from.
    "pages_of_first_parents": to(diamond)(
        repo.log(first_parent="true", after=repo.head(), amount=1),
        repo.log(first_parent="true", after=repo.head("side"), amount=1),
    ),
    # `after` must be a commit of this history.
    "a_log_after_something_else": to(diverged, {"a": "0"}, main={"m": "1"}, side={"s": "1"})(
        repo.log(after="nope"), repo.log(after=repo.head("side")), repo.log(after="main~"), repo.log(after="side")
    ),
    # An unknown `stop_at` is a 404; one of another line never comes.
    "a_log_stops_nowhere": to(diverged, {"a": "0"}, main={"m": "1"}, side={"s": "1"})(
        repo.log(stop_at="nope"), repo.log(stop_at=repo.head("side"))
    ),
    # `objects` picks the commits that changed one of these objects.
    "commits_that_changed_an_object": to(repository, {"a": "1", "dir/b": "1"})(
        repo.commit_files({"a": "2"}, message="a"),
        repo.commit_files({"dir/b": "2"}, message="b"),
        repo.commit_files({"a": None}, message="a gone"),
        repo.log(objects="a"),
        repo.log(objects="dir/b"),
        repo.log(objects=["a", "dir/b"]),
        repo.log(objects="dir"),
        repo.log(objects="a", amount=1),
    ),
    # `prefixes` picks the commits that changed anything below one of these prefixes.
    "commits_that_changed_a_folder": to(repository, {"a/1": "1", "b/1": "1"})(
        repo.commit_files({"a/2": "1"}, message="a"),
        repo.commit_files({"b/1": None}, message="b"),
        repo.commit_files({"c": "1"}, message="c"),
        repo.log(prefixes="a/"),
        repo.log(prefixes=["b/", "c"]),
        repo.log(prefixes="a", limit="true", amount=1),
        repo.log(prefixes="a/", objects="c"),
        repo.log(prefixes="none/"),
    ),
    # A merge commit is never among the commits that changed an object; what it merged is.
    "a_merge_that_changed_an_object": to(diverged, {"a": "0"}, main={"m": "1"}, side={"a": "1"})(
        repo.silent.merge("side", message="merged"), repo.log(objects="a"), repo.log(objects="a", first_parent="true")
    ),
    # No amount, 0 and -1 mean the default; above 1,000 is refused.
    "amounts_of_commits": one_file(*(repo.log(amount=amount) for amount in ("0", "-1", "1000", "1001", "-2", "x"))),
    # Staged changes do not show in a log.
    "what_is_staged_is_no_history": one_file(repo.stage_files({"b": "2"}), repo.log()),
}
