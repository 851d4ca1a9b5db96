"""Tags."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository


@scenario_with(repository, {"a": "1"})
def a_tag_names_a_commit(repo: Repository) -> None:
    """A new tag answers its name and commit, and reads as that commit."""
    repo.tag("v1")
    repo.get("/tags/v1")
    repo.show("v1")
    repo.tree("v1")


@scenario_with(repository, {"a": "1"})
def a_tag_stays_where_it_is(repo: Repository) -> None:
    """A tag keeps showing its commit, whatever becomes of the branch."""
    with repo.rest.unnoted():
        repo.tag("v1")
    repo.commit_files({"a": None, "b": "2"})
    repo.stage_files({"c": "3"})
    repo.tree("v1")
    repo.get("/tags/v1")


@scenario_with(repository, {"a": "1"})
def a_tag_name_is_taken(repo: Repository) -> None:
    """A second tag of a name is a conflict, also with `force`, and the first stays."""
    repo.tag("v1", "main~")
    repo.tag("v1")
    repo.tag("v1", force=True)
    repo.get("/tags/v1")


@scenario_with(repository)
def a_tag_cannot_be_called_like_a_branch(repo: Repository) -> None:
    """A branch's name is taken for tags, too."""
    repo.add_branch("side")
    repo.tag("side")
    repo.get("/tags/side")


@scenario_with(repository, {"a": "1"})
def a_tag_cannot_be_called_like_a_commit(repo: Repository) -> None:
    """The full id of a commit is no name for a tag."""
    repo.tag(repo.head())


@scenario_with(repository)
def a_tag_of_a_ref_that_is_not_there(repo: Repository) -> None:
    """A tag of an unknown ref is a 404."""
    repo.tag("v1", "nope")
    repo.get("/tags/v1")


@scenario_with(repository, {"a": "1"})
def a_tag_of_any_ref(repo: Repository) -> None:
    """A tag may name an expression, a commit id or another tag, but no staging area."""
    repo.tag("step", "main~")
    repo.tag("id", repo.head())
    repo.tag("tag", "step")
    repo.tag("committed", "main@")
    repo.tag("staging", "main$")


@scenario_with(repository)
def tag_names_that_are_accepted(repo: Repository) -> None:
    """Dots, other scripts, a leading dash, and even `~`, `@` and `$` are fine in a tag's name."""
    for name in ("v1.0", "1", "a_b-c", ".a", "A.b.C", "ä", "-a", "a~", "a@", "a$"):
        repo.tag(name)
    repo.get("/tags")


@scenario_with(repository)
def tag_names_that_are_refused(repo: Repository) -> None:
    """Blanks, slashes, `^`, `:`, `?`, two dots, the ending `.lock` and a missing name make no tag."""
    for name in ("a b", "a/b", "a^1", "", "a..b", "a:b", "a.lock", "a?", "a*", "a[", "a\\b", "a.", "a\n", "@"):
        repo.tag(name)


@scenario_with(repository)
def a_tag_needs_a_name_and_a_ref(repo: Repository) -> None:
    """Missing members are refused by the schema."""
    repo.post("/tags", {"ref": "main"})
    repo.post("/tags", {"id": "v1"})
    repo.tag("v1", "")


@scenario_with(repository, {"a": "1"})
def a_deleted_tag_is_gone(repo: Repository) -> None:
    """Deleting answers 204 once and 404 afterwards, and the name is free again."""
    repo.tag("v1", "main~")
    repo.call("DELETE", "/tags/v1")
    repo.call("DELETE", "/tags/v1")
    repo.get("/tags/v1")
    repo.show("v1")
    repo.tag("v1")


@scenario_with(repository)
def a_tag_that_is_not_there(repo: Repository) -> None:
    """An unknown tag is a 404; a branch is no tag."""
    repo.get("/tags/nope")
    repo.get("/tags/main")
    repo.call("DELETE", "/tags/main")


@scenario_with(repository, {"a": "1"})
def tags_are_listed_page_by_page(repo: Repository) -> None:
    """Tags come in byte order, page by page, by prefix, behind a name."""
    with repo.rest.unnoted():
        for name in ("v2", "v10", "v1", "V1", "w"):
            repo.tag(name)
    repo.get("/tags")
    repo.get("/tags", query={"amount": 2})
    repo.get("/tags", query={"prefix": "v", "after": "v1", "amount": 1})
    repo.get("/tags", query={"after": "w"})
    repo.get("/tags", query={"amount": "1001"})


@scenario_with(repository, {"a": "1"})
def a_tag_of_a_dirty_branch(repo: Repository) -> None:
    """A tag shows the commit, not what is staged."""
    repo.stage_files({"b": "2"})
    repo.tag("v1")
    repo.tree("v1")
