"""What `perago start` sends to a receiver of OpenLineage, on embedded services in real processes."""

from __future__ import annotations

import json
import signal
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perago.cli import messages
from perago.embedded.lakefs import references
from perago.embedded.services import EmbeddedServices
from perago.settings import configured_mask
from perago.worker import lineage, sending
from perago.worker.events import AttemptReceived
from perago.worker.export_settings import wants_lineage
from perago.worker.plan import ExportContext
from tests.deliveries import make_delivery

from ..adapters.scripted import Hang, Reply, ScriptedServer
from ..definitions import flow, simple
from ..worker.bench import make_plan, wait_for
from .conftest import Project
from .start_command import Started, started

attr = pytest.importorskip("attr")
pytest.importorskip("openlineage.client")  # the extra `openlineage`
if TYPE_CHECKING:
    from openlineage.client import event_v2, facet_v2
else:
    from openlineage.client import event_v2, facet_v2

TASK = """
import os
from pathlib import Path
from pydantic import BaseModel
from perago import RetryPolicy, TaskControls, TaskFailed, WorkspaceSpec, require_file, require_glob, task

class Params(BaseModel):
    what: str = ""

class Result(BaseModel):
    seen: list[str]

@task(
    name="build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="/audio", pre=[require_file("a")], post=[require_glob("out/*")]),
    controls=TaskControls(retry=RetryPolicy(count=0)),
    environment=["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"],
)
def work(workspace: Path, params: Params) -> Result:
    if params.what == "fail":
        raise TaskFailed("no luck with " + os.environ["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"])
    (workspace / "out").mkdir(exist_ok=True)
    if params.what != "forget":
        (workspace / "out/b").write_text("12345")
    return Result(seen=sorted(name for name in os.environ if name.startswith("OPENLINEAGE")))
"""
FACETS = {
    "parent": facet_v2.parent_run.ParentRunFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
    "tags": facet_v2.tags_run.TagsRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "dataQualityAssertions": facet_v2.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
}
KEY = "s3cr3t-of-a-receiver"
Printed = Callable[[Mapping[str, str]], str]


def parsed(kind: Any, value: Any) -> Any:
    """JSON as a type of the client, which validates it. An unknown or missing field is an error."""
    if typing.get_origin(kind) is list:
        return [parsed(typing.get_args(kind)[0], member) for member in value]
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if options and typing.get_origin(kind) is not dict:
        return parsed(options[0], value)
    if not attr.has(kind):
        return value
    hints = typing.get_type_hints(kind)
    fields = {}
    for name, facets in value.items():
        if name in ("_producer", "_schemaURL", "schemaURL"):
            assert facets
        elif name.lower().endswith("facets"):
            fields[name] = {key: parsed(FACETS[key], facet) for key, facet in facets.items()}
        else:
            fields[name] = parsed(hints[name], facets)
    return kind(**fields)


@dataclass
class Site:
    """A worker's world: both services, and a receiver that answers as `answer` says."""

    services: EmbeddedServices
    receiver: ScriptedServer
    project: Project

    @contextmanager
    def worker(self, **variables: str) -> Iterator[Started]:
        to = {"OPENLINEAGE_URL": self.receiver.url, "OPENLINEAGE_API_KEY": KEY, **self.services.environment()}
        with started(self.project, "build", **{**to, **variables}) as worker:
            worker.wait_for("ready:")
            yield worker

    def run(self, what: str = "") -> dict[str, Any]:
        """A workflow of one attempt, when it is over."""
        conductor = self.services.conductor
        head = references.get_branch(self.services.lakefs.server.repository("data"), "main").commit_id
        workspace = {"repository": "data", "branch": "main", "ref_type": "commit", "ref": head}
        step = simple("build", workspace=workspace, params={"what": what})
        workflow_id = conductor.start_workflow("nightly", {}, definition=flow(step, name="nightly"))
        assert conductor.await_workflow(workflow_id, wait_seconds=60)
        return conductor.workflow(workflow_id)

    def sent(self) -> list[Any]:
        """The events, as the client's types."""
        return [parsed(event_v2.RunEvent, json.loads(request.body)) for request in self.receiver.requests]


