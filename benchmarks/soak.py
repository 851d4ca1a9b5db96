"""A day's load in one run: 20,000 attempts of `perago start` on an embedded Conductor and an embedded lakeFS.

Each workflow has one attempt that publishes, and many empty ones. Each lane runs one workflow after the other on its
own branch. Samples of the worker's processes, its disk and the staging branches begin after a tenth of the attempts,
when slots, caches and log files exist.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import servers
from benchmarks.harness import Row, at_least, at_most, command_line, options, print_table
from benchmarks.processes import tree_memory, tree_of
from benchmarks.tasks.editing import edit
from benchmarks.tasks.noop import noop
from benchmarks.workers import process, wait_for
from perago.authoring.task import get_task
from perago.ports import Upload
from perago.settings import LakeFSSettings
from perago.taskdef import build_task_definition

ATTEMPTS = 20_000
STEPS = 40
"""Steps of a workflow. The first one publishes."""
LANES, SLOTS = 8, 4
INTERVAL = 5.0
"""Seconds between two samples."""
WORKFLOW_LIMIT = 600.0
NOOP, EDIT = "benchmark.noop", "benchmark.edit"


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the worker at one time."""

    completed: int
    """Attempts."""
    resident: float
    """MiB of all processes, shared pages counted in each process (RSS)."""
    memory: float
    """The same with shared pages counted once (PSS). It grows while slots write to pages that they shared at first."""
    descriptors: int
    processes: int
    files: int
    """Files and directories below the workspace root and the log root, without the objects of the cache."""
    logs: int
    """Log files."""
    branches: int
    """Staging branches."""


class Soak:
    """One run. `completed` counts the attempts of all lanes."""

    def __init__(self, conductor: str, lakefs: LakeFSSettings, repository: str, attempts: int, minutes: float) -> None:
        self._conductor, self._lakefs = conductor, lakefs
        self._repository, self._branches = repository, f"{servers.api(lakefs)}/repositories/{repository}/branches"
        self._attempts, self._deadline = attempts, time.monotonic() + 60 * minutes
        self._lock = threading.Lock()
        self._begun = self.completed = 0
        self.failure: BaseException | None = None

    def register(self) -> None:
        """Register the definitions on Conductor."""
        tasks = [task for task in map(get_task, (noop, edit)) if task is not None]
        definitions = [build_task_definition(task) for task in tasks]
        servers.call(f"{self._conductor}/metadata/taskdefs", "POST", definitions)
        published = {"params": {"paths": ["a.bin"]}, "workspace": "${workflow.input.workspace}"}
        steps = [_step(EDIT, "publish", published)]
        steps += [_step(NOOP, f"step{number}", {"params": {}}) for number in range(1, STEPS)]
        workflow = {"name": "soak", "version": 1, "schemaVersion": 2, "tasks": steps, "ownerEmail": "a@example.com"}
        servers.call(f"{self._conductor}/metadata/workflow", "PUT", [workflow])

    def run_lane(self, branch: str) -> None:
        """Run workflows on a new branch until all attempts of the soak have begun."""
        try:
            body = {"name": branch, "source": "main"}
            ref = str(servers.call(self._branches, "POST", body, servers.credentials(self._lakefs)))
            while self._begin_workflow():
                ref = self._run_workflow(branch, ref)
        except BaseException as error:
            self.failure = error

    def staging_branches(self) -> int:
        """Return the number of staging branches."""
        url = f"{self._branches}?prefix=perago-&amount=1000"
        return len(servers.call(url, "GET", None, servers.credentials(self._lakefs))["results"])

    def _begin_workflow(self) -> bool:
        with self._lock:
            self._begun += STEPS
            has_time = self.failure is None and time.monotonic() < self._deadline
            return has_time and self._begun - STEPS < self._attempts

    def _run_workflow(self, branch: str, ref: str) -> str:
        workspace = {"repository": self._repository, "branch": branch, "ref_type": "commit", "ref": ref}
        start = {"name": "soak", "version": 1, "input": {"workspace": workspace}}
        url = f"{self._conductor}/workflow/{servers.call(f'{self._conductor}/workflow', 'POST', start)}"
        wait_for("a workflow", lambda: self._has_ended(url), WORKFLOW_LIMIT, pause=0.2)
        execution = servers.call(url, "GET")
        if execution["status"] != "COMPLETED":
            reason = execution.get("reasonForIncompletion")
            raise RuntimeError(f"a workflow ended as {execution['status']}: {reason}")
        with self._lock:
            self.completed += len(execution["tasks"])
        servers.call(f"{url}/remove?archiveWorkflow=false", "DELETE")
        return str(execution["tasks"][0]["outputData"]["workspace"]["ref"])

    def _has_ended(self, url: str) -> bool:
        if self.failure is not None:
            raise RuntimeError("another lane has failed")
        return bool(servers.call(f"{url}?includeTasks=false", "GET")["status"] != "RUNNING")


