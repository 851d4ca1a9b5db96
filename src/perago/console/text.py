"""Texts, links and lists of the pages: untrusted text is truncated, and long lists are split into pages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from starlette.datastructures import URL
from starlette.requests import Request

from perago import text as texts
from perago.console.source import Page
from perago.ports import OPEN_WORKFLOWS
from perago.settings.mask import without_secrets

LINE_LIMIT = 300
"""Maximum length of a name, a key or a reason in a table."""
BLOCK_LIMIT = 20_000
"""Maximum length of a payload, a log entry or a message."""

_STRING_LIMIT = 2_000
_ITEM_LIMIT = 200
_DEPTH_LIMIT = 40

_TONES = {
    "COMPLETED": "good",
    **dict.fromkeys(("RUNNING", "IN_PROGRESS"), "busy"),
    **dict.fromkeys(("COMPLETED_WITH_ERRORS", "TERMINATED", "CANCELED"), "warn"),
    **dict.fromkeys(("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT"), "bad"),
}
"""The tone of each status. All others wait."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Text that can be truncated. `note` says so."""

    text: str
    note: str = ""


def block(text: str, limit: int = BLOCK_LIMIT, *, from_end: bool = False) -> Shown:
    """Return `text` with its lines, truncated to `limit` characters, without secrets that have their form or name."""
    if len(text) <= limit:
        return Shown(without_secrets(text))
    part, excerpt = ("last", text[-limit:]) if from_end else ("first", text[:limit])
    return Shown(without_secrets(excerpt), f"cut: the {part} {limit:,} of {len(text):,} characters are shown")


def tail(text: str, limit: int = BLOCK_LIMIT) -> Shown:
    """Return the end of `text`, which in a log matters most."""
    return block(text, limit, from_end=True)


def line(text: str, limit: int = LINE_LIMIT) -> Shown:
    """Return `text` on one line, truncated to `limit` characters."""
    shown = block(text, limit)
    return Shown(shown.text.replace("\r\n", "\n").replace("\n", "⏎"), shown.note)


def readable_json(value: Any) -> Shown:
    """Return `value`, which came through JSON, indented. Long strings, long lists and deep nesting are shortened
    inside, so that one large member does not hide the others."""
    excerpt = _shortened(value, 1)
    shown = block(json.dumps(excerpt, indent=2, ensure_ascii=False))
    notes = (shown.note, "long members are shortened" if excerpt != value else "")
    return Shown(shown.text, "; ".join(filter(None, notes)))


def _shortened(value: Any, depth: int) -> Any:
    """Return a copy that is small enough, or the value itself."""
    if isinstance(value, str) and len(value) > _STRING_LIMIT:
        return f"{value[:_STRING_LIMIT]}… ({len(value):,} characters)"
    if not isinstance(value, dict | list):
        return value
    if depth > _DEPTH_LIMIT:
        return f"… (nested deeper than {_DEPTH_LIMIT} levels)"
    more = f"({len(value) - _ITEM_LIMIT:,} more)" if len(value) > _ITEM_LIMIT else ""
    if isinstance(value, list):
        items = [_shortened(item, depth + 1) for item in value[:_ITEM_LIMIT]]
        return [*items, f"… {more}"] if more else items
    members = {block(key, LINE_LIMIT).text: _shortened(value[key], depth + 1) for key in list(value)[:_ITEM_LIMIT]}
    return {**members, "…": more} if more else members


def unquoted(text: str) -> str:
    """Return a JSON text without the quotes of a string."""
    return text[1:-1] if len(text) > 2 and text.startswith('"') else text


def commands_for(workflow_id: str, status: str) -> tuple[str, ...]:
    """Return the commands that fit a workflow of this status, for a shell."""
    is_open, has_completed = status in OPEN_WORKFLOWS, status == "COMPLETED"
    names = ("terminate",) if is_open else ("rerun",) if has_completed else ("retry", "rerun")
    return tuple(f"perago {name} {shlex.quote(line(workflow_id).text)}" for name in names)


@dataclass(frozen=True, slots=True)
class StatusView:
    """A status and its tone: good, bad, busy, wait or warn."""

    word: str
    tone: str


def status_view(status: str) -> StatusView:
    """Return the status in words: `FAILED_WITH_TERMINAL_ERROR` becomes `failed with terminal error`."""
    return StatusView(status.replace("_", " ").lower(), _TONES.get(status, "wait"))


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time: to the second, to the millisecond, and in ISO form (empty if it is not a valid date)."""

    text: str
    fine: str
    iso: str


def moment(milliseconds: int) -> Moment | None:
    """Return a time in milliseconds since the epoch. 0 means not yet. Numbers beyond any calendar stay numbers."""
    if milliseconds == 0:
        return None
    try:
        local = texts.at(milliseconds)
    except (OverflowError, ValueError, OSError):
        return Moment(f"{milliseconds} ms", f"{milliseconds} ms", "")
    fine = local.replace(tzinfo=None).isoformat(" ", "milliseconds")
    return Moment(fine[:-4], fine, local.isoformat(timespec="milliseconds"))


def duration(milliseconds: float) -> str:
    """A length of time in milliseconds, as Conductor has it."""
    return texts.duration(milliseconds / 1000)


T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Link:
    """A text and where it leads; None: nowhere, it is only named."""

    text: Shown
    url: str | None = None


def link(text: str, url: str | None = None) -> Link:
    """Return a link with a foreign text on one line."""
    return Link(line(text), url)


class RowView(SimpleNamespace):
    """The values of a part of a page, such as a row of a table. Templates fail on a name that is missing."""


class PageView(RowView):
    """The values of a page's template.

    `crumbs` are the links above the title. A page that is `live` is read again when something changes.
    """

    def __init__(self, title: str, *, crumbs: Sequence[Link] = (), live: bool = False, **values: Any) -> None:
        super().__init__(title=title, crumbs=crumbs, live=live, **values)


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


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """One page of a list whose length is not known. The URLs lead to the first page and to the next one; None: this is
    the first, or the last."""

    items: Sequence[T]
    first: str | None
    next: str | None


def listed(
    read: Callable[[str], Page[U]], show: Callable[[U], T], request: Request, parameter: str = "after"
) -> Listed[T]:
    """Return the page of a list that the request's query asks for.

    Args:
        read: Gives the page after an entry, and the entry after which the next one begins.
        show: What is shown of an item.
        request: Its query has the entry after which its page begins.
        parameter: The name of that in the query.
    """
    after = request.query_params.get(parameter, "")
    items, following = read(after)
    first = request.url.remove_query_params(parameter)
    further = request.url.include_query_params(**{parameter: following})
    return Listed(list(map(show, items)), _local(first) if after else None, _local(further) if following else None)


def _local(url: URL) -> str:
    return f"{url.path}?{url.query}" if url.query else url.path


def paged(items: Sequence[T], request: Request, *, size: int, parameter: str = "page") -> Paged[T]:
    """Return the page of a list that the request's query asks for.

    Args:
        items: The whole list.
        request: Its query has the number of the page. An invalid number, or one beyond the end, is moved to the nearest
            page.
        size: Items on a page.
        parameter: The name of the number in the query.
    """
    pages = max(1, -(-len(items) // size))
    asked = request.query_params.get(parameter, "")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
    number = min(max(1, number), pages)
    start = (number - 1) * size

    def address(other: int) -> str | None:
        return _local(request.url.include_query_params(**{parameter: other})) if 1 <= other <= pages else None

    shown = items[start : start + size]
    return Paged(shown, len(items), start, number, pages, address(number - 1), address(number + 1))
