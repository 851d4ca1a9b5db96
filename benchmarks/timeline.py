"""One empty attempt from end to end: where its time is spent outside of Conductor.

The server answers immediately, so only the worker's own time is left. The server records when requests arrive and when
they are answered, and the task reports when it ran, all by one clock. Workers take turns. The server is far faster than
a real Conductor, so compare the columns with each other.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, median, print_table, ratio, rounds_option, seconds
from benchmarks.processes import tree_cpu
from benchmarks.workers import KINDS, Kind, base_of, running

TASKS = 1000
WARM_UP = 100
"""Tasks that come first and do not count."""
LIMIT = 60.0
START_SECONDS = 30.0
TASK_TYPE = "benchmark.timeline"


@dataclass(slots=True)
class Timestamps:
    """Times that the server has recorded, in seconds since the epoch. Those of a task are by its id."""

    delivered: dict[str, float] = field(default_factory=dict)
    """When the answer with a task was sent."""
    reported: dict[str, float] = field(default_factory=dict)
    """When its result arrived."""
    ran: dict[str, float] = field(default_factory=dict)
    """When its function ran."""
    requests: int = 0


class InstantConductor:
    """Just enough of Conductor for a queue of empty tasks: polls, both updates, and an empty answer to the rest."""

    def __init__(self, tasks: int) -> None:
        self._numbers = iter(range(tasks))
        self._tasks = tasks
        self._lock = threading.Lock()
        self.timestamps = Timestamps()
        self.warmed, self.done = threading.Event(), threading.Event()

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of one connection until it is closed."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                method, target, _ = line.decode().split(" ", 2)
                size = 0
                while (header := lines.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                arrived, body = time.time(), lines.read(size)
                with contextlib.suppress(OSError):
                    self._answer(connection, arrived, method, target, body)

    def _answer(self, connection: socket.socket, arrived: float, method: str, target: str, body: bytes) -> None:
        path, _, query = target.partition("?")
        answer: Any = {}
        deliveries: list[dict[str, Any]] = []
        with self._lock:
            self.timestamps.requests += 1
            if method == "POST" and path.endswith(("/tasks", "/tasks/update-v2")):
                self._accept_result(json.loads(body), arrived)
                if path.endswith("/update-v2"):
                    deliveries = self._deliveries(1)
                    answer = deliveries[0] if deliveries else None
            elif "/tasks/poll/" in path:
                count = next((int(part[6:]) for part in query.split("&") if part.startswith("count=")), 1)
                answer = deliveries = self._deliveries(count)
        if "/tasks/poll/" in path and not deliveries:
            time.sleep(0.1)
        content = b"" if answer is None else json.dumps(answer).encode()
        head = f"HTTP/1.1 {200 if content else 204} x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        now = time.time()
        self.timestamps.delivered.update({delivery["taskId"]: now for delivery in deliveries})
        connection.sendall(head.encode() + content)

    def _accept_result(self, update: dict[str, Any], arrived: float) -> None:
        if update["status"] != "COMPLETED":
            return
        task_id = update["taskId"]
        self.timestamps.reported[task_id] = arrived
        self.timestamps.ran[task_id] = update["outputData"]["result"]["ran"]
        if len(self.timestamps.reported) == WARM_UP:
            self.warmed.set()
        if len(self.timestamps.reported) == self._tasks:
            self.done.set()

    def _deliveries(self, count: int) -> list[dict[str, Any]]:
        now = int(time.time() * 1000)
        return [
            {
                "taskId": f"00000000-0000-4000-8000-{number:012d}",
                "workflowInstanceId": f"00000000-0000-4000-9000-{number:012d}",
                "taskType": TASK_TYPE,
                "taskDefName": TASK_TYPE,
                "referenceTaskName": "empty",
                "workflowType": "timeline",
                "status": "IN_PROGRESS",
                "inputData": {"params": {}},
                "pollCount": 1,
                "retryCount": 0,
                "seq": 1,
                "startTime": now,
                "updateTime": now,
                "scheduledTime": now,
                "queueWaitTime": 1,
                "responseTimeoutSeconds": 60,
                "taskDefinition": {"name": TASK_TYPE, "timeoutSeconds": 600, "responseTimeoutSeconds": 60},
            }
            for number in itertools.islice(self._numbers, count)
        ]


def _serve(pipe: Connection) -> None:
    """Serve in a process of its own: send the port, then the ends of warm-up and work, then the timestamps."""
    server = InstantConductor(WARM_UP + TASKS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, server), daemon=True).start()
        for event in (server.warmed, server.done):
            pipe.send(event.wait(LIMIT))
        pipe.send(server.timestamps)
        pipe.recv()


def _accept(listener: socket.socket, server: InstantConductor) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=server.serve, args=(connection,), daemon=True).start()


@contextlib.contextmanager
def _server() -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        process.join(5)
        process.kill()


@dataclass(frozen=True, slots=True)
class Run:
    """Medians over the tasks of one worker, in seconds."""

    rate: float
    cpu: float
    """Of all processes of the worker, a task."""
    to_function: float
    """From the answer with the task until the function runs."""
    to_result: float
    """From the function until its result arrives."""
    requests: float
    """A task."""


def run_tasks(kind: Kind, scratch: Path) -> Run:
    """Let a worker do all tasks."""
    with _server() as pipe:
        url = f"http://127.0.0.1:{_received(pipe)}/api"
        with running(kind, TASK_TYPE, url, scratch) as worker:
            if not _received(pipe):
                raise TimeoutError((scratch / "output").read_text()[-2000:])
            cpu, began = tree_cpu(worker.pid), time.perf_counter()
            if not _received(pipe):
                raise TimeoutError("not all tasks were reported")
            cpu, wall = tree_cpu(worker.pid) - cpu, time.perf_counter() - began
        timestamps: Timestamps = _received(pipe)
    delivered, ran, reported = timestamps.delivered, timestamps.ran, timestamps.reported
    ids = list(reported)[WARM_UP:]
    return Run(
        rate=TASKS / wall,
        cpu=cpu / TASKS,
        to_function=statistics.median(ran[task_id] - delivered[task_id] for task_id in ids),
        to_result=statistics.median(reported[task_id] - ran[task_id] for task_id in ids),
        requests=timestamps.requests / (TASKS + WARM_UP),
    )


def _received(pipe: Connection) -> Any:
    if not pipe.poll(START_SECONDS + LIMIT):
        raise TimeoutError("the server of the benchmark does not answer")
    return pipe.recv()


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 3)
    runs: dict[str, list[Run]] = {kind.name: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        for number, kind in itertools.product(range(rounds), KINDS):
            runs[kind.name].append(run_tasks(kind, Path(scratch) / f"{number}-{kind.name}"))
    medians = {name: median(taken) for name, taken in runs.items()}
    rows = []
    for kind in KINDS:
        run, base = medians[kind.name], medians[base_of(kind)]
        values = [f"{run.rate:.0f}", ratio(run.rate, base.rate), seconds(run.cpu), ratio(run.cpu, base.cpu)]
        values += [*map(seconds, (run.to_function, run.to_result)), f"{run.requests:.2f}"]
        rows.append(Row(kind.name, values))
    print_table(
        f"timeline of {TASKS} empty tasks, median of {rounds}, taking turns; ratios to bare with as many threads",
        ["tasks/s", "/ bare", "cpu a task", "/ bare", "to function", "to result", "requests"],
        rows,
        depends_on="the cores that worker and server share",
    )


if __name__ == "__main__":
    main()
