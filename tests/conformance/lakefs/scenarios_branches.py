"""Branches, tags, and protected branches.

A rule is set before the server looks for one, because it remembers the answer for seconds.
"""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, scenario_with, to
from .repositories import Repository, empty, one_file, repo, repository


@scenario_with(repository, {"a": "1"})
def writing_to_a_commit_or_a_tag_is_refused(repo: Repository) -> None:
    """Only a branch can be written to."""
    repo.silent.tag("v1")
    for place in ("v1", repo.head(), "main~", "main@", "main$"):
        repo.upload("b", "2", place)
        repo.remove("a", place)
    repo.tree()


def protected(rest: Rest, pattern: str = "main") -> Repository:
    """A new repository with a rule that protects these branches."""
    repo = repository(rest)
    repo.silent.call("PUT", "/settings/branch_protection", json=[{"pattern": pattern}])
    return repo


SCENARIOS: Declared = {
    # The commits of a deleted branch can still be read and merged by id.
    "the_commits_of_a_deleted_branch_stay": one_file(
        repo.add_branch("side"),
        repo.commit_files({"b": "2"}, "side", "kept"),
        repo.delete("/branches/side"),
        repo.show(repo.commit_id(2)),
        repo.tree(repo.commit_id(2)),
        repo.merge(repo.commit_id(2)),
        repo.tree(),
    ),
    # The answer to a new branch is the bare commit id, which is no JSON.
    "creating_a_branch_answers_a_bare_commit_id": one_file(
        repo.branch("side"), repo.get("/branches/side"), repo.show()
    ),
    # An unknown branch is a 404 to read, to delete, to reset and to diff.
    "a_branch_that_is_not_there": empty(
        repo.get("/branches/nope"), repo.delete("/branches/nope"), repo.reset("nope", type="reset"), repo.staged("nope")
    ),
    # A second branch of a name is a conflict, and the first stays where it is.
    "a_branch_name_is_taken": one_file(
        repo.add_branch("side"),
        repo.commit_files({"b": "2"}),
        repo.branch("side"),
        repo.get("/branches/side"),
        repo.show("side"),
    ),
    # A tag's name is taken for branches, too.
    "a_branch_cannot_be_called_like_a_tag": empty(repo.silent.tag("v1"), repo.branch("v1")),
    # The full id of a commit is no name for a branch, any other 64 hex digits are.
    "a_branch_cannot_be_called_like_a_commit": one_file(repo.branch(repo.head()), repo.branch("0" * 64)),
    # A branch from an unknown ref is a 404 that names it.
    "a_source_that_is_not_there": empty(repo.branch("side", "nope"), repo.get("/branches/side")),
    # Missing members are refused by the schema with 400, empty ones by the server with 500.
    "a_branch_needs_a_name_and_a_source": empty(
        repo.post("/branches", {"source": "main"}),
        repo.post("/branches", {"name": "side"}),
        repo.branch(""),
        repo.branch("side", ""),
    ),
    # ASCII letters, digits, `_` and `-` make a branch name of any length.
    "branch_names_that_are_accepted": empty(*repo.branch.each("_", "0", "A-b_C", "a-", "a" * 300)),
    # Dots, slashes, blanks, a leading dash, marks of ref expressions and other scripts make no branch name.
    "branch_names_that_are_refused": empty(
        *repo.branch.each("a.b", ".a", "a/b", "a b", "-a", "a~", "a^", "a@", "a$", "ä", "a\n", "日本", "a:b", "main$")
    ),
    # A branch starts at a commit id, a tag, or an expression.
    "a_branch_starts_at_any_ref": one_file(
        repo.commit_files({"b": "2"}),
        repo.silent.tag("v1", "main~"),
        repo.branch("by-id", repo.head()),
        repo.branch("by-tag", "v1"),
        repo.branch("by-step", "main~2"),
        repo.branch("by-committed", "main@"),
        repo.log(),
    ),
    # A branch from a dirty branch starts at the commit, without what is staged.
    "staged_changes_are_not_inherited": one_file(
        repo.stage_files({"b": "2", "a": None}),
        repo.branch("side"),
        repo.tree("side"),
        repo.staged("side"),
        repo.tree(),
    ),
    # `main$` is no commit, and as the source of a branch it is a 500.
    "a_branch_never_starts_at_a_staging_area": empty(repo.branch("side", "main$")),
    # A hidden branch is left out of lists unless they are asked to show it; by name it is there.
    "hidden_branches_are_listed_on_request": empty(
        repo.branch("hidden-one", hidden=True),
        repo.add_branch("shown-one"),
        repo.branches(),
        repo.branches(show_hidden="true"),
        repo.get("/branches/hidden-one"),
    ),
    # A page is filled with branches that are shown, however many hidden ones lie between them.
    "hidden_branches_do_not_fill_pages": empty(
        *(repo.add_branch(f"h{number}", hidden=True) for number in range(4)),
        repo.add_branch("z"),
        repo.branches(amount=2),
        repo.branches(amount=2, after="h1"),
        repo.branches(amount=2, show_hidden="true"),
    ),
    # Deleting answers 204 once and 404 afterwards, and the name is free again.
    "a_deleted_branch_is_gone": empty(
        repo.add_branch("side"),
        repo.delete("/branches/side"),
        repo.delete("/branches/side"),
        repo.get("/branches/side"),
        repo.branches(),
        repo.branch("side"),
    ),
    # Staged changes do not save a branch, and a new one of its name does not find them.
    "a_dirty_branch_can_be_deleted": empty(
        repo.add_branch("side"),
        repo.stage_files({"b": "2"}, "side"),
        repo.delete("/branches/side"),
        repo.branch("side"),
        repo.tree("side"),
    ),
    # Deleting the default branch is forbidden.
    "the_default_branch_cannot_be_deleted": empty(repo.delete("/branches/main"), repo.get("/branches/main")),
    # Branches come in byte order: digits, upper case, `_`, lower case.
    "branches_are_listed_in_byte_order": empty(
        *repo.add_branch.each("b", "B", "a-", "a", "a0", "_a", "0"), repo.branches()
    ),
    # A page of branches says what follows it; prefix and `after` narrow it.
    "branches_are_listed_page_by_page": empty(
        *repo.add_branch.each("a1", "a2", "a3", "b1"),
        repo.branches(amount=2),
        repo.branches(amount=2, after="a2"),
        repo.branches(prefix="a", after="a1"),
        repo.branches(prefix="none"),
        repo.branches(after="zzz"),
    ),
    # No amount, 0 and -1 mean the default; below -1 and above 1,000 are refused.
    "amounts_of_branches": empty(
        repo.add_branch("side"), *(repo.branches(amount=amount) for amount in ("0", "-1", "1000", "1001", "-2", "x"))
    ),
    # A new tag answers its name and commit, and reads as that commit.
    "a_tag_names_a_commit": one_file(repo.tag("v1"), repo.get("/tags/v1"), repo.show("v1"), repo.tree("v1")),
    # A tag keeps showing its commit, whatever becomes of the branch.
    "a_tag_stays_where_it_is": one_file(
        repo.silent.tag("v1"),
        repo.commit_files({"a": None, "b": "2"}),
        repo.stage_files({"c": "3"}),
        repo.tree("v1"),
        repo.get("/tags/v1"),
    ),
    # A second tag of a name is a conflict, also with `force`, and the first stays.
    "a_tag_name_is_taken": one_file(
        repo.tag("v1", "main~"), repo.tag("v1"), repo.tag("v1", force=True), repo.get("/tags/v1")
    ),
    # A branch's name is taken for tags, too.
    "a_tag_cannot_be_called_like_a_branch": empty(repo.add_branch("side"), repo.tag("side"), repo.get("/tags/side")),
    # The full id of a commit is no name for a tag.
    "a_tag_cannot_be_called_like_a_commit": one_file(repo.tag(repo.head())),
    # A tag of an unknown ref is a 404.
    "a_tag_of_a_ref_that_is_not_there": empty(repo.tag("v1", "nope"), repo.get("/tags/v1")),
    # A tag may name an expression, a commit id or another tag, but no staging area.
    "a_tag_of_any_ref": one_file(
        repo.tag("step", "main~"),
        repo.tag("id", repo.head()),
        repo.tag("tag", "step"),
        repo.tag("committed", "main@"),
        repo.tag("staging", "main$"),
    ),
    # Dots, other scripts, a leading dash, and even `~`, `@` and `$` are fine in a tag's name.
    "tag_names_that_are_accepted": empty(
        *repo.tag.each("v1.0", "1", "a_b-c", ".a", "A.b.C", "ä", "-a", "a~", "a@", "a$"), repo.tags()
    ),
    # Blanks, slashes, `^`, `:`, `?`, two dots, the ending `.lock` and a missing name make no tag.
    "tag_names_that_are_refused": empty(
        *repo.tag.each("a b", "a/b", "a^1", "", "a..b", "a:b", "a.lock", "a?", "a*", "a[", "a\\b", "a.", "a\n", "@")
    ),
    # Missing members are refused by the schema.
    "a_tag_needs_a_name_and_a_ref": empty(
        repo.post("/tags", {"ref": "main"}), repo.post("/tags", {"id": "v1"}), repo.tag("v1", "")
    ),
    # Deleting answers 204 once and 404 afterwards, and the name is free again.
    "a_deleted_tag_is_gone": one_file(
        repo.tag("v1", "main~"),
        repo.delete("/tags/v1"),
        repo.delete("/tags/v1"),
        repo.get("/tags/v1"),
        repo.show("v1"),
        repo.tag("v1"),
    ),
    # An unknown tag is a 404; a branch is no tag.
    "a_tag_that_is_not_there": empty(repo.get("/tags/nope"), repo.get("/tags/main"), repo.delete("/tags/main")),
    # Tags come in byte order, page by page, by prefix, behind a name.
    "tags_are_listed_page_by_page": one_file(
        *repo.silent.tag.each("v2", "v10", "v1", "V1", "w"),
        repo.tags(),
        repo.tags(amount=2),
        repo.tags(prefix="v", after="v1", amount=1),
        repo.tags(after="w"),
        repo.tags(amount="1001"),
    ),
    # A tag shows the commit, not what is staged.
    "a_tag_of_a_dirty_branch": one_file(repo.stage_files({"b": "2"}), repo.tag("v1"), repo.tree("v1")),
    # The rules of a repository are replaced as a whole.
    "a_rule_is_set_and_read": empty(
        repo.call("PUT", "/settings/branch_protection", json=[{"pattern": "main"}, {"pattern": "v*"}]),
        repo.get("/settings/branch_protection", unordered=True),
    ),
    # Uploads, deletions and commits are forbidden on a protected branch.
    "nobody_writes_to_a_protected_branch": to(protected)(
        repo.upload("a", "1"),
        repo.remove("a"),
        repo.commit(allow_empty=True),
        repo.reset(type="reset"),
        repo.hard_reset("main"),
        repo.tree(),
    ),
    # A batch of deletions on a protected branch answers 200 with an error for each path.
    "a_batch_on_a_protected_branch": to(protected)(repo.post("/branches/main/objects/delete", {"paths": ["a", "b"]})),
    # Merges into a protected branch, and reverts on it, are allowed.
    "a_protected_branch_is_merged_into": to(protected)(
        repo.add_branch(),
        repo.commit_files({"a": "1"}, "side"),
        repo.merge(),
        repo.revert("main", parent=1),
        repo.log(),
    ),
    # A rule with a star protects every branch, also one that is made later; making it is allowed.
    "a_rule_is_a_pattern": to(protected, "*")(
        repo.branch("staging"), repo.upload("a", "1", "staging"), repo.upload("a", "1", "main")
    ),
    # A rule is about the branches of its pattern only.
    "a_rule_for_other_branches": to(protected, "release-*")(
        repo.upload("a", "1"),
        repo.add_branch("release-1"),
        repo.upload("a", "1", "release-1"),
        repo.delete("/branches/release-1"),
    ),
}
