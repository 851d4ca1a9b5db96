"""The server itself: its life, setup, logins, statistics and permissions, and links to the block store."""

from __future__ import annotations

import base64
from typing import Any

from ..rest import Rest
from ..scenario import Declared, rest, scenario, scenario_with, send
from .repositories import Repository, empty, repo, repository

RULES = "/branch_protection"
BACKING = "/branches/main/staging/backing"


@scenario
def a_login(rest: Rest) -> None:
    """A login gives a token that is as good as the key pair, and every wrong login is the same 401."""
    key, _, secret = base64.b64decode(rest.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
    stranger, pair = rest.posing(None), {"access_key_id": key, "secret_access_key": secret}
    answer = stranger.silent.post("/auth/login", pair)
    rest.note("a login", {"status": answer.status, "has a token": "token" in answer.json})
    rest.posing(f"Bearer {answer.json['token']}").get("/repositories/{name}", name=rest.name("repo"))
    wrong = stranger.silent.post("/auth/login", {**pair, "secret_access_key": "wrong"})
    rest.note("a wrong secret", {"status": wrong.status})
    stranger.post("/auth/login", {"access_key_id": "AKIANOBODY", "secret_access_key": "wrong"})
    stranger.post("/auth/login", {"access_key_id": "AKIANOBODY"})
    stranger.post("/auth/login", {})


@scenario
def whether_it_lives(rest: Rest) -> None:
    """The page for load balancers is outside of the API and needs no credentials."""
    rest.posing(None).get("/../../_health")


@scenario_with(repository)
def linked_objects(repo: Repository) -> None:
    """A new address can be linked once; other addresses of this block store cannot."""
    address = repo.get(BACKING, query={"path": "a"}).json["physical_address"]
    body = {"staging": {"physical_address": address}, "checksum": "abc", "size_bytes": 3}

    def link(path: str = "a", **changes: Any) -> None:
        repo.call("PUT", BACKING, query={"path": path}, json={**body, **changes})

    link(content_type="text/csv", user_metadata={"k": "v"})
    staged = repo.silent.stat("a").json  # with another address on a local block store, which repeats its own path
    repo.rest.note("staged", {name: staged[name] for name in ("checksum", "content_type", "metadata", "size_bytes")})
    link()
    link("b", staging={"physical_address": f"local://{repo.name}/data/none"})
    link("b", staging={})
    link("b", checksum=None)
    link("b", size_bytes="3")
    link("")
    repo.call("PUT", BACKING, json=body)
    repo.call("PUT", BACKING, query={"path": "a"}, json={})
    other = repo.silent.get(BACKING, query={"path": "c"}).json["physical_address"]
    repo.call(
        "PUT",
        "/branches/none/staging/backing",
        query={"path": "c"},
        json={**body, "staging": {"physical_address": other}},
    )


SCENARIOS: Declared = {
    # A server that was set up says so, and cannot be set up again.
    "the_setup": send(
        rest.posing(None).get("/setup_lakefs"),
        rest.posing(None).post("/setup_lakefs", {"username": "other"}),
        rest.posing(None).post(
            "/setup_lakefs", {"username": "other", "key": {"access_key_id": "a", "secret_access_key": "b"}}
        ),
        rest.posing(None).post("/setup_lakefs", {}),
    ),
    # Statistics are accepted, if they have their form.
    "statistics": send(
        rest.post("/statistics", {"events": [{"class": "a", "name": "b", "count": 1}]}),
        rest.post("/statistics", {"events": []}),
        rest.post("/statistics", {"events": [{"class": "a"}]}),
        rest.post("/statistics", {}),
        rest.posing(None).post("/statistics", {"events": []}),
    ),
    # The calls from before there were settings add and remove one pattern each.
    "rules_one_by_one": empty(
        repo.get(RULES),
        repo.post(RULES, {"pattern": "v*"}),
        repo.post(RULES, {"pattern": "v*"}),
        repo.post(RULES, {"pattern": "main"}),
        repo.get(RULES, unordered=True),
        repo.delete(RULES, json={"pattern": "v*"}),
        repo.delete(RULES, json={"pattern": "v*"}),
        repo.get(RULES),
        repo.post(RULES, {}),
        repo.post(RULES, {"pattern": ""}),
        repo.delete(RULES, json={}),
    ),
    # The only user may set rules.
    "who_may_set_rules": empty(
        repo.get(f"{RULES}/set_allowed"), repo.rest.get("/repositories/none-such/branch_protection/set_allowed")
    ),
    # Rules of an unknown repository.
    "rules_of_no_repository": send(
        rest.get("/repositories/none-such/branch_protection"),
        rest.post("/repositories/none-such/branch_protection", {"pattern": "v*"}),
        rest.delete("/repositories/none-such/branch_protection", json={"pattern": "v*"}),
    ),
    # The only user may stage, even on a branch that is not there.
    "who_may_stage": empty(
        repo.get("/branches/main/objects/stage_allowed", query={"path": "a"}),
        repo.get("/branches/main/objects/stage_allowed"),
        repo.get("/branches/none/objects/stage_allowed", query={"path": "a"}),
        repo.rest.get("/repositories/none-such/branches/main/objects/stage_allowed", query={"path": "a"}),
    ),
}
