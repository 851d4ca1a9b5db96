"""An attempt on a machine that has seen its workspace before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from perago import WorkspaceSpec, task
from perago.adapters.lakefs import LakeFSStore
from perago.cache import ObjectCache, usage, verify
from perago.driver import AttemptRecord, AttemptRuntime, SystemClock, run_attempt
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.ports import TaskStatus
from perago.settings import LakeFSSettings
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.workspace import layout
from perago.workspace.layout import FreeSpace
from tests.cache.shelves import entries, flip_a_bit

from .world import REPOSITORY

TREE = {f"d{number % 3}/f{number}": f"{number}\n" * (number + 1) for number in range(30)}


class Params(BaseModel):
    add: str


class Result(BaseModel):
    seen: dict[str, str]


@task(name="cached.add", owner_email="data@example.com", workspace=WorkspaceSpec())
def add(workspace: Path, params: Params) -> Result:
    """Says what it sees, then spoils it all and adds a file."""
    files = [path for path in workspace.rglob("*") if path.is_file()]
    seen = {path.relative_to(workspace).as_posix(): path.read_text() for path in files}
    for path in files:
        path.write_text(path.read_text() + "again\n")
    (workspace / params.add).write_text(params.add * 100)
    return Result(seen=seen)


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
        runtime = AttemptRuntime(
            store=self.store,
            delivery_check=self.services.conductor,
            workspace_root=self.root,
            clock=SystemClock(),
            store_notes=lambda: self.store.take_notes(),
        )
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
    assert (first.objects, first.from_cache, seen) == (30, 0, TREE)
    second, seen = machine.attempt(ref, "two")
    assert (second.objects, second.from_cache, seen) == (30, 30, TREE)
    assert "30 of 30 objects from the cache" in second.remarks
    assert "cache" not in "".join(first.remarks)


def test_damaged_objects_are_downloaded_again_and_the_attempt_goes_on(machine: Machine) -> None:
    ref = machine.services.seed(TREE)
    machine.attempt(ref, "one")
    cache = ObjectCache(machine.root, 10**8)
    for entry in entries(cache):
        flip_a_bit(entry)
    damaged = len(entries(cache))

    second, seen = machine.attempt(ref, "two")
    assert (second.objects, second.from_cache, seen) == (30, 0, TREE)
    assert second.published_commit is not None
    (note,) = second.notes
    assert f"The cache {machine.root / '.cache'} had 30 damaged objects, deleted and downloaded" in note
    assert len(verify(machine.root).damaged) == damaged - 30
    assert machine.attempt(ref, "three")[0].from_cache == 30


def test_a_publication_of_an_attempt_is_visible_to_the_next(machine: Machine) -> None:
    first, _ = machine.attempt(machine.services.seed(TREE), "one")
    assert first.published_commit is not None

    second, seen = machine.attempt(first.published_commit, "two")
    assert (second.objects, second.from_cache) == (31, 31)
    assert seen == {path: f"{text}again\n" for path, text in TREE.items()} | {"one": "one" * 100}


def test_the_cache_gives_way_to_a_workspace(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full as long as there is anything in the cache."""
    ref = machine.services.seed(TREE)
    machine.attempt(ref, "one")

    def free(_: Path) -> FreeSpace:
        return FreeSpace(0 if usage(machine.root).entries else 10**9, 4096, None)

    monkeypatch.setattr(layout, "free_space", free)
    monkeypatch.setattr(layout, "occupied", lambda _: FreeSpace(10**9, 4096, None))
    second, seen = machine.attempt(ref, "two")
    assert (second.from_cache, seen) == (0, TREE)


def test_notes_of_the_store_are_notes_of_the_attempt(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = [("a way that does not work",), ()]
    monkeypatch.setattr(machine.store, "take_notes", lambda: notes.pop(0))
    ref = machine.services.seed(TREE)

    assert machine.attempt(ref, "one")[0].notes == ("a way that does not work",)
    assert machine.attempt(ref, "two")[0].notes == ()
