"""Branches of a fork whose changes meet: what only the comparison with others keeps them from breaking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from perago.testing import InMemoryServices

from .test_rebase import TREE, A, Fork, ruled

Play = Callable[[InMemoryServices], Iterator[str]]
"""Plays a case, and gives every promise that was broken."""


def play_one_file(services: InMemoryServices) -> Iterator[str]:
    """Both branches change one file."""
    fork = Fork(services, A, {"put": {"raw/a.csv": "other"}})
    for delivery in fork.deliveries:
        fork.run(delivery)
    if fork.tree()["raw/a.csv"] != "A":
        yield "what another branch has written is overwritten"


def play_one_too_many(services: InMemoryServices) -> Iterator[str]:
    """Both branches add a file, and the post guardrail allows one."""
    fork = Fork(services, {"put": {"d.csv": "1"}}, {"put": {"e.csv": "2"}}, function=ruled)
    for delivery in fork.deliveries:
        fork.run(delivery)
    if (
        sum(path.startswith("raw/") for path in fork.tree())
        > len([path for path in TREE if path.startswith("raw/")]) + 1
    ):
        yield "what is published violates a post guardrail"


def play_written_again(services: InMemoryServices) -> Iterator[str]:
    """Others write a file of a branch anew, with the same bytes, before that branch is run again."""
    yield from _again(services, lambda fork: (services.seed({"out/b": "other"}), services.seed({"out/b": "B"})))


def play_found_as_wanted(services: InMemoryServices) -> Iterator[str]:
    """The other branch wants the file with the same bytes, and finds it there."""
    yield from _again(services, lambda fork: fork.run(fork.deliveries[1]).assert_completed())


def _again(services: InMemoryServices, meanwhile: Callable[[Fork], object]) -> Iterator[str]:
    """The branch that is declared last publishes first, and is run again without a change: only it is begun again."""
    same: dict[str, Any] = {"put": {"out/b": "B"}}
    fork = Fork(services, {"put": {}}, same, same)
    first = fork.deliveries[2]
    fork.run(first).assert_completed()
    meanwhile(fork)
    services.conductor.terminate_workflow(fork.workflow)
    services.clock.advance(1)
    services.conductor.rerun_workflow(fork.workflow, first.task_id, task_input={**first.input, "params": {}})
    (again,) = (each for each in fork.take(3) if each.task_id == first.task_id)
    fork.run(again)
    if fork.tree().get("out/b") != "B":
        yield "a file that others count on is gone"
