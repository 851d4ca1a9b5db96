"""An input that is nested about as deeply as Conductor takes fails its own task and costs no other task anything."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from perago.taskdef.payload import TOO_DEEP

from ..adapters.conductor_script import ACCEPTED, POLLED, conductor
from ..adapters.scripted import Action, Reply, Request, reply_json
from .bench import make_plan, running, wait_for

ROW = {**POLLED, "taskType": "worker.behaves", "taskDefName": "worker.behaves"}
ROWS = {
    "plain": {**ROW, "taskId": "plain", "inputData": {"params": {"what": "returns"}}},
    "deep": {**ROW, "taskId": "deep", "inputData": {"params": {"what": "returns", "more": "DEEP"}}},
}


class Conductor:
    """Delivers both tasks with one poll, and again what is handed back because it was not asked for."""

    def __init__(self, levels: int) -> None:
        self.reports: dict[str, dict[str, object]] = {}
        self._deep = b"[" * levels + b"]" * levels
        self._waiting = list(ROWS.values())
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Action:
        if "/poll/" in request.path:
            with self._lock:
                rows, self._waiting = self._waiting, []
            return self._reply(rows)
        if request.method == "POST":
            update = request.json if request.path.endswith("/tasks") else {}
            if "callbackAfterSeconds" in update:
                with self._lock:
                    self._waiting.append(ROWS[update["taskId"]])
            elif update.get("status") != "IN_PROGRESS" and update:
                self.reports[update["taskId"]] = update
            return ACCEPTED
        found = re.search(r"/tasks/(plain|deep)$", request.path)
        return self._reply(ROWS[found[1]]) if found else reply_json({})

    def _reply(self, value: object) -> Action:
        body = json.dumps(value).encode().replace(b'"DEEP"', self._deep)
        return Reply(200, body, {"Content-Type": "application/json"})


@pytest.mark.parametrize("levels", [300, 940, 994, 100_000])
def test_a_deep_input_fails_for_good_and_costs_no_other_task(tmp_path: Path, levels: int) -> None:
    script = Conductor(levels)
    with conductor(script) as (queue, _), running(make_plan(tmp_path), queue):
        wait_for("both reports", lambda: len(script.reports) == 2)
    assert script.reports["plain"]["status"] == "COMPLETED"
    deep = script.reports["deep"]
    assert deep["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert TOO_DEEP in str(deep["reasonForIncompletion"])
