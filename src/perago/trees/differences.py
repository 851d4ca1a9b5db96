r"""Published trees, the differences of tables, files, trees and attempts, and the text of snapshots.

Texts are compared line by line, tables row by row, everything else by size and digest.

Values are compared as they are written, so in a CSV file `1` and `1.0` differ.

    for difference in tree_differences({"a.csv": b"x\n1\n"}, {"a.csv": b"x\n2\n"}):
        print(difference)        # a.csv: 1 of 1 row differs, in column x

`before` is the recorded tree, `after` the current one. A file is given as its bytes, or as a path that is read when
needed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from perago.taskdef.definition import Difference, json_differences
from perago.text import count, listing, quoted, size, visible
from perago.workspace.file_types import DELIMITERS, PARQUET, read_table, suffix_of

_MOST_FILES = 20
_SHORT_TEXT = 60
_LONGEST_SHOWN = 1024 * 1024
"""The size in bytes up to which a snapshot has the lines of a file."""


class PublishedTree(dict[str, bytes]):
    """The paths of a workspace, without its prefix, and the contents of the files.

    It equals a mapping with the same paths and contents; a `str` there stands for its UTF-8 bytes. When such a
    comparison fails, pytest shows by file what is different.

        assert outcome.tree == {"raw/a.csv": "x\\n1\\n", "features/a.csv": "X\\n1\\n"}
    """

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and all(
            path in other and content == _bytes(other[path]) for path, content in self.items()
        )

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def text(self, path: str) -> str:
        """Return a file as UTF-8 text.

        Raises:
            KeyError: there is no such file.
            UnicodeDecodeError: it is not a text.
        """
        return self[path].decode()


def published_below(prefix: str, contents: Mapping[str, bytes]) -> PublishedTree:
    """Return the objects of a repository whose keys begin with the prefix, without it."""
    return PublishedTree({key.removeprefix(prefix): contents[key] for key in contents if key.startswith(prefix)})


def explain(left: object, right: object) -> list[str] | None:
    """Explain a failed `left == right`: by file, and by row and column of tables or by line. None if neither is a
    published tree, or the other is not a mapping."""
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return None
    if not isinstance(left, PublishedTree) and not isinstance(right, PublishedTree):
        return None
    published, expected = (left, right) if isinstance(left, PublishedTree) else (right, left)
    paths = changed_paths(published, expected)
    title = f"published tree == expected: {count(len(paths), 'file')} differ{'s' if len(paths) == 1 else ''}"
    lines = [f"{title} (+ published, - expected)"]
    for path in paths[:_MOST_FILES]:
        sides = [(sign, _bytes(tree[path])) for sign, tree in (("+", published), ("-", expected)) if path in tree]
        now, before = sides[0][1], sides[-1][1]
        if isinstance(before, bytes) and isinstance(now, bytes) and now != before:
            difference = file_difference(path, before, now, ("expected", "published"))
            lines += [f"~ {difference}", *(f"  {line}" for line in (difference.lines if difference else ()))]
        else:
            lines += [f"{sign} {visible(path)}: {described(content)}" for sign, content in sides]
    return [*lines, f"and {len(paths) - _MOST_FILES:,} more files"] if len(paths) > _MOST_FILES else lines


def described(content: object) -> str:
    """Describe content: a short text as it is, everything else by size and digest."""
    data = _bytes(content)
    if not isinstance(data, bytes):
        return f"no content, but {type(content).__name__}"
    text = as_text(data)
    if text is not None and len(text) <= _SHORT_TEXT:
        return quoted(text)
    return f"{len(data):,} B, sha256 {hashlib.sha256(data).hexdigest()[:12]}"


def _bytes(content: object) -> object:
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content


def changed_paths(left: Mapping[str, object], right: Mapping[str, object]) -> list[str]:
    """Return the paths that only one of the trees has, and those whose contents differ."""
    both = left.keys() & right.keys()
    return sorted((left.keys() ^ right.keys()) | {path for path in both if _bytes(left[path]) != _bytes(right[path])})


MOST_SHOWN = 100
"""Maximum number of lines or rows that are shown completely. Of longer files, the first ten and a digest are shown."""

MOST_ROWS = 100_000
"""Maximum number of rows of a table that is read. Larger tables are compared by their bytes."""

_FIRST = 10
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+")


def rendered(tree: Mapping[str, str | bytes | None]) -> str:
    """Return the tree as text, sorted by path. None is a directory."""
    return "".join(f"{line}\n" for path in sorted(tree) for line in _file(path, tree[path]))


def _file(path: str, content: str | bytes | None) -> Iterator[str]:
    if content is None:
        yield f"{visible(path)}: directory"
        return
    data = content.encode() if isinstance(content, str) else content
    text = as_text(data) if len(data) <= _LONGEST_SHOWN else None
    rows = _table_lines(path, data) if text is not None or suffix_of(path) == PARQUET else None
    if rows is not None:
        yield from _lines(f"{visible(path)}: table", rows, "row", len(rows) - 1)
    elif text is None:
        yield f"{visible(path)}: {len(data):,} B, sha256 {hashlib.sha256(data).hexdigest()}"
    else:
        lines = text.split("\n")
        lines = lines[:-1] if lines[-1] == "" else [*lines[:-1], f"{lines[-1]} (no line end)"]
        yield from _lines(
            f"{visible(path)}: text", [line.replace("\r", "⟨U+000D⟩") for line in lines], "line", len(lines)
        )


def _lines(title: str, lines: Sequence[str], noun: str, number: int) -> Iterator[str]:
    """Return a title and lines, or the first lines and the digest of all."""
    if len(lines) <= MOST_SHOWN + 1 and sum(map(len, lines)) <= MOST_SHOWN * 200:
        yield f"{title}, {count(number, noun)}"
        yield from (f"    {visible(line)}".rstrip() for line in lines)
        return
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    yield f"{title}, {count(number, noun)}, sha256 {digest}"
    yield from (f"    {visible(line[:200])}".rstrip() for line in lines[:_FIRST])
    yield "    ..."


# ------------------------------------------------------------------ tables: a line for the columns, then their rows


def _number(value: Any) -> Any:
    """Return a canonical spelling of a float, with twelve digits, because later digits depend on libraries and
    machines."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    return [_number(item) for item in value] if isinstance(value, list | tuple) else value


