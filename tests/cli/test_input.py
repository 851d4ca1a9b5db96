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
    ("params", "message"),
    [
        ('{"hidden": 1', "Invalid value for '--params': it is not JSON: "),
        ('{"hidden": NaN}', "it is not JSON: NaN is not a JSON number"),
        ('["hidden"]', "it must be a JSON object, not an array"),
        ("null", "it must be a JSON object, not null"),
        (
            "@nowhere.json",
            "Invalid value for '--params': cannot read the file 'nowhere.json': No such file or directory",
        ),
        ("@latin.json", "latin.json is not UTF-8"),
        ("@bad.json", "bad.json is not JSON: Expecting value: line 1 column 9"),
    ],
)
def test_bad_parameters_are_a_usage_error_that_does_not_repeat_them(
    project: Project, params: str, message: str
) -> None:
    (project.directory / "latin.json").write_bytes(b'{"a": "\xff"}')
    (project.directory / "bad.json").write_text('{"key": hidden}')
    ran = project.run("input", "my-data", "main", "--params", params)
    assert (ran.code, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())
    assert "hidden" not in ran.err


@pytest.mark.parametrize("branch", ["main~1", "a/b", HEAD, "-x", "ä"])
def test_what_cannot_be_a_branch_is_a_usage_error(project: Project, branch: str) -> None:
    ran = project.run("input", "--", "my-data", branch)
    assert ran.code == 2
    assert "BRANCH" in ran.err


@pytest.mark.parametrize(
    ("repository", "branch", "detail"),
    [("my-data", "other", "branch other does not exist"), ("nowhere", "main", "repository nowhere does not exist")],
)
def test_what_does_not_exist_is_a_failure_that_says_which(
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
    ("given", "message"),
    [
        ("main", "Invalid value for '--ref': it is not JSON"),
        ('["main"]', "Invalid value for '--ref': /0: must be a full commit id"),
        ("[]", "Invalid value for '--ref': gives no commit"),
        ("@nowhere.json", "Invalid value for '--ref': cannot read the file 'nowhere.json'"),
    ],
)
def test_what_gives_no_commits_is_a_usage_error(project: Project, given: str, message: str) -> None:
    ran = project.run("input", "my-data", "main", "--ref", given)
    assert (ran.code, ran.out) == (2, "")
    assert message in " ".join(ran.err.replace("\u2502", "").split())


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
