"""`perago log`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from perago.cli import rendering
from perago.embedded.lakefs import commits as model_commits
from perago.embedded.lakefs import objects
from perago.embedded.services import EmbeddedServices

from ..driver.earlier import FORMS, recorded
from .conftest import Project

DAY = 86_400


@pytest.fixture(scope="module")
def commits(shared_embedded: EmbeddedServices) -> list[str]:
    """A publication of three days ago, a commit of a person, and one that undoes the first; newest first."""
    server = shared_embedded.lakefs.server
    server.create_repository("my-data")

    def commit(message: str, days: int, **noted: str) -> str:
        objects.put_object(server.repository("my-data"), "main", f"{days}", message.encode())
        metadata = {f"perago.{key}": value for key, value in noted.items()}
        when = int(shared_embedded.clock.now()) - days * DAY
        return model_commits.commit(server.repository("my-data"), "main", message, metadata, date=when).commit.id

    about = {"task_name": "features.build", "reference_name": "build", "workflow_id": "w1", "phase": "merge"}
    first = commit("features.build: 1 added", 3, **about, task_id="task-1", retry_count="0")
    person = commit("fix\x1b[31m typo", 2)
    last = commit("features.build: 1 changed", 1, **about, task_id="task-2", retry_count="2", supersedes=first)
    return [last, person, first]


def test_publications_are_reported_with_their_attempts(
    project: Project, shared_embedded: EmbeddedServices, commits: list[str]
) -> None:
    last, person, first = (commit[:12] for commit in commits)
    ran = project.run("log", "my-data", "main", "-n", "3", **shared_embedded.environment())
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [last, person, first]
    assert lines[0].endswith("features.build: 1 changed")
    assert lines[1].split(", ") == ["              task task-2", "retry 2", f"supersedes {commits[2]}"]
    assert "not by perago" in lines[3]
    assert "\x1b" not in ran.out, "text from outside is printable"
    assert lines[5].strip() == "task task-1"


def test_a_task_a_workflow_and_an_age_select(
    project: Project, shared_embedded: EmbeddedServices, commits: list[str]
) -> None:
    variables = shared_embedded.environment()
    by_task = project.run("log", "my-data", "main", "--task", "features.build", "--json", **variables)
    assert [row["commit"] for row in json.loads(by_task.out)] == [commits[0], commits[2]]
    recent = project.run("log", "my-data", "main", "--workflow", "w1", "--since", "36h", "--json", **variables)
    (row,) = json.loads(recent.out)
    assert (row["task_id"], row["supersedes"], row["adopts"]) == ("task-2", commits[2], None)
    none = project.run("log", "my-data", "main", "--task", "other", **variables)
    assert (none.code, none.out) == (0, "no such publication on branch main of my-data\n")


@pytest.mark.parametrize("date", [1_795_800_316_000, 2**60, -(10**14)])
def test_a_date_that_is_in_no_calendar_stays_a_number(
    project: Project, shared_embedded: EmbeddedServices, date: int
) -> None:
    """Such as one in milliseconds: lakeFS takes any from the one who commits."""
    server, repository = shared_embedded.lakefs.server, f"dated{abs(date)}"
    server.create_repository(repository)
    objects.put_object(server.repository(repository), "main", "a", b"x")
    model_commits.commit(server.repository(repository), "main", "Add", date=date)
    ran = project.run("log", repository, "main", "--json", "-n", "1", **shared_embedded.environment())
    assert (ran.code, ran.err, json.loads(ran.out)[0]["created"]) == (0, "", f"{date} s")


@pytest.mark.parametrize("form", FORMS)
def test_publications_of_earlier_versions_are_reported(
    project: Project, shared_embedded: EmbeddedServices, form: str
) -> None:
    server, metadata = shared_embedded.lakefs.server, recorded(form)["supersedes"]
    server.create_repository(form)
    objects.put_object(server.repository(form), "main", "a", b"1")
    model_commits.commit(server.repository(form), "main", "matrix.edit: 1 added", metadata)
    ran = project.run("log", form, "main", "--task", "matrix.edit", "--json", **shared_embedded.environment())
    (row,) = json.loads(ran.out)
    assert row["task_id"] == metadata["perago.task_id"]
    assert row["supersedes"] == metadata["perago.supersedes"]


def test_a_wrong_branch_is_reported(project: Project, shared_embedded: EmbeddedServices) -> None:
    missing = project.run("log", "my-data", "nope", **shared_embedded.environment())
    assert (missing.code, "has no branch nope" in missing.err) == (1, True)


def test_a_long_history_is_printed_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def history() -> Iterator[int]:
        for number in range(3):
            read.append(number)
            yield number

    monkeypatch.setattr(rendering, "_BATCH", 0.0)
    batches = rendering.in_batches(history(), "reading")
    assert (next(batches), read) == ([0], [0])
    assert [*batches] == [[1], [2], []]


def test_an_age_ends_a_long_history(project: Project, shared_embedded: EmbeddedServices) -> None:
    server, now = shared_embedded.lakefs.server, int(shared_embedded.clock.now())
    server.create_repository("long-data")
    for number in range(3000):
        objects.put_object(server.repository("long-data"), "main", "key", str(number).encode())
        model_commits.commit(
            server.repository("long-data"), "main", f"commit {number}", {}, date=now - (3000 - number) * 60
        )
    variables = shared_embedded.environment()
    recent = project.run("log", "long-data", "main", "--since", "90m", "-n", "3000", "--json", **variables)
    messages = [row["message"] for row in json.loads(recent.out)]
    assert messages[:2] == ["commit 2999", "commit 2998"]
    assert 80 < len(messages) <= 90
