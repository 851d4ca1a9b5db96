"""The pictures of the documentation are shown, and small enough to be kept in the repository."""

from __future__ import annotations

import re

from .blocks import ROOT

LARGEST = 150_000
"""Bytes of a picture."""


def test_each_picture_is_shown_by_a_page_and_is_small() -> None:
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    pages = "".join(page.read_text("utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert set(pictures) == set(re.findall(r"\]\((?:\.\./)*images/([\w.-]+)\)", pages))
    assert {name: size for name, size in pictures.items() if size > LARGEST} == {}


def test_a_drawn_picture_loads_nothing() -> None:
    for drawing in (ROOT / "docs" / "images").glob("*.svg"):
        addresses = set(re.findall(r"https?://[^\s\"<)]+", drawing.read_text("utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}
