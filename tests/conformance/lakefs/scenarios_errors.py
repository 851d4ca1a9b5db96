"""Requests that are wrong in form: routes, bodies, types, parameters."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import diverged, repository

JSON = {"Content-Type": "application/json"}
COMMITS = "/branches/main/commits"


@scenario
def a_route_that_is_not_there(rest: Rest) -> None:
    """An unknown route is a 404 that says so, below a repository or not."""
    repo = repository(rest)
    rest.call("GET", "/nope")
    repo.get("/nope")
    repo.get("/branches/main/nope")
    repo.get("/branches/")


@scenario
def a_method_that_is_not_there(rest: Rest) -> None:
    """A wrong method on a known route is the same 404."""
    repo = repository(rest)
    repo.call("PUT", "")
    repo.call("PATCH", "/branches/main")
    repo.get("/branches/main/commits")
    repo.post("/refs/main/objects/ls", {})
    rest.call("DELETE", "/repositories")


@scenario
def a_body_that_is_no_json(rest: Rest) -> None:
    """A body that cannot be parsed is a 400."""
    repo = repository(rest)
    repo.call("POST", COMMITS, body=b"nonsense", headers=JSON)
    repo.call("POST", COMMITS, body=b'{"message": "m"', headers=JSON)
    repo.call("POST", COMMITS, body=b'{"message": "m",}', headers=JSON)


@scenario
def a_body_of_another_shape(rest: Rest) -> None:
    """A body that is JSON but no object is a 400."""
    repo = repository(rest)
    for body in (b"[]", b"null", b'"m"', b"1", b"true"):
        repo.call("POST", COMMITS, body=body, headers=JSON)


@scenario
def a_body_that_is_missing(rest: Rest) -> None:
    """A required body that is missing or empty is a 400."""
    repo = repository(rest)
    repo.call("POST", COMMITS)
    repo.call("POST", COMMITS, headers=JSON)
    repo.call("POST", COMMITS, body=b"", headers=JSON)
    repo.call("POST", "/branches")
    rest.call("POST", "/repositories")


@scenario
def members_of_a_branch_of_the_wrong_type(rest: Rest) -> None:
    """A branch's members are checked by the schema."""
    repo = repository(rest)
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


@scenario
def flags_of_a_commit_of_the_wrong_type(rest: Rest) -> None:
    """A commit's flags are booleans."""
    repo = repository(rest)
    repo.commit(allow_empty="true")
    repo.commit(allow_empty=1)
    repo.commit(allow_empty=None)
    repo.commit(force="true")


@scenario
def parameters_that_nobody_knows(rest: Rest) -> None:
    """An unknown parameter is ignored."""
    repo = repository(rest, {"a": "1"})
    repo.tree(unknown="1")
    repo.get("/branches", query={"unknown": "1"})


@scenario
def flags_of_the_wrong_type(rest: Rest) -> None:
    """A flag in the query must be a boolean, in one of several spellings."""
    repo = repository(rest, {"a": "1"})
    for text in ("yes", "1", "TRUE", "t", ""):
        repo.log(first_parent=text)


@scenario
def an_empty_object_is_a_body(rest: Rest) -> None:
    """An empty object is a body without members."""
    repo = diverged(rest, {"a": "0"}, side={"a": "1"})
    repo.call("POST", "/refs/side/merge/main", body=b"{}", headers=JSON)


@scenario
def a_repository_whose_name_none_can_have(rest: Rest) -> None:
    """It is a 400, and a 500 where a commit is read."""
    for path in ("", "/branches/main", "/commits/main", "/refs/main/commits", "/refs/main/objects/ls", "/branches"):
        rest.call("GET", f"/repositories/Not_One{path}")
    rest.call("DELETE", "/repositories/Not_One")
