"""`perago show` and `perago log`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.cli import rendering
from perago.embedded.lakefs import commits, objects, references
from perago.embedded.services import EmbeddedServices

from ..definitions import flow, simple
from ..driver.earlier import FORMS, recorded
from .conftest import Project, Ran

HOSTILE = "\x1b[31mred\x07\nforged: line\u202e"


class PastAttempt:
    """A repository and a workflow of one task, and what is done to them."""

    def __init__(self, services: EmbeddedServices, repository: str) -> None:
        self._services = services
        self.lakefs, self.conductor, self.repository = services.lakefs.server, services.conductor, repository
        self.lakefs.create_repository(repository)
        self.seed = self.commit("Seed", {"raw/a.csv": b"x"}, {})
        inputs = {"workspace": "${workflow.input.workspace}", "params": {"secret": "hushhush"}}
        definition = flow(simple(f"{repository}.task", "build", **inputs))
        workspace = {"repository": repository, "branch": "main", "ref_type": "commit", "ref": self.seed}
        self.conductor.register_task_definitions([{"name": f"{repository}.task", "retryCount": 2}])
        self.workflow_id = self.conductor.start_workflow("w", {"workspace": workspace}, definition=definition)
        self.task_id = str(self.conductor.workflow(self.workflow_id)["tasks"][0]["taskId"])

    def commit(self, message: str, files: dict[str, bytes], metadata: dict[str, str]) -> str:
        """Commit to main; the id."""
        for key, content in files.items():
            objects.put_object(self.lakefs.repository(self.repository), "main", key, content)
        return str(commits.commit(self.lakefs.repository(self.repository), "main", message, metadata).commit.id)

    def merged(self, files: dict[str, bytes], metadata: dict[str, str]) -> str:
        """Merge a commit to main, as every publication is; the id."""
        repository = self.lakefs.repository(self.repository)
        references.create_branch(repository, "staging", "main")
        for key, content in files.items():
            objects.put_object(repository, "staging", key, content)
        staged = commits.commit(repository, "staging", "staged").commit.id
        references.delete_branch(repository, "staging")
        return str(commits.merge(repository, staged, "main", "other", metadata).commit.id)

    def published(self, files: dict[str, bytes], **noted: str) -> str:
        """A publication of the task; the commit's id."""
        about = {"task_id": self.task_id, "workflow_id": self.workflow_id, "phase": "merge", "branch": "main"}
        about |= {"input_ref": self.seed, "version": "0.1.0", **noted}
        return self.commit("a publication", files, {f"perago.{key}": value for key, value in about.items()})

    def end(self, status: str, **fields: Any) -> None:
        """Poll for the task, and report."""
        (row,) = self.conductor.poll_tasks(f"{self.repository}.task", "w0001", wait_seconds=0)
        result = {
            "taskId": row["taskId"],
            "workflowInstanceId": self.workflow_id,
            "status": status,
            "workerId": "w0001",
        }
        self.conductor.update_task({**result, **fields})

    def show(self, project: Project, *arguments: str, **variables: str) -> Ran:
        return project.run("show", *arguments, **self._services.environment(), **variables)

    def document(self, project: Project, *arguments: str, **variables: str) -> dict[str, Any]:
        ran = self.show(project, *arguments, "--json", **variables)
        assert (ran.code, ran.err) == (0, "")
        facts: dict[str, Any] = json.loads(ran.out)
        return facts


def test_an_attempt_has_its_workflow_its_commit_and_its_files(
    project: Project, shared_embedded: EmbeddedServices
) -> None:
    past = PastAttempt(shared_embedded, "completed")
    commit = past.published({"features/a.csv": b"12", "raw/a.csv": b"changed"})
    past.end("COMPLETED", outputData={"workspace": {"ref": commit}, "result": {}})
    past.conductor.add_log(past.task_id, "a line\nanother")

    facts = past.document(project, past.task_id)
    assert (facts["task"]["status"], facts["task"]["worker_id"]) == ("COMPLETED", "w0001")
    assert (facts["workflow"]["status"], len(facts["attempts"])) == ("COMPLETED", 1)
    assert (facts["commit"]["commit"], facts["fence"], facts["undone"]["commit"]) == (commit, "absent", None)
    assert facts["files"]["counts"] == {"added": 1, "changed": 1, "removed": 0}
    assert {"kind": "added", "path": "features/a.csv", "size": 2} in facts["files"]["files"]
    assert facts["conductor_log"] == ["a line", "another"]
    assert facts["problems"] == []

    by_commit = past.document(project, f"completed/{commit[:12]}")
    assert by_commit == facts
    text = past.show(project, past.task_id).out
    assert "hushhush" not in text + json.dumps(facts), "no params"
    assert "+ features/a.csv  2 bytes" in text


