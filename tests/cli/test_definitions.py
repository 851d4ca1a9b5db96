"""`perago extract`, `perago register` and `perago diff`."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from perago.taskdef import canonical_json

from .conftest import PLAIN, Project
from .services import Services


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.task("features", "features.build")
    project.task("plain", "plain.work", PLAIN)


def test_changes_are_shown_before_they_are_made(project: Project, services: Services) -> None:
    address = services.variables["CONDUCTOR_SERVER_URL"]
    project.module("bad", "x / 0\n")
    project.run("register", "features", "bad", **services.variables).ends(3)
    assert services.server.requests == [], "one invalid module keeps the others from being sent"
    tried = project.run("register", "--dry-run", "features", **services.variables)
    assert (tried.code, tried.out.splitlines()[-1]) == (0, f"dry run: 1 TaskDef would be registered on {address}")
    assert services.writes == []
    first = project.run("register", "features", "plain", **services.variables)
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
    third = project.run("register", "features", "plain", **services.variables)
    assert third.out.splitlines()[-1] == f"nothing to register on {address}"
    assert len(services.writes) == 2


def test_an_address_without_api_is_recognized(project: Project, services: Services) -> None:
    address = services.variables["CONDUCTOR_SERVER_URL"].removesuffix("/api")
    ran = project.run("register", "features", **{**services.variables, "CONDUCTOR_SERVER_URL": address})
    assert ran.code == 1
    assert f"CONDUCTOR_SERVER_URL={address}/api" in ran.err


# ------------------------------------------------------------------------------------ `perago extract`


def test_the_definition_comes_out_the_same_every_time_and_to_the_byte(project: Project) -> None:
    first, second = (project.run("extract", "features", PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert (first.code, first.err) == (0, "")
    assert first == second
    definition = json.loads(first.out)
    assert first.out == canonical_json(definition)
    assert (definition["name"], definition["description"]) == ("features.build", "Größe zählen.")


def test_a_file_gets_the_same_as_standard_output(project: Project) -> None:
    printed = project.run("extract", "features").out
    ran = project.run("extract", "features", "--output", "new.json", PYTHONIOENCODING="ascii").ends(0, out="")
    assert ran.err == "note: wrote the TaskDef of features.build to new.json\n"
    assert (project.directory / "new.json").read_bytes() == printed.encode()
    assert project.run("extract", "features", "--output", "-").out == printed
    assert project.run("extract", "features", "--output", "/dev/null").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode), "a device is not replaced"


def test_several_modules_and_a_register_list_are_a_list(project: Project) -> None:
    for module, name in (("tasks.a", "first"), ("tasks.b", "second")):
        project.task(module, name, PLAIN)
        definition = json.loads(project.run("extract", module).out)
        assert json.loads(project.run("extract", module, "--register-list").out) == [definition]
    for modules in (["tasks"], ["tasks.a", "tasks.b"]):
        assert [definition["name"] for definition in json.loads(project.run("extract", *modules).out)] == [
            "first",
            "second",
        ]


def test_output_of_the_module_is_not_mixed_in(project: Project) -> None:
    text = (project.directory / "features.py").read_text()
    project.module("loud", "import os\nos.write(1, b'raw hello')\n" + text)
    ran = project.run("extract", "loud")
    assert json.loads(ran.out)["name"] == "features.build"
    assert "raw hello" in ran.err


def test_an_invalid_module_leaves_the_file_alone(project: Project) -> None:
    (project.directory / "old.json").write_text("old")
    project.module("bad", "x / 0\n")
    project.run("extract", "bad", "--output", "old.json").ends(3, "error: bad.py:1: ", out="")
    assert (project.directory / "old.json").read_text() == "old"


def test_a_file_is_replaced_completely_and_keeps_its_mode_and_its_link(project: Project) -> None:
    file, link = project.directory / "old.json", project.directory / "link.json"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    with file.open() as held:
        assert project.run("extract", "features", "-o", "link.json").code == 0
        assert held.read() == "old"
    assert link.is_symlink()
    assert json.loads(file.read_text())["name"] == "features.build"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    left = {path.name for path in project.directory.iterdir()} - {"__pycache__"}
    assert left == {"features.py", "link.json", "old.json", "plain.py"}


@pytest.mark.parametrize(
    ("target", "reason"), [("no/such/dir.json", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_written_is_a_failure(project: Project, target: str, reason: str) -> None:
    ran = project.run("extract", "features", "--output", target)
    assert (ran.code, ran.out, ran.err) == (1, "", f"error: cannot write {target}: {reason}\n")


# --------------------------------------------------------------------------------------- `perago diff`


def test_each_change_is_reported_with_what_it_means(project: Project, services: Services) -> None:
    missing = project.run("diff", "plain", **services.variables)
    assert (missing.code, missing.out) == (1, "not registered  plain.work\n")

    project.run("register", "plain", **services.variables)
    same = project.run("diff", "plain", **services.variables)
    assert (same.code, same.out) == (0, "unchanged       plain.work\n")

    services.definitions["plain.work"] |= {"retryCount": 7, "ownerEmail": "b@example.com", "updateTime": 1}
    writes = len(services.writes)
    changed = project.run("diff", "plain", **services.variables).ends(1)
    head, *lines = changed.out.splitlines()
    assert head == "changed         plain.work"
    assert [line.split()[:2] for line in lines] == [["cosmetic", "/ownerEmail:"], ["breaking", "/retryCount:"]]
    assert "7 -> 3" in lines[1]
    assert len(services.writes) == writes, "it only reads"
    document = json.loads(project.run("diff", "plain", "--json", **services.variables).out)["plain.work"]
    assert document["registered"] is True
    (_, change) = document["changes"]
    assert change.pop("reason")
    sides = {"registered": {"value": 7}, "here": {"value": 3}}
    assert change == {"path": "/retryCount", "class": "breaking", **sides}
