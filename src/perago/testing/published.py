"""The tree of a commit as tests see it, and how two of them differ."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping

from perago.workspace.text import count, one_line, quoted

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
            UnicodeDecodeError: it is no text.
        """
        return self[path].decode()


def tree_differences(left: Mapping[str, object], right: Mapping[str, object]) -> list[str]:
    """What is different, file by file: the lines of texts, and size and digest of everything else.

    Args:
        left: paths and contents; a `str` stands for its UTF-8 bytes.
        right: what it is compared with.

    Returns:
        Lines for a terminal, cut in length and number. `+` is only in `left`, `-` only in `right`, `~` is in both.
    """
    added, missing, changed = _changed_paths(left, right)
    lines = [f"+ {one_line(path)}  {described(left[path])}" for path in added[:_MOST_FILES]]
    lines += [f"- {one_line(path)}  {described(right[path])}" for path in missing[:_MOST_FILES]]
    for path in changed[:_MOST_FILES]:
        lines += [f"~ {one_line(path)}", *_content_differences(_bytes(left[path]), _bytes(right[path]))]
    more = sum(max(0, len(paths) - _MOST_FILES) for paths in (added, missing, changed))
    return [*lines, f"and {more:,} more files"] if more else lines


def explain(left: object, right: object) -> list[str] | None:
    """What a failed `left == right` says of it; None: neither is a published tree, or the other is no mapping."""
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return None
    if not isinstance(left, PublishedTree) and not isinstance(right, PublishedTree):
        return None
    published, expected = (left, right) if isinstance(left, PublishedTree) else (right, left)
    number = sum(map(len, _changed_paths(published, expected)))
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
    """The content as text; None if it is none that a person would read."""
    try:
        text = content.decode() if len(content) <= _LONGEST_TEXT else None
    except UnicodeDecodeError:
        return None
    return None if text is None or "\0" in text else text


def _bytes(content: object) -> object:
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content


def _changed_paths(left: Mapping[str, object], right: Mapping[str, object]) -> tuple[list[str], list[str], list[str]]:
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
