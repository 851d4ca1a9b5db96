"""Branches: what is sent how often to create, read and delete them, and what each answer means."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perago.adapters.lakefs import LakeFSStore
from perago.ports import NotFound, Refused, ServiceError, Unavailable, Unclear

from .lakefs_script import COMMIT, HEAD, branch_json, failure, lakefs, routes
from .scripted import Action, Drop, Reply, Request, reply_json


def test_a_new_branch_is_hidden() -> None:
    with lakefs(lambda _: Reply(201, COMMIT.encode())) as (store, server):
        store.create_branch("repo", "perago-x", COMMIT)
    sent = server.requests[0].json
    assert (sent["name"], sent["source"], sent["hidden"]) == ("perago-x", COMMIT, True)


@pytest.mark.parametrize(
    ("action", "error"),
    [(Drop(), Unclear), (failure(500, "boom"), Unclear), (failure(503, "busy"), Unavailable)],
    ids=["dropped", "500", "503"],
)
def test_a_branch_is_asked_for_once(action: Action, error: type[ServiceError]) -> None:
    """The driver asks again: it knows what an existing branch means then, and how long to wait."""
    with lakefs(routes(POST_branches=action)) as (store, server), pytest.raises(error):
        store.create_branch("repo", "x", COMMIT)
    assert server.count("POST") == 1


def test_a_branch_that_exists_is_refused() -> None:
    exists = failure(409, "branch already exists: not unique")
    with lakefs(routes(POST_branches=exists)) as (store, _), pytest.raises(Refused, match="exists already"):
        store.create_branch("repo", "x", COMMIT)


def test_deleting_a_branch_is_repeated_and_fine_if_it_is_gone() -> None:
    with lakefs(routes(DELETE_x=[Drop(), failure(404, "branch not found")])) as (store, server):
        store.delete_branch("repo", "x")
    assert server.count("DELETE") == 2


@pytest.mark.parametrize("status", [400, 500])
def test_a_repository_that_no_name_can_be_of_does_not_exist_and_is_asked_for_once(status: int) -> None:
    """lakeFS answers 500 where a commit of it is read, which is no outage."""
    answer = failure(status, "argument repository: repository id: invalid value: validation error")
    with lakefs(lambda _: answer) as (store, server):
        with pytest.raises(NotFound, match="repository Not_One does not exist"):
            store.get_commit("Not_One", COMMIT)
        assert len(server.requests) == 1


def test_a_text_that_quotes_such_an_answer_does_not_mean_that_nothing_is_there() -> None:
    """A hook may refuse a name in such words. To read the text takes time by its length, not by the square of it."""
    text = "argument branch: " * 100_000 + "branch id: invalid value: validation error"
    with (
        lakefs(routes(DELETE_x=failure(412, f"hook aborted: {text}"))) as (store, _),
        pytest.raises(Refused, match="hook aborted"),
    ):
        store.delete_branch("repo", "x")


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.history("repo", "main", until=HEAD, limit=9),
        lambda store: store.ancestry("repo", COMMIT, limit=9),
    ],
    ids=["history", "ancestry"],
)
def test_a_log_that_does_not_even_tell_its_head_is_no_empty_range(read: Callable[[LakeFSStore], object]) -> None:
    """lakeFS leaves out a commit whose date was set to a time before the year 1, and what is below it. Others' commits
    would go unseen."""
    empty = {"results": [], "pagination": {"has_more": False, "next_offset": "", "results": 0, "max_per_page": 1000}}

    def script(request: Request) -> Action:
        return branch_json(COMMIT) if request.path.endswith("/branches/main") else reply_json(empty)

    with lakefs(script) as (store, _), pytest.raises(Refused, match="lists no commit"):
        read(store)