def test_an_unreported_publication_is_found(project: Project, shared_embedded: EmbeddedServices) -> None:
    past = PastAttempt(shared_embedded, "unreported")
    commit = past.published({"a": b"1"})
    undoing = past.merged({"a": b"2"}, {"perago.supersedes": commit})
    past.end("FAILED", reasonForIncompletion="lost")
    facts = past.document(project, past.task_id)
    assert (facts["task"]["reason"], facts["commit"]["commit"]) == ("lost", commit)
    assert facts["undone"] == {"commit": undoing, "later_commits": 1, "all_seen": True}
    assert [attempt["status"] for attempt in facts["attempts"]] == ["FAILED", "SCHEDULED"]
    assert f"undone by {undoing}" in past.show(project, past.task_id).out


def test_a_publication_that_was_brought_back_counts_as_published(
    project: Project, shared_embedded: EmbeddedServices
) -> None:
    past = PastAttempt(shared_embedded, "brought-back")
    first = past.published({"a": b"1"})
    second = past.merged({"a": b"2"}, {"perago.supersedes": first, "perago.branch": "main"})
    third = past.merged({"a": b"1", "b": b""}, {"perago.supersedes": second, "perago.input_ref": first})
    assert past.document(project, f"brought-back/{first}")["undone"]["commit"] is None
    assert past.document(project, f"brought-back/{second}")["undone"]["commit"] == third


def test_an_adoption_has_the_files_of_its_publication(project: Project, shared_embedded: EmbeddedServices) -> None:
    past = PastAttempt(shared_embedded, "adopted")
    first = past.published({"a": b"1"})
    adoption = past.published({"unimportant": b""}, phase="fence", adopts=first)
    facts = past.document(project, f"adopted/{adoption}")
    assert facts["files_from"] == first
    assert [file["path"] for file in facts["files"]["files"]] == ["a"]


def test_a_rerun_has_the_files_that_its_input_did_not_have(project: Project, shared_embedded: EmbeddedServices) -> None:
    """Its bytes are those of the publication that it has undone, which also installed the fence."""
    past = PastAttempt(shared_embedded, "rerun")
    first = past.published({"a": b"1", FENCE_PATH: FENCE_TEXT.encode()})
    again = {"perago.supersedes": first, "perago.input_ref": past.seed, "perago.branch": "main"}
    rerun = past.merged({"a": b"1", "b": b""}, again)
    assert past.document(project, f"rerun/{first}")["files"]["fence"] == "added"
    facts = past.document(project, f"rerun/{rerun}")
    assert (facts["files"]["counts"]["added"], facts["files"]["fence"], facts["fence"]) == (2, None, "installed")
    shown = past.show(project, f"rerun/{rerun}").out
    assert "the branch had the publish fence then" in shown
    assert "2 added, 0 changed, 0 removed\n" in shown


def test_the_fence_of_an_adopted_publication_is_not_that_of_the_adoption(
    project: Project, shared_embedded: EmbeddedServices
) -> None:
    past = PastAttempt(shared_embedded, "adopted-fence")
    first = past.published({"a": b"1", FENCE_PATH: FENCE_TEXT.encode()})
    adoption = past.published({"unimportant": b""}, phase="fence", adopts=first)
    shown = past.show(project, f"adopted-fence/{adoption}").out
    assert f"1 added, 0 changed, 0 removed and the publish fence added, by {first}" in shown


def test_a_commit_of_a_person_is_shown_as_one(project: Project, shared_embedded: EmbeddedServices) -> None:
    past = PastAttempt(shared_embedded, "person")
    past.commit(HOSTILE, {HOSTILE.replace("\n", ""): b"1"}, {"note": "x"})
    facts = past.document(project, "person/main")
    assert (facts["commit"]["publication"], facts["task"]) == (None, None)
    ran = past.show(project, "person/main")
    assert "not by perago" in ran.out
    assert "\x1b" not in ran.out
    assert not [line for line in ran.out.splitlines() if line.startswith("forged")]


@pytest.mark.parametrize(
    "noted",
    [
        {"perago.task_id": "../../nope", "perago.retry_count": "many", "perago.phase": HOSTILE},
        {"perago.task_id": "", "perago.adopts": "no commit", "perago.supersedes": ",,"},
        {"perago.version": "0.0.1"},
        {"perago.branch": "no such branch", "perago.result": "{", "perago.shared": "["},
    ],
)
def test_broken_metadata_are_shown_as_they_are(
    project: Project, shared_embedded: EmbeddedServices, noted: dict[str, str], request: pytest.FixtureRequest
) -> None:
    past = PastAttempt(shared_embedded, f"broken-{abs(hash(request.node.name)) % 10**9}")
    commit = past.commit("by hand", {"a": b"1"}, noted)
    ran = past.show(project, f"{past.repository}/{commit}")
    assert (ran.code, "Traceback" in ran.err) == (0, False)
    assert commit in ran.out
    assert "+ a  1 byte" in ran.out
    assert (ran.out + ran.err).replace("\n", "").isprintable()


