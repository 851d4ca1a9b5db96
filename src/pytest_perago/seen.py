"""What an attempt left, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_EXCERPT = 60
_BEFORE = 20
"""Bytes that are shown before the first difference."""
_MOST_EXCERPTS = 3
_MOST_NAMES = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """The result as JSON, the files by their paths or keys, and, where it did not complete, the reason."""

    result: Any
    files: Mapping[str, bytes]
    problem: str = ""

    def difference(self, other: Seen, first: str = "first run", second: str = "second run") -> list[tuple[str, str]]:
        """What is different, as facts of a failure.

        Args:
            other: what the second one left.
            first, second: what the two are called.
        """
        facts = []
        if self.problem != other.problem:
            facts += [(first, self.problem or "completed"), (second, other.problem or "completed")]
        if self.result != other.result:
            facts += [(first, repr(self.result)), (second, repr(other.result))]
        missing, extra = sorted(self.files.keys() - other.files.keys()), sorted(other.files.keys() - self.files.keys())
        if missing or extra:
            facts += [(first, _names(missing)), (second, _names(extra))]
        for key in self.changed(other)[:_MOST_EXCERPTS]:
            one, two = self.files[key], other.files[key]
            start = max(0, next(_unequal(one, two)) - _BEFORE)
            facts += [(first, f"{key}: {_excerpt(one, start)}"), (second, f"{key}: {_excerpt(two, start)}")]
        return facts

    def changed(self, other: Seen) -> list[str]:
        """The files that both have, with another content, sorted."""
        return [key for key in sorted(self.files.keys() & other.files.keys()) if self.files[key] != other.files[key]]

    def named(self, other: Seen) -> str:
        """What is different, in a few words: the files by their names, the result."""
        names = sorted({*self.changed(other), *(self.files.keys() ^ other.files.keys())})
        words = [f"{len(names) - _MOST_NAMES} more files"] if len(names) > _MOST_NAMES else []
        words = [*names[:_MOST_NAMES], *words, *(["the result"] if self.result != other.result else [])]
        return ", ".join(words)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) + more) or "no other file"


def _unequal(one: bytes, two: bytes) -> Iterator[int]:
    """Where they differ; at last, where the shorter one ends."""
    yield from (index for index, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    yield min(len(one), len(two))


def _excerpt(content: bytes, start: int) -> str:
    part = content[start : start + _EXCERPT]
    if len(part) == len(content):
        return repr(content)
    return f"{'...' if start else ''}{part!r}... ({len(content):,} bytes)"