@pytest.fixture
def site(project: Project) -> Iterator[Site]:
    project.module("build", TASK)
    with EmbeddedServices(longest_poll=0.1) as services, ScriptedServer(lambda _: Reply()) as receiver:
        services.lakefs.seed("data", "main", {"audio/a": "1", "other": "2"})
        project.run("register", "build", **services.environment())
        yield Site(services, receiver, project)


def test_attempts_are_runs_with_datasets_verdicts_and_failures(site: Site) -> None:
    with site.worker() as worker:
        site.run("fail")
        site.run("forget")
        workflow = site.run()
        assert worker.stop(signal.SIGTERM) == 0
    assert "note: sending lineage with OpenLineage" in worker.text
    assert "warning: OpenLineage" not in worker.text
    runs: dict[str, list[Any]] = {}  # the next attempt can start before the end of the previous one is sent
    for event in site.sent():
        runs.setdefault(event.run.runId, []).append(event)
    (_, failed), (_, refused), (start, complete) = runs.values()
    assert [event.eventType for event in (start, complete)] == ["START", "COMPLETE"]
    assert start.run.runId == complete.run.runId
    assert (complete.job.namespace, complete.job.name) == ("perago", "nightly.step")
    parent = complete.run.facets["parent"]
    assert (parent.run.runId, parent.job.name) == (workflow["workflowId"], "nightly")
    tags = {tag.key: tag.value for tag in complete.run.facets["tags"].tags}
    assert tags["task_id"] == workflow["tasks"][0]["taskId"]
    (read,), (made,) = complete.inputs, complete.outputs
    assert (read.namespace, read.name) == (made.namespace, made.name) == ("lakefs://data", "main/audio")
    assert read.facets["version"].datasetVersion == workflow["tasks"][0]["inputData"]["workspace"]["ref"]
    assert start.inputs[0].facets == read.facets
    task = workflow["tasks"][0]["outputData"]
    assert made.facets["version"].datasetVersion == task["workspace"]["ref"]
    statistics = made.outputFacets["outputStatistics"]
    assert (statistics.fileCount, statistics.size) == (1, 5)
    (pre,) = read.inputFacets["dataQualityAssertions"].assertions
    (post,) = made.outputFacets["dataQualityAssertions"].assertions
    assert (pre.assertion, pre.success, post.assertion, post.success) == (
        "require_file('a')",
        True,
        "require_glob('out/*', min_count=1)",
        True,
    )
    assert {request.headers["authorization"] for request in site.receiver.requests} == {f"Bearer {KEY}"}
    assert task["result"] == {"seen": ["OPENLINEAGE_URL"]}

    assert [failed.eventType, refused.eventType] == ["FAIL", "FAIL"]
    assert failed.run.facets["errorMessage"].message == "no luck with ***"
    assert failed.outputs == []
    (made,) = refused.outputs
    (post,) = made.outputFacets["dataQualityAssertions"].assertions
    assert (post.success, made.facets, list(made.outputFacets)) == (False, {}, ["dataQualityAssertions"])


RETRY = {
    "OPENLINEAGE__TRANSPORT__TYPE": "http",
    "OPENLINEAGE__TRANSPORT__TIMEOUT": "1",
    "OPENLINEAGE__TRANSPORT__RETRY": '{"total": 1, "read": 0}',
}


def test_a_receiver_that_hangs_is_reported_once_and_costs_no_attempt(site: Site) -> None:
    site.receiver.script = lambda _: Hang()
    with site.worker(**RETRY, OPENLINEAGE__TRANSPORT__URL=site.receiver.url) as worker:
        for _ in range(3):
            assert site.run()["status"] == "COMPLETED"
        worker.wait_for("warning: OpenLineage: the receiver does not accept events")
        assert worker.stop(signal.SIGTERM) == 0
    assert worker.text.count("does not accept events") == 1
    assert KEY not in worker.text
    assert "Traceback" not in worker.text
    assert "Retrying" not in worker.text


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Printed:
    """What a worker with these variables prints about the events of three attempts."""

    def send(variables: Mapping[str, str]) -> str:
        for name, value in {"OPENLINEAGE_API_KEY": KEY, **variables}.items():
            monkeypatch.setenv(name, value)
        plan = replace(make_plan(tmp_path), mask=configured_mask())
        with lineage.openlineage(ExportContext(plan=plan, notices=messages)) as listener:
            assert listener is not None
            for _ in range(3):
                listener(AttemptReceived(make_delivery(), "w"))
        return capfd.readouterr().err

    return send


