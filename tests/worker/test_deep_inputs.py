"""An input that is nested about as deeply as Conductor takes fails its own task and costs no other task anything."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

from perago.taskdef.payload import TOO_DEEP

from ..adapters.conductor_script import ACCEPTED, POLLED, conductor
from ..adapters.scripted import Action, Reply, Request, reply_json
from .bench import make_plan, running, wait_for

ROW = {**POLLED, "taskType": "worker.behaves", "taskDefName": "worker.behaves"}
LEVELS = (300, 940, 994, 100_000)
ROWS = {
    "plain": {**ROW, "taskId": "plain", "inputData": {"params": {"what": "returns"}}},
    **{
        f"deep-{levels}": {
            **ROW,
            "taskId": f"deep-{levels}",
            "inputData": {"params": {"what": "returns", "more": f"DEEP-{levels}"}},
        }
        for levels in LEVELS
    },
}


class Conductor:
    """Delivers all tasks with one poll, and again what is handed back because it was not asked for."""

    def __init__(self) -> None:
        self.reports: dict[str, dict[str, object]] = {}
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
        found = re.search(r"/tasks/(plain|deep-\d+)$", request.path)
        return self._reply(ROWS[found[1]]) if found else reply_json({})

    def _reply(self, value: object) -> Action:
        body = json.dumps(value).encode()
        for levels in LEVELS:
            body = body.replace(f'"DEEP-{levels}"'.encode(), b"[" * levels + b"]" * levels)
        return Reply(200, body, {"Content-Type": "application/json"})


def test_a_deep_input_fails_for_good_and_costs_no_other_task(tmp_path: Path) -> None:
    script = Conductor()
    with conductor(script) as (queue, _), running(make_plan(tmp_path), queue):
        wait_for("all reports", lambda: len(script.reports) == len(ROWS))
    assert script.reports.pop("plain")["status"] == "COMPLETED"
    for deep in script.reports.values():
        assert deep["status"] == "FAILED_WITH_TERMINAL_ERROR"
        assert TOO_DEEP in str(deep["reasonForIncompletion"])
