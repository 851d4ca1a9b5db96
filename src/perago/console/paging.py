"""Numbered pages of long lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """One page of `total` items, the first of them at place `first` (from 0). Page 1 is the first page; the URLs are
    None where there is no further one."""

    items: Sequence[T]
    total: int
    first: int
    number: int
    pages: int
    previous: str | None
    next: str | None

    def showing(self, items: Sequence[U]) -> Paged[U]:
        """The same page of other items, mostly what is shown of each."""
        return Paged(items, self.total, self.first, self.number, self.pages, self.previous, self.next)


def paged(items: Sequence[T], request: Request, *, size: int, parameter: str = "page") -> Paged[T]:
    """The page of `items` that the request's query asks for. A number that is none, or beyond the end, is moved to the
    nearest page."""
    pages = max(1, -(-len(items) // size))
    number = min(max(1, _number(request.query_params.get(parameter, "1"))), pages)
    start = (number - 1) * size

    def address(other: int) -> str | None:
        if not 1 <= other <= pages:
            return None
        url = request.url.include_query_params(**{parameter: other})
        return f"{url.path}?{url.query}"

    return Paged(
        items[start : start + size], len(items), start, number, pages, address(number - 1), address(number + 1)
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
