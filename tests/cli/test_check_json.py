"""The JSON document of `perago check --json`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import PLAIN, Project

TAIL = "\nfrom pydantic import BaseModel\n" + PLAIN.format(name="tail")


def document(project: Project, *modules: str, **variables: str) -> tuple[int, Any]:
    ran = project.run("check", "--json", *modules, **variables)
    assert ran.err == ""
    return ran.code, json.loads(ran.out)


def test_json_has_a_documented_shape(project: Project) -> None:
    project.module("loud", "print('hello')\n" + TAIL)
    project.module("bad", "x / 0\n")
    project.task("twice", "tail", PLAIN)
    (project.directory / ".env").write_text("PERAGO_LOG_RETENTION=30\n")
    code, found = document(project, "loud", "bad", "twice")
    assert code == 3
    assert found["ok"] is False
    loud, bad, twice = found["modules"]
    task = {"task": "tail", "environment": [], "workflows": []}
    assert loud == {"module": "loud", "ok": True, **task, "output": "hello\n", "advice": [], "errors": []}
    assert (bad["ok"], bad["task"]) == (False, None)
    (error,) = bad["errors"]
    assert set(error) == {"code", "message", "where", "fix"}
    assert (error["code"], error["where"]) == ("invalid-module", "bad.py:1")
    assert twice["errors"][0]["code"] == "duplicate-task"
    assert found["configuration"]["errors"] == [
        {
            "code": "invalid-configuration",
            "message": "not a number of days",
            "where": "PERAGO_LOG_RETENTION (.env:1)",
            "fix": "Write whole days such as 30d.",
        }
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [("import os\nos._exit(3)\n", "import-exit"), ("import os\nos.abort()\n", "import-crash"), ("", "invalid-module")],
)
def test_json_distinguishes_kinds_of_problems(project: Project, text: str, code: str) -> None:
    project.module("bad", text)
    assert document(project, "bad")[1]["modules"][0]["errors"][0]["code"] == code


def test_json_names_the_line_where_a_module_hangs(project: Project) -> None:
    project.module("slow", "import time\ntime.sleep(600)\n")
    code, found = document(project, "--timeout", "0.5", "slow")
    (error,) = found["modules"][0]["errors"]
    assert (code, error["code"], error["where"]) == (3, "import-timeout", "slow.py:2")


def test_json_of_a_good_module_is_ok(project: Project) -> None:
    project.task("features", "features.build")
    code, found = document(project, "features")
    assert (code, found["ok"], found["configuration"]) == (0, True, {"ok": True, "errors": [], "warnings": []})
