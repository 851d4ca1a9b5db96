"""What differs between two trees of files: texts by lines, tables by rows and columns, all else by size and digest.

    for difference in tree_differences({"a.csv": b"x\\n1\\n"}, {"a.csv": b"x\\n2\\n"}):
        print(difference)        # a.csv: 1 of 1 row differs, in column x

`before` is what was recorded, `after` what there is today. A file is its bytes, or a path that is read when it is
looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from perago.testing.tables import TABLES, Table, read_table, table_difference
from perago.workspace.text import count, size, visible

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
    """What differs, in a few words."""
    lines: tuple[str, ...] = ()
    """The difference itself, as far as it can be shown."""
    columns: tuple[str, ...] = ()
    """Of a table: the columns that have other values."""

    def __str__(self) -> str:
        return f"{visible(self.path)}: {self.summary}"


@dataclass(frozen=True, slots=True)
class Digest:
    """What is known of a file whose bytes were not kept: its size in bytes, and the hex MD5 that lakeFS lists."""

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
        return Digest(content.stat().st_size, hashlib.file_digest(file, _new_md5).hexdigest())


def _new_md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


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
    """How one file differs; None if it does not.

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
    return LARGEST_TABLE if Path(path).suffix.lower() in TABLES else LONGEST_TEXT


def _bytes_of(content: Content) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _by_content(path: str, old: bytes, new: bytes) -> FileDifference | None:
    """As a table, or as a text; None if it is neither."""
    if Path(path).suffix.lower() in TABLES:
        tables = read_table(path, old), read_table(path, new)
        if isinstance(tables[0], Table) and isinstance(tables[1], Table):
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
