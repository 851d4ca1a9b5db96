"""A strict reader of the pages' HTML: every element closed in order, no attribute and no id twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})


@dataclass
class Element:
    """One element and what is in it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, whitespace collapsed."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()
                yield "" if child.tag in ("bdi", "span", "a", "strong") else " "

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Every element below with this tag (`*`: any) and these attributes."""
        return [
            element
            for element in self.walk()
            if tag in ("*", element.tag)
            and all(element.attributes.get(name.strip("_")) == value for name, value in attributes.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        """The only such element."""
        elements = self.all(tag, **attributes)
        assert len(elements) == 1, f"{len(elements)} elements <{tag} {attributes}>"
        return elements[0]

    def walk(self) -> Iterator[Element]:
        """All elements below, in order."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()

    def rows(self) -> list[list[str]]:
        """The cells of all table rows below, as text."""
        return [[cell.text for cell in row.all("td")] for row in self.all("tr") if row.all("td")]

    def facts(self) -> dict[str, str]:
        """The terms of all description lists below with their descriptions."""
        terms, descriptions = self.all("dt"), self.all("dd")
        return {term.text: value.text for term, value in zip(terms, descriptions, strict=True)}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]
        self._ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        if "id" in element.attributes:
            assert element.attributes["id"] not in self._ids, f"id {element.attributes['id']!r} twice"
            self._ids.add(element.attributes["id"])
        if tag == "a":
            assert all(outer.tag != "a" for outer in self._open), "a link in a link"
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is no HTML")

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}> at {self.getpos()}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def check_end(self) -> None:
        assert self._open == [self.root], f"never closed: {[element.tag for element in self._open[1:]]}"


def read(html: str) -> Element:
    """The document; fails where it is not well-formed."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.check_end()
    return reader.root
