"""`perago input`."""

from __future__ import annotations

import json

import pytest

from .conftest import Project
from .services import ELSEWHERE, HEAD, LINE, Services


def payload(params: object) -> dict[str, object]:
    return {
        "workspace": {"repository": "my-data", "branch": "main", "ref_type": "commit", "ref": HEAD},
        "params": params,
    }


def test_the_payload_names_the_head_of_the_branch(project: Project, services: Services) -> None:
    ran = project.run("input", "my-data", "main", **services.variables)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == payload({})
    assert ran.out.startswith('{\n  "workspace": {\n')


def test_parameters_come_from_text_a_file_or_standard_input(project: Project, services: Services) -> None:
    (project.directory / "params.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xbc"}')
    arguments = ("input", "my-data", "main", "--compact", "--params")
    text = project.run(*arguments, '{"a": "ü"}', **services.variables)
    file = project.run(*arguments, "@params.json", **services.variables)
    stdin = project.pipe('{"a": "ü"}'.encode(), *arguments, "-", **services.variables)
    assert text == file == stdin
    assert text.out.count("\n") == 1
    assert '"a": "ü"' in text.out
    assert json.loads(text.out) == payload({"a": "ü"})


@pytest.mark.parametrize(
    ("repository", "branch", "detail"),
    [("my-data", "other", "branch other does not exist"), ("nowhere", "main", "repository nowhere does not exist")],
)
def test_a_missing_item_is_a_failure_that_names_it(
    project: Project, services: Services, repository: str, branch: str, detail: str
) -> None:
    ran = project.run("input", repository, branch, **services.variables)
    assert (ran.code, ran.out) == (1, "")
    assert detail in ran.err


def output(ref: str) -> dict[str, object]:
    return {"workspace": {"repository": "my-data", "branch": "main", "ref_type": "commit", "ref": ref}, "result": {}}


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (LINE[1], LINE[1]),
        (json.dumps([LINE[2], None, LINE[1]]), LINE[1]),
        (json.dumps({"left": output(LINE[2]), "right": output(LINE[0])}), LINE[0]),
        ("@joined.json", LINE[1]),
    ],
    ids=["a commit", "a list", "the output of a join", "a file"],
)
def test_the_payload_names_the_commit_that_continues_those_that_are_given(
    project: Project, services: Services, given: str, chosen: str
) -> None:
    (project.directory / "joined.json").write_text(json.dumps([LINE[2], LINE[1]]))
    ran = project.run("input", "my-data", "main", "--ref", given, **services.variables)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["workspace"]["ref"] == chosen


@pytest.mark.parametrize(
    ("other", "message"),
    [(ELSEWHERE, "are not one line of history"), ("0" * 64, "does not have all of these commits")],
)
def test_commits_that_no_task_can_continue_are_a_failure(
    project: Project, services: Services, other: str, message: str
) -> None:
    ran = project.run("input", "my-data", "main", "--ref", json.dumps([HEAD, other]), **services.variables)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
