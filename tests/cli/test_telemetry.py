"""What `perago start` sends to a collector of OpenTelemetry, on embedded services in real processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from perago.cli import messages
from perago.embedded.lakefs import references
from perago.embedded.services import EmbeddedServices
from perago.ports import TaskStatus, trace_of, workflow_span
from perago.settings import configured_mask
from perago.worker.events import AttemptEnded, AttemptReceived, Ending
from perago.worker.export_settings import wanted_signals
from perago.worker.exporters import opentelemetry
from perago.worker.plan import ExportContext
from tests.deliveries import make_delivery

from ..adapters.scripted import Hang, Reply, ScriptedServer
from ..definitions import flow, operator, simple
from ..worker.bench import LIMIT, make_plan, wait_for
from ..worker.outside import fill
from .conftest import Project
from .services import Services
from .start_command import Started, started

traces = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")  # the extra `otel`
numbers = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")

IMPORTS = "from perago.cli import messages; from perago.worker.export_settings import wanted_signals;"

TASK = """
import os
import sys
import time
from pathlib import Path
from pydantic import BaseModel
from perago import RetryPolicy, TaskControls, TaskFailed, TimeoutPolicy, WorkspaceSpec, task

class Params(BaseModel):
    fails: bool = False
    hangs: bool = False

class Result(BaseModel):
    traceparent: str | None
    loaded: bool
    headers: list[str]

@task(
    name="traced",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(),
    controls=TaskControls(
        retry=RetryPolicy(count=1, delay_seconds=0), timeout=TimeoutPolicy(response_seconds=3)
    ),
    environment=["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"],
)
def work(workspace: Path, params: Params) -> Result:
    if params.fails:
        raise TaskFailed(f"no luck with {os.environ['LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY']}")
    while params.hangs:
        time.sleep(0.1)
    (workspace / "new").write_text("x")
    print("the collector wants s3cr3t-of-a-collector")
    headers = [name for name in os.environ if name.endswith("HEADERS")]
    return Result(traceparent=os.environ.get("TRACEPARENT"), loaded="opentelemetry" in sys.modules, headers=headers)
"""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
FAST = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "50"}


@dataclass
class Site:
    """A worker's world: both services, and a collector that answers as `answer` says."""

    services: EmbeddedServices
    collector: ScriptedServer
    project: Project

    @contextmanager
    def worker(self, *arguments: str, **variables: str) -> Iterator[Started]:
        """A worker that sends to the collector."""
        to = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, **FAST, **self.services.environment(), **variables}
        with started(self.project, "traced", *arguments, **to) as worker:
            worker.wait_for("ready:")
            yield worker

    def run(self, *, nested: bool = False, **payload: Any) -> dict[str, Any]:
        """A workflow of the task with `payload` as its input, when it is over. `nested`: as a sub-workflow."""
        workflow_id = self.begin(nested=nested, **payload)
        assert self.services.conductor.await_workflow(workflow_id, wait_seconds=60)
        return self.services.conductor.workflow(workflow_id)

    def begin(self, *, nested: bool = False, limit: int = 0, **payload: Any) -> str:
        """Start a workflow that may take so many seconds."""
        conductor = self.services.conductor
        head = references.get_branch(self.services.lakefs.server.repository("data"), "main").commit_id
        workspace = {"repository": "data", "branch": "main", "ref_type": "commit", "ref": head}
        params = {"fails": "${workflow.input.fails}", "hangs": "${workflow.input.hangs}"}
        definition = flow(simple("traced", workspace=workspace, params=params), name="flow")
        if nested:
            sub = {"name": "flow", "version": 1, "workflowDefinition": definition}
            inputs = {"fails": False, "hangs": False}
            outer = operator("SUB_WORKFLOW", "s", subWorkflowParam=sub, inputParameters=inputs)
            definition = flow(outer, name="above")
        definition |= {"timeoutSeconds": limit, "timeoutPolicy": "TIME_OUT_WF"}
        payload = {"fails": False, "hangs": False, **payload}
        return conductor.start_workflow(definition["name"], payload, definition=definition)

    def spans(self) -> list[Any]:
        """All that have come."""
        sent = [request.body for request in self.collector.requests if request.path == "/v1/traces"]
        parsed = [traces.ExportTraceServiceRequest.FromString(body) for body in sent]
        return [
            span for message in parsed for part in message.resource_spans for s in part.scope_spans for span in s.spans
        ]

    @property
    def resource(self) -> dict[str, Any]:
        """Who has sent."""
        (part,) = self._last_numbers()
        return attributes(part.resource)

    def numbers(self) -> dict[str, Any]:
        """The metrics that came last, by name."""
        (part,) = self._last_numbers()
        return {metric.name: metric for metric in part.scope_metrics[0].metrics}

    def _last_numbers(self) -> Any:
        sent = [request.body for request in self.collector.requests if request.path == "/v1/metrics"]
        return numbers.ExportMetricsServiceRequest.FromString(sent[-1]).resource_metrics


