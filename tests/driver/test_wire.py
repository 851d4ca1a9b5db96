"""Merges that arrive when their sender has given up: while the next run of the step is at work, or after it.

The client of an attempt that is told of its loss hangs up, but what it sent may lie in a proxy's queue. A rerun and a
restart look like first deliveries, so all that tells them of it is the staging branch.
"""

from __future__ import annotations

import pytest

from perago.testing import InMemoryServices

from .wire import RUNS_AGAIN, SENDERS, Wire, play_late
from .world import World

CALLS = 16
"""More than any delivery here makes of lakeFS; what is held then arrives after the end."""
CASES = [
    (sender, again, quiet)
    for sender in SENDERS
    for again in RUNS_AGAIN
    for quiet in ("never", "later", "alike", "always")
    if not (again == "retry" and sender.endswith("lost"))  # there is none: somebody has ended the workflow
    if quiet != "always" or sender == "handed back and lost"  # else nothing is merged
]


@pytest.mark.sampled(every=11)
@pytest.mark.parametrize("arrives", range(CALLS))
@pytest.mark.parametrize(("sender", "again", "quiet"), CASES)
def test_a_merge_that_arrives_late_breaks_no_promise(sender: str, again: str, arrives: int, quiet: str) -> None:
    with InMemoryServices() as services:
        world = play_late(services, SENDERS[sender], RUNS_AGAIN[again], arrives, quiet=quiet)
        assert world.status == "COMPLETED"
        assert world.staging_branches() == []
        assert list(world.violations()) == []


@pytest.mark.parametrize("arrives", range(4))
@pytest.mark.parametrize("again", ["rerun", "restart"])
def test_a_slow_sender_that_tidies_up_between_two_looks_is_seen(again: str, arrives: int) -> None:
    """Its merge is on the branch before its staging branch is gone, so one of the two looks on arrival tells of it."""
    with InMemoryServices() as services:
        world = play_late(services, SENDERS["slow and lost"], RUNS_AGAIN[again], arrives, quiet="later")
        assert list(world.violations()) == []


def test_the_staging_branch_of_a_merge_that_may_yet_arrive_stays_until_the_step_has_published() -> None:
    with InMemoryServices() as services:
        world = World(services)
        wire = Wire(services.lakefs, held=1)
        world.store = wire
        SENDERS["lost"].send(world)
        assert "may still appear" in world.tried[0].words
        assert len(world.staging_branches()) == 1
        RUNS_AGAIN["rerun"](world)
        world.run(world.take())
        assert world.staging_branches() == []
        wire.arrive()
        assert list(world.violations()) == []