def _table_lines(path: str, data: bytes) -> list[str] | None:
    """Return the columns and the rows; None if the file is not a table, or too large. Parquet needs the extra
    `tables`."""
    suffix, table = suffix_of(path), read_table(path, data, most_rows=MOST_ROWS)
    if table is None:
        return None
    if suffix not in DELIMITERS:
        columns = ", ".join(f"{name}: {kind}" for name, kind in zip(table.columns or (), table.types, strict=True))
        shown = (json.dumps(_number(row), sort_keys=True, ensure_ascii=False, default=str) for row in table.rows)
        return ["JSON Lines" if table.columns is None else columns, *shown]
    lines = io.StringIO()
    rows = (
        [repr(_number(float(text))) if _FLOAT.fullmatch(text) else text for text in row]
        for row in (table.columns or (), *table.rows)
    )
    csv.writer(lines, delimiter=DELIMITERS[suffix], lineterminator="\n").writerows(rows)
    return lines.getvalue().split("\n")[:-1]


_SHOWN_ROWS = 10
_LONGEST_VALUE = 60
MOST_CELLS = 4_000_000
"""Maximum number of values of a Parquet file that is compared by rows."""


@dataclass(frozen=True, slots=True)
class FileDifference:
    """One file that differs between both trees. Its `str` is one line."""

    path: str
    summary: str
    """The difference in a few words."""
    lines: tuple[str, ...] = ()
    """The lines of the difference, if it can be shown."""
    columns: tuple[str, ...] = ()
    """The columns of a table whose values differ."""

    def __str__(self) -> str:
        return f"{visible(self.path)}: {self.summary}"


def _table_in(path: str, content: bytes) -> tuple[tuple[str, ...], list[tuple[Any, ...]]] | None:
    """Return the columns and rows of a table, by the suffix of its path; None if it has none, or irregular rows."""
    table = read_table(path, content, most_cells=MOST_CELLS)
    if table is None:
        return None
    columns, rows = table.columns, table.rows
    if columns is None:
        if not rows or not all(isinstance(row, dict) for row in rows):
            return None
        columns = tuple(dict.fromkeys(key for row in rows for key in row))
        rows = [[row.get(column) for column in columns] for row in rows]
    is_regular = len(set(columns)) == len(columns) and all(len(row) == len(columns) for row in rows)
    # Lines show irregular rows better.
    return (columns, [tuple(map(_comparable, row)) for row in rows]) if is_regular else None


def _comparable(value: Any) -> Any:
    """Return a value whose `repr` is that of all equal values."""
    return json.dumps(value, sort_keys=True, default=repr) if isinstance(value, dict | list) else value