def attributes(part: Any) -> dict[str, Any]:
    """The attributes of anything that has some."""
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value")) for attribute in part.attributes
    }


def named(spans: list[Any], name: str) -> list[Any]:
    return [span for span in spans if span.name == name]


@pytest.fixture
def site(project: Project) -> Iterator[Site]:
    """All of it, with a collector that takes everything."""
    project.module("traced", TASK)
    with EmbeddedServices(longest_poll=0.1) as services, ScriptedServer(lambda _: Reply()) as collector:
        services.lakefs.seed("data", "main", {"a": "1"})
        project.run("register", "traced", **services.environment())
        yield Site(services, collector, project)


def test_an_attempt_is_a_span_in_the_trace_of_its_workflow(site: Site) -> None:
    with site.worker(OTEL_SERVICE_NAME="mine", OTEL_RESOURCE_ATTRIBUTES="team=data") as worker:
        workflow = site.run(traceparent=GIVEN)
        left_out = site.run(traceparent=f"{GIVEN[:-2]}00")
        assert worker.stop(signal.SIGTERM) == 0
    assert "note: sending traces and metrics with OpenTelemetry" in worker.text
    assert "warning" not in worker.text
    spans = site.spans()
    (attempt,) = named(spans, "traced")  # the other one is not sampled
    (flow,) = named(spans, "flow")
    assert (flow.trace_id.hex(), flow.parent_span_id.hex()) == (TRACE, PARENT)
    assert (attempt.trace_id.hex(), attempt.parent_span_id) == (TRACE, flow.span_id)
    assert flow.start_time_unix_nano < flow.end_time_unix_nano
    assert attempt.status.code == 0
    reported, output = attributes(attempt), workflow["tasks"][0]["outputData"]
    assert reported["perago.workflow_id"] == workflow["workflowId"]
    assert reported["perago.outcome"] == "completed"
    assert reported["perago.published_commit"] == output["workspace"]["ref"]
    steps = [span for span in spans if span not in (attempt, flow)]
    names = {span.name for span in steps}  # a merge can take less than 1 ms, and then has no span
    assert {"Fetch", "RunFunction", "StageChanges", "Report"} <= names
    (fetch,), (stage,) = named(steps, "Fetch"), named(steps, "StageChanges")
    assert attributes(fetch) == {"perago.files": 1, "perago.bytes": 1}
    assert attributes(stage)["perago.files"] == 1
    assert {(span.trace_id, span.parent_span_id) for span in steps} == {(attempt.trace_id, attempt.span_id)}
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)

    handed_on = f"00-{TRACE}-{attempt.span_id.hex()}-01"
    assert output["result"] == {"traceparent": handed_on, "loaded": False, "headers": []}
    assert left_out["tasks"][0]["outputData"]["result"]["traceparent"].endswith("-00")
    assert set(workflow["tasks"][0]["inputData"]) == {"workspace", "params"}
    logged = site.project.run("log", "data/main", "--json", **site.services.environment())
    assert handed_on in [row["traceparent"] for row in json.loads(logged.out)]

    assert (site.resource["service.name"], site.resource["team"]) == ("mine", "data")
    outcomes = {attributes(point)["outcome"]: point for point in site.numbers()["perago_attempts"].sum.data_points}
    assert outcomes["completed"].as_double == 2
    assert site.numbers()["perago_slots"].gauge.data_points