@pytest.mark.parametrize("status", [403, 503, None], ids=["refuses", "is overloaded", "is down"])
def test_a_receiver_in_trouble_is_reported_once(printed: Printed, status: int | None) -> None:
    with ScriptedServer(lambda _: Reply(status or 200)) as receiver:
        text = printed({**RETRY, "OPENLINEAGE__TRANSPORT__URL": receiver.url if status else "http://127.0.0.1:1"})
    assert text.count("the receiver does not accept events") == 1
    assert KEY not in text
    assert "Traceback" not in text
    assert "Retrying" not in text


def test_a_receiver_that_recovers_is_reported_with_the_dropped_events(site: Site) -> None:
    site.receiver.script = lambda _: Reply(400)
    with site.worker() as worker:
        site.run()
        worker.wait_for("does not accept events")
        wait_for("both events", lambda: len(site.receiver.requests) == 2)
        site.receiver.script = lambda _: Reply()
        site.run()
        worker.wait_for("the receiver accepts events again")
        assert worker.stop(signal.SIGTERM) == 0
    assert "lost: 2 events" in worker.text


def test_events_that_no_receiver_takes_are_bounded_and_counted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lineage, sending):
        monkeypatch.setattr(module, "MOST_EVENTS", 5)
    said: list[str] = []
    with ScriptedServer(lambda _: Hang()) as receiver:
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        sender = lineage.LineageSender(make_plan(tmp_path), said.append)
        sender(AttemptReceived(make_delivery(), "w"))
        wait_for("the first event", lambda: receiver.requests)
        for _ in range(7):
            sender(AttemptReceived(make_delivery(), "w"))
        sender.end()
    assert "does not accept events, which are lost until it does: it is too slow, and 5 events wait" in said[0]
    assert "did not accept the last events within 3 s; " in said[-1]


WRONG: list[tuple[dict[str, str], str]] = [
    ({"OPENLINEAGE_CONFIG": "missing.yml"}, "OPENLINEAGE_CONFIG is missing.yml, which is not a file"),
    ({"OPENLINEAGE__TRANSPORT__TYPE": "nonsense"}, "sends nothing: "),
    ({"OPENLINEAGE__TRANSPORT__TYPE": "http"}, "sends nothing: "),
    ({"OPENLINEAGE__TRANSPORT__TYPE": "console"}, "no transport is configured"),
]


@pytest.mark.parametrize(
    ("variables", "warning"), [*WRONG, ({"OPENLINEAGE_URL": f"nothing://me:{KEY}@host"}, "OpenLineage")]
)
def test_a_wrong_setting_is_warned_about_without_secrets(
    printed: Printed, variables: dict[str, str], warning: str
) -> None:
    text = printed(variables)
    assert "warning: OpenLineage" in text or "URL" in str(variables)
    assert warning in text
    assert KEY not in text


@pytest.mark.parametrize(
    ("variables", "is_sent"),
    [
        ({}, False),
        ({"OPENLINEAGE_URL": "http://x"}, True),
        ({"OPENLINEAGE_URL": "http://x", "OPENLINEAGE_DISABLED": "True"}, False),
        ({"OPENLINEAGE_CONFIG": "x.yml"}, True),
        ({"OPENLINEAGE__TRANSPORT__TYPE": "http"}, True),
        ({"OPENLINEAGE_NAMESPACE": "x"}, False),
    ],
)
def test_the_usual_variables_say_whether_lineage_is_sent(
    variables: dict[str, str], is_sent: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wants_lineage(variables) is is_sent
    (tmp_path / "openlineage.yml").touch()
    assert wants_lineage(variables) is (variables.get("OPENLINEAGE_DISABLED") is None)


def test_without_the_extra_the_worker_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(lineage, "find_spec", lambda _: None)
    with lineage.openlineage(ExportContext(plan=make_plan(tmp_path), notices=messages)) as listener:
        assert listener is None
    assert (
        "OpenLineage sends nothing: openlineage cannot be found; pip install openlineage-python"
        in capsys.readouterr().err
    )
    assert uuid.UUID(str(lineage._uuid_of("not a uuid")))
