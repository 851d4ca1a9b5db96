"""The commands that end and repeat workflows, on a real Conductor, and the span that each run of a workflow gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.adapters.scripted import Reply, ScriptedServer

from .commands import perago
from .conftest import Deploy
from .deploying import Gate
from .waiting import wait_for

pytestmark = pytest.mark.live
traces = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")  # the extra `otel`


def workflow_spans(collector: ScriptedServer) -> list[tuple[bytes, str]]:
    """Return id and error type of each span of a workflow that the collector has."""
    spans = []
    for request in collector.requests:
        for part in traces.ExportTraceServiceRequest.FromString(request.body).resource_spans:
            for span in (span for scope in part.scope_spans for span in scope.spans):
                attributes = {attribute.key: attribute.value.string_value for attribute in span.attributes}
                if "perago.workflow_id" in attributes and "perago.task_id" not in attributes:
                    spans.append((span.span_id, attributes.get("error.type", "")))
    return spans


def test_a_workflow_is_listed_terminated_retried_and_rerun(deploy: Deploy, gate: Gate) -> None:
    with ScriptedServer(lambda _: Reply()) as collector:
        sending = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        deployment = deploy("free", OTEL_METRICS_EXPORTER="none", LIVE_RESPONSE_SECONDS="3", **sending)
        conductor, worker = deployment.conductor, deployment.worker()

        def run(code: int, *arguments: str) -> Any:
            done = perago(deployment.environment, *arguments, "--json")
            assert done.returncode == code, done.stdout + done.stderr
            return json.loads(done.stdout) if code == 0 else done.stderr

        def listed(status: str) -> list[str]:
            listing = run(0, "list", "--name", deployment.task, "--status", status, "--since", "1h")
            return [row["workflow_id"] for row in listing["workflows"]]

        def ended(runs: int, status: str) -> None:
            assert conductor.wait(workflow_id)["status"] == status
            wait_for("the span of this run", lambda: len(workflow_spans(collector)) >= runs)

        workflow_id = deployment.start({"params": {"gate": str(gate)}})
        (attempt,) = gate.entered()
        wait_for("the workflow in the list", lambda: listed("running") == [workflow_id])
        assert "give --yes" in run(2, "terminate", workflow_id)
        assert "RUNNING" in run(1, "rerun", workflow_id)
        run(0, "terminate", workflow_id, "--yes", "--reason", "no longer needed")
        assert conductor.workflow(workflow_id)["reasonForIncompletion"] == "no longer needed"
        worker.line(f"lost .*{attempt.task_id}")
        ended(1, "TERMINATED")

        gate.open()
        run(0, "retry", workflow_id)
        ended(2, "COMPLETED")
        run(0, "rerun", workflow_id, "--from", deployment.conductor.tasks(workflow_id)[-1]["referenceTaskName"])
        ended(3, "COMPLETED")
        run(0, "rerun", workflow_id)
        ended(4, "COMPLETED")
        wait_for("the completed workflow in the list", lambda: listed("completed") == [workflow_id])
        assert "it has completed" in run(1, "retry", workflow_id)
        spans = workflow_spans(collector)
    assert [error for _, error in spans] == ["terminated", "", "", ""]
    assert len({span_id for span_id, _ in spans}) == 4
