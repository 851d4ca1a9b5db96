"""Pages of listings and diffs: byte order, `after`, prefix and delimiter as lakeFS treats them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from perago.embedded.lakefs.errors import Invalid
from perago.embedded.lakefs.values import Page

T = TypeVar("T")

DEFAULT_AMOUNT = 100
MAX_AMOUNT = 1000


def page_of(items: Iterable[T], name: Callable[[T], str], amount: int) -> Page[T]:
    """The first `amount` of `items`; -1 and 0 mean the default of 100.

    Raises:
        Invalid: an amount outside -1..1000.
    """
    if not -1 <= amount <= MAX_AMOUNT:
        raise Invalid(f'parameter "amount" in query has an error: {amount} is not between -1 and {MAX_AMOUNT}')
    wanted = amount if amount > 0 else DEFAULT_AMOUNT
    results: list[T] = []
    for item in items:
        if len(results) == wanted:
            return Page(tuple(results), name(results[-1]))
        results.append(item)
    return Page(tuple(results), "")


def paths_from(paths: Sequence[str], prefix: str, start: str) -> Iterator[str]:
    """The paths that start with `prefix` and do not come before `start`, from ordered `paths`."""
    for index in range(bisect_left(paths, max(prefix, start)), len(paths)):
        if not paths[index].startswith(prefix):
            return
        yield paths[index]


def fold(paths: Iterable[str], prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    """Paths with everything beyond the next delimiter folded into one common prefix: (path, is a common prefix).

    What is listed as `after` is left out. That is why an `after` inside a common prefix returns that prefix again, even
    where nothing else is inside (`reference/lakefs.md` 2, List).
    """
    last = None
    for path in paths:
        cut = path.find(delimiter, len(prefix)) if delimiter else -1
        listed = path if cut < 0 else path[: cut + len(delimiter)]
        if listed not in (last, after):
            yield listed, cut >= 0
        last = listed
