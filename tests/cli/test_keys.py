"""A task function gets no keys: what it, its processes and the processes above it can see of the credentials."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from .conftest import Project
from .dev_command import ready

SECRET = "qT7/hunter2+hunter2=="
VARIABLES = {
    "CONDUCTOR_SERVER_URL": "http://127.0.0.1:1/api",
    "CONDUCTOR_AUTH_KEY": "key-of-conductor",
    "CONDUCTOR_AUTH_SECRET": f"conductor-{SECRET}",
    "CONDUCTOR_OF_SOMEBODY_ELSE": "1",
    "LAKECTL_SERVER_ENDPOINT_URL": "http://127.0.0.1:1",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": SECRET,
    "LAKECTL_OPTION": "1",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20of-the-collector",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-team=traces-of-the-collector,x-short=prod",
}
LOOKS = """
import os, subprocess
from pathlib import Path
from pydantic import BaseModel
from perago import task

class Params(BaseModel):
    pass

class Result(BaseModel):
    at_import: list[str]
    seen: dict[str, list[str]]

def names(text):
    return sorted(set(line.split("=")[0] for line in text if line.startswith(("CONDUCTOR_", "LAKECTL_", "OTEL_"))))

AT_IMPORT = names(os.environ)

def of_process(pid):
    file = Path("/proc", str(pid), "environ")
    return names(file.read_text(errors="replace").split("\\0")) if file.exists() else []

@task(name="plain.looks", owner_email="data@example.com"OPTIONS)
def looks(params: Params) -> Result:
    printed = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    seen = {
        "environ": names(os.environ),
        "slot": of_process("self"),
        "fork server": of_process(os.getppid()),
        "child": names(printed.splitlines()),
    }
    return Result(at_import=AT_IMPORT, seen=seen)
"""
NOTHING: dict[str, list[str]] = {"environ": [], "slot": [], "fork server": [], "child": []}


def write(project: Project, options: str = "") -> None:
    project.module("plain", LOOKS.replace("OPTIONS", options))


def test_a_function_under_run_and_its_processes_have_no_keys(project: Project) -> None:
    write(project)
    ran = project.run("run", "plain", **VARIABLES)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == {"at_import": [], "seen": NOTHING}


def test_a_function_gets_the_variables_that_its_task_asks_for(project: Project) -> None:
    write(project, ', environment=["LAKECTL_CREDENTIALS_*", "CONDUCTOR_SERVER_URL", "OTEL_*_TRACES_*"]')
    ran = project.run("run", "plain", **VARIABLES)
    assert ran.code == 0, ran.err
    asked = [
        "CONDUCTOR_SERVER_URL",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    ]
    seen = json.loads(ran.out)
    assert seen == {"at_import": [], "seen": {**NOTHING, "environ": asked, "child": asked}}


def test_a_variable_of_the_dotenv_file_stays_there(project: Project) -> None:
    write(project, ', environment=["LAKECTL_*"]')
    (project.directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in VARIABLES.items()))
    ran = project.run("run", "plain")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["seen"] == NOTHING


def test_a_function_in_a_worker_has_no_keys(project: Project) -> None:
    """`perago dev` starts real workers, which find its services in their environment."""
    write(project)
    with ready(replace(project, environment={**project.environment, **VARIABLES}), "plain") as dev:
        output = dev.finished(dev.curl("dev.plain.looks"))["output"]
    assert output["result"] == {"at_import": [], "seen": NOTHING}


def test_check_shows_the_requirements_of_a_task(project: Project) -> None:
    write(project, ', environment=["LAKECTL_*"]')
    ran = project.run("check", "plain")
    assert ran.out.splitlines()[0] == "ok  plain: task plain.looks, no workspace, environment LAKECTL_*"
    assert json.loads(project.run("check", "--json", "plain").out)["modules"][0]["environment"] == ["LAKECTL_*"]


LEAKS = """
import base64
from pathlib import Path
from pydantic import BaseModel
from perago import current, task

class Params(BaseModel):
    file: str
    how: str

class Result(BaseModel):
    text: str

@task(name="plain.leaks", owner_email="data@example.com")
def leaks(params: Params) -> Result:
    secrets = [line.partition("=")[2] for line in Path(params.file).read_text().splitlines() if "SECRET" in line]
    print("headers: of-the-collector, traces-of-the-collector in prod")
    print(secrets, *secrets, base64.b64encode(secrets[-1].encode()).decode())
    current().log(secrets[0])
    if params.how == "raise":
        raise ValueError(secrets)
    return Result(text=secrets[0])
"""


@pytest.mark.parametrize("how", ["raise", "return"])
def test_a_function_that_finds_the_secrets_spreads_them_only_in_its_result(project: Project, how: str) -> None:
    project.module("plain", LEAKS)
    dotenv = project.directory / ".env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in VARIABLES.items()))
    ran = project.run("run", "plain", "--params", json.dumps({"file": str(dotenv), "how": how}))
    logs = "".join(file.read_text() for file in project.directory.parent.rglob("*.jsonl"))
    assert "['***', '***'] *** *** ***" in ran.err
    assert "['***', '***'] *** *** ***" in logs
    assert "hunter2" not in ran.err + logs
    assert "headers: ***, *** in prod" in ran.err
    assert "headers: ***, *** in prod" in logs
    if how == "raise":
        assert (ran.code, ran.out) == (1, "")
        assert "failed: ValueError: ['***', '***']" in ran.err
    else:  # what it returns is its own business
        assert json.loads(ran.out) == {"text": VARIABLES["CONDUCTOR_AUTH_SECRET"]}
