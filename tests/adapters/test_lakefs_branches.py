"""Branches: what is sent how often to create and delete them, and what each answer means."""

from __future__ import annotations

import pytest

from perago.ports import Refused, Unclear

from .lakefs_script import COMMIT, HEAD, branch_json, failure, lakefs, routes
from .scripted import Action, Drop, Reply


def test_a_new_branch_is_hidden() -> None:
    with lakefs(lambda _: Reply(201, COMMIT.encode())) as (store, server):
        store.create_branch("repo", "perago-x", COMMIT)
    sent = server.requests[0].json
    assert (sent["name"], sent["source"], sent["hidden"]) == ("perago-x", COMMIT, True)


def test_a_branch_whose_answer_was_lost_is_found_by_looking() -> None:
    with lakefs(routes(POST_branches=Drop(), GET_x=branch_json(COMMIT))) as (store, server):
        store.create_branch("repo", "x", COMMIT)
    assert server.count("POST") == 1


def test_a_branch_that_was_not_created_is_created_again() -> None:
    posts: list[Action] = [Drop(), Reply(201, COMMIT.encode())]
    with lakefs(routes(POST_branches=posts, GET_x=failure(404, "branch not found"))) as (store, server):
        store.create_branch("repo", "x", COMMIT)
    assert server.count("POST") == 2


def test_a_branch_that_arrived_late_is_found_by_its_409() -> None:
    posts: list[Action] = [Drop(), failure(409, "branch already exists: not unique")]
    looks: list[Action] = [failure(404, "branch not found"), branch_json(COMMIT)]
    with lakefs(routes(POST_branches=posts, GET_x=looks)) as (store, _):
        store.create_branch("repo", "x", COMMIT)


def test_a_branch_of_somebody_else_is_not_taken_over() -> None:
    posts: list[Action] = [Drop(), failure(409, "branch already exists: not unique")]
    with lakefs(routes(POST_branches=posts, GET_x=branch_json(HEAD))) as (store, _), pytest.raises(Refused):
        store.create_branch("repo", "x", COMMIT)
    with (
        lakefs(routes(POST_branches=failure(409, "branch already exists: not unique"))) as (store, server),
        pytest.raises(Refused, match="exists already"),
    ):
        store.create_branch("repo", "x", COMMIT)
    assert server.count("POST") == 1


def test_a_branch_that_stays_unclear_is_said_to_be() -> None:
    with (
        lakefs(routes(POST_branches=Drop(), GET_x=failure(404, "branch not found"))) as (store, _),
        pytest.raises(Unclear),
    ):
        store.create_branch("repo", "x", COMMIT)


def test_deleting_a_branch_is_repeated_and_fine_if_it_is_gone() -> None:
    with lakefs(routes(DELETE_x=[Drop(), failure(404, "branch not found")])) as (store, server):
        store.delete_branch("repo", "x")
    assert server.count("DELETE") == 2
