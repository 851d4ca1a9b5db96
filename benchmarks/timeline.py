"""One empty attempt end to end: where its time goes outside of Conductor.

The server answers at once, so all that is left is the worker's own time. It notes when requests arrive and are
answered, and the task says when it ran, all by one clock. Each worker takes its turn. The servers are far faster than
a real Conductor; compare the columns with each other.
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

from benchmarks.harness import Row, arguments, print_table, ratio, seconds
from benchmarks.processes import tree_cpu
from benchmarks.workers import BARE_MODULE, Kind, running

TASKS = 1000
WARM_UP = 100
"""Tasks that come first and do not count."""
LIMIT = 60.0
START_SECONDS = 30.0
KINDS = (
    Kind("bare, 1 thread", 1, other=BARE_MODULE),
    Kind("perago, 1 slot", 1),
    Kind("bare, 4 threads", 4, other=BARE_MODULE),
    Kind("perago, 4 slots", 4),
)


@dataclass(slots=True)
class Seen:
    """What the server has noted, in seconds since the epoch."""

    given: dict[str, float] = field(default_factory=dict)
    """When the answer with a task was sent."""
    reported: dict[str, float] = field(default_factory=dict)
    """When its result arrived."""
    ran: dict[str, float] = field(default_factory=dict)
    """When its function ran."""
    polls: list[float] = field(default_factory=list)
    """When requests for work arrived."""
    requests: int = 0


class InstantConductor:
    """Just enough of Conductor for a queue of empty tasks: polls, both updates, and an empty answer to the rest."""

    def __init__(self, task: str, tasks: int) -> None:
        self._task = task
        self._left = iter(range(tasks))
        self._lock = threading.Lock()
        self.seen = Seen()
        self.warmed, self.done = threading.Event(), threading.Event()
        self._all = tasks

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
        found: Any = {}
        given: list[str] = []
        with self._lock:
            self.seen.requests += 1
            if method == "POST" and path.endswith(("/tasks", "/tasks/update-v2")):
                self._take(json.loads(body), arrived)
                if path.endswith("/update-v2"):
                    self.seen.polls.append(arrived)
                    found = next(map(self._delivery, itertools.islice(self._left, 1)), None)
                    given = [found["taskId"]] if found else []
            elif "/tasks/poll/" in path:
                self.seen.polls.append(arrived)
                count = next((int(part[6:]) for part in query.split("&") if part.startswith("count=")), 1)
                found = [self._delivery(number) for number in itertools.islice(self._left, count)]
                given = [task["taskId"] for task in found]
        if "/tasks/poll/" in path and not found:
            time.sleep(0.1)
        data = b"" if found is None else json.dumps(found).encode()
        head = f"HTTP/1.1 {200 if data else 204} x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(data)}\r\n\r\n"
        now = time.time()
        self.seen.given.update(dict.fromkeys(given, now))
        connection.sendall(head.encode() + data)

    def _take(self, update: dict[str, Any], arrived: float) -> None:
        if update["status"] != "COMPLETED":
            return
        name = update["taskId"]
        self.seen.reported[name] = arrived
        self.seen.ran[name] = update["outputData"]["result"]["ran"]
        if len(self.seen.reported) == WARM_UP:
            self.warmed.set()
        if len(self.seen.reported) == self._all:
            self.done.set()

    def _delivery(self, number: int) -> dict[str, Any]:
        now = int(time.time() * 1000)
        return {
            "taskId": f"00000000-0000-4000-8000-{number:012d}",
            "workflowInstanceId": f"00000000-0000-4000-9000-{number:012d}",
            "taskType": self._task,
            "taskDefName": self._task,
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
            "taskDefinition": {"name": self._task, "timeoutSeconds": 600, "responseTimeoutSeconds": 60},
        }


def _serve(pipe: Connection, task: str) -> None:
    """Serve in a process of its own: tell the port, then the moments of warm-up and end, then what was seen."""
    model = InstantConductor(task, WARM_UP + TASKS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, model), daemon=True).start()
        for event in (model.warmed, model.done):
            pipe.send(event.wait(LIMIT))
        pipe.send(model.seen)
        pipe.recv()


def _accept(listener: socket.socket, model: InstantConductor) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=model.serve, args=(connection,), daemon=True).start()


@contextlib.contextmanager
def _server(task: str) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, task), daemon=True)
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
    """Of the whole process tree, a task."""
    begins: float
    """From the answer with the task until the function runs."""
    reports: float
    """From the function until its result arrives."""
    polls: float
    """From the function until the next request for work arrives."""
    requests: float
    """A task."""


def work_off(kind: Kind, scratch: Path) -> Run:
    """Let a worker do all tasks."""
    with _server("benchmark.timeline") as pipe:
        url = f"http://127.0.0.1:{_received(pipe)}/api"
        with running(kind, "benchmark.timeline", url, scratch) as worker:
            if not _received(pipe):
                raise TimeoutError((scratch / "output").read_text()[-2000:])
            cpu, began = tree_cpu(worker.pid), time.perf_counter()
            if not _received(pipe):
                raise TimeoutError("not all tasks were reported")
            cpu, wall = tree_cpu(worker.pid) - cpu, time.perf_counter() - began
        seen: Seen = _received(pipe)
    names = list(seen.reported)[WARM_UP:]
    polls = sorted(seen.polls)
    return Run(
        rate=TASKS / wall,
        cpu=cpu / TASKS,
        begins=statistics.median(seen.ran[name] - seen.given[name] for name in names),
        reports=statistics.median(seen.reported[name] - seen.ran[name] for name in names),
        polls=statistics.median(filter(None, (_next(polls, seen.ran[name]) for name in names))),
        requests=seen.requests / (TASKS + WARM_UP),
    )


def _next(moments: list[float], after: float) -> float:
    return next((moment - after for moment in moments if moment > after), 0.0)


def _received(pipe: Connection) -> Any:
    if not pipe.poll(START_SECONDS + LIMIT):
        raise TimeoutError("the server of the benchmark does not answer")
    return pipe.recv()


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=3).rounds
    runs: dict[str, list[Run]] = {kind.name: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        for number, kind in itertools.product(range(rounds), KINDS):
            runs[kind.name].append(work_off(kind, Path(scratch) / f"{number}-{kind.name}"))
    middle = {
        name: Run(*(statistics.median(getattr(run, each) for run in found) for each in Run.__slots__))
        for name, found in runs.items()
    }
    rows = []
    for kind in KINDS:
        run, base = middle[kind.name], middle[KINDS[0 if kind.slots == 1 else 2].name]
        values = [f"{run.rate:.0f}", ratio(run.rate, base.rate), seconds(run.cpu), ratio(run.cpu, base.cpu)]
        values += [*map(seconds, (run.begins, run.reports, run.polls)), f"{run.requests:.2f}"]
        rows.append(Row(kind.name, values))
    print_table(
        f"timeline of {TASKS} empty tasks, median of {rounds}, taking turns; ratios to bare with as many threads",
        ["tasks/s", "/ bare", "cpu a task", "/ bare", "to function", "to result", "to next poll", "requests"],
        rows,
        depends_on="the cores that worker and server share",
    )


if __name__ == "__main__":
    main()
