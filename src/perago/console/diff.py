"""`/repositories/{r}/commits/{c}/diff`: the changed lines of a file between two commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from urllib.parse import quote, unquote

from starlette.requests import Request

from perago.console import links
from perago.console.preview import TEXT_BYTES, read_text
from perago.console.repositories import commit_link, exists, file_crumbs
from perago.console.source import File, NoSuchPage, Source
from perago.console.text import PageView, RowView, line
from perago.text import size

LINES = 2000
"""Lines of each side that are compared, after the lines that both sides begin with."""
CONTEXT = 3
_LINE = 500
_SIGNS = {"added": "+", "removed": "-", "": ""}


def diff(source: Source, request: Request) -> PageView:
    """Show the changes of the file `?path=` (percent-encoded: `?quoted=`) since `?base=`, or since the first parent.

    Raises:
        NoSuchPage: one of the commits does not exist, or neither of them has the file.
    """
    repository, query = request.path_params["repository"], request.query_params
    path = unquote(query["quoted"], errors="replace") if "quoted" in query else query.get("path", "")
    found = source.lakefs.commit(repository, request.path_params["commit"])
    base = query.get("base") or (found.parents[0] if found.parents else found.id)
    before, after = source.lakefs.commit(repository, base).id, found.id
    sides = [_side(source, repository, commit, path) for commit in (before, after)]
    if sides == [None, None]:
        raise NoSuchPage(f"Neither commit has a file {path!r}.")
    texts = [
        "" if side is None else _text(source, repository, commit, side)
        for side, commit in zip(sides, (before, after), strict=True)
    ]
    rows: tuple[RowView, ...] = ()
    note = "Not text. Download both to compare them."
    if None not in texts:
        rows, note = compared(*(str(text) for text in texts))
        cut = any(side is not None and side.size_bytes > TEXT_BYTES for side in sides)
        note = "; ".join(filter(None, (note, f"only the first {size(TEXT_BYTES)} of each are compared" if cut else "")))
    return PageView(
        f"Changes of {line(path).text}",
        crumbs=file_crumbs(repository, after, path),
        path=line(path),
        before=commit_link(repository, before),
        after=commit_link(repository, after),
        sizes=tuple("no file" if side is None else size(side.size_bytes) for side in sides),
        is_same=None not in sides
        and sides[0] is not None
        and sides[1] is not None
        and sides[0].checksum == sides[1].checksum,
        rows=rows,
        note=note,
        quoted=quote(path, safe="", errors="replace"),  # a field of a form can hold only printable text exactly
        action=f"{links.commit(repository, after)}/diff",
        base=line(base).text,
    )


def _side(source: Source, repository: str, commit: str, path: str) -> File | None:
    found: list[File] = []
    return found[0] if exists(lambda: found.append(source.lakefs.file(repository, commit, path))) else None


def _text(source: Source, repository: str, commit: str, found: File) -> str | None:
    text = read_text(source, repository, commit, found)
    return None if text is None else text.text


def compared(before: str, after: str) -> tuple[tuple[RowView, ...], str]:
    """Return the changed lines of two texts with the lines around them, and a note about lines that were left out."""
    old, new = before.splitlines(), after.splitlines()
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    begin = max(0, same - CONTEXT)
    is_cut = max(len(old), len(new)) - begin > LINES
    old, new = old[begin : begin + LINES], new[begin : begin + LINES]
    matcher = SequenceMatcher(None, old, new)
    rows: list[RowView] = []
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if rows:
            rows.append(RowView(kind="gap", old="", new="", sign="", text=line("…")))
        for tag, a, a_end, b, b_end in group:
            if tag == "equal":
                rows += _rows("", old, begin, range(a, a_end), shift=b - a)
                continue
            rows += _rows("removed", old, begin, range(a, a_end))
            rows += _rows("added", new, begin, range(b, b_end))
    return tuple(rows), f"cut: {LINES:,} lines from line {begin + 1:,} on are compared" if is_cut else ""


def _rows(kind: str, lines: Sequence[str], begin: int, places: range, shift: int = 0) -> Iterator[RowView]:
    for at in places:
        number, other = begin + at + 1, begin + at + shift + 1
        yield RowView(
            kind=kind,
            old="" if kind == "added" else number,
            new="" if kind == "removed" else number if kind else other,
            sign=_SIGNS[kind],
            text=line(lines[at], _LINE),
        )
