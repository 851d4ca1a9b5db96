"""A day's load in one run: 20,000 attempts of `perago start` on an embedded Conductor and an embedded lakeFS.

Each workflow has one attempt that publishes, and many empty ones. The lanes run one workflow after the other, each on a
branch of its own. Samples of the worker's process tree, its disk and the staging branches begin after a tenth of the
attempts, when slots, caches and log files are there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import servers
from benchmarks.harness import Row, at_least, at_most, print_machine, print_table
from benchmarks.processes import end_tree, tree_memory, tree_of
from benchmarks.tasks.editing import edit
from benchmarks.tasks.noop import noop
from benchmarks.workers import ROOT, wait_for
from perago.authoring.task import get_task
from perago.ports import Upload
from perago.settings import LakeFSSettings
from perago.taskdef import build_task_definition

ATTEMPTS = 20_000
STEPS = 40
"""Of a workflow. The first one publishes."""
LANES, SLOTS = 8, 4
INTERVAL = 5.0
"""Seconds between two samples."""
WORKFLOW_LIMIT = 600.0
NOOP, EDIT = "benchmark.noop", "benchmark.edit"


@dataclass(frozen=True, slots=True)
class Sample:
    """The worker at one moment."""

    done: int
    """Attempts that have completed."""
    resident: float
    """MiB of the process tree, shared pages counted in each process (RSS)."""
    memory: float
    """The same with shared pages counted once (PSS). It grows while slots write to pages that they shared at first."""
    descriptors: int
    processes: int
    files: int
    """Below the workspace root and the log root, without the objects of the cache."""
    logs: int
    """Log files."""
    branches: int
    """Staging branches."""


class Soak:
    """One run. `done` counts the completed attempts of all lanes."""

    def __init__(self, conductor: str, lakefs: LakeFSSettings, repository: str, attempts: int, minutes: float) -> None:
        self._conductor, self._lakefs, self._repository = conductor, lakefs, repository
        self._attempts, self._until = attempts, time.monotonic() + 60 * minutes
        self._lock = threading.Lock()
        self._begun = self.done = 0
        self.failure: BaseException | None = None

    def register(self) -> None:
        """Put the definitions on Conductor."""
        url = self._conductor
        tasks = [task for task in map(get_task, (noop, edit)) if task is not None]
        servers.call(f"{url}/metadata/taskdefs", "POST", [build_task_definition(task) for task in tasks])
        published = {"params": {"paths": ["a.bin"]}, "workspace": "${workflow.input.workspace}"}
        steps = [_step(EDIT, "publish", published)]
        steps += [_step(NOOP, f"step{number}", {"params": {}}) for number in range(1, STEPS)]
        workflow = {"name": "soak", "version": 1, "schemaVersion": 2, "tasks": steps, "ownerEmail": "a@example.com"}
        servers.call(f"{url}/metadata/workflow", "PUT", [workflow])

    def run_lane(self, branch: str) -> None:
        """Run workflows on a branch until all attempts of the soak have begun."""
        try:
            ref = self._create(branch)
            while self._take():
                ref = self._run_workflow(branch, ref)
        except BaseException as error:
            self.failure = error

    def staging_branches(self) -> int:
        """Return the number of staging branches."""
        url = f"{servers.api(self._lakefs)}/repositories/{self._repository}/branches?prefix=perago-&amount=1000"
        return len(servers.call(url, "GET", None, servers.credentials(self._lakefs))["results"])

    def _take(self) -> bool:
        with self._lock:
            self._begun += STEPS
            has_time = self.failure is None and time.monotonic() < self._until
            return has_time and self._begun - STEPS < self._attempts

    def _create(self, branch: str) -> str:
        url = f"{servers.api(self._lakefs)}/repositories/{self._repository}/branches"
        return str(servers.call(url, "POST", {"name": branch, "source": "main"}, servers.credentials(self._lakefs)))

    def _run_workflow(self, branch: str, ref: str) -> str:
        place = {"repository": self._repository, "branch": branch, "ref_type": "commit", "ref": ref}
        start = {"name": "soak", "version": 1, "input": {"workspace": place}}
        url = f"{self._conductor}/workflow/{servers.call(f'{self._conductor}/workflow', 'POST', start)}"
        wait_for("a workflow", lambda: self._has_ended(url), WORKFLOW_LIMIT, pause=0.2)
        workflow = servers.call(url, "GET")
        if workflow["status"] != "COMPLETED":
            raise RuntimeError(f"a workflow ended as {workflow['status']}: {workflow.get('reasonForIncompletion')}")
        with self._lock:
            self.done += len(workflow["tasks"])
        servers.call(f"{url}/remove?archiveWorkflow=false", "DELETE")
        return str(workflow["tasks"][0]["outputData"]["workspace"]["ref"])

    def _has_ended(self, url: str) -> bool:
        if self.failure is not None:
            raise RuntimeError("another lane has failed")
        return bool(servers.call(f"{url}?includeTasks=false", "GET")["status"] != "RUNNING")


def _step(name: str, reference: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": inputs}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="attempts (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no workflow after so many minutes")
    given = parser.parse_args()
    attempts: int = given.attempts
    print_machine()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lakefs, _ = stack.enter_context(servers.lakefs_or_embedded())
        conductor, _ = stack.enter_context(servers.conductor_or_embedded())
        repository = stack.enter_context(servers.repository(lakefs))
        content = bytes(4096)
        (scratch / "a.bin").write_bytes(content)
        upload = Upload("a.bin", scratch / "a.bin", len(content), hashlib.md5(content).hexdigest())
        servers.commit_files(lakefs, repository, [upload])
        soak = Soak(conductor, lakefs, repository, attempts, given.minutes)
        soak.register()
        worker = stack.enter_context(_worker(conductor, lakefs, scratch))
        began = time.monotonic()
        lanes = [
            threading.Thread(target=soak.run_lane, args=(f"lane{number}",), daemon=True) for number in range(LANES)
        ]
        for lane in lanes:
            lane.start()
        samples = _samples(soak, worker, scratch, lanes)
        seconds = time.monotonic() - began
        if soak.failure is not None:
            raise soak.failure
    settled = [one for one in samples if one.done >= soak.done / 10]
    print_table(
        f"soak: {seconds / 60:.1f} min with {SLOTS} slots, {soak.done / seconds:.0f} attempts a second",
        ["first fifth", "last fifth", "most"],
        [Row("attempts", ["", "", f"{soak.done:,}"], at_least(attempts, soak.done, "all completed")), *_rows(settled)],
        depends_on="nothing but the time that it takes; the servers' memory is not measured",
    )


@contextlib.contextmanager
def _worker(conductor: str, lakefs: LakeFSSettings, scratch: Path) -> Iterator[int]:
    """Run a worker for the block, and yield its process id."""
    environment = {
        **os.environ,
        "CONDUCTOR_SERVER_URL": conductor,
        "LAKECTL_SERVER_ENDPOINT_URL": lakefs.endpoint_url,
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": lakefs.access_key_id,
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": lakefs.secret_access_key.get_secret_value(),
        "PERAGO_WORKSPACE_ROOT": str(scratch / "workspaces"),
        "PERAGO_LOG_ROOT": str(scratch / "logs"),
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-m",
        "perago",
        "start",
        f"benchmarks.tasks.noop={SLOTS - 1}",
        "benchmarks.tasks.editing=1",
    ]
    with (scratch / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "-j", str(SLOTS)], env=environment, cwd=scratch, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process.pid
            if process.poll() is not None:
                raise RuntimeError(f"the worker ended early:\n{(scratch / 'output').read_text()[-2000:]}")
        finally:
            end_tree(process.pid)
            process.wait(10)


def _samples(soak: Soak, worker: int, scratch: Path, lanes: list[threading.Thread]) -> list[Sample]:
    """Return samples until all lanes have ended, and one afterwards."""
    found = []
    shown = time.monotonic()
    while any(lane.is_alive() for lane in lanes):
        next(lane for lane in lanes if lane.is_alive()).join(INTERVAL)
        found.append(_sample(soak, worker, scratch))
        if time.monotonic() - shown >= 60:
            shown = time.monotonic()
            print(found[-1], flush=True)
    return [*found, _sample(soak, worker, scratch)]


def _sample(soak: Soak, worker: int, scratch: Path) -> Sample:
    descriptors, resident = 0, 0.0
    for process in tree_of(worker):
        with contextlib.suppress(psutil.Error):
            descriptors += process.num_fds()
            resident += process.memory_info().rss / 2**20
    logs = sum(len(names) for _, _, names in os.walk(scratch / "logs"))
    files = logs
    for path, below, names in os.walk(scratch / "workspaces"):
        below[:] = [name for name in below if name != ".cache"]
        files += len(names) + (path.count("/") > 0)
    return Sample(
        soak.done,
        resident,
        tree_memory(worker),
        descriptors,
        len(tree_of(worker)),
        files,
        logs,
        soak.staging_branches(),
    )


def _rows(samples: list[Sample]) -> list[Row]:
    fifth = max(1, len(samples) // 5)

    def row(what: str, value: Callable[[Sample], float], text: str = "", slack: float = 0.0) -> Row:
        first, last = (statistics.median(map(value, part)) for part in (samples[:fifth], samples[-fifth:]))
        figures = [f"{figure:.0f}" for figure in (first, last, max(map(value, samples)))]
        return Row(what, figures, at_most(first + slack, last, text) if text else None)

    at_end = samples[-1].branches
    resident = statistics.median(one.resident for one in samples[:fifth])
    return [
        row("resident memory, MiB", lambda one: one.resident, "flat within 5 %", 0.05 * resident),
        row("memory, shared pages once, MiB", lambda one: one.memory),
        row("descriptors", lambda one: one.descriptors, "flat within one slot", 20),
        row("processes", lambda one: one.processes, "flat within one slot", 1),
        row("files and directories", lambda one: one.files, "flat within running attempts", 8 * SLOTS),
        row("log files", lambda one: one.logs, "flat, and a file for each id on a new day", 2 * SLOTS + 2),
        row("staging branches", lambda one: one.branches, "flat within running attempts", SLOTS),
        Row("staging branches at the end", ["", "", str(at_end)], at_most(0, at_end, "none")),
    ]


if __name__ == "__main__":
    main()
