"""The small query language in which one searches the server's index.

A query is `field operator value` joined by ` AND `, with `=`, `>`, `<` and `IN (a,b)`; `=` takes `*` for anything.
A field that no index has is passed over without a word, as the real server does it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perago.embedded.conductor.errors import bad_request, server_error
from perago.embedded.conductor.indexing import COLUMNS, Summary, instant

OPERATION = "search"

_CONDITION = re.compile(r"([a-zA-Z]+)\s?(=|>|<|IN)\s?(.*)")

Test = Callable[[Summary], bool]


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for, and which part of it is wanted."""

    query: str = ""
    free_text: str = "*"
    start: int = 0
    size: int = 100
    sort: Sequence[str] = ()
    """Entries such as `startTime:DESC`."""


def found(search: Search, summaries: Sequence[Summary], columns: frozenset[str]) -> tuple[int, list[Summary]]:
    """How many of `summaries`, an index with these `columns`, fit, and the wanted ones of them.

    Raises:
        InvalidRequest: the query has no form (400).
        ServerError: the query names a column that only another index has, or a time that is no number (500).
    """
    tests = [_test(condition, columns) for condition in search.query.split(" AND ")] if search.query else []
    if search.free_text not in ("", "*"):
        pattern = _like(f"%{search.free_text.lower().replace('*', '%')}%")
        tests.append(lambda summary: bool(pattern.fullmatch(json.dumps(summary, ensure_ascii=False).lower())))
    fitting = [summary for summary in summaries if all(test(summary) for test in tests)]
    start = max(0, search.start)
    end = None if search.size < 0 else start + search.size
    return len(fitting), _sorted(fitting, search.sort)[start:end]


def _test(condition: str, columns: frozenset[str]) -> Test:
    match = _CONDITION.search(condition)
    if match is None:
        raise bad_request(OPERATION, f"Incorrectly formatted query string: {condition}")
    field, operator = match[1], match[2]
    values = re.sub(r"[\"'()]", "", match[3]).split(",")
    if field not in COLUMNS:
        return lambda _: True
    if field not in columns:
        name = re.sub(r"\B([A-Z])", r"_\1", field).lower()
        reason = f"SQL error or missing database (no such column: {name})"
        raise server_error(OPERATION, f"Cannot prepare statement for query: [SQLITE_ERROR] {reason}")
    if field.endswith("Time"):
        values[0] = instant(_milliseconds(values[0]))
    return _comparison(field, operator, values)


def _comparison(field: str, operator: str, values: Sequence[str]) -> Test:
    first = values[0]
    if operator == ">":
        return lambda summary: _column(summary, field) > first
    if operator == "<":
        return lambda summary: _column(summary, field) < first
    if operator == "=" and len(values) == 1 and "*" in first:
        pattern = _like(first.lower().replace("*", "%"))
        return lambda summary: bool(pattern.fullmatch(_column(summary, field).lower()))
    if operator == "=" and len(values) > 1:
        raise NotImplementedError(f"InMemoryConductor: search: {field} = several values is not modelled; use IN")
    return lambda summary: _column(summary, field) in values


def _column(summary: Mapping[str, object], field: str) -> str:
    """What the index holds: a workflow that goes on ends in 1970."""
    return str(summary.get(field, instant(0) if field == "endTime" else ""))


def _sorted(summaries: list[Summary], sort: Sequence[str]) -> list[Summary]:
    """By the last criterion first, as sorting keeps the order of equals."""
    for criterion in reversed(sort):
        field, _, order = criterion.partition(":")
        if field in COLUMNS and order.upper() in ("ASC", "DESC"):
            descending = order.upper() == "DESC"
            summaries = sorted(summaries, key=lambda item: _column(item, field), reverse=descending)
    return summaries


def _like(pattern: str) -> re.Pattern[str]:
    """SQL's LIKE."""
    parts = (".*" if part == "%" else "." if part == "_" else re.escape(part) for part in re.split("([%_])", pattern))
    return re.compile("".join(parts), re.DOTALL)


def _milliseconds(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise server_error(OPERATION, f'For input string: "{text}"') from None
