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
    "input": ["input", "my-data/main"],
    "log": ["log", "my-data/main"],
    "fence": ["fence", "status", "my-data/main"],
    "gc": ["gc", "my-data"],
    "show": ["show", "my-data/main"],
    "start": ["start", "features"],
}
COMMANDS = [
    *((command, "CONDUCTOR_SERVER_URL") for command in CONDUCTOR.values()),
    *((command, "LAKECTL_SERVER_ENDPOINT_URL") for command in LAKEFS.values()),
]


@pytest.mark.parametrize(
    ("command", "variable"), COMMANDS, ids=[f"{command[0]}-{variable}" for command, variable in COMMANDS]
)
def test_a_server_that_is_missing_away_or_refuses_is_named_without_secrets(
    project: Project, services: Services, command: list[str], variable: str
) -> None:
    project.task("plain", "plain.work", PLAIN)
    project.task("features", "features.build")
    project.run(*command).ends(4, f"{variable}: not set", out="")

    away = project.run(*command, **services.variables | {variable: "http://127.0.0.1:9/api"}).ends(5, out="")
    assert f"{variable}=http://127.0.0.1:9/api" in away.err.partition("fix: ")[2]
    assert "Traceback" not in away.err

    if variable.startswith("CONDUCTOR"):
        services.conductor_status, name = 401, "CONDUCTOR_AUTH_SECRET"
        keys = {"CONDUCTOR_AUTH_KEY": "some-key", "CONDUCTOR_AUTH_SECRET": "hunter2-hunter2"}
    else:
        services.lakefs_status, name, keys = 401, "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", {}
    refused = project.run(*command, "--debug", **services.variables, **keys).ends(5, out="")
    assert name in refused.err.partition("fix: ")[2]
    assert "hunter2" not in refused.err
    assert SECRET not in refused.err
