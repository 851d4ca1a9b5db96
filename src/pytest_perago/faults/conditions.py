"""What may differ from one run of a function to the next, pinned, so that one thing at a time can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pytest_perago.faults.author import AuthorCode
from pytest_perago.faults.chance import seeded
from pytest_perago.faults.clock import TICK, on_the_clock
from pytest_perago.faults.order import Threads, listing_order

MOMENT = 1_767_607_230.0
"""2026-01-05 10:00:30 UTC."""
MUCH_LATER = MOMENT + 397 * 86_400 + 11_111
"""Another year, month, day, hour, minute and second."""
MUCH_SLOWER = 7 * TICK
"""So that a duration is another one, too."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """`moment` is when the function starts, in seconds since the epoch, and `tick` how much later each look at
    the clock is; `seed` gives its random numbers.

    `backwards` is the order of listings, `swapped` that of `threads` many threads, unless `ordered` is False. `pinned`
    False leaves clock and chance as they are.
    """

    moment: float = MOMENT
    tick: float = TICK
    seed: int = 1
    backwards: bool = False
    swapped: int = 0
    threads: int = 0
    ordered: bool = True
    pinned: bool = True


@contextmanager
def under(conditions: Conditions, author: AuthorCode, used: set[str]) -> Iterator[Threads]:
    """The author's code runs under these conditions. Yields what counts its threads. `used` gets what it has asked for:
    `time`, `random`, `listing`."""
    with ExitStack() as stack:
        if conditions.pinned:
            stack.enter_context(seeded(conditions.seed, lambda: used.add("random")))
            stack.enter_context(
                on_the_clock(author.modules, conditions.moment, conditions.tick, lambda: used.add("time"))
            )
        stack.enter_context(listing_order(backwards=conditions.backwards, note=lambda: used.add("listing")))
        threads = Threads(author, swapped=conditions.swapped, expected=conditions.threads, ordered=conditions.ordered)
        yield stack.enter_context(threads)
