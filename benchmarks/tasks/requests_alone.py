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
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

Rows = list[dict[str, Any]]


class RawConnection:
    """Sends one request after the other to a server, with `headers`."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._address, self._headers = urlsplit(url), headers or {}
        self._connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port)

    def ask(self, method: str, target: str, body: object = None) -> Any:
        """Send a request, with bytes or a value as JSON, and return the JSON of the answer.

        Raises:
            RuntimeError: the server refused.
        """
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        content = body if body is None or isinstance(body, bytes) else json.dumps(body)
        self._connection.request(method, self._address.path + target, content, {"Content-Type": kind, **self._headers})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {data[:200]!r}")
        return json.loads(data) if data.startswith((b"[", b"{")) else None


def poll(server: RawConnection, task: str) -> Rows:
    """Return the row of a task, if there is one."""
    return server.ask("GET", f"/tasks/poll/batch/{task}?workerid=requests&count=1&timeout=100") or []


def complete(server: RawConnection, row: dict[str, Any], ran: float) -> None:
    """Complete the task of a row."""
    result = {"status": "COMPLETED", "outputData": {"result": {"ran": ran}}, "workerId": "requests"}
    server.ask("POST", "/tasks", {**result, **{name: row[name] for name in ("taskId", "workflowInstanceId")}})


def work(server: RawConnection, task: str) -> None:
    """Take tasks and complete them."""
    while True:
        for row in poll(server, task):
            complete(server, row, time.time())


def hand_over(server: RawConnection, task: str, slot: Connection, free: threading.Semaphore) -> None:
    """Take tasks for a slot."""
    while free.acquire():
        rows = poll(server, task)
        for row in rows:
            slot.send(row)
        if not rows:
            free.release()


def report(server: RawConnection, slot: Connection, free: threading.Semaphore) -> None:
    """Report the tasks of a slot."""
    while True:
        row, ran = slot.recv()
        free.release()
        complete(server, row, ran)


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
    """Work until stopped. The server is named by `CONDUCTOR_SERVER_URL`."""
    url = os.environ["CONDUCTOR_SERVER_URL"]
    pipes = [multiprocessing.Pipe() for _ in range(threads if has_slots else 0)]
    for _, theirs in pipes:
        multiprocessing.Process(target=run_slot, args=(theirs,), daemon=True).start()
    for ours, _ in pipes:
        free = threading.Semaphore()
        start(hand_over, RawConnection(url), task, ours, free)
        start(report, RawConnection(url), ours, free)
    for _ in range(0 if has_slots else threads):
        start(work, RawConnection(url), task)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(sys.argv[-2], int(sys.argv[-1]), has_slots="--slots" in sys.argv)
