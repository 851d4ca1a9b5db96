"""Everything that can happen to each call of an attempt, and what must hold however it goes
(docs/design/contract.md 8).

With the default settings every promise holds, on a branch that has the publish fence and on one that has none yet. With
the fence switched off one gap is left that is noticed and named, but not closed.
"""

from __future__ import annotations

import pytest

from perago.driver import Limits
from perago.settings import PublishFence
from perago.testing import InMemoryServices

from .matrix import (
    CELLS,
    FRESH,
    OPENINGS,
    PAIRS,
    RECOVERIES,
    STUBBORN,
    UNFENCED,
    Opening,
    Trouble,
    is_too_late_for_the_fence,
    named,
    play,
)
from .world import World

SWITCHED_OFF = Limits(publish_fence=PublishFence.OFF)
GAP = {
    "history-2-after-foreign-commit",
    "history-2-after-empty-commit",
    "history-2-after-redelivered",
    "history-2-after-rerun",
    "history-2-after-restarted",
    "merge-1-before-foreign-commit",
    "merge-1-before-empty-commit",
    "merge-1-before-redelivered",
    "merge-1-before-rerun",
    "merge-1-before-restarted",
    "merge-1-before-timed-out",
}
"""With the publish fence switched off: somebody else commits after the branch was read and before the merge arrives."""


def broken(world: World, opening: Opening, troubles: tuple[Trouble, ...]) -> list[str]:
    """The promises that were broken, but for the one gap that Conductor leaves."""
    is_gap = is_too_late_for_the_fence(opening, troubles)
    return [words for words in world.violations() if not (is_gap and "a report of a delivery that is over" in words)]


@pytest.mark.sampled(every=37)
@pytest.mark.parametrize("troubles", [*CELLS, *PAIRS, STUBBORN], ids=named)
def test_on_a_fenced_branch_no_trouble_breaks_a_promise(troubles: tuple[Trouble, ...]) -> None:
    with InMemoryServices() as services:
        assert broken(play(services, troubles), FRESH, troubles) == []


@pytest.mark.sampled(every=37)
@pytest.mark.parametrize(
    ("opening", "troubles"), RECOVERIES, ids=lambda value: named(value) if isinstance(value, tuple) else str(value)
)
def test_no_trouble_breaks_a_promise_of_a_delivery_that_recovers(
    opening: Opening, troubles: tuple[Trouble, ...]
) -> None:
    with InMemoryServices() as services:
        assert broken(play(services, troubles, opening=opening), opening, troubles) == []


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_the_matrix_knows_every_call_of_an_opening(opening: Opening) -> None:
    with InMemoryServices() as services:
        world = play(services, (), opening=opening)
        assert list(world.violations()) == []
        assert world.tried[-1].completed
        calls = [{"yes": "is_current", "challenge": "merge"}.get(name, name) for name in world.tried[-1].journal]
        assert calls[: len(opening.sites)] == [operation for operation, _ in opening.sites]


@pytest.mark.sampled(every=37)
@pytest.mark.parametrize("troubles", [*CELLS, STUBBORN], ids=named)
def test_on_a_branch_without_a_fence_no_trouble_breaks_a_promise_either(troubles: tuple[Trouble, ...]) -> None:
    with InMemoryServices() as services:
        assert broken(play(services, troubles, opening=UNFENCED), UNFENCED, troubles) == []


@pytest.mark.sampled(every=37)
@pytest.mark.parametrize("troubles", [cell for cell in CELLS if named(cell) not in GAP], ids=named)
def test_without_the_publish_fence_almost_no_trouble_does(troubles: tuple[Trouble, ...]) -> None:
    with InMemoryServices(limits=SWITCHED_OFF) as services:
        assert broken(play(services, troubles, opening=UNFENCED), FRESH, troubles) == []


@pytest.mark.parametrize("troubles", [cell for cell in CELLS if named(cell) in GAP], ids=named)
def test_without_the_publish_fence_a_commit_right_before_the_merge_is_noticed_and_named(
    troubles: tuple[Trouble, ...],
) -> None:
    with InMemoryServices(limits=SWITCHED_OFF) as services:
        world = play(services, troubles, opening=UNFENCED)
        first, tree = world.tried[0], services.tree()

        assert first.record is not None
        assert first.record.published_commit is None
        assert "another commit came between" in first.words
        assert world.publications()[0].id[:12] in first.words
        assert set(tree) >= set(services.tree(world.publications()[0].parents[0])) - {"raw/b.csv"}, "nothing is lost"
