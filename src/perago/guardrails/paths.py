"""Helpers of all kinds: match globs, name files in complaints, and suggest similar existing paths. The time for
suggestions is limited, even for large trees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from perago.authoring.declaration import calling_line
from perago.authoring.workspace import Listing
from perago.text import count, listing, quoted
from perago.workspace.keys import compile_glob

_COMPARED = 500
"""The number of names that are compared letter by letter, those in the same directory first."""

_LONGEST = 200
"""Maximum length of paths that are compared letter by letter."""

_WILD = frozenset("*?[")


def matching(pattern: str, tree: Listing) -> list[str]:
    """Return the files of the tree that match the pattern."""
    matches = compile_glob(pattern).fullmatch
    return [file for file in tree.sizes if matches(file)]


def matched_text(matched: Sequence[str]) -> str:
    """Return a text such as `matched 2 files: 'a.tmp', 'b.tmp'`; long lists are cut."""
    number = f"matched {count(len(matched), 'file')}"
    return f"{number}: {listing([quoted(path) for path in sorted(matched)])}" if matched else number


def for_pattern(pattern: str, tree: Listing) -> str | None:
    """Describe what exists in place of a file that matches the pattern."""
    ignoring_case = compile_glob(pattern, ignore_case=True).fullmatch
    twin = min((path for path in tree.sizes if ignoring_case(path)), default=None)
    if twin is not None:
        return f"{quoted(twin)} differs only in case"
    matches = compile_glob(pattern).fullmatch
    directory = min((path for path in tree.directories if matches(path)), default=None)
    if directory is not None:
        return f"{quoted(directory)} is a directory, and a glob counts files"
    return _fixed_part(pattern, tree) or _similar_file(pattern, tree)


def _fixed_part(pattern: str, tree: Listing) -> str | None:
    """Describe the directory before the first wildcard, if it is missing."""
    fixed = []
    for segment in pattern.split("/")[:-1]:
        if _WILD.intersection(segment):
            break
        fixed.append(segment)
    directory = "/".join(fixed)
    if not directory or directory in tree.directories:
        return None
    if directory in tree.sizes:
        return f"{quoted(directory)} is a file"
    return file_in_the_way(directory, tree) or nearest(directory, tree.directories)


def _similar_file(pattern: str, tree: Listing) -> str | None:
    """Describe files that have only another suffix, are in another directory, or have only the same suffix, unless the
    last segment matches every name."""
    name = pattern.rpartition("/")[2]
    if not name.strip("*"):
        return None
    for similar in (f"{pattern}*", f"**/{name}"):
        if files := matching(similar, tree):
            return f"there is {quoted(min(files))}"
    return with_suffix_of(name, tree)


def with_suffix_of(name: str, tree: Listing) -> str | None:
    """Describe the files with the suffix of `name`, if it has one."""
    stem, dot, suffix = name.rpartition(".")
    files = [quoted(path) for path in sorted(matching(f"**/*.{suffix}", tree))] if stem and dot else []
    return f"there {'is' if len(files) == 1 else 'are'} {listing(files)}" if files else None


def file_in_the_way(path: str, tree: Listing) -> str | None:
    """Describe a file that is in place of a directory of `path`."""
    above = path.rpartition("/")[0]
    while above:
        if above in tree.sizes:
            return f"{quoted(above)} is a file"
        above = above.rpartition("/")[0]
    return None


def nearest(path: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is most similar to the path, if one is similar enough."""
    candidates = sorted(candidates)
    twin = next((candidate for candidate in candidates if candidate.casefold() == path.casefold()), None)
    if twin is not None:
        return f"{quoted(twin)} differs only in case"
    above, _, name = path.rpartition("/")
    namesake = next((candidate for candidate in candidates if candidate.rpartition("/")[2] == name), None)
    if namesake is not None:
        return f"did you mean {quoted(namesake)}?"
    siblings = [candidate for candidate in candidates if candidate.rpartition("/")[0] == above]
    others = candidates[:_COMPARED]
    pool = [candidate for candidate in (*siblings[:_COMPARED], *others)[:_COMPARED] if len(candidate) <= _LONGEST]
    close = difflib.get_close_matches(path[:_LONGEST], pool, n=1, cutoff=0.75)
    return f"did you mean {quoted(close[0])}?" if close else None


def too_small(paths: Iterable[str], tree: Listing, least: int) -> str | None:
    """Return a complaint about the files with fewer than `least` bytes, or None."""
    small = [
        f"{quoted(path)} ({count(tree.sizes[path], 'byte')})" for path in sorted(paths) if tree.sizes[path] < least
    ]
    return f"too small: {listing(small)}" if small else None


def written_size(least: int) -> str:
    """Return the argument of a rule as declared; empty for the default."""
    return f", min_bytes={least}" if least else ""


def check_count(rule: str, name: str, number: object) -> None:
    """Refuse an argument that is not a whole number, or is negative.

    Raises:
        TaskDefinitionError: with the line of the author.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        message = f"{rule}: {name} must be a whole number, not {type(number).__name__}"
        raise calling_line().error(message, fix=f"write {name}=1")
    if number < 0:
        noun = "size" if name == "min_bytes" else "count"
        raise calling_line().error(f"{rule}: {name} is {number}, and a {noun} cannot be negative", fix="use 0 or more")