def test_other_ids_and_missing_items_and_servers_are_explained(
    project: Project, shared_embedded: EmbeddedServices
) -> None:
    past = PastAttempt(shared_embedded, "workflow")
    past.show(project, past.workflow_id).ends(1, f"name one of its tasks: {past.task_id} (build, SCHEDULED)")
    assert "not yet with a worker" in past.show(project, past.task_id).out
    assert "Conductor has no task 'nope'" in past.show(project, "nope").err
    past.show(project, "workflow/0123456789ab").ends(1, "lakeFS has no commit or branch '0123456789ab'")
    variables = {**shared_embedded.environment(), "LAKECTL_SERVER_ENDPOINT_URL": "http://127.0.0.1:9"}
    away = project.run("show", past.task_id, **variables).ends(0, "lakeFS did not")
    assert past.workflow_id in away.out


def test_many_files_are_counted_and_the_first_are_listed(project: Project, shared_embedded: EmbeddedServices) -> None:
    past = PastAttempt(shared_embedded, "many")
    commit = past.published({f"{number:04}": b"1" for number in range(1200)})
    facts = past.document(project, f"many/{commit}")
    assert (facts["files"]["counts"]["added"], len(facts["files"]["files"])) == (1200, 40)
    assert "and 1,160 more" in past.show(project, f"many/{commit}").out
    assert len(past.document(project, f"many/{commit}", "--all")["files"]["files"]) == 1200


def test_a_line_far_from_the_end_of_a_large_log_is_found(
    project: Project, shared_embedded: EmbeddedServices, tmp_path: Path
) -> None:
    past = PastAttempt(shared_embedded, "logged")
    past.end("FAILED")
    directory = tmp_path / "logs/my_tasks/worker_id=w0001"
    directory.mkdir(parents=True)
    ids = {"task_id": past.task_id, "poll_count": 1, "start_time": 5}
    mine = json.dumps({"time": "2026-11-27T12:00:00+08:00", "message": "mine", "source": "output", **ids})
    other = json.dumps({"message": "x" * 1000, "source": "output", **ids, "task_id": "other"})
    log_file = directory / "pid=1__started=x.jsonl"
    log_file.write_text("\n".join([mine, *[other] * 6000, ""]))
    ten_minutes_before = log_file.stat().st_mtime - 600
    os.utime(log_file, (ten_minutes_before, ten_minutes_before))  # the clocks of two machines differ
    facts = past.document(project, past.task_id, PERAGO_LOG_ROOT=str(tmp_path / "logs"))
    (delivery,) = facts["worker_log"]
    assert [line["text"] for line in delivery["lines"]] == ["mine"]
    shown = past.show(project, past.task_id, PERAGO_LOG_ROOT=str(tmp_path / "logs")).out
    assert "12:00:00+08:00 mine" in shown
    assert f"log file  {log_file}" in shown
    assert (
        "04:00:00+00:00 mine" in past.show(project, past.task_id, "--utc", PERAGO_LOG_ROOT=str(tmp_path / "logs")).out
    )
    berlin = past.show(
        project, past.task_id, PERAGO_TIME_ZONE="Europe/Berlin", PERAGO_LOG_ROOT=str(tmp_path / "logs")
    ).out
    assert "05:00:00+01:00 mine" in berlin
    assert " Europe/Berlin after waiting" in berlin


def test_an_attempt_without_a_log_line_names_no_file(
    project: Project, shared_embedded: EmbeddedServices, tmp_path: Path
) -> None:
    past = PastAttempt(shared_embedded, "silent")
    past.end("FAILED")
    day = datetime.now(UTC).date()
    for module in ("a", "b"):
        for date in (day - timedelta(days=1), day, day + timedelta(days=1)):
            log_file = tmp_path / f"logs/{module}/worker_id=w0001/date={date}.jsonl"
            log_file.parent.mkdir(parents=True, exist_ok=True)
            log_file.write_text("")
    shown = past.show(project, past.task_id, PERAGO_LOG_ROOT=str(tmp_path / "logs")).out
    assert "log       no line about this attempt in 2 log files of this machine\n" in shown
    assert "log file" not in shown.replace("log files", "")


# ---------------------------------------------------------------------------------------- `perago log`


DAY = 86_400