def _table_difference(path: str, old: bytes, new: bytes, sides: tuple[str, str]) -> FileDifference | None:
    """Compare by rows and columns; None if one is not a table, or all values and their order are the same."""
    before, after = _table_in(path, old), _table_in(path, new)
    if before is None or after is None or repr(before) == repr(after):  # NaN is not equal to itself
        return None
    (old_columns, old_rows), (columns, rows) = before, after
    if old_columns != columns:
        removed = [name for name in old_columns if name not in columns]
        added = [name for name in columns if name not in old_columns]
        changes = [f"without column {listing(removed)}"] if removed else []
        changes += [f"with new column {listing(added)}"] if added else []
        summary = " and ".join(changes) or "the columns have a different order"
        lines = [f"- {', '.join(old_columns)}", f"+ {', '.join(columns)}"]
        return FileDifference(path, summary, _short(lines), tuple(removed + added))
    then, now = Counter(map(repr, old_rows)), Counter(map(repr, rows))
    if len(old_rows) != len(rows):
        removed, added = list((then - now).elements()), list((now - then).elements())
        lines = [f"- {_cut(row)}" for row in removed[:_SHOWN_ROWS]] + [f"+ {_cut(row)}" for row in added[:_SHOWN_ROWS]]
        hidden = max(len(removed) - _SHOWN_ROWS, 0) + max(len(added) - _SHOWN_ROWS, 0)
        lines += [f"… and {count(hidden, 'more row')}"] if hidden else []
        numbers = f"{count(len(old_rows), 'row')} {sides[0]}, {len(rows):,} {sides[1]}"
        return FileDifference(path, f"{numbers}; {len(removed):,} removed, {len(added):,} added", _short(lines))
    if then == now:
        return FileDifference(path, "the same rows in a different order")
    return _other_values(path, columns, old_rows, rows)


def _other_values(
    path: str, columns: Sequence[str], before: Sequence[Sequence[Any]], after: Sequence[Sequence[Any]]
) -> FileDifference:
    """Compare as many rows of the same columns, one by one."""
    lines: list[str] = []
    names: dict[str, None] = {}
    differing = 0
    for number, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        cells = [cell for cell in zip(columns, old, new, strict=True) if repr(cell[1]) != repr(cell[2])]
        names.update(dict.fromkeys(name for name, _, _ in cells))
        differing += bool(cells)
        if differing <= _SHOWN_ROWS:
            lines += [f"row {number:,}, {name}: {_cut(repr(then))} → {_cut(repr(now))}" for name, then, now in cells]
    if differing > _SHOWN_ROWS:
        lines.append(f"… and {count(differing - _SHOWN_ROWS, 'more row')}")
    verb, which = "differs" if differing == 1 else "differ", "column" if len(names) == 1 else "columns"
    summary = f"{differing:,} of {count(len(before), 'row')} {verb}, in {which} {listing(list(names))}"
    return FileDifference(path, summary, _short(lines), tuple(names))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


Content: TypeAlias = bytes | Path

MOST_LINES = 40
"""Maximum number of lines of a difference that are shown for one file."""
LONGEST_TEXT = 4 * 1024 * 1024
"""Maximum size of a text that is compared by lines."""
LARGEST_TABLE = 8 * 1024 * 1024
"""Maximum size of a table that is compared by rows, which needs about 50 times as much memory."""
_LONGEST_LINE = 200
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Digest:
    """A file whose bytes were not kept: its size in bytes, and the hex MD5 that lakeFS lists."""

    size: int
    md5: str


