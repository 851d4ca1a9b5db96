"""`perago register`."""

from __future__ import annotations

import json

import pytest

from .conftest import PLAIN, Project
from .services import Services


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.task("features", "features.build")
    project.task("plain", "plain.work", PLAIN)


def test_changes_are_shown_before_they_are_made(project: Project, services: Services) -> None:
    first = project.run("register", "features", "plain", **services.variables)
    address = services.variables["CONDUCTOR_SERVER_URL"]
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines() == [
        "new        features.build",
        "new        plain.work",
        f"registered 2 TaskDefs on {address}",
    ]
    assert services.definitions["features.build"] == json.loads(project.run("extract", "features").out)
    services.definitions["plain.work"] |= {"retryCount": 7, "createTime": 1}
    second = project.run("register", "features", "plain", **services.variables)
    assert second.out.splitlines() == [
        "unchanged  features.build",
        "changed    plain.work",
        "  breaking    /retryCount: 7 -> 3 (fewer retries)",
        f"registered 1 TaskDef on {address}",
    ]
    (sent,) = [request.json for request in services.writes[1:]]
    assert [definition["name"] for definition in sent] == ["plain.work"]


def test_a_dry_run_sends_nothing(project: Project, services: Services) -> None:
    ran = project.run("register", "--dry-run", "features", **services.variables)
    assert ran.code == 0
    assert ran.out.endswith(f"dry run: 1 TaskDef would be registered on {services.variables['CONDUCTOR_SERVER_URL']}\n")
    assert services.writes == []


def test_nothing_is_sent_if_nothing_changes(project: Project, services: Services) -> None:
    project.run("register", "features", **services.variables)
    ran = project.run("register", "features", **services.variables)
    assert ran.out.splitlines()[-1] == f"nothing to register on {services.variables['CONDUCTOR_SERVER_URL']}"
    assert len(services.writes) == 1


def test_an_invalid_module_keeps_the_others_from_being_sent(project: Project, services: Services) -> None:
    project.module("bad", "x / 0\n")
    ran = project.run("register", "features", "bad", **services.variables)
    assert ran.code == 3
    assert services.server.requests == []


def test_an_address_without_api_is_recognized(project: Project, services: Services) -> None:
    address = services.variables["CONDUCTOR_SERVER_URL"].removesuffix("/api")
    ran = project.run("register", "features", **{**services.variables, "CONDUCTOR_SERVER_URL": address})
    assert ran.code == 1
    assert f"CONDUCTOR_SERVER_URL={address}/api" in ran.err
