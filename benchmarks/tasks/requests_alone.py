"""The requests of a worker alone: `python -m benchmarks.tasks.requests_alone TASK THREADS`, until SIGTERM.

Each thread polls, and sends the result with update v1, as perago does: two requests a task, one after the other. It
validates, logs and repeats nothing, so no worker with these requests can be faster.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit


def work(task: str, url: str) -> None:
    """Take tasks and complete them."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port)

    def ask(method: str, target: str, body: object = None) -> Any:
        text = None if body is None else json.dumps(body)
        connection.request(method, address.path + target, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {data[:200]!r}")
        return json.loads(data) if data.startswith((b"[", b"{")) else None

    while True:
        for task_row in ask("GET", f"/tasks/poll/batch/{task}?workerid=requests&count=1&timeout=100") or ():
            result = {"status": "COMPLETED", "outputData": {"result": {"ran": time.time()}}, "workerId": "requests"}
            ask("POST", "/tasks", {**result, **{name: task_row[name] for name in ("taskId", "workflowInstanceId")}})


def main(task: str, threads: int) -> None:
    """Work until stopped. The server is named by `CONDUCTOR_SERVER_URL`."""
    for _ in range(threads):
        threading.Thread(target=work, args=(task, os.environ["CONDUCTOR_SERVER_URL"]), daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