def test_a_workflow_is_one_trace_and_a_sub_workflow_links_to_its_parent(site: Site) -> None:
    """Without a usable `traceparent`."""
    with site.worker(OTEL_METRICS_EXPORTER="none") as worker:
        workflows = [
            site.run(fails=True, **params) for params in ({}, {"traceparent": "00-0-0-01"}, {"traceparent": 7})
        ]
        assert site.run(nested=True)["status"] == "COMPLETED"
        assert worker.stop(signal.SIGTERM) == 0
    spans = [span for span in named(site.spans(), "traced") if span.status.code]
    assert len({span.trace_id for span in spans}) == 3
    for workflow in workflows:
        first, second = (span for span in spans if attributes(span)["perago.workflow_id"] == workflow["workflowId"])
        assert first.trace_id == second.trace_id
        assert first.span_id != second.span_id
        (flow,) = (span for span in site.spans() if span.span_id == first.parent_span_id == second.parent_span_id)
        assert (flow.parent_span_id, flow.status.code, attributes(flow)["error.type"]) == (b"", 2, "failed")
        links = {tuple(link.span_id for link in span.links) for span in (first, second)}
        assert links in ({(), (first.span_id,)}, {(), (second.span_id,)})
        assert attributes(first)["error.type"] == "TaskFailed"
    assert {(span.status.code, span.status.message) for span in spans} == {(2, "no luck with ***")}
    parent, child, attempt = (
        span for name in ("above", "flow", "traced") for span in named(site.spans(), name) if not span.status.code
    )
    assert (attempt.parent_span_id, attempt.trace_id) == (child.span_id, child.trace_id)
    assert [(link.trace_id, link.span_id) for link in child.links] == [(parent.trace_id, parent.span_id)]
    assert list(parent.links) == []


def test_each_run_of_a_workflow_has_one_span_whatever_ends_or_repeats_it(site: Site) -> None:
    conductor = site.services.conductor
    with site.worker(OTEL_METRICS_EXPORTER="none") as worker, site.worker(OTEL_METRICS_EXPORTER="none") as second:
        terminated = site.begin(hangs=True)
        wait_for("the function", lambda: conductor.workflow(terminated)["tasks"][0]["status"] == "IN_PROGRESS")
        conductor.terminate_workflow(terminated, "no longer needed")
        timed_out = site.begin(hangs=True, limit=1)
        again = site.run()
        workflow_id = again["workflowId"]

        def runs() -> list[Any]:
            return [
                flow for flow in named(site.spans(), "flow") if attributes(flow)["perago.workflow_id"] == workflow_id
            ]

        wait_for("the span of the first run", lambda: len(runs()) == 1)
        conductor.rerun_workflow(workflow_id, again["tasks"][0]["taskId"])
        wait_for("the span of the rerun", lambda: len(runs()) == 2)
        conductor.restart_workflow(workflow_id)
        wait_for("all spans", lambda: len(runs()) == 3 and len(named(site.spans(), "flow")) == 5)
        assert (worker.stop(signal.SIGTERM), second.stop(signal.SIGTERM)) == (0, 0)
    flows, attempts = named(site.spans(), "flow"), named(site.spans(), "traced")
    ends = sorted((attributes(flow)["perago.workflow_id"], attributes(flow).get("error.type", "")) for flow in flows)
    assert ends == sorted([(terminated, "terminated"), (timed_out, "timed_out"), *[(workflow_id, "")] * 3])
    assert sorted(flow.span_id for flow in flows) == sorted(attempt.parent_span_id for attempt in attempts)
    assert len({flow.span_id for flow in flows}) == 5
    for before, after in itertools.pairwise(runs()):
        assert before.end_time_unix_nano <= after.start_time_unix_nano


def test_the_headers_of_the_collector_reach_it_and_nothing_else(site: Site) -> None:
    with site.worker(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cr3t-of-a-collector") as worker:
        workflow = site.run()
        assert worker.stop(signal.SIGTERM) == 0
    sent = {(request.path, request.headers["authorization"]) for request in site.collector.requests}
    assert sent == {(path, "Bearer s3cr3t-of-a-collector") for path in ("/v1/traces", "/v1/metrics")}
    assert workflow["tasks"][0]["outputData"]["result"]["headers"] == []
    lines = [line["log"] for line in site.services.conductor.task_logs(workflow["tasks"][0]["taskId"])]
    assert [line for line in lines if "the collector wants ***" in line]
    assert "s3cr3t" not in "".join(lines) + worker.text


def test_a_collector_that_hangs_is_reported_once_and_costs_no_attempt(site: Site) -> None:
    site.collector.script = lambda _: Hang()
    with site.worker(OTEL_EXPORTER_OTLP_TIMEOUT="2", OTEL_METRICS_EXPORTER="none") as worker:
        for _ in range(3):
            assert site.run()["status"] == "COMPLETED"
            worker.wait_for("warning: OpenTelemetry: the collector does not accept spans")
        assert worker.stop(signal.SIGTERM) == 0
    assert worker.text.count("does not accept spans") == 1
    assert "Traceback" not in worker.text


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"},
            "Connection refused",
        ),
        ({"OTEL_SERVICE_NAME": "refused"}, "does not accept spans"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key: s3cr3t-key"}, "Header format invalid"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cr3t%0akey"}, "does not accept spans"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "nothing://me:s3cr3t-word@host"}, "does not accept spans"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "nothing://host/s3cr3t-of-a-token"}, "does not accept spans"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "nothing://host/x?k=s3cr3t"}, "does not accept spans"),
    ],
)
def test_a_collector_in_trouble_is_reported_once_without_secrets(
    variables: dict[str, str], warning: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from perago.worker.telemetry import telemetry

    said: list[str] = []
    answer = Reply(500 if "OTEL_SERVICE_NAME" in variables else 200)
    with ScriptedServer(lambda _: answer) as collector:
        for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **variables}.items():
            monkeypatch.setenv(name, value)
        plan = replace(make_plan(tmp_path), mask=configured_mask())
        with telemetry(ExportContext(plan=plan, signals=frozenset({"traces"})), said.append) as (tracing, _):
            delivery = make_delivery(trace=trace_of(("t", 1, 1), workflow_span("w")))
            tracing(AttemptReceived(delivery, "w"))
            tracing(AttemptEnded(delivery, "w", Ending.REPORTED, 0.1, status=TaskStatus.COMPLETED))
    (line,) = said
    assert warning in line
    assert "s3cr3t" not in line


