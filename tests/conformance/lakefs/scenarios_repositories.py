"""Repositories."""

from __future__ import annotations

from functools import partial

from ..rest import Rest
from ..scenario import Declared, rest, scenario, scenario_with, send, to
from .repositories import Repository, empty, one_file, repo, repository

ONE = "/repositories/{repository}"


@scenario_with(repository)
def a_repository_name_is_taken(repo: Repository) -> None:
    """A second repository of a name is a conflict."""
    repo.rest.post("/repositories", {"name": repo.name, "storage_namespace": f"local://{repo.name}-2"})


@scenario_with(repository)
def a_storage_namespace_is_taken(repo: Repository) -> None:
    """Two repositories cannot share a storage namespace."""
    body = {"name": repo.rest.name("other"), "storage_namespace": f"local://{repo.name}"}
    repo.rest.post("/repositories", body)


@scenario_with(repository)
def a_namespace_inside_another_is_accepted(repo: Repository) -> None:
    """A namespace may lie inside that of another repository."""
    name = repo.rest.name("inner")
    repo.rest.post("/repositories", {"name": name, "storage_namespace": f"local://{repo.name}/inner"})
    repo.rest.afterwards(lambda: repo.rest.delete(ONE, repository=name))


@scenario
def a_namespace_by_another_way_is_the_same(rest: Rest) -> None:
    """A namespace that another repository has is taken, however the way there is written."""
    name = repository(rest).name
    for way in (f"/{name}", f"{name}/.", f"other/../{name}", f"./{name}//"):
        rest.post("/repositories", {"name": rest.name("other"), "storage_namespace": f"local://{way}"})


@scenario
def the_longest_name_of_a_repository(rest: Rest) -> None:
    """A repository's name may have 63 characters, and may end in a dash."""
    start = rest.name("r")
    made = Repository(rest, start + "-" * (63 - len(start)))
    made.create()
    rest.afterwards(lambda: made.delete(""))


@scenario
def a_list_of_repositories_starts_behind_a_name(rest: Rest) -> None:
    """Repositories are listed by name, by prefix, behind a name, page by page."""
    prefix = rest.name("r")
    for number in range(3):
        made = Repository(rest, f"{prefix}-{number}")
        made.silent.create()
        rest.afterwards(partial(made.delete, ""))
    rest.get("/repositories", query={"prefix": prefix})
    rest.get("/repositories", query={"prefix": prefix, "amount": 2})
    rest.get("/repositories", query={"prefix": prefix, "after": f"{prefix}-0", "amount": 1})
    rest.get("/repositories", query={"prefix": prefix, "after": f"{prefix}-2"})


@scenario_with(repository)
def repositories_are_searched_by_a_part_of_their_name(made: Repository) -> None:
    """`search` finds a name by any part of it."""
    part = made.name.removeprefix("repo-")
    made.rest.names[part] = "<part>"
    made.rest.get("/repositories", query={"search": part})


@scenario
def a_bare_repository_has_no_branch(rest: Rest) -> None:
    """With `bare` a repository starts without any branch or commit."""
    name = rest.name("repo")
    body = {"name": name, "storage_namespace": f"local://{name}"}
    rest.post("/repositories", query={"bare": "true"}, json=body)
    rest.get(ONE + "/branches", repository=name)
    rest.get(ONE + "/refs/main/objects/ls", repository=name)
    rest.delete(ONE, repository=name)


def nowhere(rest: Rest, label: str = "nope") -> Repository:
    """A repository that is not there."""
    return Repository(rest, rest.name(label))


