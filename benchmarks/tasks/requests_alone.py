"""The requests of a worker alone: `python -m benchmarks.tasks.requests_alone [--slots] TASK THREADS`, until SIGTERM.

Each thread polls, and sends the result with update v1, as perago does: two requests a task, one after the other. It
validates, logs and repeats nothing, so no worker with these requests can be faster.

With `--slots` another process runs the function, in a directory, while one of its threads listens. A task has four
hand-overs: from the thread that polls to the listening one, to the function, to the thread that reports, and back.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

Rows = list[dict[str, Any]]


class Requests:
    """Polls and reports on one connection to the server that `CONDUCTOR_SERVER_URL` names."""

    def __init__(self, task: str) -> None:
        self._task, self._address = task, urlsplit(os.environ["CONDUCTOR_SERVER_URL"])
        self._connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port)

    def poll(self) -> Rows:
        """Return the row of a task, if there is one."""
        return self._ask("GET", f"/tasks/poll/batch/{self._task}?workerid=requests&count=1&timeout=100") or []

    def report(self, row: dict[str, Any], ran: float) -> None:
        """Complete the task of a row."""
        result = {"status": "COMPLETED", "outputData": {"result": {"ran": ran}}, "workerId": "requests"}
        self._ask("POST", "/tasks", {**result, **{name: row[name] for name in ("taskId", "workflowInstanceId")}})

    def _ask(self, method: str, target: str, body: object = None) -> Any:
        text = None if body is None else json.dumps(body)
        self._connection.request(method, self._address.path + target, text, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {data[:200]!r}")
        return json.loads(data) if data.startswith((b"[", b"{")) else None


def work(requests: Requests) -> None:
    """Take tasks and complete them."""
    while True:
        for row in requests.poll():
            requests.report(row, time.time())


def hand_over(requests: Requests, slot: Connection, free: threading.Semaphore) -> None:
    """Take tasks for a slot."""
    while free.acquire():
        rows = requests.poll()
        for row in rows:
            slot.send(row)
        if not rows:
            free.release()


def report(requests: Requests, slot: Connection, free: threading.Semaphore) -> None:
    """Report the tasks of a slot."""
    while True:
        row, ran = slot.recv()
        free.release()
        requests.report(row, ran)


def run_slot(supervisor: Connection) -> None:
    """Run tasks in a directory, which is removed after the answer."""
    inbox = SimpleQueue[dict[str, Any]]()

    def listen() -> None:
        while True:
            inbox.put(supervisor.recv())

    start(listen)
    with tempfile.TemporaryDirectory() as root:
        while row := inbox.get():
            directory = os.path.join(root, row["taskId"])  # noqa: PTH118 - no gain here
            os.mkdir(directory)  # noqa: PTH102
            supervisor.send((row, time.time()))
            os.rmdir(directory)  # noqa: PTH106


def start(target: Callable[..., None], *arguments: object) -> None:
    """Run a function on a thread that ends with the process."""
    threading.Thread(target=target, args=arguments, daemon=True).start()


def main(task: str, threads: int, *, has_slots: bool) -> None:
    """Work until stopped."""
    pipes = [multiprocessing.Pipe() for _ in range(threads if has_slots else 0)]
    for _, theirs in pipes:
        multiprocessing.Process(target=run_slot, args=(theirs,), daemon=True).start()
    for ours, _ in pipes:
        free = threading.Semaphore()
        start(hand_over, Requests(task), ours, free)
        start(report, Requests(task), ours, free)
    for _ in range(0 if has_slots else threads):
        start(work, Requests(task))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(sys.argv[-2], int(sys.argv[-1]), has_slots="--slots" in sys.argv)
