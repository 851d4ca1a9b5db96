"""Branches."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository


@scenario_with(repository, {"a": "1"})
def creating_a_branch_answers_a_bare_commit_id(repo: Repository) -> None:
    """The answer to a new branch is the bare commit id, which is no JSON."""
    repo.branch("side")
    repo.get("/branches/side")
    repo.show("main")


@scenario_with(repository)
def a_branch_that_is_not_there(repo: Repository) -> None:
    """An unknown branch is a 404 to read, to delete, to reset and to diff."""
    repo.get("/branches/nope")
    repo.call("DELETE", "/branches/nope")
    repo.reset("nope", type="reset")
    repo.staged("nope")


@scenario_with(repository, {"a": "1"})
def a_branch_name_is_taken(repo: Repository) -> None:
    """A second branch of a name is a conflict, and the first stays where it is."""
    repo.add_branch("side")
    repo.commit_files({"b": "2"})
    repo.branch("side")
    repo.get("/branches/side")
    repo.show("side")


@scenario_with(repository)
def a_branch_cannot_be_called_like_a_tag(repo: Repository) -> None:
    """A tag's name is taken for branches, too."""
    with repo.rest.unnoted():
        repo.tag("v1")
    repo.branch("v1")


@scenario_with(repository, {"a": "1"})
def a_branch_cannot_be_called_like_a_commit(repo: Repository) -> None:
    """The full id of a commit is no name for a branch, any other 64 hex digits are."""
    repo.branch(repo.head())
    repo.branch("0" * 64)


@scenario_with(repository)
def a_source_that_is_not_there(repo: Repository) -> None:
    """A branch from an unknown ref is a 404 that names it."""
    repo.branch("side", "nope")
    repo.get("/branches/side")


@scenario_with(repository)
def a_branch_needs_a_name_and_a_source(repo: Repository) -> None:
    """Missing members are refused by the schema with 400, empty ones by the server with 500."""
    repo.post("/branches", {"source": "main"})
    repo.post("/branches", {"name": "side"})
    repo.branch("")
    repo.branch("side", "")


@scenario_with(repository)
def branch_names_that_are_accepted(repo: Repository) -> None:
    """ASCII letters, digits, `_` and `-` make a branch name of any length."""
    for name in ("_", "0", "A-b_C", "a-", "a" * 300):
        repo.branch(name)


@scenario_with(repository)
def branch_names_that_are_refused(repo: Repository) -> None:
    """Dots, slashes, blanks, a leading dash, marks of ref expressions and other scripts make no branch name."""
    for name in ("a.b", ".a", "a/b", "a b", "-a", "a~", "a^", "a@", "a$", "ä", "a\n", "日本", "a:b", "main$"):
        repo.branch(name)


@scenario_with(repository, {"a": "1"})
def a_branch_starts_at_any_ref(repo: Repository) -> None:
    """A branch starts at a commit id, a tag, or an expression."""
    repo.commit_files({"b": "2"})
    with repo.rest.unnoted():
        repo.tag("v1", "main~")
    repo.branch("by-id", repo.head())
    repo.branch("by-tag", "v1")
    repo.branch("by-step", "main~2")
    repo.branch("by-committed", "main@")
    repo.log("main")


@scenario_with(repository, {"a": "1"})
def staged_changes_are_not_inherited(repo: Repository) -> None:
    """A branch from a dirty branch starts at the commit, without what is staged."""
    repo.stage_files({"b": "2", "a": None})
    repo.branch("side")
    repo.tree("side")
    repo.staged("side")
    repo.tree("main")


@scenario_with(repository)
def a_branch_never_starts_at_a_staging_area(repo: Repository) -> None:
    """`main$` is no commit, and as the source of a branch it is a 500."""
    repo.branch("side", "main$")


@scenario_with(repository)
def hidden_branches_are_listed_on_request(repo: Repository) -> None:
    """A hidden branch is left out of lists unless they are asked to show it; by name it is there."""
    repo.branch("hidden-one", hidden=True)
    repo.add_branch("shown-one")
    repo.get("/branches")
    repo.get("/branches", query={"show_hidden": "true"})
    repo.get("/branches/hidden-one")


@scenario_with(repository)
def hidden_branches_do_not_fill_pages(repo: Repository) -> None:
    """A page is filled with branches that are shown, however many hidden ones lie between them."""
    for number in range(4):
        repo.add_branch(f"h{number}", hidden=True)
    repo.add_branch("z")
    repo.get("/branches", query={"amount": 2})
    repo.get("/branches", query={"amount": 2, "after": "h1"})
    repo.get("/branches", query={"amount": 2, "show_hidden": "true"})


@scenario_with(repository)
def a_deleted_branch_is_gone(repo: Repository) -> None:
    """Deleting answers 204 once and 404 afterwards, and the name is free again."""
    repo.add_branch("side")
    repo.call("DELETE", "/branches/side")
    repo.call("DELETE", "/branches/side")
    repo.get("/branches/side")
    repo.get("/branches")
    repo.branch("side")


@scenario_with(repository, {"a": "1"})
def the_commits_of_a_deleted_branch_stay(repo: Repository) -> None:
    """The commits of a deleted branch can still be read and merged by id."""
    repo.add_branch("side")
    kept = repo.commit_files({"b": "2"}, "side", "kept")
    repo.call("DELETE", "/branches/side")
    repo.show(kept)
    repo.tree(kept)
    repo.merge(kept)
    repo.tree("main")


@scenario_with(repository)
def a_dirty_branch_can_be_deleted(repo: Repository) -> None:
    """Staged changes do not save a branch, and a new one of its name does not find them."""
    repo.add_branch("side")
    repo.stage_files({"b": "2"}, "side")
    repo.call("DELETE", "/branches/side")
    repo.branch("side")
    repo.tree("side")


@scenario_with(repository)
def the_default_branch_cannot_be_deleted(repo: Repository) -> None:
    """Deleting the default branch is forbidden."""
    repo.call("DELETE", "/branches/main")
    repo.get("/branches/main")


@scenario_with(repository)
def branches_are_listed_in_byte_order(repo: Repository) -> None:
    """Branches come in byte order: digits, upper case, `_`, lower case."""
    for name in ("b", "B", "a-", "a", "a0", "_a", "0"):
        repo.add_branch(name)
    repo.get("/branches")


@scenario_with(repository)
def branches_are_listed_page_by_page(repo: Repository) -> None:
    """A page of branches says what follows it; prefix and `after` narrow it."""
    for name in ("a1", "a2", "a3", "b1"):
        repo.add_branch(name)
    repo.get("/branches", query={"amount": 2})
    repo.get("/branches", query={"amount": 2, "after": "a2"})
    repo.get("/branches", query={"prefix": "a", "after": "a1"})
    repo.get("/branches", query={"prefix": "none"})
    repo.get("/branches", query={"after": "zzz"})


@scenario_with(repository)
def amounts_of_branches(repo: Repository) -> None:
    """No amount, 0 and -1 mean the default; below -1 and above 1,000 are refused."""
    repo.add_branch("side")
    for amount in ("0", "-1", "1000", "1001", "-2", "x"):
        repo.get("/branches", query={"amount": amount})


@scenario_with(repository, {"a": "1"})
def writing_to_a_commit_or_a_tag_is_refused(repo: Repository) -> None:
    """Only a branch can be written to."""
    with repo.rest.unnoted():
        repo.tag("v1")
    for place in ("v1", repo.head(), "main~", "main@", "main$"):
        repo.upload("b", "2", place)
        repo.remove("a", place)
    repo.tree("main")
