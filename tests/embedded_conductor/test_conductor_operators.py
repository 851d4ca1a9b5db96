"""What no real server is asked: hostile scripts, requests that a handler answers, and what stays alive."""

from __future__ import annotations

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor, ServerError, scripts

from ..conformance.conductor.operators import fork, inline, join, system_task
from ..conformance.conductor.workflows import Json


def run(conductor: InMemoryConductor, *steps: Json) -> Json:
    """Start a workflow of these steps; what it shows."""
    conductor.create_workflow_definition({"name": "w", "tasks": steps}, overwrite=True)
    return conductor.workflow(conductor.start_workflow("w", {}))


@pytest.fixture
def conductor() -> InMemoryConductor:
    return InMemoryConductor(VirtualClock(), seed=1)


def test_a_script_that_takes_all_memory_ends_its_step(conductor: InMemoryConductor) -> None:
    found = run(conductor, inline("i", "'x'.repeat(1 << 29)"))
    assert (found["status"], found["tasks"][0]["status"]) == ("FAILED", "FAILED_WITH_TERMINAL_ERROR")


@pytest.mark.parametrize("script", ["while (true) {}", "new Array(1e8).sort()"])
def test_a_hostile_script_is_ended_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(scripts, "SECONDS", 0.2)
    with pytest.raises(scripts.ScriptError):
        scripts.javascript(script, {})
    assert scripts.javascript("$.a + 1", {"a": 1}) == 2


def test_http_is_answered_by_the_handler_or_fails() -> None:
    request = system_task("HTTP", "h", http_request={"uri": "http://x/y", "method": "GET"})
    answered = run(InMemoryConductor(VirtualClock(), http=lambda sent: (200, {"at": sent["uri"]})), request)
    assert answered["output"]["response"]["body"] == {"at": "http://x/y"}
    assert "http=..." in run(InMemoryConductor(VirtualClock()), request)["reasonForIncompletion"]


def test_a_workflow_that_cannot_be_decided_stops_no_sweep(conductor: InMemoryConductor) -> None:
    with pytest.raises(ServerError):
        run(conductor, fork([], [inline("i", "1")]), join("i"))
    conductor.sweep()
    assert run(conductor, inline("i", "1"))["status"] == "COMPLETED"