SCENARIOS: Declared = {
    # A new repository has a default branch with one commit that has no parents, no committer and no objects.
    "a_new_repository_has_one_empty_commit": to(nowhere, "repo")(
        repo.create(),
        repo.get(""),
        repo.branches(),
        repo.get("/refs/main/commits"),
        repo.get("/refs/main/objects/ls"),
        repo.delete(""),
    ),
    # A namespace that is the whole storage, or leads out of it, cannot be used.
    "a_namespace_outside_of_the_storage_is_refused": send(
        *(
            rest.post("/repositories", {"name": rest.name("repo"), "storage_namespace": f"local://{place}"})
            for place in ("", "/", ".", "..", "../other", "a/../../b")
        )
    ),
    # Deleting a repository leaves its data, so its namespace is never free again.
    "a_storage_namespace_stays_used_after_a_delete": empty(repo.delete(""), repo.create()),
    # Upper case, underscores, dots, a leading dash, and fewer than three or more than 63 characters are refused.
    "repository_names_that_are_refused": send(
        *(
            rest.post("/repositories", {"name": name, "storage_namespace": "local://unused"})
            for name in ("Upper", "under_score", "do.t", "-dash", "ab", "a" * 64, "", "späti")
        )
    ),
    # Whatever is asked below an unknown repository, the repository is what is missing.
    "everything_below_an_unknown_repository_is_a_404": to(nowhere)(
        repo.branches(),
        repo.get("/branches/main"),
        repo.tags(),
        repo.log(),
        repo.show(),
        repo.staged(),
        repo.tree(),
        repo.diff("a", "b"),
        repo.branch("b"),
        repo.commit(),
        repo.merge(),
        repo.revert("main"),
        repo.pick("main"),
    ),
    # Objects of an unknown repository are not there either, save that a batch of deletions is fine.
    "objects_of_an_unknown_repository": to(nowhere)(
        *(ask("a") for ask in (repo.read, repo.stat, repo.head_object, repo.upload, repo.remove)),
        repo.post("/branches/main/objects/delete", {"paths": ["a"]}),
    ),
    # With `force` a read-only repository can be written to all the same.
    "a_read_only_repository_is_forced": to(repository, read_only=True)(
        repo.branch("side", force=True),
        repo.upload("a", "1", "side", query={"force": "true"}),
        repo.commit("side", force=True),
        repo.merge("side"),
        repo.merge("side", force=True),
        repo.revert("main", parent=1),
        repo.revert("main", parent=1, force=True),
        repo.tag("v1", force=True),
        repo.delete("/tags/v1", query={"force": "true"}),
        repo.post("/branches/side/objects/delete", {"paths": ["a"]}),
        repo.post("/branches/side/objects/delete", {"paths": ["a"]}, query={"force": "true"}),
        repo.reset("side", type="reset"),
        repo.reset("side", type="reset", force=True),
        repo.delete("/branches/side", query={"force": "true"}),
        repo.log(),
    ),
    # An unknown repository is a 404.
    "a_repository_that_is_not_there": send(rest.get(ONE, repository=rest.name("nope"))),
    # The default branch has the name that was asked for, and `main` does not exist then.
    "the_default_branch_is_chosen": to(repository, default_branch="trunk")(
        repo.get(""), repo.get("/branches/trunk"), repo.get("/branches/main"), repo.delete("/branches/trunk")
    ),
    # A default branch may have a name that no other branch may have.
    "the_default_branch_is_not_validated": to(repository, default_branch="a/b")(
        repo.get(""), repo.get("/branches/{branch}", branch="a/b")
    ),
    # The storage namespace must be of the server's kind of storage.
    "a_namespace_of_another_kind_is_refused": send(
        rest.post("/repositories", {"name": rest.name("repo"), "storage_namespace": "s3://bucket"})
    ),
    # A repository without a namespace is refused by the schema.
    "a_namespace_is_required": send(rest.post("/repositories", {"name": rest.name("repo")})),
    # What cannot be a repository's name is refused where it is asked for, too.
    "repositories_that_cannot_be_there": send(
        *(rest.get(ONE, repository=name) for name in ("Upper", "ab", "a" * 63, "a" * 64, "a.b", "-abc"))
    ),
    # Deleting answers 204 once and 404 afterwards, and the list is without it.
    "a_deleted_repository_is_gone": one_file(
        repo.delete(""), repo.delete(""), repo.rest.get("/repositories", query={"prefix": repo.name})
    ),
    # A read-only repository can be read, and every write to it is forbidden.
    "a_read_only_repository_is_never_written": to(repository, read_only=True)(
        repo.get(""),
        repo.tree(),
        repo.branch("side"),
        repo.upload("a"),
        repo.remove("a"),
        repo.commit(allow_empty=True),
        repo.tag("t"),
        repo.delete(""),
        repo.delete("", query={"force": "true"}),
    ),
    # Metadata of a repository is set and removed key by key.
    "a_repository_has_metadata": empty(
        repo.get("/metadata"),
        repo.post("/metadata", {"metadata": {"team": "a", "stage": "b"}}),
        repo.post("/metadata", {"metadata": {"stage": "c"}}),
        repo.get("/metadata"),
        repo.delete("/metadata", json={"keys": ["team", "none"]}),
        repo.get("/metadata"),
    ),
}
