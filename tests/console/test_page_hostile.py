"""Names, keys, payloads and logs that would break a careless page."""

from __future__ import annotations

import pytest

from perago.console import links

from .filled import REPOSITORY
from .hostile import KEYS, NASTY, TEMPLATE, Hostile
from .test_page_links import crawl


@pytest.fixture(scope="module")
def pages(hostile: Hostile) -> dict[str, str]:
    """All pages. `test_page_links.py` proves that their HTML is sound."""
    found = crawl(hostile.site)
    assert len(found) > 2 * len(KEYS) + 10
    return {path: answer.text for path, answer in found.items() if "text/html" in answer.headers["content-type"]}


def test_nothing_invisible_or_reordering_is_left(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        left = {character for character in "\u202e\u2066\u200b\ufeff\x1b\x00\x07\x7f\u0085\r" if character in text}
        assert not left, path


def test_reordering_characters_are_spelled_out(hostile: Hostile) -> None:
    page = hostile.site.get(links.commit(REPOSITORY, hostile.commit)).main
    assert "invoice⟨U+202E⟩fdp.exe⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩" in [link.text for link in page.all("a")]


def test_templates_in_values_are_not_evaluated(hostile: Hostile) -> None:
    assert TEMPLATE in hostile.site.get(links.workflow(hostile.workflow)).main.text


def test_no_page_grows_with_its_payloads(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        assert len(text) < 300_000, path


def test_a_cut_text_has_a_note_and_hides_no_neighbor(hostile: Hostile) -> None:
    page = hostile.site.get(links.workflow(hostile.workflow)).main
    assert "long members are shortened" in page.text
    assert "… (1,000,000 characters)" in page.text
    assert "… (nested deeper than 40 levels)" in page.text
    assert "… (4,800 more)" in page.text
    assert "still here" in page.text


def test_the_end_of_a_long_log_is_shown(hostile: Hostile) -> None:
    page = hostile.site.get(links.workflow(hostile.workflow)).main
    assert "cut: the last 20,000 of 1,000,007 characters are shown" in page.text
    assert "xthe end" in page.text


def test_a_time_beyond_all_calendars_is_a_number(hostile: Hostile) -> None:
    assert f"{2**62} ms" in hostile.site.get(links.workflow(hostile.workflow)).main.text


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_every_key_can_be_downloaded_by_its_link(hostile: Hostile, key: str) -> None:
    answer = hostile.site.get(links.download(REPOSITORY, hostile.commit, key))
    assert answer.data == NASTY.encode()
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''")
    assert disposition.isascii()
    assert not set(disposition) & set('<>"\r\n/')


@pytest.mark.parametrize(
    "path", ["/?status=" + "%3Cscript%3E", "/?page=%00", "/task-types/definition?name=%3Cscript%3E%ff"]
)
def test_hostile_queries_are_inert(hostile: Hostile, path: str) -> None:
    answer = hostile.site.request("GET", path)
    assert answer.status in (200, 404)
    assert len(answer.page.all("script")) == 1
