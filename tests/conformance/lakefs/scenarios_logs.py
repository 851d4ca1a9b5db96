"""The history of a ref."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_with
from .repositories import Repository, diverged, repository


def line(rest: Rest) -> tuple[Repository, list[str]]:
    """Five commits in a line, the newest first, dated a minute apart from one another."""
    repo = repository(rest)
    made = [repo.commit_files({f"{n}": "1"}, message=f"number {n}", date=1_000_000 + 60 * n) for n in range(1, 5)]
    with rest.unnoted():
        first = repo.show("main~4").json["id"]
    return repo, [*reversed(made), first]


def diamond(rest: Rest) -> Repository:
    """A merge of two lines with two commits each."""
    repo = diverged(rest, {"base": ""}, main={"m1": "1"}, side={"s1": "1"})
    repo.commit_files({"m2": "1"}, "main", "main again")
    repo.commit_files({"s2": "1"}, "side", "side again")
    with rest.unnoted():
        repo.merge("side", message="merged")
    return repo


@scenario
def newest_first(rest: Rest) -> None:
    """A log goes back from the ref to the first commit."""
    repo, _ = line(rest)
    repo.log("main~")


@scenario_with(diamond)
def a_log_shows_both_lines(repo: Repository) -> None:
    """Behind a merge, both lines of history are mixed by the time of their commits."""
    repo.log()


@scenario_with(diamond)
def first_parents_only(repo: Repository) -> None:
    """With `first_parent` a log leaves merged lines out."""
    repo.log(first_parent="true")
    repo.log(first_parent="true", amount=2)
    repo.log(first_parent="false", amount=2)


@scenario_with(diverged, {"base": ""})
def dates_decide_the_order(repo: Repository) -> None:
    """The order is that of dates, so a commit dated back comes after its elders of another line."""
    repo.commit_files({"s": "1"}, "side", "old", date=1_000)
    repo.commit_files({"m": "1"}, "main", "new", date=2_000_000_000)
    with repo.rest.unnoted():
        repo.merge("side", message="merged")
    repo.log()


@scenario
def pages_of_a_log(rest: Rest) -> None:
    """`next_offset` of a page is the `after` of the next; `after` is exclusive."""
    repo, ids = line(rest)
    repo.log(amount=2)
    repo.log(amount=2, after=ids[1])
    repo.log(amount=2, after=ids[3])
    repo.log(after=ids[4])


@scenario_with(diamond)
def pages_of_first_parents(repo: Repository) -> None:
    """Pages go along first parents, too, and a commit of another line is no place to go on from."""
    repo.log(first_parent="true", after=repo.head(), amount=1)
    repo.log(first_parent="true", after=repo.head("side"), amount=1)


@scenario_with(diverged, {"a": "0"}, main={"m": "1"}, side={"s": "1"})
def a_log_after_something_else(repo: Repository) -> None:
    """`after` must be a commit of this history."""
    repo.log(after="nope")
    repo.log(after=repo.head("side"))
    repo.log(after="main~")
    repo.log(after="side")


@scenario
def a_log_stops_at_a_commit(rest: Rest) -> None:
    """`stop_at` is the last commit shown."""
    repo, ids = line(rest)
    repo.log(stop_at=ids[2])
    repo.log(stop_at="main~1")
    repo.log(stop_at=ids[0])
    repo.log(stop_at=ids[2], amount=1)
    repo.log(stop_at=ids[2], after=ids[0])


@scenario_with(diverged, {"a": "0"}, main={"m": "1"}, side={"s": "1"})
def a_log_stops_nowhere(repo: Repository) -> None:
    """An unknown `stop_at` is a 404; one of another line never comes."""
    repo.log(stop_at="nope")
    repo.log(stop_at=repo.head("side"))


@scenario
def a_log_since_a_time(rest: Rest) -> None:
    """`since` leaves out commits from before a time."""
    repo, _ = line(rest)
    repo.log(since="1970-01-12T13:49:00Z")
    repo.log(since="2100-01-01T00:00:00Z")
    repo.log(since="yesterday")


@scenario
def a_limited_log(rest: Rest) -> None:
    """With `limit` the amount is all there is: no more is promised."""
    repo, _ = line(rest)
    repo.log(limit="true", amount=2)
    repo.log(limit="false", amount=2)


@scenario_with(repository, {"a": "1", "dir/b": "1"})
def commits_that_changed_an_object(repo: Repository) -> None:
    """`objects` picks the commits that changed one of these objects."""
    repo.commit_files({"a": "2"}, message="a")
    repo.commit_files({"dir/b": "2"}, message="b")
    repo.commit_files({"a": None}, message="a gone")
    repo.log(objects="a")
    repo.log(objects="dir/b")
    repo.log(objects=["a", "dir/b"])
    repo.log(objects="dir")
    repo.log(objects="a", amount=1)


@scenario_with(repository, {"a/1": "1", "b/1": "1"})
def commits_that_changed_a_folder(repo: Repository) -> None:
    """`prefixes` picks the commits that changed anything below one of these prefixes."""
    repo.commit_files({"a/2": "1"}, message="a")
    repo.commit_files({"b/1": None}, message="b")
    repo.commit_files({"c": "1"}, message="c")
    repo.log(prefixes="a/")
    repo.log(prefixes=["b/", "c"])
    repo.log(prefixes="a", limit="true", amount=1)
    repo.log(prefixes="a/", objects="c")
    repo.log(prefixes="none/")


@scenario_with(diverged, {"a": "0"}, main={"m": "1"}, side={"a": "1"})
def a_merge_that_changed_an_object(repo: Repository) -> None:
    """A merge commit is never among the commits that changed an object; what it merged is."""
    with repo.rest.unnoted():
        repo.merge("side", message="merged")
    repo.log(objects="a")
    repo.log(objects="a", first_parent="true")


@scenario_with(repository, {"a": "1"})
def amounts_of_commits(repo: Repository) -> None:
    """No amount, 0 and -1 mean the default; above 1,000 is refused."""
    for amount in ("0", "-1", "1000", "1001", "-2", "x"):
        repo.log(amount=amount)


@scenario
def a_log_of_anything(rest: Rest) -> None:
    """A log starts at a tag, a commit id or an expression as well."""
    repo, ids = line(rest)
    with rest.unnoted():
        repo.tag("v1", ids[3])
    repo.log("v1")
    repo.log(ids[3])
    repo.log("main~3")


@scenario_with(repository, {"a": "1"})
def what_is_staged_is_no_history(repo: Repository) -> None:
    """Staged changes do not show in a log."""
    repo.stage_files({"b": "2"})
    repo.log()
