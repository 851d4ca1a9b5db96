"""`perago config`."""

from __future__ import annotations

import json

import pytest

from perago.embedded.services import EmbeddedServices
from perago.settings.variables import VARIABLES

from .conftest import PLAIN, Project

SECRET = "hushhushhush"


def test_every_variable_has_its_value_and_source_and_no_secret_is_shown(project: Project) -> None:
    (project.directory / ".env").write_text(f"\nPERAGO_LOG_RETENTION=7d\nCONDUCTOR_AUTH_SECRET={SECRET}\n")
    ran = project.run(
        "config", "--json", CONDUCTOR_SERVER_URL="http://127.0.0.1:1/api", CONDUCTOR_AUTH_KEY=f"key-{SECRET}"
    )
    assert ran.code == 0
    assert SECRET not in ran.out + ran.err
    found = {one["name"]: (one["value"], one["source"]) for one in json.loads(ran.out)}
    assert tuple(found) == VARIABLES
    assert found["PERAGO_LOG_RETENTION"] == ("7d", ".env:2")
    assert found["CONDUCTOR_SERVER_URL"] == ("http://127.0.0.1:1/api", "environment")
    assert found["CONDUCTOR_AUTH_SECRET"] == (None, ".env:3")
    assert found["PERAGO_TRANSFER_THREADS"] == ("16", "default")
    assert found["LAKECTL_SERVER_ENDPOINT_URL"] == ("not set", "")


def test_the_lines_are_for_reading(project: Project) -> None:
    lines = project.run("config", PERAGO_PUBLISH_FENCE="required").out.splitlines()
    assert len(lines) == len(VARIABLES)
    (fence,) = [line.split() for line in lines if line.startswith("PERAGO_PUBLISH_FENCE")]
    assert fence == ["PERAGO_PUBLISH_FENCE", "required", "environment"]


def test_errors_are_reported_instead(project: Project) -> None:
    ran = project.run("config", PERAGO_LOG_RETENTION="soon")
    assert (ran.code, ran.out) == (4, "")
    assert "PERAGO_LOG_RETENTION (environment): not a number of days" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("config",),
        ("config", "--json"),
        ("doctor",),
        ("doctor", "--json"),
        ("check", "plain"),
        ("register", "plain", "--dry-run"),
        ("send", "plain", "--params", '{"rows": 1}'),
        ("status",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("reachable", [True, False], ids=["there", "away"])
def test_no_command_shows_the_token_of_an_address(
    project: Project, shared_embedded: EmbeddedServices, arguments: tuple[str, ...], *, reachable: bool
) -> None:
    project.task("plain", "plain.work", PLAIN)
    variables, token = dict(shared_embedded.environment()), shared_embedded.keys.token
    if not reachable:
        variables["CONDUCTOR_SERVER_URL"] = f"http://127.0.0.1:9/{token}/api"
    ran = project.run(*arguments, **variables)
    assert token in variables["CONDUCTOR_SERVER_URL"]
    assert token not in ran.out + ran.err
    if arguments[0] in ("config", "doctor"):
        assert "/***/api" in ran.out
