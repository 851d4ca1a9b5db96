"""The tree of a commit as tests see it: how it is compared, and the text that snapshots of it hold.

Texts stand there line by line, tables row by row with numbers written in one way, everything else as size and digest.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from perago.text import count, one_line, quoted, visible
from perago.workspace.table_files import DELIMITERS, PARQUET, read_table, suffix_of

if TYPE_CHECKING:
    from perago.testing.outcome import Outcome
    from perago.testing.race import Race
    from perago.testing.tasks import TaskFunction


_MOST_FILES = 20
_MOST_LINES = 40
_LONGEST_LINE = 200
_SHORT_TEXT = 60
_LONGEST_TEXT = 1024 * 1024
"""Bytes up to which a file is compared by its lines."""


class PublishedTree(dict[str, bytes]):
    """Paths of a workspace, without its prefix, and what the files hold.

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
        """A file as UTF-8 text.

        Raises:
            KeyError: there is no such file.
            UnicodeDecodeError: it is not a text.
        """
        return self[path].decode()


def tree_differences(left: Mapping[str, object], right: Mapping[str, object]) -> list[str]:
    """Describe the differences, file by file: the lines of texts, and size and digest of everything else.

    Args:
        left: paths and contents; a `str` stands for its UTF-8 bytes.
        right: what it is compared with.

    Returns:
        Lines for a terminal, cut in length and number. `+` is only in `left`, `-` only in `right`, `~` is in both.
    """
    added, missing, changed = changed_paths(left, right)
    lines = [f"+ {one_line(path)}  {described(left[path])}" for path in added[:_MOST_FILES]]
    lines += [f"- {one_line(path)}  {described(right[path])}" for path in missing[:_MOST_FILES]]
    for path in changed[:_MOST_FILES]:
        lines += [f"~ {one_line(path)}", *_content_differences(_bytes(left[path]), _bytes(right[path]))]
    more = sum(max(0, len(paths) - _MOST_FILES) for paths in (added, missing, changed))
    return [*lines, f"and {more:,} more files"] if more else lines


def explain(left: object, right: object) -> list[str] | None:
    """The explanation of a failed `left == right`; None: neither is a published tree, or the other is no mapping."""
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return None
    if not isinstance(left, PublishedTree) and not isinstance(right, PublishedTree):
        return None
    published, expected = (left, right) if isinstance(left, PublishedTree) else (right, left)
    number = sum(map(len, changed_paths(published, expected)))
    title = f"published tree == expected: {count(number, 'file')} differ{'s' if number == 1 else ''}"
    return [f"{title} (+ published, - expected)", *tree_differences(published, expected)]


def described(content: object) -> str:
    """Size and, for what is no short text, digest of a content."""
    data = _bytes(content)
    if not isinstance(data, bytes):
        return f"no content, but {type(content).__name__}"
    text = as_text(data)
    if text is not None and len(text) <= _SHORT_TEXT:
        return quoted(text)
    return f"{len(data):,} B, sha256 {hashlib.sha256(data).hexdigest()[:12]}"


def as_text(content: bytes) -> str | None:
    """The content as text; None if a person would not read it."""
    try:
        text = content.decode() if len(content) <= _LONGEST_TEXT else None
    except UnicodeDecodeError:
        return None
    return None if text is None or "\0" in text else text


def _bytes(content: object) -> object:
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content


def changed_paths(left: Mapping[str, object], right: Mapping[str, object]) -> tuple[list[str], list[str], list[str]]:
    """The paths of `left` alone, of `right` alone, and of both with other contents, each sorted."""
    both = sorted(left.keys() & right.keys())
    changed = [path for path in both if _bytes(left[path]) != _bytes(right[path])]
    return sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys()), changed


def _content_differences(left: object, right: object) -> Iterator[str]:
    """The lines that differ, or what is known of each side."""
    mine = as_text(left) if isinstance(left, bytes) else None
    other = as_text(right) if isinstance(right, bytes) else None
    if mine is None or other is None:
        yield f"  + {described(left)}"
        yield f"  - {described(right)}"
        return
    shown = 0
    for line in difflib.unified_diff(other.splitlines(True), mine.splitlines(True), lineterm="", n=1):
        if line.startswith(("---", "+++")):
            continue
        if shown == _MOST_LINES:
            yield "  and more lines"
            return
        shown += 1
        ended = "" if line.endswith("\n") or line.startswith("@@") else "  (no line end)"
        yield f"  {one_line(line.rstrip(chr(10)), _LONGEST_LINE)}{ended}"


