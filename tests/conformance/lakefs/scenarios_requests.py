"""Who may ask, and requests that are wrong in form: routes, bodies, types, parameters."""

from __future__ import annotations

import base64

from ..rest import Rest
from ..scenario import Declared, each, rest, scenario, scenario_with, send, to
from .repositories import Repository, diverged, empty, one_file, repo, repository


def basic(user: str, secret: str) -> str:
    """Credentials as HTTP Basic writes them."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


@scenario_with(repository, {"a": "1"})
def no_credentials(repo: Repository) -> None:
    """Without credentials everything below a repository is a 401, be it there or not."""
    stranger = Repository(repo.rest.posing(None), repo.name)
    stranger.get("")
    stranger.tree()
    stranger.read("a")
    stranger.upload("a")
    stranger.commit()
    stranger.head_object("a")
    Repository(repo.rest.posing(None), "no-such-repository").get("")


@scenario
def wrong_credentials(rest: Rest) -> None:
    """An unknown key and a wrong secret are the same 401."""
    key = base64.b64decode(rest.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")[0]
    for authorization in (basic("AKIANOBODY", "secret"), basic(key, "wrong"), basic(key, ""), basic("", "")):
        rest.posing(authorization).get("/repositories")


@scenario
def the_scheme_in_lower_case(rest: Rest) -> None:
    """The scheme's case does not matter."""
    authorization = rest.headers["Authorization"].replace("Basic", "basic")
    rest.posing(authorization).get("/config/version")


TOLD_TO_STRANGERS = {
    # A stranger is a user without a name.
    "who_i_am": "/user",
    # Clients ask for the configuration before their first upload.
    "the_configuration": "/config",
    "the_version": "/config/version",
    "whether_it_is_alive": "/healthcheck",
}


JSON = {"Content-Type": "application/json"}
COMMITS = "/branches/main/commits"
PATHS = ("", "/branches/main", "/commits/main", "/refs/main/commits", "/refs/main/objects/ls", "/branches")


SCENARIOS: Declared = {
    # What is no Basic and no token is a 401.
    "credentials_of_another_form": send(
        *(
            rest.posing(authorization).get("/repositories")
            for authorization in (
                "Basic",
                "Basic !!!",
                "Basic bm9jb2xvbg==",
                "Bearer nonsense",
                "Digest x",
                "nonsense",
                "",
            )
        )
    ),
    # A stranger's wrong request is refused for its form before anybody asks for credentials.
    "the_form_of_a_request_comes_first": send(
        rest.posing(None).post("/repositories", {}),
        rest.posing(None).get("/repositories", query={"amount": "x"}),
        rest.posing(None).get("/nope"),
    ),
    # What a user asks, and a stranger.
    **each(TOLD_TO_STRANGERS, lambda path: send(rest.get(path), rest.posing(None).get(path))),
    # A repository's members are checked by the schema.
    "members_of_a_repository_of_the_wrong_type": send(
        rest.post("/repositories", {"name": 1, "storage_namespace": "local://x"}),
        rest.post("/repositories", {"name": "abc", "storage_namespace": 1}),
        rest.post("/repositories", {"name": "abc", "storage_namespace": "local://x", "read_only": "yes"}),
        rest.post("/repositories", {"name": "abc", "storage_namespace": "x"}),
        rest.post("/repositories", {}),
    ),
    # A name that no repository can have is a 400, and a 500 where a commit is read.
    "a_repository_whose_name_none_can_have": send(
        *(rest.get(f"/repositories/Not_One{path}") for path in PATHS), rest.delete("/repositories/Not_One")
    ),
    # The kind of storage.
    "the_storage": send(rest.get("/config/storage")),
    # An unknown route is a 404 that says so, below a repository or not.
    "a_route_that_is_not_there": empty(
        repo.rest.get("/nope"), repo.get("/nope"), repo.get("/branches/main/nope"), repo.get("/branches/")
    ),
    # A wrong method on a known route is the same 404.
    "a_method_that_is_not_there": empty(
        repo.call("PUT", ""),
        repo.call("PATCH", "/branches/main"),
        repo.get("/branches/main/commits"),
        repo.post("/refs/main/objects/ls", {}),
        repo.rest.delete("/repositories"),
    ),
    # A body that cannot be parsed is a 400.
    "a_body_that_is_no_json": empty(
        repo.call("POST", COMMITS, body=b"nonsense", headers=JSON),
        repo.call("POST", COMMITS, body=b'{"message": "m"', headers=JSON),
        repo.call("POST", COMMITS, body=b'{"message": "m",}', headers=JSON),
    ),
    # A body that is JSON but no object is a 400.
    "a_body_of_another_shape": empty(
        *(repo.call("POST", COMMITS, body=body, headers=JSON) for body in (b"[]", b"null", b'"m"', b"1", b"true"))
    ),
    # A required body that is missing or empty is a 400.
    "a_body_that_is_missing": empty(
        repo.call("POST", COMMITS),
        repo.call("POST", COMMITS, headers=JSON),
        repo.call("POST", COMMITS, body=b"", headers=JSON),
        repo.call("POST", "/branches"),
        repo.rest.post("/repositories"),
    ),
    # An empty name between two slashes is a missing parameter; at the end of a path there is no such route.
    "a_name_that_is_empty": empty(
        repo.call("GET", "/refs//objects/ls"),
        repo.call("GET", "/refs//objects/stat?path=a"),
        repo.call("GET", "/refs//commits"),
        repo.call("GET", "/branches//diff"),
        repo.call("GET", "/refs//diff/main"),
        repo.call("POST", "/refs//merge/main", body=b"{}", headers=JSON),
        repo.call("GET", "/commits/"),
    ),
    # A branch's members are checked by the schema.
    "members_of_a_branch_of_the_wrong_type": empty(
        repo.branch("side", hidden="yes"),
        repo.branch("side", force=1),
        repo.post("/branches", {"name": 1, "source": "main"}),
        repo.post("/branches", {"name": "side", "source": None}),
    ),
    # A commit's flags are booleans.
    "flags_of_a_commit_of_the_wrong_type": empty(
        repo.commit(allow_empty="true"),
        repo.commit(allow_empty=1),
        repo.commit(allow_empty=None),
        repo.commit(force="true"),
    ),
    # An unknown parameter is ignored.
    "parameters_that_nobody_knows": one_file(repo.tree(unknown="1"), repo.branches(unknown="1")),
    # A flag in the query must be a boolean, in one of several spellings.
    "flags_of_the_wrong_type": one_file(*(repo.log(first_parent=text) for text in ("yes", "1", "TRUE", "t", ""))),
    # An empty object is a body without members.
    "an_empty_object_is_a_body": to(diverged, {"a": "0"}, side={"a": "1"})(
        repo.call("POST", "/refs/side/merge/main", body=b"{}", headers=JSON)
    ),
}
