"""Protected branches. A rule is set before the server looks for one, for it remembers the answer for seconds."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario_with
from .repositories import Repository, repository


def protected(rest: Rest, pattern: str = "main") -> Repository:
    """A new repository with a rule that protects these branches."""
    repo = repository(rest)
    with rest.unnoted():
        repo.call("PUT", "/settings/branch_protection", json=[{"pattern": pattern}])
    return repo


@scenario_with(repository)
def a_rule_is_set_and_read(repo: Repository) -> None:
    """The rules of a repository are replaced as a whole."""
    repo.call("PUT", "/settings/branch_protection", json=[{"pattern": "main"}, {"pattern": "v*"}])
    repo.get("/settings/branch_protection", unordered=True)


@scenario_with(protected)
def nobody_writes_to_a_protected_branch(repo: Repository) -> None:
    """Uploads, deletions and commits are forbidden on a protected branch."""
    repo.upload("a", "1")
    repo.remove("a")
    repo.commit(allow_empty=True)
    repo.reset(type="reset")
    repo.hard_reset("main")
    repo.tree()


@scenario_with(protected)
def a_batch_on_a_protected_branch(repo: Repository) -> None:
    """A batch of deletions on a protected branch answers 200 with an error for each path."""
    repo.post("/branches/main/objects/delete", {"paths": ["a", "b"]})


@scenario_with(protected)
def a_protected_branch_is_merged_into(repo: Repository) -> None:
    """Merges into a protected branch, and reverts on it, are allowed."""
    repo.add_branch()
    repo.commit_files({"a": "1"}, "side")
    repo.merge()
    repo.revert("main", parent=1)
    repo.log()


@scenario_with(protected, "*")
def a_rule_is_a_pattern(repo: Repository) -> None:
    """A rule with a star protects every branch, also one that is made later; making it is allowed."""
    repo.branch("staging")
    repo.upload("a", "1", "staging")
    repo.upload("a", "1", "main")


@scenario_with(protected, "release-*")
def a_rule_for_other_branches(repo: Repository) -> None:
    """A rule is about the branches of its pattern only."""
    repo.upload("a", "1")
    repo.add_branch("release-1")
    repo.upload("a", "1", "release-1")
    repo.call("DELETE", "/branches/release-1")
