"""The shapes that the console checks Conductor's answers against fit what a real one has answered."""

from __future__ import annotations

from typing import Any

import pytest

from perago.console import source

from ..conformance.recordings import ROOT, recorded

SHAPES = {
    "GET /workflow/{workflow}": source.Workflow,
    "GET /metadata/workflow/{name}": source.WorkflowDefinition,
    "GET /tasks/{task}/log": list[source.LogEntry],
    "GET /admin/task/{name}": list[source.Attempt],
}
PLACEHOLDERS = ("<time>", "<luck>", "<hidden>")


def restored(value: Any) -> Any:
    """Recordings keep no times and no numbers that are luck."""
    if isinstance(value, dict):
        return {name: restored(each) for name, each in value.items() if (name, each) != ("workflowTask", "<hidden>")}
    if isinstance(value, list):
        return [restored(each) for each in value]
    return 1 if value in PLACEHOLDERS else value


@pytest.mark.parametrize("operation", SHAPES)
def test_recorded_answers_of_a_real_conductor_have_the_shape(operation: str) -> None:
    exchanges = [
        exchange
        for path in (ROOT / "conductor").glob("*.jsonl")
        for scenario in recorded(path)[1].values()
        for exchange in scenario
        if exchange.get("request", {}).get("operation") == operation and exchange["response"]["status"] == 200
    ]
    assert exchanges
    for exchange in exchanges:
        source.checked(SHAPES[operation], restored(exchange["response"]["body"]))
