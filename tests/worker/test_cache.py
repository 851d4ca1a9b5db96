"""A worker keeps the cache of its workspace root to its limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.cache import ObjectCache, trim, usage
from perago.cache.directory import SEAL_BYTES
from perago.settings import Upkeep
from perago.worker import host
from perago.worker.events import CacheFailed, CacheTrimmed, DirectoriesSwept, Ending
from perago.worker.logs import describe
from perago.workspace.directory import AttemptDirectory
from tests.cache.shelves import put
from tests.deliveries import make_delivery

from .bench import make_plan, running, wait_for
from .small_queue import SmallQueue

BLOCK = 4096


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CACHE_INTERVAL", 0.02)


def test_what_is_too_much_goes_while_it_works(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path, cache_bytes=5 * BLOCK)
    plan.workspace_root.mkdir(mode=0o700)
    cache = ObjectCache(plan.workspace_root, 100 * BLOCK)
    with running(plan, queue) as worker:
        for number in range(10):
            put(cache, bytes(BLOCK - SEAL_BYTES), f"s3://bucket/{number}")
        wait_for(
            "the eviction", lambda: usage(plan.workspace_root).entries <= 5
        )  # 4 or 5, as it began earlier or later

        def deleted() -> int:
            return sum(event.objects for event in worker.saw(CacheTrimmed))

        wait_for("its report", lambda: deleted() + usage(plan.workspace_root).entries == 10)
    assert describe(CacheTrimmed(6)) == "deleted from the cache to keep to its limit: 6 objects"


def test_what_a_worker_is_not_to_look_after_stays(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path, cache_bytes=5 * BLOCK, maintenance=frozenset({Upkeep.DIRECTORIES}))
    plan.workspace_root.mkdir(mode=0o700)
    cache = ObjectCache(plan.workspace_root, 100 * BLOCK)
    for number in range(10):
        put(cache, bytes(BLOCK), f"s3://bucket/{number}")
    old = make_delivery(task_id="old", task_name="worker.behaves")
    AttemptDirectory.create(plan.workspace_root, old).close()
    with running(plan, queue) as worker:
        wait_for("the sweep, which is wanted", lambda: worker.saw(DirectoriesSwept))
        queue.put(what="returns")
        wait_for("an attempt", lambda: worker.ended(Ending.REPORTED))
        assert not worker.saw(CacheTrimmed)
    assert usage(plan.workspace_root).entries == 10


def test_trouble_is_said_once_and_again_when_it_comes_back(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path, cache_bytes=5 * BLOCK)
    plan.workspace_root.mkdir(mode=0o700)
    place = plan.workspace_root / ".cache"
    place.touch()
    looks: list[Path] = []
    real = trim

    def counted(root: Path, limit: int) -> int:
        looks.append(root)
        return real(root, limit)

    with pytest.MonkeyPatch.context() as patch, running(plan, queue) as worker:
        patch.setattr(host, "trim", counted)
        wait_for("several looks", lambda: len(looks) > 3)
        assert len(worker.saw(CacheFailed)) == 1
        place.unlink()
        before = len(looks)
        wait_for("a look without trouble", lambda: len(looks) > before + 1)
        place.touch()
        wait_for("the second word", lambda: len(worker.saw(CacheFailed)) == 2)
    words = describe(worker.saw(CacheFailed)[0])
    assert words.startswith(f"warning: the cache is not used: {place} is a file or a symlink where")


def test_a_worker_without_a_cache_does_not_look(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    cache = ObjectCache(plan.workspace_root, 100 * BLOCK)
    put(cache, bytes(BLOCK))
    with running(plan, queue):
        pass
    assert usage(plan.workspace_root).entries == 1
