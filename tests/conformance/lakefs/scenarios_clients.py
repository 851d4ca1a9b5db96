"""What clients do in a row: a transaction of the official wrapper, and the publication of an attempt."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository
from .scenarios_hooks import BASE, publish


@scenario_with(repository, {"a": "0"})
def a_transaction(repo: Repository) -> None:
    """A transaction is a branch, its uploads, a commit, a merge and a deletion."""
    repo.branch("tx-1", hidden=True)
    repo.upload("b", "1", "tx-1")
    repo.commit("tx-1", "transaction", metadata={})
    repo.merge("tx-1", "main", force=False, allow_empty=False, squash_merge=False)
    repo.call("DELETE", "/branches/tx-1")
    repo.tree("main")
    repo.log("main", first_parent="true")


@scenario_with(repository, {"a": "0"})
def an_abandoned_transaction(repo: Repository) -> None:
    """A transaction that is given up leaves nothing but its branch."""
    repo.branch("tx-1")
    repo.upload("b", "1", "tx-1")
    repo.call("DELETE", "/branches/tx-1")
    repo.tree("main")
    repo.get("/branches", query={"show_hidden": "true"})


@scenario_with(repository, BASE)
def an_attempt_is_published(repo: Repository) -> None:
    """An attempt stages its changes on a hidden branch, checks them, and merges the commit by its id."""
    head = repo.head()
    repo.branch("perago-1", head, hidden=True)
    repo.upload("out/part", "1", "perago-1")
    repo.post("/branches/perago-1/objects/delete", {"paths": ["b"]})
    repo.staged("perago-1")
    repo.commit("perago-1", "staged", metadata={"perago.attempt": "1"})
    staged = repo.head("perago-1")
    repo.diff(head, staged, type="two_dot")
    publish(repo, head, staged)
    repo.call("DELETE", "/branches/perago-1")
    repo.show("main")
    repo.tree("main")


@scenario_with(repository, BASE)
def an_answer_that_was_lost(repo: Repository) -> None:
    """A publisher that did not get its answer finds its commit among the parents of the head, and no changes left."""
    head = repo.head()
    repo.add_branch("perago-1", head, hidden=True)
    staged = repo.commit_files({"out": "1"}, "perago-1", "staged")
    with repo.rest.unnoted():
        publish(repo, head, staged)
    publish(repo, head, staged)
    repo.log("main", stop_at=head, first_parent="true")


@scenario_with(repository, BASE)
def a_publication_on_a_moved_head(repo: Repository) -> None:
    """A refused publisher picks its commit onto the new head, compares, and publishes that."""
    head = repo.head()
    repo.add_branch("perago-1", head, hidden=True)
    staged = repo.commit_files({"out": "1"}, "perago-1", "staged")
    repo.commit_files({"other": "1"}, "main", "somebody else")
    moved = repo.head()
    publish(repo, head, staged)
    repo.branch("perago-2", moved, hidden=True)
    repo.pick(staged, "perago-2")
    rebased = repo.head("perago-2")
    repo.diff(moved, rebased, type="two_dot")
    publish(repo, moved, rebased)
    repo.tree("main")
    repo.log("main", first_parent="true")


@scenario_with(repository)
def checking_for_a_branch(repo: Repository) -> None:
    """`exist_ok` is a creation whose conflict does not matter."""
    repo.branch("side")
    repo.branch("side")
    repo.get("/branches/side")


@scenario_with(repository)
def writing_only_what_is_new(repo: Repository) -> None:
    """Mode `x` asks for the head of an object and then uploads it if there is none."""
    for _ in range(2):
        repo.call("HEAD", "/refs/main/objects", query={"path": "a"})
        repo.upload("a", "1", headers={"If-None-Match": "*", "Content-Type": "text/plain"})


@scenario_with(repository, {"a": "0123456789"})
def reading_in_pieces(repo: Repository) -> None:
    """A reader asks for one range after the other until there is no more."""
    repo.stat("a")
    for start in (0, 4, 8, 12):
        repo.read("a", headers={"Range": f"bytes={start}-{start + 3}"}, query={"presign": "false"})