def digest_of(content: Content | Digest) -> Digest:
    """Return the size and MD5 of a file, which is read in pieces.

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
) -> Iterator[FileDifference]:
    """Yield the files that differ, in the order of their paths.

    Raises:
        OSError: a file cannot be read.
    """
    for path in sorted({*before, *after}):
        if path not in after:
            yield FileDifference(path, "no longer exists")
        elif path not in before:
            yield FileDifference(path, f"is new, {size(digest_of(after[path]).size)}")
        elif (difference := file_difference(path, before[path], after[path])) is not None:
            yield difference


def file_difference(
    path: str, before: Content | Digest, after: Content | Digest, sides: tuple[str, str] = ("before", "now")
) -> FileDifference | None:
    """Compare one file; None if it is the same. `sides` are the words for the two contents.

    Raises:
        OSError: a file cannot be read.
    """
    old, new = digest_of(before), digest_of(after)
    if old == new:
        return None
    if max(old.size, new.size) <= most_compared(path):
        then, now = (content.read_bytes() if isinstance(content, Path) else content for content in (before, after))
        if isinstance(then, bytes) and isinstance(now, bytes):
            difference = _table_difference(path, then, now, sides) or _text_difference(path, then, now, sides)
            if difference is not None:
                return difference
    sizes = f"{size(old.size)} {sides[0]}, {size(new.size)} {sides[1]}"
    digests = f"md5 {old.md5[:_SHOWN_DIGITS]}… {sides[0]}, {new.md5[:_SHOWN_DIGITS]}… {sides[1]}"
    return FileDifference(path, f"{sizes}; {digests}")


def most_compared(path: str) -> int:
    """Return the size in bytes up to which a file is compared by its content."""
    return LARGEST_TABLE if suffix_of(path) else LONGEST_TEXT


def _text_difference(path: str, old: bytes, new: bytes, sides: tuple[str, str]) -> FileDifference | None:
    before, after = as_text(old), as_text(new)
    if before is None or after is None:
        return None
    lines = list(islice(unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1), 2, None))
    if not lines:
        return FileDifference(path, "only the line ends differ")
    removed = sum(line.startswith("-") for line in lines)
    come = sum(line.startswith("+") for line in lines)
    return FileDifference(path, f"{count(removed, 'line')} {sides[0]}, {count(come, 'line')} {sides[1]}", _short(lines))


def _short(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the displayed lines, all short and without invisible characters."""
    shown = [visible(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…") for line in lines[:MOST_LINES]]
    more = len(lines) - MOST_LINES
    return (*shown, f"… and {count(more, 'more line')}") if more > 0 else tuple(shown)


def as_text(content: bytes) -> str | None:
    """Return the content as text, or None if it is not readable text."""
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The parts of an attempt that are compared. Paths are relative to the workspace."""

    ending: str
    """In the words of `Example.expect`: `completed`, `pre`, `post`, `failed` or `terminal`."""
    reason: str = ""
    """The reason why it did not complete."""
    result: Any = None
    files: Mapping[str, Content | Digest] = field(default_factory=dict)
    """The added and changed files."""
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences of two attempts. The object is false if nothing differs."""

    ending: str = ""
    result: tuple[Difference, ...] = ()
    files: tuple[FileDifference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ending or self.result or self.files)

    @property
    def summary(self) -> tuple[str, ...]:
        """Yield a line for each difference."""
        results = tuple(f"result {difference.text.removeprefix(': ')}" for difference in self.result)
        return (*((self.ending,) if self.ending else ()), *results, *map(str, self.files))

    def lines(self) -> Iterator[str]:
        """The same, with the differences of each file below its line."""
        yield from self.summary[: len(self.summary) - len(self.files)]
        for difference in self.files:
            yield str(difference)
            yield from (f"  {line}" for line in difference.lines)

    def as_json(self) -> dict[str, Any]:
        """Return the differences as JSON."""
        return {
            "ending": self.ending or None,
            "result": [difference.text for difference in self.result],
            "files": [asdict(difference) for difference in self.files],
        }


def differences(before: AttemptResult, after: AttemptResult, tree: Mapping[str, Content]) -> Differences:
    """Compare `after` with `before`. Ids, times and absolute paths in the reasons of failures are not compared.

    Args:
        before: the earlier outcome.
        after: today's outcome.
        tree: the common input files. A file that only one of both wrote is compared with its input.

    Raises:
        OSError: a file cannot be read.
    """
    if before.ending != after.ending:
        then = f" ({before.reason})" if before.reason else ""
        why = f": {after.reason}" if after.reason else ""
        return Differences(ending=f"{before.ending} before{then}, {after.ending} now{why}")
    if before.ending != "completed":
        if not before.reason or not after.reason or _steady_reason(before.reason) == _steady_reason(after.reason):
            return Differences()
        return Differences(ending=f"{after.ending} for another reason: {before.reason} (before), {after.reason} (now)")
    before, after = with_untouched(before, after, tree), with_untouched(after, before, tree)
    stays = before.removed - after.removed - after.files.keys()
    is_removed = after.removed - before.removed - before.files.keys()
    files = [
        *tree_differences(before.files, after.files),
        *(FileDifference(path, "was removed before, is kept now") for path in stays),
        *(FileDifference(path, "was kept before, is removed now") for path in is_removed),
    ]
    return Differences(
        result=json_differences(before.result, after.result),
        files=tuple(sorted(files, key=lambda difference: difference.path)),
    )


_UNSTEADY = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f-]{20,}|\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b|\b0x[0-9a-f]+|(?<![\w.])/[^\s'\":,;)]+"
    r"|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)?|\b\d\d:\d\d:\d\d\b|\b\d{8,}\b"
)
"""Ids, addresses of objects, absolute paths, dates and times."""
_REASON_COMPARED = 200


def _steady_reason(reason: str) -> str:
    """The kind and the message of a failure, without what differs in each attempt."""
    return " ".join(_UNSTEADY.sub("…", reason).split())[:_REASON_COMPARED]


def with_untouched(result: AttemptResult, other: AttemptResult, tree: Mapping[str, Content]) -> AttemptResult:
    """Add to `one` those files of the tree that it left alone and `other` wrote."""
    paths = other.files.keys() - result.files.keys() - result.removed
    return replace(result, files={**result.files, **{path: tree[path] for path in paths & tree.keys()}})
