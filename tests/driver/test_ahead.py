"""Requests that an attempt sends ahead because it is likely to publish: nothing of them stays, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perago.driver import AttemptRecord, Returned, run_attempt
from perago.driver.publisher import AHEAD_SECONDS
from perago.ports import TaskStatus
from perago.testing.services import InMemoryServices

from .test_commands import BLOCKS, Loss
from .test_requests import ATTEMPT, order_of, requests_of_one_attempt
from .world import REPOSITORY, TASK, Nothing, World, runtime_of


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """One thread, whose calls follow each other."""
    with ThreadPoolExecutor(1) as threads:
        yield threads


def attempt(world: World, threads: ThreadPoolExecutor, **changes: Any) -> AttemptRecord:
    delivery = world.take()
    assert delivery is not None
    return run_attempt(
        TASK, delivery, runtime_of(world.services, threads=threads, is_likely_to_publish=True, **changes)
    )


def test_requests_that_are_sent_ahead_are_the_same_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        requests = requests_of_one_attempt(tmp_path, threads=threads, is_likely_to_publish=True)
    assert sorted(requests) == sorted(request for _, _, request in ATTEMPT)
    order = order_of(requests)
    assert order == sorted(order)


def test_the_staging_branch_exists_before_the_function_is_called(
    services: InMemoryServices, threads: ThreadPoolExecutor
) -> None:
    world, branches = World(services), list[str]()

    def call(*_: object) -> Returned:
        threads.submit(lambda: None).result(30)
        branches.extend(world.staging_branches())
        return Returned(Nothing())

    record = attempt(world, threads, call=call)
    assert (len(branches), record.published_commit) == (1, world.ref)
    assert world.staging_branches() == [], "an attempt without changes needs none"


def test_a_failure_removes_the_branch_before_its_report(
    services: InMemoryServices, threads: ThreadPoolExecutor
) -> None:
    world = World(services)
    later = list[object]()
    record = attempt(world, threads, call=lambda *_: 1 // 0, later=later.append)
    assert record.report is not None
    assert record.report.status is TaskStatus.FAILED
    assert (world.staging_branches(), later) == ([], [])


@pytest.mark.parametrize("at_end", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("nth", range(1, BLOCKS + 1))
def test_an_attempt_that_is_interrupted_leaves_no_branch_of_its_own(
    services: InMemoryServices, threads: ThreadPoolExecutor, nth: int, at_end: bool
) -> None:
    world, loss = World(services), Loss(nth, at_end=at_end)
    record = attempt(world, threads, interruptible=lambda: loss())
    assert record.lost_reason is not None
    assert bool(world.staging_branches()) == ("may still appear" in record.lost_reason)


def test_a_branch_that_was_swept_while_the_function_ran_is_created_again(
    services: InMemoryServices, threads: ThreadPoolExecutor
) -> None:
    world = World(services)
    usual = runtime_of(services).call

    def call(*arguments: Any) -> Any:
        threads.submit(lambda: None).result(30)
        (branch,) = world.staging_branches()
        services.lakefs.delete_branch(REPOSITORY, branch)
        services.clock.advance(AHEAD_SECONDS)
        return usual(*arguments)

    record = attempt(world, threads, call=call)
    assert record.report is not None
    assert record.report.status is TaskStatus.COMPLETED, record.report.reason
    assert record.published_commit == world.publications()[0].id
