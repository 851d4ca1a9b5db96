"""All pages: every link leads somewhere, the HTML is sound, and neither answers nor hostile values can harm."""

from __future__ import annotations

import itertools
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest

from perago.console import links

from .filled import REPOSITORY, Filled
from .hostile import KEYS, NASTY, TEMPLATE, Hostile
from .site import PageAnswer, Site, addresses, crawl

Pages = dict[str, PageAnswer]


@pytest.fixture(scope="module", params=["filled", "hostile"])
def pages(request: pytest.FixtureRequest, site: Site, hostile: Hostile) -> Pages:
    """All pages of models that are filled as usual, or with what would break a careless page."""
    answers = crawl(site if request.param == "filled" else hostile.site)
    assert len(answers) > (30 if request.param == "filled" else 2 * len(KEYS) + 10)
    return {path: answer for path, answer in answers.items() if "text/html" in answer.headers["content-type"]}


def test_every_link_of_every_page_resolves_to_an_existing_fragment(site: Site, filled: Filled) -> None:
    answers = {path: answer for path, answer in crawl(site).items() if "text/html" in answer.headers["content-type"]}
    assert len(answers) > 30
    for workflow_id in filled.services.conductor.workflow_ids():
        assert f"/workflows/{workflow_id}" in answers
    ids = {path: {element.attributes.get("id") for element in answer.page.walk()} for path, answer in answers.items()}
    for path, answer in answers.items():
        for address in addresses(answer.page):
            target, fragment = urldefrag(urljoin(path, address))
            assert not fragment or fragment in ids[target], f"{path} leads to {address}, which is not there"


def test_every_page_has_its_landmarks_and_no_external_references(pages: Pages) -> None:
    for path, answer in pages.items():
        page = answer.page
        for address in addresses(page):
            assert not urlsplit(address).scheme, f"{path}: {address}"
            assert not urlsplit(address).netloc, f"{path}: {address}"
        assert page.one("html").attributes["lang"] == "en", path
        assert page.one("head").one("title").text.endswith("· perago"), path
        assert page.one("h1").text, path
        for table in page.all("table"):
            headers = table.all("th", scope="col")
            assert headers, path
            assert all(len(row.all("td")) == len(headers) for row in table.all("tr") if row.all("td")), path
        levels = [int(element.tag[1]) for element in page.walk() if element.tag in ("h1", "h2", "h3", "h4")]
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), (path, levels)


def test_no_page_has_inline_code_hidden_characters_or_unlimited_payloads(pages: Pages) -> None:
    for path, answer in pages.items():
        page = answer.page
        for element in page.walk():
            assert "style" not in element.attributes, path
            assert element.tag not in ("style", "iframe", "object", "embed", "base", "img"), path
            assert element.tag != "svg" or element.attributes["class"] == "track", path
            assert not [name for name in element.attributes if name.startswith("on")], path
        scripts = [script.attributes for script in page.all("script")]
        assert scripts == [{"src": "/static/live.js", "defer": ""}], path
        assert not set("\u202e\u2066\u200b\ufeff\x1b\x00\x07\x7f\u0085\r") & set(answer.text), path
        assert len(answer.text) < 400_000, path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/static/style.css", 200),
        ("GET", "/static/missing.css", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/workflows/none", 404),
        *((method, "/", 405) for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS")),
        ("DELETE", "/repositories/workspace", 405),
    ],
    ids=lambda value: str(value),
)
def test_every_answer_carries_the_security_headers(site: Site, method: str, path: str, status: int) -> None:
    answer = site.request(method, path)
    assert answer.status == status
    if status == 405:
        assert f"This page does not accept {method}." in answer.main.text
    policy = answer.headers["content-security-policy"].split("; ")
    for directive in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ):
        assert directive in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere", "There is no page /nowhere."),
        ("/workflows/none", "No such workflow found by id: none"),
        ("/task-types/definition?name=none", "There is no task definition 'none'."),
        ("/workflow-types/definition?name=none", "There is no workflow definition 'none'"),
        ("/workflow-types/definition?name=test.message.send&version=7", "of version 7"),
        ("/repositories/none", "repository none does not exist"),
        ("/repositories/workspace/branches/none", "branch none does not exist"),
        ("/repositories/workspace/branches/main?from=none", "does not exist"),
        ("/repositories/workspace/commits/none", "commit none does not exist"),
        ("/repositories/workspace/commits/main/file?path=none", "object 'none' does not exist"),
        ("/repositories/workspace/commits/main/file", ""),
        ("/repositories/workspace/commits/main/download?path=none", "does not exist"),
    ],
    ids=lambda value: str(value) or "-",
)
def test_a_missing_page_is_reported_on_a_page(site: Site, path: str, message: str) -> None:
    answer = site.request("GET", path)
    assert answer.status == 404
    assert answer.main.one("h1").text == "Not found"
    assert message in answer.main.text
    assert [link.attributes["href"] for link in answer.main.all("a")] == ["/"]


@pytest.mark.parametrize("number", ["0", "-1", "2.5", "x", "99999999999999999999", "²", "7"])
def test_an_invalid_page_number_shows_the_nearest_page(site: Site, number: str) -> None:
    assert site.get(f"/?page={number}").main.all("table")[0].rows()


# ------------------------------------- Names, keys, payloads and logs that would break a careless page


def test_reordering_characters_are_spelled_out(hostile: Hostile) -> None:
    page = hostile.site.get(links.commit(REPOSITORY, hostile.commit)).main
    assert "invoice⟨U+202E⟩fdp.exe⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩" in [link.text for link in page.all("a")]


def test_long_texts_and_logs_are_truncated_and_odd_values_are_shown(hostile: Hostile) -> None:
    text = hostile.site.get(links.workflow(hostile.workflow)).main.text
    assert TEMPLATE in text, "templates in values are not evaluated"
    assert f"{2**62} ms" in text, "a time beyond all calendars is a number"
    for note in ("long members are shortened", "… (1,000,000 characters)", "… (4,800 more)", "still here"):
        assert note in text
    assert "… (nested deeper than 40 levels)" in text
    assert "cut: the last 20,000 of 1,000,007 characters are shown" in text
    assert "xthe end" in text


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
