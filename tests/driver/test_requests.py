"""Attempts over HTTP: every request of an uncontended publication, and what the cache of a machine saves.

The adapters of production talk to both services over HTTP, as they do to real ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from perago import WorkspaceSpec, require_file, task
from perago.adapters.conductor import ConductorQueue
from perago.adapters.lakefs import LakeFSStore
from perago.attempt import refusals
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.attempt.state import State
from perago.authoring import Task
from perago.cache import ObjectCache, usage
from perago.driver import AttemptRecord, AttemptRuntime, SystemClock, deliver_report, run_attempt
from perago.embedded.http.conductor import conductor_app
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.ports import StoreNotes, TaskStatus
from perago.settings import ConductorSettings, LakeFSSettings
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.workspace import layout
from perago.workspace.layout import FreeSpace

from ..cache.shelves import entries, flip_a_bit
from ..noting import Noted
from .world import BRANCH, DEFINITION, INPUT, REPOSITORY, TASK, WORKFLOW, runtime_of

CHECK = "check"
"""Asks only, so that a publication cannot go wrong; a runtime that hopes for the best would leave it out."""

ATTEMPT = (
    ("staging branches of earlier deliveries?", "recovery", "GET /repositories/R/branches"),
    ("what was published since the input ref?", "recovery", "GET /repositories/R/branches/main"),
    ("publish fence in the input ref?", "recovery", "GET /repositories/R/refs/C/objects/stat"),
    ("download: listing", "work", "GET /repositories/R/refs/C/objects/ls"),
    ("does the server sign addresses of its block store?", "once in a while", "GET /config"),
    *[("download: a file", "work", "GET /repositories/R/refs/C/objects")] * 3,
    ("staging branch", "work", "POST /repositories/R/branches"),
    ("delivery check before staging, with the parents", "delivery check", "GET /workflow/W"),
    ("staged: a deletion", "work", "POST /repositories/R/branches/S/objects/delete"),
    *[("staged: a file", "work", "POST /repositories/R/branches/S/objects")] * 2,
    ("staging commit", "work", "POST /repositories/R/branches/S/commits"),
    ("exactly the planned changes?", CHECK, "GET /repositories/R/refs/C/diff/C"),
    ("exactly the planned bytes?", CHECK, "GET /repositories/R/refs/C/objects/ls"),
    ("the challenge", "once in a while", "POST /repositories/R/refs/C/merge/S"),
    ("delivery check before the merge", "delivery check", "GET /tasks/T"),
    ("the head that it was built on?", CHECK, "GET /repositories/R/branches/main"),
    ("merge", "work", "POST /repositories/R/refs/C/merge/main"),
    ("first parent and tree of the merge?", CHECK, "GET /repositories/R/commits/C"),
    ("staging branch away", "work", "DELETE /repositories/R/branches/S"),
    ("delivery check before the report", "delivery check", "GET /tasks/T"),
    ("report", "work", "POST /tasks"),
)

IN_ORDER = (
    "/branches$",  # staging branches of earlier deliveries?
    "GET .*/branches/main",
    "GET /workflow/W",
    "/delete$",
    "/commits$",
    "/merge/main",
    "POST /tasks",
)
"""Requests that wait for each other, whatever is sent at the same time."""


def test_the_checks_of_an_uncontended_publication_are_four_requests(tmp_path: Path) -> None:
    """They go to lakeFS, between the function and the published commit.

    - The checksums of several files come from one page of the listing for each 1,000 objects.
    - Recovery looks three times, before anything is downloaded.
    - The challenge is sent once for each fence object, process and five minutes.
    - The configuration of the server is read once for each process.
    - The delivery check asks Conductor once before each of the three steps that cannot be taken back.
    """
    kinds = [kind for _, kind, _ in ATTEMPT]
    assert (kinds.count(CHECK), kinds.count("recovery"), kinds.count("delivery check")) == (4, 3, 3)

    requests = requests_of_one_attempt(tmp_path)
    assert sorted(requests) == sorted(request for _, _, request in ATTEMPT)
    transfer = re.compile("objects$")  # files travel side by side
    assert [request for request in requests if not transfer.search(request)] == [
        request for _, _, request in ATTEMPT if not transfer.search(request)
    ]


def test_concurrent_requests_are_the_same_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        requests = requests_of_one_attempt(tmp_path, threads=threads)
    assert sorted(requests) == sorted(request for _, _, request in ATTEMPT)
    order = order_of(requests)
    assert order == sorted(order)


def order_of(requests: list[str]) -> list[int]:
    """The places of the requests that wait for each other."""
    return [next(place for place, request in enumerate(requests) if re.search(part, request)) for part in IN_ORDER]


def test_the_head_is_read_only_for_a_refusal_that_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    def note_the_head(state: State) -> None:
        heads.append(state.head.id if state.head else "nothing")

    on_the_head = replace(refusals.DIRTY, check="branch", condition=note_the_head, needs_head=True)
    monkeypatch.setattr(refusals, "REFUSALS", [*refusals.REFUSALS, on_the_head])
    requests = requests_of_one_attempt(tmp_path)
    more = ["GET /repositories/R/commits/C"] * 2  # on arrival and before the merge
    assert sorted(requests) == sorted([*(request for _, _, request in ATTEMPT), *more])
    assert len(heads) == 2
    assert len(set(heads)) == 1
    assert heads[0] != "nothing"


def test_a_broken_pre_guardrail_costs_one_listing(tmp_path: Path) -> None:
    strict = replace(TASK, workspace=WorkspaceSpec(pre=[require_file("missing.csv")]))
    requests = requests_of_one_attempt(tmp_path, strict, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    assert [request for request in requests if "/objects" in request and "stat" not in request] == [
        "GET /repositories/R/refs/C/objects/ls"
    ]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def requests_of_one_attempt(
    root: Path,
    task: Task = TASK,
    status: TaskStatus = TaskStatus.COMPLETED,
    threads: Executor | None = None,
    *,
    is_likely_to_publish: bool = False,
) -> list[str]:
    """Those from the delivery to its report, which has `status`."""
    with InMemoryServices() as services, served(services) as (store, queue, requests):
        ref = services.seed({**INPUT, FENCE_PATH: FENCE_TEXT})
        services.conductor.register_task_definitions([DEFINITION])
        services.conductor.create_workflow_definition(WORKFLOW)
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
        services.conductor.start_workflow("matrix", {"workspace": block, "params": {"quiet": "never", "began": 0}})
        (delivery,) = queue.poll(task.name, "w0001", count=1, wait_seconds=1)
        requests.clear()
        clock = SystemClock()
        runtime = AttemptRuntime(
            store=store,
            delivery_check=queue,
            workspace_root=root,
            clock=clock,
            threads=threads,
            is_likely_to_publish=is_likely_to_publish,
        )
        record = run_attempt(task, delivery, runtime)
        assert record.report is not None
        assert record.report.status is status, record.report.reason
        assert deliver_report(queue, clock, delivery, record.report, "w0001").error is None
        return [_shape(request) for request in requests]


@contextmanager
def served(services: InMemoryServices) -> Iterator[tuple[LakeFSStore, ConductorQueue, list[str]]]:
    """The models behind the adapters, and the list that their requests go to."""
    requests: list[str] = []
    lakefs = lakefs_app(services.lakefs.server, access_key_id="key", secret_access_key="secret")
    conductor = conductor_app(services.conductor)
    with serve(Noted(lakefs, requests)) as lakefs_url, serve(Noted(conductor, requests)) as conductor_url:
        store = LakeFSStore(LakeFSSettings(lakefs_url, "key", SecretStr("secret")))
        queue = ConductorQueue(ConductorSettings(f"{conductor_url}/api", None, None))
        yield store, queue, requests
        store.close()
        queue.close()


def _shape(request: str) -> str:
    """A request without the names and parameters that differ from run to run."""
    path = re.sub(" /api(/v1)?", " ", request.partition("?")[0]).replace(f"/{REPOSITORY}/", "/R/")
    path = re.sub("/[0-9a-f]{64}", "/C", path)
    path = re.sub("/perago-[0-9a-f]{16}-[0-9a-f]{12}", "/S", path)
    path = re.sub("/workflow/[0-9a-f-]{36}", "/workflow/W", path)
    return re.sub("/tasks/[0-9a-f-]{36}", "/tasks/T", path)


# ------------------------------------------ An attempt on a machine that has seen its workspace before


TREE = {f"d{number % 3}/f{number}": f"{number}\n" * (number + 1) for number in range(9)}


class Adding(BaseModel):
    add: str


class Seen(BaseModel):
    seen: dict[str, str]


@task(name="cached.add", owner_email="data@example.com", workspace=WorkspaceSpec())
def add(workspace: Path, params: Adding) -> Seen:
    """Says what it sees, then spoils it all and adds a file."""
    files = [path for path in workspace.rglob("*") if path.is_file()]
    seen = {path.relative_to(workspace).as_posix(): path.read_text() for path in files}
    for path in files:
        path.write_text(path.read_text() + "again\n")
    (workspace / params.add).write_text(params.add * 100)
    return Seen(seen=seen)


ADD = task_of(add)


@dataclass
class Machine:
    """A workspace root with a cache, and a lakeFS to work on."""

    services: InMemoryServices
    store: LakeFSStore
    root: Path

    def attempt(self, ref: str, name: str) -> tuple[AttemptRecord, dict[str, str]]:
        """One attempt on a commit, on a branch of its own; its record, and what the function saw."""
        branch = f"branch-{name}"
        self.store.create_branch(REPOSITORY, branch, ref)
        block = {"repository": REPOSITORY, "branch": branch, "ref_type": "commit", "ref": ref}
        self.services.start_raw(ADD, {"workspace": block, "params": {"add": name}})
        delivery = self.services.take(ADD)
        more: dict[str, Any] = {"clock": SystemClock(), "store_notes": lambda: self.store.take_notes()}
        runtime = runtime_of(self.services, store=self.store, workspace_root=self.root, **more)
        record = run_attempt(ADD, delivery, runtime)
        assert record.report is not None
        assert record.report.status is TaskStatus.COMPLETED, record.report.reason
        return record, record.report.output["result"]["seen"]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    with InMemoryServices() as services:
        app = lakefs_app(services.lakefs.server, access_key_id="key", secret_access_key="secret")
        with serve(app) as url:
            store = LakeFSStore(LakeFSSettings(url, "key", SecretStr("secret")), cache=ObjectCache(root, 10**8, url))
            yield Machine(services, store, root)
            store.close()


def test_the_second_attempt_fetches_nothing_and_sees_the_same(machine: Machine) -> None:
    ref = machine.services.seed(TREE)

    first, seen = machine.attempt(ref, "one")
    assert (first.objects, first.from_cache, seen) == (9, 0, TREE)
    second, seen = machine.attempt(ref, "two")
    assert (second.objects, second.from_cache, seen) == (9, 9, TREE)
    assert "9 of 9 objects from the cache" in second.remarks
    assert "cache" not in "".join(first.remarks)


def test_an_attempt_reports_and_counts_damaged_objects_of_the_cache(machine: Machine) -> None:
    ref = machine.services.seed(TREE)
    machine.attempt(ref, "one")
    for entry in entries(ObjectCache(machine.root, 1)):
        flip_a_bit(entry, 0)

    record, tree = machine.attempt(ref, "two")
    assert (record.from_cache, record.cache_damaged, tree) == (0, 9, TREE)
    assert "had 9 damaged objects, deleted and downloaded from lakeFS again" in record.notes[0]


def test_the_cache_gives_way_to_a_workspace(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full as long as there is anything in the cache."""
    ref = machine.services.seed(TREE)
    machine.attempt(ref, "one")

    def free(_: Path) -> FreeSpace:
        return FreeSpace(0 if usage(machine.root).entries else 10**9, 4096, None)

    monkeypatch.setattr(layout, "free_space", free)
    monkeypatch.setattr(layout, "_RELEASE_SECONDS", 0)
    monkeypatch.setattr(layout, "occupied", lambda _: FreeSpace(10**9, 4096, None))
    second, seen = machine.attempt(ref, "two")
    assert (second.from_cache, seen) == (0, TREE)


def test_notes_of_the_store_are_notes_of_the_attempt(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = [StoreNotes(("a way that does not work",)), StoreNotes()]
    monkeypatch.setattr(machine.store, "take_notes", lambda: notes.pop(0))
    ref = machine.services.seed(TREE)

    assert machine.attempt(ref, "one")[0].notes == ("a way that does not work",)
    assert machine.attempt(ref, "two")[0].notes == ()
