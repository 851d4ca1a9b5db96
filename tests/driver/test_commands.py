"""Commands are declared once, everything that depends on them agrees, and a loss ends an attempt at any of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, get_type_hints

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.driver import AttemptRecord, Interrupted, run_attempt
from perago.driver.attempt import _AttemptRun
from perago.driver.delivery import DeliveryQuestions
from perago.driver.publisher import Publisher, Rebase
from perago.driver.runtime import Ahead
from perago.ports import Commit
from perago.testing.services import InMemoryServices
from tests.attempt.exploring import ANSWERS

from .world import TASK, World, runtime_of

OWNERS = (_AttemptRun, DeliveryQuestions, Publisher, Rebase)


@pytest.mark.parametrize(
    "kind", [kind for kind in do.COMMANDS if kind is not do.SendReport], ids=lambda kind: kind.__name__
)
def test_one_method_of_the_driver_carries_out_each_command(kind: type) -> None:
    name = do.COMMANDS[kind].name
    (handler,) = [getattr(owner, name) for owner in OWNERS if hasattr(owner, name)]
    (given, _) = get_type_hints(handler).values()
    assert given is kind


@pytest.mark.parametrize("kind", do.COMMANDS, ids=lambda kind: kind.__name__)
def test_the_exploration_answers_each_command_with_its_events(kind: type) -> None:
    assert {type(event) for event in ANSWERS[kind]} - {on.CommandFailed} == set(do.COMMANDS[kind].answers)


# ----------------------------------------------------------------------------------------------------
# A loss that is noticed elsewhere: at whichever command it comes, the attempt ends there and tidies up.


class Loss:
    """Comes at the `nth` block: at its beginning, or at its end."""

    def __init__(self, nth: int, *, at_end: bool) -> None:
        self._nth, self._at_end = nth, at_end
        self.blocks = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.blocks += 1
        if self._is_due and not self._at_end:
            raise Interrupted
        yield
        if self._is_due:
            raise Interrupted

    @property
    def _is_due(self) -> bool:
        """From then on every block raises, as in a slot."""
        return self.blocks >= self._nth


def attempt(world: World, loss: Loss) -> AttemptRecord:
    delivery = world.take()
    assert delivery is not None
    return run_attempt(TASK, delivery, runtime_of(world.services, interruptible=lambda: loss()))


def count_blocks() -> int:
    with InMemoryServices() as services:
        loss = Loss(10**6, at_end=False)
        assert attempt(World(services), loss).published_commit is not None
        return loss.blocks


BLOCKS = count_blocks()


@pytest.mark.parametrize("at_end", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("nth", range(1, BLOCKS + 1))
def test_an_attempt_that_is_interrupted_is_lost_and_leaves_nothing_but_the_sign_of_an_unanswered_merge(
    services: InMemoryServices, nth: int, at_end: bool
) -> None:
    world = World(services)
    record = attempt(world, Loss(nth, at_end=at_end))
    published = world.publications()

    assert record.report is None
    assert record.lost_reason is not None
    assert bool(world.staging_branches()) == ("may still appear" in record.lost_reason)
    assert list(services.workspace_root.iterdir()) == []
    assert services.conductor.get_task(record.delivery.task_id)["status"] == "IN_PROGRESS", "nothing was reported"
    _assert_report(record, published)


def _assert_report(record: AttemptRecord, published: tuple[Commit, ...]) -> None:
    """Of a publication that may have appeared, and of no other."""
    words = ("may still appear", "took place as commit")
    if published and record.reached.value == "committed":
        assert any(text in str(record.lost_reason) for text in words)
    if not published:
        assert "took place" not in str(record.lost_reason)


def test_an_interrupted_attempt_ends_before_its_next_command(services: InMemoryServices) -> None:
    """What a command did to its end counts, but nothing follows it."""
    record = attempt(World(services), Loss(3, at_end=True))
    tidying = {"RemoveStagingBranches", "RemoveDirectory"}
    assert len([step for step in record.steps if step.name not in tidying]) == 3


class _CutShort:
    """A lakeFS to which the creation of a branch is still on its way when it is cut short."""

    def __init__(self, services: InMemoryServices) -> None:
        self._lakefs, self._late = services.lakefs, list[tuple[str, str, str]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lakefs, name)

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        self._late.append((repository, branch, source))
        raise Interrupted

    def get_commit(self, repository: str, ref: str) -> Commit:
        try:
            return self._lakefs.get_commit(repository, ref)
        finally:
            if self._late:
                self._lakefs.create_branch(*self._late.pop())


def test_a_staging_branch_that_appears_after_a_loss_is_removed(services: InMemoryServices) -> None:
    world = World(services)
    delivery = world.take()
    assert delivery is not None
    record = run_attempt(TASK, delivery, runtime_of(services, store=_CutShort(services)))
    assert record.lost_reason is not None
    assert world.staging_branches() == []


def test_calls_that_wait_for_a_thread_end_with_their_attempt() -> None:
    release, sent = threading.Event(), list[str]()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(release.wait, 30)
        ahead = Ahead(threads)
        answer = ahead.begin(lambda: sent.append("ahead"), lambda: sent.append("in its turn"))
        ahead.begin(lambda: sent.append("never"), lambda: None)
        answer()
        ahead.end()
        release.set()
    assert sent == ["in its turn"]
    with pytest.raises(Interrupted):
        ahead.check()
