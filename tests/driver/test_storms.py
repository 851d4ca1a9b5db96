"""Several troubles at once, drawn at random: what the matrix, which goes through them one by one, does not reach.

`PERAGO_STORMS` is how many there are, `PERAGO_STORMS_FROM` the first one; each is drawn from its number alone.
All of them: `PERAGO_STORMS=10000 pytest tests/driver/test_storms.py -m ""`.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from perago.testing import InMemoryServices

from .matrix import OPENINGS, Opening, Trouble, named, play, troubles_of

NUMBER, FIRST = int(os.environ.get("PERAGO_STORMS", "120")), int(os.environ.get("PERAGO_STORMS_FROM", "0"))
OPERATIONS = sorted({operation for opening in OPENINGS for operation, _ in opening.sites})
AGAIN = ("rerun", "stopped, run again and held")


def drawn(number: int) -> tuple[Opening, tuple[Trouble, ...]]:
    """What the deliveries come upon, and two to four things that happen to their calls."""
    dice = random.Random(number)
    opening = replace(dice.choice(OPENINGS), quiet=dice.choice(["never", "alike", "later", "always"]))
    sites = [(dice.choice(OPERATIONS), dice.randint(1, 4)) for _ in range(dice.randint(2, 4))]
    return opening, tuple(dice.choice(list(troubles_of(*site))) for site in sites)


@pytest.mark.sampled(every=10)
@pytest.mark.parametrize("number", range(FIRST, FIRST + NUMBER))
def test_a_storm_breaks_no_promise(number: int) -> None:
    opening, troubles = drawn(number)
    with InMemoryServices() as services:
        world = play(services, troubles, opening=opening)
        broken = list(world.violations())
    if any(trouble.what in AGAIN and trouble.operation in ("is_current", "report") for trouble in troubles):
        broken = [words for words in broken if not words.startswith("a report of a delivery that is over")]
    if any(tried.may_leave_a_branch for tried in world.tried):  # perhaps after everybody else: `perago gc` is for that
        broken = [words for words in broken if not words.startswith("staging branches")]
    assert broken == [], f"{opening} ({opening.quiet}): {named(troubles)}"
