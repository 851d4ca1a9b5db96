"""Many files and a large one: only what changed travels, and memory stays flat."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from .conftest import Deploy
from .deploying import Deployment, input_of
from .repositories import Repository

pytestmark = pytest.mark.live

MIB = 1024 * 1024
FLAT = 120 * MIB
"""Bytes that a slot may need beyond a small attempt, whatever the sizes of files."""
LIMIT = 200.0


def _run(bulk: Deployment, repository: Repository, ref: str, **orders: object) -> tuple[str, dict[str, Any]]:
    started = time.monotonic()
    output = bulk.conductor.output(bulk.start(input_of(repository, ref, orders)), limit=LIMIT)
    print(f"{orders}: {time.monotonic() - started:.1f} s")
    return output["workspace"]["ref"], output["result"]


def test_two_thousand_files_and_only_the_changed_ones_travel(deploy: Deploy, repository: Repository) -> None:
    bulk = deploy("bulk")
    bulk.worker()
    made, _ = _run(bulk, repository, repository.head(), make=2000)
    before = repository.tree()
    assert len(before) == 2000
    changed, result = _run(bulk, repository, made, change=10, remove=5)
    after = repository.tree()
    assert result["files"] == 2000
    assert len(after) == 1995
    assert sum(after[path] != before[path] for path in after) == 10
    assert repository.head() == changed
    repository.wait_for_removal_of_staging()
    bulk.environment.wait_for_removal_of_directories()


def test_a_file_of_a_gibibyte_is_transferred_in_constant_memory(deploy: Deploy, repository: Repository) -> None:
    pieces = int(os.environ.get("PERAGO_LIVE_BIG_MIB", "1024"))
    bulk = deploy("bulk")
    bulk.worker()
    small, before = _run(bulk, repository, repository.head(), make=1)
    large, wrote = _run(bulk, repository, small, large=pieces)
    read, checked = _run(bulk, repository, large, check_large=True)
    _, after = _run(bulk, repository, read, make=1)
    assert len({result["pid"] for result in (before, wrote, checked, after)}) == 1, "one slot did it all"
    assert checked["large_md5"] == wrote["large_md5"]
    assert repository.tree()["large"].size == pieces * MIB
    growth = after["peak_memory"] - before["peak_memory"]
    print(f"{pieces} MiB there and back: {growth / MIB:.0f} MiB of memory beyond a small attempt")
    assert growth < FLAT
