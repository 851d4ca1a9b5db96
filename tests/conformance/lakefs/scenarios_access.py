"""Who may ask, and what is told to everybody."""

from __future__ import annotations

import base64
from dataclasses import replace

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .repositories import Repository, repository


def posing(rest: Rest, authorization: str | None) -> Rest:
    """The same client with another `Authorization`, which the transcript does not show."""
    return replace(rest, headers={} if authorization is None else {"Authorization": authorization})


def basic(user: str, secret: str) -> str:
    """Credentials as HTTP Basic writes them."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


@scenario_with(repository, {"a": "1"})
def no_credentials(repo: Repository) -> None:
    """Without credentials everything below a repository is a 401, be it there or not."""
    stranger = Repository(posing(repo.rest, None), repo.name)
    stranger.get("")
    stranger.tree()
    stranger.read("a")
    stranger.upload("a")
    stranger.commit()
    stranger.call("HEAD", "/refs/main/objects", query={"path": "a"})
    Repository(posing(repo.rest, None), "no-such-repository").get("")


@scenario
def wrong_credentials(rest: Rest) -> None:
    """An unknown key and a wrong secret are the same 401."""
    key = base64.b64decode(rest.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")[0]
    for authorization in (basic("AKIANOBODY", "secret"), basic(key, "wrong"), basic(key, ""), basic("", "")):
        posing(rest, authorization).call("GET", "/repositories")


@scenario
def credentials_of_another_form(rest: Rest) -> None:
    """What is no Basic and no token is a 401."""
    for authorization in ("Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Bearer nonsense", "Digest x", "nonsense", ""):
        posing(rest, authorization).call("GET", "/repositories")


@scenario
def the_scheme_in_lower_case(rest: Rest) -> None:
    """The scheme's case does not matter."""
    authorization = rest.headers["Authorization"].replace("Basic", "basic")
    posing(rest, authorization).call("GET", "/config/version")


@scenario
def the_form_of_a_request_comes_first(rest: Rest) -> None:
    """A stranger's wrong request is refused for its form before anybody asks for credentials."""
    stranger = posing(rest, None)
    stranger.call("POST", "/repositories", json={})
    stranger.call("GET", "/repositories", query={"amount": "x"})
    stranger.call("GET", "/nope")


TOLD_TO_STRANGERS = {
    # A stranger is a user without a name.
    "who_i_am": "/user",
    # Clients ask for the configuration before their first upload.
    "the_configuration": "/config",
    "the_version": "/config/version",
    "whether_it_is_alive": "/healthcheck",
}


@scenario_for_each(TOLD_TO_STRANGERS)
def told_to_strangers(rest: Rest, case: str) -> None:
    """What a user asks, and a stranger."""
    rest.call("GET", case)
    posing(rest, None).call("GET", case)


@scenario
def the_storage(rest: Rest) -> None:
    """The kind of storage."""
    rest.call("GET", "/config/storage")
