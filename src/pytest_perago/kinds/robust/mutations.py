"""The catalog of the kind `robust`: named changes of the files of a tree, each of which has revealed a bug in some
task.

A mutation consists of a label, a path and a site. `apply` makes the changed tree, which is always the same. Levels say
how likely an input is in production: 1 is routine, 2 is possible, 3 is hostile.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeAlias

Tree: TypeAlias = Mapping[str, bytes]
Files: TypeAlias = "Mapping[str, bytes | None]"
"""The files that a change writes; None removes one."""

MOST_SITES = 3
"""Number of places in one file at which a mutation is tried."""
_MOST_SIMILAR = 3
"""Number of files with one suffix that are changed."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A named change at one place: of a file, or of the tree around it."""

    label: str
    path: str
    site: int


@dataclass(frozen=True, slots=True)
class Change:
    """The files that a mutation writes, and their defect, which follows the name of the file."""

    defect: str
    files: Files
    column: str = ""
    """The column or key that it touches."""
    keys: tuple[str | int, ...] = ()
    """The place of the value in a document, from its top level."""

    def applied(self, tree: Tree) -> dict[str, bytes]:
        """Return the changed tree."""
        changed = {**tree, **self.files}
        return {path: content for path, content in changed.items() if content is not None}


Operator: TypeAlias = Callable[[Tree, str], Iterable[Change]]
"""Finds the changes of one file, the likeliest site first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the catalog."""

    label: str
    level: int
    suffixes: tuple[str, ...]
    """The files that it changes; empty for any."""
    operator: Operator


CATALOG: dict[str, list[Entry]] = {}
"""The entries by label. `table_mutations` adds those of tables and documents. A label has several entries if several
formats have that defect."""


def mutations_of(tree: Tree, level: int) -> list[Mutation]:
    """Return all mutations of a tree up to a level, routine ones first. Each label and file comes once before a second
    site."""
    ranked = []
    for path in _representative(tree):
        for entry in itertools.chain.from_iterable(CATALOG.values()):
            if entry.level <= level and _concerns(entry, path):
                sites = itertools.islice(_changes(entry, tree, path), MOST_SITES)
                ranked += [(number, entry.level, Mutation(entry.label, path, number)) for number, _ in enumerate(sites)]
    return [mutation for _, _, mutation in sorted(ranked, key=lambda mutation: mutation[:2])]


def apply(tree: Tree, mutation: Mutation) -> Change | None:
    """Return the changes of a mutation to a tree, or None if it does not apply."""
    if mutation.path not in tree:
        return None
    for entry in CATALOG.get(mutation.label, ()):
        if _concerns(entry, mutation.path):
            sites = list(itertools.islice(_changes(entry, tree, mutation.path), MOST_SITES))
            if sites:
                return sites[mutation.site % len(sites)]
    return None


def _changes(entry: Entry, tree: Tree, path: str) -> Iterator[Change]:
    """Return the changes that really change the tree."""
    for change in entry.operator(tree, path):
        if any(tree.get(name) != content for name, content in change.files.items()):
            yield change


def _concerns(entry: Entry, path: str) -> bool:
    return not entry.suffixes or PurePosixPath(path).suffix.lower() in entry.suffixes