def test_a_worker_ends_with_a_blocked_collector_and_standard_error(site: Site, tmp_path: Path) -> None:
    site.collector.script = lambda _: Hang()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": site.collector.url, **FAST, **site.services.environment()}
    project, printed = replace(site.project, environment=site.project.environment | variables), tmp_path / "printed"
    read_end, write_end = os.pipe()
    with printed.open("wb") as file, open(read_end, "rb"), open(write_end, "wb"):  # noqa: PTH123 - descriptors
        process = project.start("start", "traced", stdout=file, stderr=write_end)
        try:
            wait_for("the worker", lambda: b"ready:" in printed.read_bytes())
            fill(write_end)
            site.run()
            process.terminate()
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            process.wait(LIMIT)


def test_a_setting_that_opentelemetry_refuses_on_import_is_reported(project: Project) -> None:
    variables = {**project.environment, **ENDPOINT, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1"}
    command = [sys.executable, "-c", f"{IMPORTS} print(wanted_signals(messages.warning))"]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "frozenset()\n"
    assert "warning: OpenTelemetry sends nothing: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be" in ran.stderr


@pytest.mark.parametrize(
    ("name", "value", "warning"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "max_queue_size must be"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "missing", "component 'missing' not found"),
    ],
)
def test_so_does_a_setting_that_it_refuses_later(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    value: str,
    warning: str,
) -> None:
    monkeypatch.setenv(name, value)
    context = ExportContext(plan=make_plan(tmp_path), notices=messages, signals=frozenset({"traces"}))
    with opentelemetry(context):
        pass
    printed = capfd.readouterr().err
    assert "OpenTelemetry sends nothing: " in printed
    assert warning in printed


def test_without_the_extra_the_worker_works_and_names_the_missing_package(project: Project, services: Services) -> None:
    project.task("plain", "plain.work")
    project.module("opentelemetry", "raise ModuleNotFoundError('not here', name='opentelemetry')")
    variables = {**services.variables, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with started(project, "plain", **variables) as worker:
        worker.wait_for("ready:")
        assert worker.stop(signal.SIGTERM) == 0
    missing = "opentelemetry cannot be found; pip install opentelemetry-exporter-otlp-proto-http"
    assert f"warning: OpenTelemetry sends nothing: {missing}" in worker.text


def test_nothing_is_loaded_where_nothing_is_asked_for(project: Project) -> None:
    code = f"{IMPORTS} print(wanted_signals(messages.warning), 'opentelemetry' in sys.modules)"
    command = [sys.executable, "-c", f"import sys, perago.cli.commands.start; {code}"]
    ran = subprocess.run(command, env=project.environment, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "frozenset() False\n"


BOTH = {"traces", "metrics"}


@pytest.mark.parametrize(
    ("variables", "signals", "warning"),
    [
        ({}, set(), ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, set(), ""),
        (ENDPOINT, BOTH, ""),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, set(), ""),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, {"metrics"}, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, {"traces"}, ""),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics"}, ""),
        (
            {**ENDPOINT, "OTEL_TRACES_EXPORTER": "console"},
            {"metrics"},
            "OTEL_TRACES_EXPORTER: perago supports otlp and none, not console",
        ),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, {"metrics"}, "no traces are sent: "),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, BOTH, ""),
    ],
)
def test_the_usual_variables_select_the_signals(
    variables: dict[str, str],
    signals: set[str],
    warning: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wanted_signals(messages.warning) == signals
    said = capsys.readouterr().err
    assert warning in said
    assert bool(warning) is bool(said)
