"""What every command that asks a server does if the server is not configured, away, or rejects the credentials."""

from __future__ import annotations

import pytest

from .conftest import PLAIN, Project
from .services import SECRET, Services

CONDUCTOR = {
    "register": ["register", "plain"],
    "diff": ["diff", "plain"],
    "send": ["send", "plain", "-p", '{"rows": 1}'],
    "start": ["start", "plain"],
    "status": ["status"],
    "capture": ["capture", "t", "plain"],
    "replay": ["replay", "t", "plain"],
    "backtest": ["backtest", "plain"],
    "show": ["show", "t"],
    "run": ["run", "plain", "--from", "t"],
}
LAKEFS = {
    "input": ["input", "my-data", "main"],
    "log": ["log", "my-data", "main"],
    "fence": ["fence", "status", "my-data", "main"],
    "gc": ["gc", "my-data"],
    "show": ["show", "my-data", "main"],
}
COMMANDS = [
    *((command, "CONDUCTOR_SERVER_URL") for command in CONDUCTOR.values()),
    *((command, "LAKECTL_SERVER_ENDPOINT_URL") for command in LAKEFS.values()),
]
each_command = pytest.mark.parametrize(
    ("command", "variable"), COMMANDS, ids=[f"{command[0]}-{variable}" for command, variable in COMMANDS]
)


@pytest.fixture(autouse=True)
def module(project: Project) -> None:
    project.task("plain", "plain.work", PLAIN)


@each_command
def test_a_server_that_is_not_configured_is_named(project: Project, command: list[str], variable: str) -> None:
    project.run(*command).ends(4, f"{variable}: not set", out="")


@each_command
def test_a_server_that_is_away_is_named_with_its_address(
    project: Project, services: Services, command: list[str], variable: str
) -> None:
    ran = project.run(*command, **services.variables | {variable: "http://127.0.0.1:9/api"})
    assert (ran.code, ran.out) == (5, "")
    assert f"{variable}=http://127.0.0.1:9/api" in ran.err.partition("fix: ")[2]
    assert "Traceback" not in ran.err


@each_command
def test_rejected_credentials_are_reported_without_showing_them(
    project: Project, services: Services, command: list[str], variable: str
) -> None:
    services.conductor_status = services.lakefs_status = 401
    keys = {"CONDUCTOR_AUTH_KEY": "some-key", "CONDUCTOR_AUTH_SECRET": "hunter2-hunter2"}
    ran = project.run(*command, "--debug", **services.variables, **keys)
    assert (ran.code, ran.out) == (5, "")
    name = "CONDUCTOR_AUTH_SECRET" if variable.startswith("CONDUCTOR") else "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"
    assert name in ran.err.partition("fix: ")[2]
    assert "hunter2" not in ran.err
    assert SECRET not in ran.err