def _representative(tree: Tree) -> list[str]:
    """Return the files to change: a few of each suffix and directory, because the others are similar."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path in sorted(tree):
        file = PurePosixPath(path)
        groups.setdefault((str(file.parent), file.suffix.lower()), []).append(path)
    return [path for paths in groups.values() for path in paths[:_MOST_SIMILAR]]


def entry(label: str, level: int, *suffixes: str) -> Callable[[Operator], Operator]:
    def register(operator: Operator) -> Operator:
        CATALOG.setdefault(label, []).append(Entry(label, level, suffixes, operator))
        return operator

    return register


CSV = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
_TEXT = (*CSV, *LINES, ".json", ".txt", ".md", ".xml", ".yaml", ".yml", ".toml", ".ini", ".html")
_BINARY = (".parquet", ".zip", ".gz", ".png", ".jpg", ".jpeg", ".pdf", ".npy", ".npz", ".xlsx", ".bin", ".tif", ".tiff")


# ------------------------------------------------------------------------------------------ neutral mutations
#
# They leave the data of a file as they are, so that the result has to stay the same. A function that loses data on such
# an input fails nowhere, so the loss goes unnoticed. Values that describe the bytes of the file, such as sizes and
# digests, may change.

_NEUTRAL = frozenset(
    (
        *("bom", "crlf", "no-final-newline", "blank-line-end", "reordered", "key-order"),
        *("row-groups", "narrow", "dictionary", "large-string"),
    )
)
_SUFFIXES = (*CSV, *LINES, ".json", ".parquet")
_DIGEST = re.compile(r"[0-9a-fA-F]{8,}|[A-Za-z0-9+/]{20,}={0,2}")
_TOLERANCE = 1e-4
"""Relative difference of two numbers that count as equal, because 32 bits hold about seven digits."""


def is_neutral(label: str, path: str) -> bool:
    """Whether a mutation leaves the data of the file as they are."""
    return label in _NEUTRAL and PurePosixPath(path).suffix.lower() in _SUFFIXES


def is_legal(label: str, path: str) -> bool:
    """Whether a mutation leaves a file that each reader of its format can read, such as a CSV file with quotes."""
    return is_neutral(label, path) or label in ("quoted-delimiter", "quoted-newline", "doubled-quote", "unicode")


def changed_value(before: Any, after: Any, sizes: tuple[int, int], pointer: str = "") -> tuple[str, Any, Any] | None:
    """Return the first value of a result that must not change, as its JSON pointer and both values; None without one.

    `sizes` are the sizes of the mutated file. The order of lists and the bytes of the file do not count.
    """
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        parts = [(f"{pointer}/{key}", before[key], after[key]) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        if sorted(map(repr, before)) == sorted(map(repr, after)):
            return None
        parts = [(f"{pointer}/{number}", *pair) for number, pair in enumerate(zip(before, after, strict=True))]
    else:
        return None if _is_equal(before, after, sizes) else (pointer or "/", before, after)
    differences = (changed_value(old, new, sizes, place) for place, old, new in parts)
    return next((difference for difference in differences if difference is not None), None)


def _is_equal(before: Any, after: Any, sizes: tuple[int, int]) -> bool:
    if isinstance(before, str) and isinstance(after, str):
        return sorted(before) == sorted(after) or bool(_DIGEST.fullmatch(before) and _DIGEST.fullmatch(after))
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, int | float) and isinstance(after, int | float):
        old, new = sizes
        is_size = before >= old and math.isclose(after - before, new - old, abs_tol=0.5)
        is_share = before != 0 and math.isclose(after / before, new / old, rel_tol=1e-9)  # such as a size in KiB
        return is_size or is_share or math.isclose(before, after, rel_tol=_TOLERANCE)
    return bool(before == after)


# ----------------------------------------------------------------------------------- the tree around a file


@entry("optional-file-gone", 1)
def _missing(_: Tree, path: str) -> Iterator[Change]:
    yield Change("is missing", {path: None})


@entry("second-file", 1)
def _second(tree: Tree, path: str) -> Iterator[Change]:
    file = PurePosixPath(path)
    copy = str(file.with_name(f"{file.stem}-2{file.suffix}"))
    if copy not in tree:
        yield Change(f"has a second file next to it, {copy}", {copy: tree[path]})


@entry("one-file-only", 1)
def _only_file(tree: Tree, path: str) -> Iterator[Change]:
    file = PurePosixPath(path)
    others = [other for other in tree if other != path and PurePosixPath(other).parent == file.parent]
    of_its_kind = [other for other in others if PurePosixPath(other).suffix == file.suffix]
    if len(of_its_kind) > 1:
        yield Change("is the only file of its kind", dict.fromkeys(of_its_kind))


@entry("foreign-file", 1)
def _foreign(tree: Tree, path: str) -> Iterator[Change]:
    file = PurePosixPath(path)
    for name, content in (
        ("README.md", b"# Data\n"),
        (f"._{file.name}", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "),
        (f"{file.name}.bak", tree[path]),
    ):
        new = str(file.with_name(name))
        if new not in tree:
            yield Change(f"has a file next to it that does not belong there, {new}", {new: content})


@entry("sub-directory", 1)
def _deeper(tree: Tree, path: str) -> Iterator[Change]:
    file = PurePosixPath(path)
    copy = str(file.parent / "more" / file.name)
    if copy not in tree:
        yield Change(f"is also in a directory below, {copy}", {copy: tree[path]})


@entry("odd-name", 1)
def _odd_name(tree: Tree, path: str) -> Iterator[Change]:
    file = PurePosixPath(path)
    for name in (
        f"{file.stem} (1){file.suffix}",
        f"{file.stem}.v2{file.suffix}",
        f"Größe{file.suffix}",
        f"{file.stem}{file.suffix.upper()}",
    ):
        new = str(file.with_name(name))
        if new not in tree:
            yield Change(f"is called {new}", {path: None, new: tree[path]})


@entry("directory-like-file", 3)
def _like_a_file(_: Tree, path: str) -> Iterator[Change]:
    file = PurePosixPath(path)
    inside = str(file.with_name(f"{file.stem}-2{file.suffix}") / "part-0")
    yield Change(f"has a directory next to it that is named like a file, {PurePosixPath(inside).parent}", {inside: b""})


# ------------------------------------------------------------------------------------- any content, and text


@entry("empty-file", 1)
def _empty(_: Tree, path: str) -> Iterator[Change]:
    yield Change("is empty", {path: b""})


def _on_bytes(
    label: str, level: int, suffixes: Sequence[str], defect: str, edit: Callable[[bytes], bytes | None]
) -> None:
    """Add a mutation of the complete content. None: it does not apply."""

    def operator(tree: Tree, path: str) -> Iterator[Change]:
        if tree[path] and (content := edit(tree[path])) is not None:
            yield Change(defect, {path: content})

    entry(label, level, *suffixes)(operator)


def _blank_middle(content: bytes) -> bytes | None:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:2], b"\n", *lines[2:]]) if len(lines) > 2 else None


def _encoded(content: bytes, encoding: str) -> bytes | None:
    """Return the text in another encoding. A text without a letter that differs in it gets one."""
    try:
        text = content.decode()
        if text.isascii() and encoding == "latin-1":
            head, end, rest = text.rpartition("\n") if text.count("\n") == 1 else text.partition("\n")
            unchanged, changed = (head + end, rest) if rest else ("", head)
            text = unchanged + re.sub("[A-Za-z]", "é", changed, count=1)
        return text.encode(encoding)
    except UnicodeError:
        return None


_on_bytes("bom", 1, _TEXT, "begins with a byte order mark", lambda data: BOM + data.removeprefix(BOM))
_on_bytes("crlf", 1, _TEXT, "has lines that end with CRLF", lambda data: re.sub(rb"\r?\n", b"\r\n", data))
_on_bytes("no-final-newline", 1, _TEXT, "has no line end at its end", lambda data: data.rstrip(b"\r\n"))
_on_bytes("blank-line-end", 1, _TEXT, "ends with a blank line", lambda data: data.rstrip(b"\r\n") + b"\n\n")
_on_bytes("blank-line-middle", 1, (*CSV, *LINES, ".txt"), "has a blank line in the middle", _blank_middle)
_on_bytes("latin1", 2, _TEXT, "is not UTF-8 (latin-1)", lambda data: _encoded(data, "latin-1"))
_on_bytes("utf16", 2, _TEXT, "is not UTF-8 (UTF-16)", lambda data: _encoded(data, "utf-16"))
_on_bytes("nul", 3, _TEXT, "has a NUL byte", lambda data: data[:-1] + b"\x00" + data[-1:])
_on_bytes("cr-only", 3, _TEXT, "has lines that end with CR", lambda data: data.replace(b"\n", b"\r"))
_on_bytes("long-line", 2, (".txt", ".md"), "has a line of 100,000 characters", lambda data: b"x" * 100_000 + data)
_on_bytes("cut-half", 2, (*_BINARY, ".json", *LINES), "is cut off in the middle", lambda data: data[: len(data) // 2])
_on_bytes("cut-last-byte", 2, _BINARY, "lacks its last byte", lambda data: data[:-1])
_on_bytes("trailing-garbage", 2, _BINARY, "has bytes after its end", lambda data: data + b"\x00" * 16)
_on_bytes("wrong-magic", 2, _BINARY, "has a different format than its suffix says", lambda _: b"<html></html>\n")
