"""Glob patterns of guardrails: what they mean, and one regular expression that decides it.

A pattern is matched against the whole path of a file, relative to the workspace:

- `*` matches any part of one name, `?` one character of it, `[abc]`, `[a-z]` and `[!abc]` one character of a set;
  inside one path segment these mean what Python's `fnmatch` means by them. None of them matches a `/`.
- `**` as a whole segment matches zero or more directories: `raw/**/*.csv` matches `raw/a.csv` and `raw/x/y/a.csv`.
  At the end of a pattern it stands for every file below: `raw/**` matches what `raw/**/*` matches.
- Matching is case-sensitive everywhere, and a leading dot is an ordinary character: what a task leaves behind in
  `.cache/` would be published, so `forbid_glob("**/*.tmp")` has to see it (docs/design/contract.md 2).
"""

from __future__ import annotations

import re
from functools import lru_cache

_IN_NAME = "[^/]"
_DIRECTORY = "(?:[^/]+/)"


@lru_cache(maxsize=256)
def compile_glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """The expression whose `fullmatch` says whether a relative POSIX path matches the canonical `pattern`."""
    groups: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            groups.append([])
        else:
            groups[-1].append(_segment(segment))
    *directories, last = groups
    chunks = ["".join(f"{name}/" for name in names) for names in directories]
    chunks.append("/".join(last) or f"{_IN_NAME}+")
    return re.compile(_with_gaps(chunks, _DIRECTORY), re.IGNORECASE if ignore_case else 0)


def _segment(segment: str) -> str:
    """The expression for one path segment."""
    chunks = [""]
    position = 0
    while position < len(segment):
        character = segment[position]
        position += 1
        if character == "*":
            chunks.append("")
        elif character == "?":
            chunks[-1] += _IN_NAME
        elif character == "[" and (end := _end_of_set(segment, position)) > 0:
            chunks[-1] += _set(segment[position:end])
            position = end + 1
        else:
            chunks[-1] += re.escape(character)
    return _with_gaps(chunks, _IN_NAME)


def _with_gaps(chunks: list[str], gap: str) -> str:
    """`chunks` with any number of `gap` between neighbours.

    The leftmost match of a middle chunk is always good enough, because another gap follows; atomic groups say so,
    and matching never goes back on it, however many stars a pattern has.
    """
    if len(chunks) == 1:
        return chunks[0]
    first, *middle, last = chunks
    return f"{first}{''.join(f'(?>{gap}*?{chunk})' for chunk in middle if chunk)}{gap}*{last}"


def _end_of_set(segment: str, start: int) -> int:
    """Where the set that begins at `start` ends, or -1: then the bracket is an ordinary character."""
    if segment[start : start + 1] == "!":
        start += 1
    return segment.find("]", start + 1)


def _set(text: str) -> str:
    """The expression for the set `text` without its brackets. A range that runs backwards is empty."""
    negated = text.startswith("!")
    members = ""
    position = int(negated)
    while position < len(text):
        low = text[position]
        if text[position + 1 : position + 2] == "-" and position + 2 < len(text):
            high = text[position + 2]
            position += 3
            if low <= high:
                members += f"{re.escape(low)}-{re.escape(high)}"
        else:
            position += 1
            members += _escaped_member(low)
    if not members:
        return _IN_NAME if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{members}]"


def _escaped_member(character: str) -> str:
    """Inside a set these have, or may get, a meaning of their own."""
    return f"\\{character}" if character in r"\]^-[&~|" else character
