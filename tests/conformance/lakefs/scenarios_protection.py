"""Protected branches. A rule is set before the server looks for one, for it remembers the answer for seconds."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import Repository, repository


def protected(rest: Rest, pattern: str = "main") -> Repository:
    """A new repository with a rule that protects these branches."""
    repo = repository(rest)
    with rest.unnoted():
        repo.call("PUT", "/settings/branch_protection", json=[{"pattern": pattern}])
    return repo


@scenario
def a_rule_is_set_and_read(rest: Rest) -> None:
    """The rules of a repository are replaced as a whole."""
    repo = repository(rest)
    repo.call("PUT", "/settings/branch_protection", json=[{"pattern": "main"}, {"pattern": "v*"}])
    repo.get("/settings/branch_protection", unordered=True)


@scenario
def nobody_writes_to_a_protected_branch(rest: Rest) -> None:
    """Uploads, deletions and commits are forbidden on a protected branch."""
    repo = protected(rest)
    repo.upload("a", "1")
    repo.remove("a")
    repo.commit(allow_empty=True)
    repo.reset(type="reset")
    repo.hard_reset("main")
    repo.tree()


@scenario
def a_batch_on_a_protected_branch(rest: Rest) -> None:
    """A batch of deletions on a protected branch answers 200 with an error for each path."""
    repo = protected(rest)
    repo.post("/branches/main/objects/delete", {"paths": ["a", "b"]})


@scenario
def a_protected_branch_is_merged_into(rest: Rest) -> None:
    """Merges into a protected branch, and reverts on it, are allowed."""
    repo = protected(rest)
    repo.add_branch()
    repo.commit_files({"a": "1"}, "side")
    repo.merge()
    repo.revert("main", parent=1)
    repo.log()


@scenario
def a_rule_is_a_pattern(rest: Rest) -> None:
    """A rule with a star protects every branch, also one that is made later; making it is allowed."""
    repo = protected(rest, "*")
    repo.branch("staging")
    repo.upload("a", "1", "staging")
    repo.upload("a", "1", "main")


@scenario
def a_rule_for_other_branches(rest: Rest) -> None:
    """A rule is about the branches of its pattern only."""
    repo = protected(rest, "release-*")
    repo.upload("a", "1")
    repo.add_branch("release-1")
    repo.upload("a", "1", "release-1")
    repo.call("DELETE", "/branches/release-1")
