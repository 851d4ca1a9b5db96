"""Requests that are wrong in form: routes, bodies, types, parameters."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_with
from .repositories import Repository, diverged, repository

JSON = {"Content-Type": "application/json"}
COMMITS = "/branches/main/commits"


@scenario_with(repository)
def a_route_that_is_not_there(repo: Repository) -> None:
    """An unknown route is a 404 that says so, below a repository or not."""
    repo.rest.call("GET", "/nope")
    repo.get("/nope")
    repo.get("/branches/main/nope")
    repo.get("/branches/")


@scenario_with(repository)
def a_method_that_is_not_there(repo: Repository) -> None:
    """A wrong method on a known route is the same 404."""
    repo.call("PUT", "")
    repo.call("PATCH", "/branches/main")
    repo.get("/branches/main/commits")
    repo.post("/refs/main/objects/ls", {})
    repo.rest.call("DELETE", "/repositories")


@scenario_with(repository)
def a_body_that_is_no_json(repo: Repository) -> None:
    """A body that cannot be parsed is a 400."""
    repo.call("POST", COMMITS, body=b"nonsense", headers=JSON)
    repo.call("POST", COMMITS, body=b'{"message": "m"', headers=JSON)
    repo.call("POST", COMMITS, body=b'{"message": "m",}', headers=JSON)


@scenario_with(repository)
def a_body_of_another_shape(repo: Repository) -> None:
    """A body that is JSON but no object is a 400."""
    for body in (b"[]", b"null", b'"m"', b"1", b"true"):
        repo.call("POST", COMMITS, body=body, headers=JSON)


@scenario_with(repository)
def a_body_that_is_missing(repo: Repository) -> None:
    """A required body that is missing or empty is a 400."""
    repo.call("POST", COMMITS)
    repo.call("POST", COMMITS, headers=JSON)
    repo.call("POST", COMMITS, body=b"", headers=JSON)
    repo.call("POST", "/branches")
    repo.rest.call("POST", "/repositories")


@scenario_with(repository)
def members_of_a_branch_of_the_wrong_type(repo: Repository) -> None:
    """A branch's members are checked by the schema."""
    repo.branch("side", hidden="yes")
    repo.branch("side", force=1)
    repo.post("/branches", {"name": 1, "source": "main"})
    repo.post("/branches", {"name": "side", "source": None})


@scenario
def members_of_a_repository_of_the_wrong_type(rest: Rest) -> None:
    """A repository's members are checked by the schema."""
    for body in (
        {"name": 1, "storage_namespace": "local://x"},
        {"name": "abc", "storage_namespace": 1},
        {"name": "abc", "storage_namespace": "local://x", "read_only": "yes"},
        {"name": "abc", "storage_namespace": "x"},
        {},
    ):
        rest.call("POST", "/repositories", json=body)


@scenario_with(repository)
def flags_of_a_commit_of_the_wrong_type(repo: Repository) -> None:
    """A commit's flags are booleans."""
    repo.commit(allow_empty="true")
    repo.commit(allow_empty=1)
    repo.commit(allow_empty=None)
    repo.commit(force="true")


@scenario_with(repository, {"a": "1"})
def parameters_that_nobody_knows(repo: Repository) -> None:
    """An unknown parameter is ignored."""
    repo.tree(unknown="1")
    repo.get("/branches", query={"unknown": "1"})


@scenario_with(repository, {"a": "1"})
def flags_of_the_wrong_type(repo: Repository) -> None:
    """A flag in the query must be a boolean, in one of several spellings."""
    for text in ("yes", "1", "TRUE", "t", ""):
        repo.log(first_parent=text)


@scenario_with(diverged, {"a": "0"}, side={"a": "1"})
def an_empty_object_is_a_body(repo: Repository) -> None:
    """An empty object is a body without members."""
    repo.call("POST", "/refs/side/merge/main", body=b"{}", headers=JSON)


@scenario
def a_repository_whose_name_none_can_have(rest: Rest) -> None:
    """It is a 400, and a 500 where a commit is read."""
    for path in ("", "/branches/main", "/commits/main", "/refs/main/commits", "/refs/main/objects/ls", "/branches"):
        rest.call("GET", f"/repositories/Not_One{path}")
    rest.call("DELETE", "/repositories/Not_One")
