"""HTML from strings that are not trusted: names of tests, messages and contents of files are text, never markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from perago.workspace.text import visible


class Markup(str):
    """Text that is HTML already. Only this module makes it, and what joins pieces of it."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
"""Plain text is escaped; None is nothing."""

_EMPTY = {"meta", "br"}


def tag(name: str, /, *children: Child, **attributes: str | None) -> Markup:
    """An element. `class_` is the attribute `class`; an attribute that is None is left out."""
    given = ((key.strip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    words = "".join(f' {key}="{escape(visible(value))}"' for key, value in given)
    if name in _EMPTY:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{joined(children)}</{name}>")


def joined(children: Child) -> Markup:
    """The pieces, one after the other."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(escape(visible(children)))
    return Markup("".join(map(joined, children)))


def table(head: Iterable[Child], rows: Iterable[Iterable[Child]]) -> Markup:
    """A table that scrolls by itself where it is wider than the page. A cell may be a `td` or `th` already."""
    titles = tag("tr", [tag("th", title, scope="col") for title in head])
    body = [tag("tr", [_cell(cell) for cell in row]) for row in rows]
    return tag("div", tag("table", tag("thead", titles), tag("tbody", body)), class_="wide")


def _cell(content: Child) -> Markup:
    if isinstance(content, Markup) and content.startswith(("<td", "<th")):
        return content
    return tag("td", content)