@pytest.fixture(scope="module")
def logged(shared_embedded: EmbeddedServices) -> list[str]:
    """A publication of three days ago, a commit of a person, and one that undoes the first; newest first."""
    server = shared_embedded.lakefs.server
    server.create_repository("my-data")

    def commit(message: str, days: int, **noted: str) -> str:
        objects.put_object(server.repository("my-data"), "main", f"{days}", message.encode())
        metadata = {f"perago.{key}": value for key, value in noted.items()}
        when = int(shared_embedded.clock.now()) - days * DAY
        return commits.commit(server.repository("my-data"), "main", message, metadata, date=when).commit.id

    about = {"task_name": "features.build", "reference_name": "build", "workflow_id": "w1", "phase": "merge"}
    first = commit("features.build: 1 added", 3, **about, task_id="task-1", retry_count="0")
    person = commit("fix\x1b[31m typo", 2)
    last = commit("features.build: 1 changed", 1, **about, task_id="task-2", retry_count="2", supersedes=first)
    return [last, person, first]


def test_publications_are_reported_with_their_attempts(
    project: Project, shared_embedded: EmbeddedServices, logged: list[str]
) -> None:
    last, person, first = (commit[:12] for commit in logged)
    ran = project.run("log", "my-data/main", "-n", "3", **shared_embedded.environment())
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [last, person, first]
    assert lines[0].endswith("features.build: 1 changed")
    assert lines[1].split(", ") == ["              task task-2", "retry 2", f"supersedes {logged[2]}"]
    assert "not by perago" in lines[3]
    assert "\x1b" not in ran.out, "text from outside is printable"
    assert lines[5].strip() == "task task-1"


def test_a_task_a_workflow_and_an_age_select(
    project: Project, shared_embedded: EmbeddedServices, logged: list[str]
) -> None:
    variables = shared_embedded.environment()
    by_task = project.run("log", "my-data/main", "--task", "features.build", "--json", **variables)
    assert [row["commit"] for row in json.loads(by_task.out)] == [logged[0], logged[2]]
    recent = project.run("log", "my-data/main", "--workflow", "w1", "--since", "36h", "--json", **variables)
    (row,) = json.loads(recent.out)
    assert (row["task_id"], row["supersedes"], row["adopts"]) == ("task-2", logged[2], None)
    none = project.run("log", "my-data/main", "--task", "other", **variables)
    assert (none.code, none.out) == (0, "no such publication on branch main of my-data\n")


@pytest.mark.parametrize("date", [1_795_800_316_000, 2**60, -(10**14)])
def test_a_date_that_is_in_no_calendar_stays_a_number(
    project: Project, shared_embedded: EmbeddedServices, date: int
) -> None:
    """Such as one in milliseconds: lakeFS takes any from the one who commits."""
    server, repository = shared_embedded.lakefs.server, f"dated{abs(date)}"
    server.create_repository(repository)
    objects.put_object(server.repository(repository), "main", "a", b"x")
    commits.commit(server.repository(repository), "main", "Add", date=date)
    ran = project.run("log", f"{repository}/main", "--json", "-n", "1", **shared_embedded.environment())
    assert (ran.code, ran.err, json.loads(ran.out)[0]["created"]) == (0, "", f"{date} s")


@pytest.mark.parametrize("form", FORMS)
def test_publications_of_earlier_versions_are_reported(
    project: Project, shared_embedded: EmbeddedServices, form: str
) -> None:
    server, metadata = shared_embedded.lakefs.server, recorded(form)["supersedes"]
    server.create_repository(form)
    objects.put_object(server.repository(form), "main", "a", b"1")
    commits.commit(server.repository(form), "main", "matrix.edit: 1 added", metadata)
    ran = project.run("log", f"{form}/main", "--task", "matrix.edit", "--json", **shared_embedded.environment())
    (row,) = json.loads(ran.out)
    assert row["task_id"] == metadata["perago.task_id"]
    assert row["supersedes"] == metadata["perago.supersedes"]


def test_a_wrong_branch_is_reported(project: Project, shared_embedded: EmbeddedServices) -> None:
    project.run("log", "my-data/nope", **shared_embedded.environment()).ends(1, "has no branch nope")


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
        commits.commit(server.repository("long-data"), "main", f"commit {number}", {}, date=now - (3000 - number) * 60)
    variables = shared_embedded.environment()
    recent = project.run("log", "long-data/main", "--since", "90m", "-n", "3000", "--json", **variables)
    messages = [row["message"] for row in json.loads(recent.out)]
    assert messages[:2] == ["commit 2999", "commit 2998"]
    assert 80 < len(messages) <= 90


@pytest.mark.parametrize("expression", ["main~1", "main^"])
def test_lakefs_resolves_the_commit_of_an_input(
    project: Project, shared_embedded: EmbeddedServices, logged: list[str], expression: str
) -> None:
    ran = project.run("input", "my-data/main", "--ref", expression, **shared_embedded.environment()).ends(0)
    assert json.loads(ran.out)["workspace"]["ref"] == logged[1]
    missing = project.run("input", "my-data/main", "--ref", "main~99", **shared_embedded.environment())
    missing.ends(1, "finds no commit main~99 in my-data", out="")
