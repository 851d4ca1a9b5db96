r"""Differences between tables, files, trees and the results of two attempts.

Values are compared as the file has them: in a CSV file `1` and `1.0` differ.

    for difference in tree_differences({"a.csv": b"x\n1\n"}, {"a.csv": b"x\n2\n"}):
        print(difference)        # a.csv: 1 of 1 row differs, in column x

`before` is what was recorded, `after` what there is today. A file is its bytes, or a path that is read when it is
looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from perago.taskdef.definition import Difference, json_differences
from perago.text import count, listing, size, visible
from perago.workspace.table_files import read_table, suffix_of

_SHOWN_ROWS = 10
_LONGEST_VALUE = 60
MOST_CELLS = 4_000_000
"""Values of a Parquet file that is compared by rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """Column names, and rows as tuples of values in that order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class TableDifference:
    """The difference of two tables."""

    summary: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    """Columns with other values, and those that only one of the tables has."""


def table_in(path: str, content: bytes) -> Table | None:
    """The table in a file, by the suffix of its path; None if it has none, or rows of different lengths."""
    found = read_table(path, content, most_cells=MOST_CELLS)
    if found is None:
        return None
    if found.columns is not None:
        rows, columns = [tuple(map(_hashable, row)) for row in found.rows], found.columns
    elif found.rows and all(isinstance(row, dict) for row in found.rows):
        columns = tuple(dict.fromkeys(key for row in found.rows for key in row))
        rows = [tuple(_hashable(row.get(column)) for column in columns) for row in found.rows]
    else:
        return None
    is_regular = len(set(columns)) == len(columns) and all(len(row) == len(columns) for row in rows)
    return Table(columns, tuple(rows)) if is_regular else None  # lines show the rest better


def _hashable(value: Any) -> Any:
    return json.dumps(value, sort_keys=True, default=repr) if isinstance(value, dict | list) else value


def table_difference(before: Table, after: Table) -> TableDifference | None:
    """Compare the second table with the first; None if values and their order are the same."""
    if before.columns != after.columns:
        return _other_columns(before, after)
    if before.rows == after.rows:
        return None
    if len(before.rows) != len(after.rows):
        return _other_rows(before, after)
    if Counter(map(repr, before.rows)) == Counter(map(repr, after.rows)):
        return TableDifference("the same rows in another order", (), ())
    return _other_values(before, after)


def _other_columns(before: Table, after: Table) -> TableDifference:
    gone = [name for name in before.columns if name not in after.columns]
    come = [name for name in after.columns if name not in before.columns]
    words = [f"without column {listing(gone)}"] if gone else []
    words += [f"with new column {listing(come)}"] if come else []
    summary = " and ".join(words) or "the columns have another order"
    lines = (f"- {', '.join(before.columns)}", f"+ {', '.join(after.columns)}")
    return TableDifference(summary, lines, tuple(gone + come))


def _other_rows(before: Table, after: Table) -> TableDifference:
    then, now = Counter(map(repr, before.rows)), Counter(map(repr, after.rows))
    gone, come = list((then - now).elements()), list((now - then).elements())
    lines = [f"- {_cut(row)}" for row in gone[:_SHOWN_ROWS]] + [f"+ {_cut(row)}" for row in come[:_SHOWN_ROWS]]
    hidden = max(len(gone) - _SHOWN_ROWS, 0) + max(len(come) - _SHOWN_ROWS, 0)
    lines += [f"… and {count(hidden, 'more row')}"] if hidden else []
    summary = (
        f"{count(len(before.rows), 'row')} before, {len(after.rows):,} now; {len(gone):,} are gone, {len(come):,} new"
    )
    return TableDifference(summary, tuple(lines), ())


def _other_values(before: Table, after: Table) -> TableDifference:
    """The tables have the same columns and as many rows."""
    lines: list[str] = []
    columns: dict[str, None] = {}
    differing = 0
    for number, (old, new) in enumerate(zip(before.rows, after.rows, strict=True), start=1):
        cells = [name for name, then, now in zip(before.columns, old, new, strict=True) if not _same(then, now)]
        columns.update(dict.fromkeys(cells))
        differing += bool(cells)
        if cells and differing <= _SHOWN_ROWS:
            lines += _cells(before.columns, number, old, new)
    if differing > _SHOWN_ROWS:
        lines.append(f"… and {count(differing - _SHOWN_ROWS, 'more row')}")
    verb = "differs" if differing == 1 else "differ"
    which = "column" if len(columns) == 1 else "columns"
    summary = f"{differing:,} of {count(len(before.rows), 'row')} {verb}, in {which} {listing(list(columns))}"
    return TableDifference(summary, tuple(lines), tuple(columns))


def _cells(columns: Sequence[str], number: int, old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    return [
        f"row {number:,}, {name}: {_cut(repr(then))} → {_cut(repr(now))}"
        for name, then, now in zip(columns, old, new, strict=True)
        if not _same(then, now)
    ]


def _same(then: Any, now: Any) -> bool:
    return type(then) is type(now) and (then == now or (then != then and now != now))  # NaN is the same as NaN


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


Content: TypeAlias = bytes | Path

MOST_LINES = 40
"""Lines of a difference that are shown for one file."""
LONGEST_TEXT = 4 * 1024 * 1024
"""Bytes of a text that is compared by lines."""
LARGEST_TABLE = 8 * 1024 * 1024
"""Bytes of a table that is compared by rows: both together take about 50 times as much memory meanwhile."""
_LONGEST_LINE = 200
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class FileDifference:
    """One file that is not the same in both trees. `str` of it is one line."""

    path: str
    summary: str
    """The difference in a few words."""
    lines: tuple[str, ...] = ()
    """The difference itself, as far as it can be shown."""
    columns: tuple[str, ...] = ()
    """Of a table: the columns that have other values."""

    def __str__(self) -> str:
        return f"{visible(self.path)}: {self.summary}"


@dataclass(frozen=True, slots=True)
class Digest:
    """A file whose bytes were not kept: its size in bytes, and the hex MD5 that lakeFS lists."""

    size: int
    md5: str


def digest_of(content: Content | Digest) -> Digest:
    """Size and MD5 of a file, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(content, Digest):
        return content
    if isinstance(content, bytes):
        return Digest(len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
    with content.open("rb") as file:
        return Digest(
            content.stat().st_size, hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        )


def tree_differences(
    before: Mapping[str, Content | Digest], after: Mapping[str, Content | Digest]
) -> tuple[FileDifference, ...]:
    """The files that differ, in the order of their paths.

    Raises:
        OSError: a file cannot be read.
    """
    return tuple(_differences(before, after))


def _differences(
    before: Mapping[str, Content | Digest], after: Mapping[str, Content | Digest]
) -> Iterator[FileDifference]:
    for path in sorted({*before, *after}):
        if path not in after:
            yield FileDifference(path, "is not there now")
        elif path not in before:
            yield FileDifference(path, f"is new, {size(digest_of(after[path]).size)}")
        elif (found := file_difference(path, before[path], after[path])) is not None:
            yield found


def file_difference(path: str, before: Content | Digest, after: Content | Digest) -> FileDifference | None:
    """Compare one file; None if it is the same.

    Raises:
        OSError: a file cannot be read.
    """
    old, new = digest_of(before), digest_of(after)
    if old == new:
        return None
    if isinstance(before, Digest) or isinstance(after, Digest):
        return _by_digest(path, old, new)
    if max(old.size, new.size) <= most_compared(path):
        found = _by_content(path, _bytes_of(before), _bytes_of(after))
        if found is not None:
            return found
    return _by_digest(path, old, new)


def _by_digest(path: str, old: Digest, new: Digest) -> FileDifference:
    sizes = f"{size(old.size)} before, {size(new.size)} now"
    digests = f"md5 {old.md5[:_SHOWN_DIGITS]}… before, {new.md5[:_SHOWN_DIGITS]}… now"
    return FileDifference(path, f"{sizes}; {digests}")


def most_compared(path: str) -> int:
    """Bytes of a file up to which it is compared by its content."""
    return LARGEST_TABLE if suffix_of(path) else LONGEST_TEXT


def _bytes_of(content: Content) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _by_content(path: str, old: bytes, new: bytes) -> FileDifference | None:
    """As a table, or as a text; None if it is neither."""
    tables = table_in(path, old), table_in(path, new)
    if tables[0] is not None and tables[1] is not None:
        found = table_difference(tables[0], tables[1])
        if found is not None:
            return FileDifference(path, found.summary, _short(found.lines), found.columns)
    texts = _text(old), _text(new)
    if texts[0] is None or texts[1] is None:
        return None
    return _by_lines(path, texts[0], texts[1])


def _by_lines(path: str, old: str, new: str) -> FileDifference:
    before, after = old.splitlines(), new.splitlines()
    lines = list(islice(unified_diff(before, after, "before", "now", lineterm="", n=1), 2, None))
    if not lines:
        return FileDifference(path, "only the ends of lines differ")
    gone = sum(line.startswith("-") for line in lines)
    come = sum(line.startswith("+") for line in lines)
    return FileDifference(path, f"{count(gone, 'line')} before, {count(come, 'line')} now", _short(lines))


def _short(lines: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """As many lines as are shown, none of them long, nothing hidden in them."""
    shown = [visible(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…") for line in lines[:MOST_LINES]]
    more = len(lines) - MOST_LINES
    return (*shown, f"… and {count(more, 'more line')}") if more > 0 else tuple(shown)


def _text(content: bytes) -> str | None:
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The parts of an attempt that are compared. Paths are relative to the workspace."""

    ending: str
    """In the words of `Example.expect`: `completed`, `pre`, `post`, `failed` or `terminal`."""
    reason: str = ""
    """Why it did not complete."""
    result: Any = None
    files: Mapping[str, Content | Digest] = field(default_factory=dict)
    """The added and changed files."""
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences of two attempts; false without any."""

    ending: str = ""
    result: tuple[Difference, ...] = ()
    files: tuple[FileDifference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ending or self.result or self.files)

    @property
    def summary(self) -> tuple[str, ...]:
        """A line for each difference."""
        results = tuple(f"result {difference.text.removeprefix(': ')}" for difference in self.result)
        return (*((self.ending,) if self.ending else ()), *results, *map(str, self.files))

    def lines(self) -> Iterator[str]:
        """The same, with what differs in each file below its line."""
        yield from self.summary[: len(self.summary) - len(self.files)]
        for difference in self.files:
            yield str(difference)
            yield from (f"  {line}" for line in difference.lines)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "ending": self.ending or None,
            "result": [difference.text for difference in self.result],
            "files": [
                {
                    "path": difference.path,
                    "summary": difference.summary,
                    "columns": list(difference.columns),
                    "lines": list(difference.lines),
                }
                for difference in self.files
            ],
        }


def differences(before: AttemptResult, after: AttemptResult, tree: Mapping[str, Content]) -> Differences:
    """Compare `after` with `before`. Reasons of failures are not compared: they name ids and times.

    Args:
        before: what was left then.
        after: what is left now.
        tree: the files that both began with. One that only one of both wrote is compared with it.

    Raises:
        OSError: a file cannot be read.
    """
    if before.ending != after.ending:
        why = f": {after.reason or before.reason}" if after.reason or before.reason else ""
        return Differences(ending=f"{before.ending} before, {after.ending} now{why}")
    if before.ending != "completed":
        return Differences()
    before, after = with_untouched(before, after, tree), with_untouched(after, before, tree)
    files = (*tree_differences(before.files, after.files), *_removals(before, after))
    return Differences(
        result=json_differences(before.result, after.result),
        files=tuple(sorted(files, key=lambda difference: difference.path)),
    )


def with_untouched(one: AttemptResult, other: AttemptResult, tree: Mapping[str, Content]) -> AttemptResult:
    """`one`, with those files of the tree that it left alone and `other` wrote."""
    paths = other.files.keys() - one.files.keys() - one.removed
    return replace(one, files={**one.files, **{path: tree[path] for path in paths & tree.keys()}})


def _removals(before: AttemptResult, after: AttemptResult) -> Iterator[FileDifference]:
    """Yield the files that only one of both removed, and the other left alone."""
    for path in before.removed - after.removed - after.files.keys():
        yield FileDifference(path, "was removed before, stays now")
    for path in after.removed - before.removed - before.files.keys():
        yield FileDifference(path, "stayed before, is removed now")