def _step(name: str, reference: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": inputs}


def main() -> None:
    """Run and print."""
    parser = command_line(__doc__)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="attempts (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no workflow after so many minutes")
    namespace = options(parser)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lakefs, _ = stack.enter_context(servers.lakefs_or_embedded())
        conductor = stack.enter_context(servers.conductor_or_embedded())
        repository = stack.enter_context(servers.repository(lakefs))
        content = bytes(4096)
        (scratch / "a.bin").write_bytes(content)
        upload = Upload("a.bin", scratch / "a.bin", len(content), hashlib.md5(content).hexdigest())
        servers.commit_files(lakefs, repository, [upload])
        soak = Soak(conductor, lakefs, repository, namespace.attempts, namespace.minutes)
        soak.register()
        worker = stack.enter_context(process(*_worker(conductor, lakefs), scratch))
        began = time.monotonic()
        lanes = [
            threading.Thread(target=soak.run_lane, args=(f"lane{number}",), daemon=True) for number in range(LANES)
        ]
        for lane in lanes:
            lane.start()
        samples = _samples(soak, worker.pid, scratch, lanes)
        seconds = time.monotonic() - began
        if soak.failure is not None:
            raise soak.failure
    settled = [sample for sample in samples if sample.completed >= soak.completed / 10]
    completed = at_least(namespace.attempts, soak.completed, "all completed")
    print_table(
        f"soak: {seconds / 60:.1f} min with {SLOTS} slots, {soak.completed / seconds:.0f} attempts a second",
        ["first fifth", "last fifth", "most"],
        [Row("attempts", ["", "", f"{soak.completed:,}"], completed), *_rows(settled)],
        depends_on="nothing but the time that it takes; the servers' memory is not measured",
    )


def _worker(conductor: str, lakefs: LakeFSSettings) -> tuple[list[str], dict[str, str]]:
    """Return the command of the worker, and its variables."""
    modules = [f"benchmarks.tasks.noop={SLOTS - 1}", "benchmarks.tasks.editing=1"]
    variables = {
        "CONDUCTOR_SERVER_URL": conductor,
        "LAKECTL_SERVER_ENDPOINT_URL": lakefs.endpoint_url,
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": lakefs.access_key_id,
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": lakefs.secret_access_key.get_secret_value(),
    }
    return [sys.executable, "-m", "perago", "start", *modules, "-j", str(SLOTS)], variables


def _samples(soak: Soak, worker: int, scratch: Path, lanes: list[threading.Thread]) -> list[Sample]:
    """Return samples until all lanes have ended, and one afterwards. Print one a minute."""
    samples = []
    printed = time.monotonic()
    while any(lane.is_alive() for lane in lanes):
        next(lane for lane in lanes if lane.is_alive()).join(INTERVAL)
        samples.append(_sample(soak, worker, scratch))
        if time.monotonic() - printed >= 60:
            printed = time.monotonic()
            print(samples[-1], flush=True)
    return [*samples, _sample(soak, worker, scratch)]


def _sample(soak: Soak, worker: int, scratch: Path) -> Sample:
    descriptors, resident = 0, 0.0
    processes = tree_of(worker)
    for member in processes:
        with contextlib.suppress(psutil.Error):
            descriptors += member.num_fds()
            resident += member.memory_info().rss / 2**20
    logs = sum(len(names) for _, _, names in os.walk(scratch / "logs"))
    files = logs
    for _, directories, names in os.walk(scratch / "workspaces"):
        directories[:] = [name for name in directories if name != ".cache"]
        files += len(names) + 1
    memory, branches = tree_memory(worker), soak.staging_branches()
    return Sample(soak.completed, resident, memory, descriptors, len(processes), files, logs, branches)


def _rows(samples: list[Sample]) -> list[Row]:
    fifth = max(1, len(samples) // 5)

    def row(what: str, figure: Callable[[Sample], float], text: str = "", slack: float = 0.0) -> Row:
        first, last = (statistics.median(map(figure, part)) for part in (samples[:fifth], samples[-fifth:]))
        values = [f"{value:.0f}" for value in (first, last, max(map(figure, samples)))]
        return Row(what, values, at_most(first + slack, last, text) if text else None)

    at_end = samples[-1].branches
    resident = statistics.median(sample.resident for sample in samples[:fifth])
    return [
        row("resident memory, MiB", lambda sample: sample.resident, "flat within 5 %", 0.05 * resident),
        row("memory, shared pages once, MiB", lambda sample: sample.memory),
        row("descriptors", lambda sample: sample.descriptors, "flat within one slot", 20),
        row("processes", lambda sample: sample.processes, "flat within one slot", 1),
        row("files and directories", lambda sample: sample.files, "flat within running attempts", 8 * SLOTS),
        row("log files", lambda sample: sample.logs, "flat, and a file for each id on a new day", 2 * SLOTS + 2),
        row("staging branches", lambda sample: sample.branches, "flat within running attempts", SLOTS),
        Row("staging branches at the end", ["", "", str(at_end)], at_most(0, at_end, "none")),
    ]


if __name__ == "__main__":
    main()