class Snapshots(Protocol):
    """Compares with snapshots, and writes them under `--perago-update`: `perago_snapshot` is one."""

    def __call__(self, task: TaskFunction) -> None:
        """Compare the TaskDef of a task with its snapshot.

        Raises:
            AssertionError: it differs, or there is no snapshot.
            TypeError: it is no function with `@task`.
        """

    def tree(
        self,
        published: Outcome | Race | Mapping[str, str | bytes | None],
        name: str = "",
        *,
        exclude: Iterable[str] = (),
    ) -> None:
        """Compare a tree with its snapshot.

        Args:
            published: the outcome of a completed attempt, for the files that it has added, changed and removed; or a
                tree, such as `perago_run.tree()`, for all files of it.
            name: tells several snapshots of one test apart.
            exclude: globs of files that are never alike.

        Raises:
            AssertionError: it differs, there is no snapshot, or the attempt did not complete.
            ValueError: the test has asked for this name before, or it cannot be a part of a file name.
        """


MOST_LINES = 100
"""Lines or rows of a file that are shown; of longer ones the first ten, and a digest of all."""

MOST_ROWS = 100_000
"""Rows up to which a table is read. Larger ones are compared by their bytes."""

_FIRST = 10
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+")


def rendered(tree: Mapping[str, str | bytes | None]) -> str:
    """The tree as text, sorted by path. None is a directory."""
    return "".join(f"{line}\n" for path in sorted(tree) for line in _file(path, tree[path]))


def _file(path: str, content: str | bytes | None) -> Iterator[str]:
    if content is None:
        yield f"{visible(path)}: directory"
        return
    data = content.encode() if isinstance(content, str) else content
    rows = _table_lines(path, data)
    if rows is not None:
        yield from _lines(f"{visible(path)}: table", rows, "row", len(rows) - 1)
        return
    text = as_text(data)
    if text is None:
        yield f"{visible(path)}: {_digest(data)}"
    else:
        lines = text.split("\n")
        lines = lines[:-1] if lines[-1] == "" else [*lines[:-1], f"{lines[-1]} (no line end)"]
        yield from _lines(
            f"{visible(path)}: text", [line.replace("\r", "⟨U+000D⟩") for line in lines], "line", len(lines)
        )


def _lines(title: str, lines: Sequence[str], noun: str, number: int) -> Iterator[str]:
    """Title and lines, or the first of them and the digest of all."""
    if len(lines) <= MOST_LINES + 1 and sum(map(len, lines)) <= MOST_LINES * 200:
        yield f"{title}, {count(number, noun)}"
        yield from (f"    {visible(line)}".rstrip() for line in lines)
        return
    yield f"{title}, {count(number, noun)}, {_digest(chr(10).join(lines).encode('utf-8', 'surrogatepass'), size=False)}"
    yield from (f"    {visible(line[:200])}".rstrip() for line in lines[:_FIRST])
    yield "    ..."


def _digest(data: bytes, *, size: bool = True) -> str:
    digest = f"sha256 {hashlib.sha256(data).hexdigest()}"
    return f"{len(data):,} B, {digest}" if size else digest


# ------------------------------------------------------------------ tables: a line for the columns, then their rows


def _number(value: Any) -> Any:
    """A float in one spelling, to twelve digits: what comes after is the luck of libraries and machines."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    return [_number(item) for item in value] if isinstance(value, list | tuple) else value


def _table_lines(path: str, data: bytes) -> list[str] | None:
    """None if the file is not what its name says, or too large. Parquet needs the extra `tables`."""
    suffix = suffix_of(path)
    found = read_table(path, data, most_rows=MOST_ROWS) if suffix == PARQUET or as_text(data) is not None else None
    if found is None:
        return None
    if suffix not in DELIMITERS:
        columns = ", ".join(f"{name}: {kind}" for name, kind in zip(found.columns or (), found.types, strict=True))
        return ["JSON Lines" if found.columns is None else columns, *map(_json, found.rows)]
    lines = io.StringIO()
    rows = ([*map(_cell, row)] for row in (found.columns or (), *found.rows))
    csv.writer(lines, delimiter=DELIMITERS[suffix], lineterminator="\n").writerows(rows)
    return lines.getvalue().split("\n")[:-1]


def _cell(text: str) -> str:
    return repr(_number(float(text))) if _FLOAT.fullmatch(text) else text


def _json(value: Any) -> str:
    return json.dumps(_number(value), sort_keys=True, ensure_ascii=False, default=str)
