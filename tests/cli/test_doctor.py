"""`perago doctor` and `perago config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perago.embedded.services import EmbeddedServices
from perago.settings.variables import VARIABLES

from ..adapters import conftest as adapters
from ..adapters.scripted import ScriptedServer, reply_json, tls_context
from .conftest import PLAIN, Project, Ran, started_attempt
from .start_command import terminal
from .test_workflow import FLOW

certificate = adapters.certificate  # a fixture


def doctor(project: Project, services: EmbeddedServices, *arguments: str, **variables: str) -> Ran:
    return project.run("doctor", *arguments, **{**services.environment(), **variables})


def findings(ran: Ran, level: str = "problem") -> dict[str, dict[str, Any]]:
    """By their areas."""
    document = json.loads(ran.out)
    assert document["ok"] is (ran.code == 0)
    return {finding["area"]: finding for finding in document["findings"] if finding["level"] == level}


def test_all_is_well(project: Project, embedded: EmbeddedServices) -> None:
    embedded.lakefs.server.create_repository("my-data")
    project.task("plain", "plain.work", PLAIN)
    project.run("register", "plain", **embedded.environment())
    ran = doctor(project, embedded, "plain", "-b", "my-data/main", "--write", "--json")
    assert (ran.code, findings(ran)) == (0, {})
    fine = findings(ran, "ok")
    assert {"installed", "configuration", "Conductor", "lakeFS", "my-data/main", "plain.work", "queues"} <= set(fine)
    assert embedded.environment()["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"] not in ran.out
    text = doctor(project, embedded, "plain")
    assert (text.code, text.out.splitlines()[-1].startswith("0 problems")) == (0, True)


def test_wrong_credentials_are_one_problem_with_the_variables_to_look_at(
    project: Project, embedded: EmbeddedServices
) -> None:
    variables = {"LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "hushhush"}
    ran = doctor(project, embedded, "-b", "my-data/main", "--json", **variables)
    (problem,) = findings(ran).values()
    assert (ran.code, problem["area"]) == (5, "lakeFS")
    assert "rejects the credentials" in problem["what"]
    assert "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY" in problem["advice"]
    assert "hushhush" not in ran.out


def test_a_server_that_is_away_is_one_problem(project: Project, embedded: EmbeddedServices) -> None:
    project.task("plain", "plain.work", PLAIN)
    ran = doctor(project, embedded, "plain", "--json", CONDUCTOR_SERVER_URL="http://127.0.0.1:9/api")
    (problem,) = findings(ran).values()
    assert (ran.code, problem["area"]) == (5, "Conductor")
    assert "connection refused" in problem["what"]
    assert "http://127.0.0.1:9/api" in problem["advice"]
    assert "lakeFS" in findings(ran, "ok")


@pytest.mark.parametrize(
    ("status", "advice"), [(429, "wait, or raise the request limit"), (503, "check that the server runs")]
)
def test_the_advice_is_to_wait_only_for_a_server_that_limits_requests(
    project: Project, embedded: EmbeddedServices, status: int, advice: str
) -> None:
    with ScriptedServer(lambda _: reply_json({"message": "node 404 is busy"}, status=status)) as busy:
        by_area = findings(doctor(project, embedded, "--json", CONDUCTOR_SERVER_URL=busy.url))
    assert by_area["Conductor"]["advice"].startswith(advice)


def test_the_advice_for_tls_fits_the_reason(project: Project, embedded: EmbeddedServices, certificate: Path) -> None:
    no_tls = embedded.environment()["CONDUCTOR_SERVER_URL"].replace("http:", "https:")
    with ScriptedServer(lambda _: reply_json({}), tls=tls_context(certificate)) as untrusted:
        variables = {"CONDUCTOR_SERVER_URL": no_tls, "LAKECTL_SERVER_ENDPOINT_URL": untrusted.url}
        by_area = findings(doctor(project, embedded, "--json", **variables))
    assert "does not speak TLS at this address; does it need http://" in by_area["Conductor"]["what"]
    assert "certificate is not trusted: self-signed" in by_area["lakeFS"]["what"]
    assert "REQUESTS_CA_BUNDLE" in by_area["lakeFS"]["advice"]


def test_a_taskdef_that_drifted_and_a_queue_without_a_worker(project: Project, embedded: EmbeddedServices) -> None:
    project.task("plain", "plain.work", PLAIN)
    ran = doctor(project, embedded, "plain", "--json")
    assert (ran.code, findings(ran)["plain.work"]["advice"]) == (1, "perago register plain")
    project.run("register", "plain", **embedded.environment())
    registered = embedded.conductor.get_task_definition("plain.work")
    assert registered is not None
    embedded.conductor.register_task_definitions([{**registered, "retryCount": 9}])
    started_attempt(embedded.conductor, "plain.work")
    ran = doctor(project, embedded, "plain", "--json")
    by_area = findings(ran)
    assert (ran.code, sorted(by_area)) == (1, ["plain.work", "queues"])
    assert "/retryCount: 9 -> 3" in by_area["plain.work"]["what"]
    assert "no worker has ever asked for it" in by_area["queues"]["what"]
    assert by_area["queues"]["advice"] == "perago start plain"


def test_a_workflow_whose_version_is_not_registered(project: Project, embedded: EmbeddedServices) -> None:
    project.task("work", "plain.work", PLAIN)
    project.module("flows", FLOW.format(version=1, rows=1))
    project.run("register", "work", **embedded.environment())
    ran = doctor(project, embedded, "flows", "--json")
    assert (ran.code, list(findings(ran))) == (1, ["nightly"])
    assert findings(ran)["nightly"]["what"] == "version 1 of the workflow is not registered"
    assert findings(ran)["nightly"]["advice"] == "perago register flows"
    project.run("register", "flows", **embedded.environment())
    assert "nightly" in findings(doctor(project, embedded, "flows", "--json"), "ok")
    project.module("flows", FLOW.format(version=1, rows=22))
    assert "differs in 1 place" in findings(doctor(project, embedded, "flows", "--json"), "warning")["nightly"]["what"]
    project.module("flows", FLOW.format(version=2, rows=333))
    newer = findings(doctor(project, embedded, "flows", "--json"))["nightly"]
    assert newer["what"] == "version 2 of the workflow is not registered; the newest one there is version 1"


def test_a_fork_whose_join_does_not_wait_for_retries(project: Project, embedded: EmbeddedServices) -> None:
    project.task("plain", "plain.work", PLAIN)
    project.run("register", "plain", **embedded.environment())

    def fork(version: int, **fields: bool) -> dict[str, Any]:
        step = {"name": "plain.work", "taskReferenceName": "part", "type": "SIMPLE", **fields}
        forked = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[step]]}
        join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["part"]}
        return {"name": "parts", "version": version, "tasks": [forked, join]}

    embedded.conductor.create_workflow_definition(fork(1))
    ran = doctor(project, embedded, "--json")
    assert (ran.code, "workflow parts, version 1" in findings(ran, "warning")["forks"]["what"]) == (0, True)
    embedded.conductor.create_workflow_definition(fork(2, permissive=True))
    assert "forks" in findings(doctor(project, embedded, "plain", "--json"), "ok")


def test_a_broken_module_and_a_wrong_configuration_are_reported_together(
    project: Project, embedded: EmbeddedServices
) -> None:
    project.module("broken", "import nothing_of_this_name")
    ran = doctor(project, embedded, "broken", "--json", PERAGO_LOG_RETENTION="soon")
    by_area = findings(ran)
    assert (ran.code, sorted(by_area)) == (3, ["broken", "configuration"])
    assert "nothing_of_this_name" in by_area["broken"]["what"]
    assert "PERAGO_LOG_RETENTION (environment)" in by_area["configuration"]["what"]
    ran = doctor(project, embedded, "--json", PERAGO_WORKSPACE_ROOT="broken.py/root")
    assert (ran.code, "is not a directory" in findings(ran)["configuration"]["what"]) == (4, True)


def test_without_servers_the_unchecked_parts_are_named(project: Project) -> None:
    ran = project.run("doctor", "--json").ends(0)
    project.task("plain", "plain.work", PLAIN)
    ran = project.run("doctor", "plain", "--json")
    assert (ran.code, "CONDUCTOR_SERVER_URL" in findings(ran)["configuration"]["what"]) == (4, True)


@pytest.mark.parametrize(("arguments", "code"), [(["doctor"], 0), (["config"], 0), (["diff", "plain"], 1)])
def test_lines_fit_a_narrow_terminal(
    project: Project, embedded: EmbeddedServices, arguments: list[str], code: int
) -> None:
    project.task("plain", "plain.work", PLAIN)
    embedded.conductor.register_task_definitions([{"name": "plain.work", "retryCount": 7}])
    variables = {**embedded.environment(), "COLUMNS": "60", "TERM": "dumb"}
    with terminal(project, *arguments, **variables) as shown:
        assert shown.ended() == code
    lines = shown.text.splitlines()
    assert max(len(line) for line in lines if "http://" not in line) <= 60
    assert [line for line in lines if line.startswith("         ")]


# ------------------------------------------------------------------------------------- `perago config`


SECRET = "hushhushhush"


def test_every_variable_has_its_value_and_source_and_no_secret_is_shown(project: Project) -> None:
    (project.directory / ".env").write_text(f"\nPERAGO_LOG_RETENTION=7d\nCONDUCTOR_AUTH_SECRET={SECRET}\n")
    ran = project.run(
        "config", "--json", CONDUCTOR_SERVER_URL="http://127.0.0.1:1/api", CONDUCTOR_AUTH_KEY=f"key-{SECRET}"
    ).ends(0)
    assert SECRET not in ran.out + ran.err
    settings = {setting["name"]: (setting["value"], setting["source"]) for setting in json.loads(ran.out)}
    assert tuple(settings) == VARIABLES
    assert settings["PERAGO_LOG_RETENTION"] == ("7d", ".env:2")
    assert settings["CONDUCTOR_SERVER_URL"] == ("http://127.0.0.1:1/api", "environment")
    assert settings["CONDUCTOR_AUTH_SECRET"] == (None, ".env:3")
    assert settings["PERAGO_TRANSFER_THREADS"] == ("16", "default")
    assert settings["LAKECTL_SERVER_ENDPOINT_URL"] == ("not set", "")


def test_the_lines_are_for_reading(project: Project) -> None:
    lines = project.run("config", PERAGO_PUBLISH_FENCE="required").out.splitlines()
    assert len(lines) == len(VARIABLES)
    (fence,) = [line.split() for line in lines if line.startswith("PERAGO_PUBLISH_FENCE")]
    assert fence == ["PERAGO_PUBLISH_FENCE", "required", "environment"]
    error = "PERAGO_LOG_RETENTION (environment): not a number of days"
    project.run("config", PERAGO_LOG_RETENTION="soon").ends(4, error, out="")


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
