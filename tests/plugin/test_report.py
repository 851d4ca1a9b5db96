"""`--perago-report`: one page of a run, the same with workers as without, in which no name and no text is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pytest_perago.report import joined, table, tag

from .projects import add_module, copy_module, free_module, run, run_process, write_module

pytest_plugins = ["pytester"]

EVIL = "<img src=x onerror=alert(1)>"

OWN = f"""
import pytest
from shop.copied import Params, copy

@pytest.mark.parametrize("name", ["{EVIL}", 'a"onload="b', "plain"])
def test_own(perago_run, name):
    perago_run(copy, Params(), tree={{"a.txt": name}}).assert_completed()
    assert name == "plain", name

def test_fixture_alone(perago_tree):
    pass

def test_of_other_things():
    pass
"""


class Page(HTMLParser):
    """What a browser would see: elements, their text by section, and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(name)
        given = dict(attrs)
        self.attributes |= set(given)
        self.links += [str(given[key]) for key in ("href", "src") if key in given]
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if name == "section":
            self._section = str(given["id"])
        if name != "meta":
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + data + "\n"


def read(pytester: pytest.Pytester, name: str = "report.html") -> Page:
    return Page((pytester.path / name).read_text(encoding="utf-8"))


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    """Tasks with all that a page can show, and tests of its own."""
    copy_module(
        pytester,
        "shop.copied",
        "copy",
        examples=["Example(id='x', params={'target': '<b>.txt'}, tree={'a.txt': '<i>1</i>'}, result={'size': 8})"],
    )
    free_module(pytester, "shop.failing", f"raise TaskFailed('{EVIL}')", ["Example(id='bad', params={})"])
    add_module(pytester, "shop.skipped", "third")
    write_module(pytester, "shop.broken", "raise ValueError('broken')")
    pytester.makepyfile(test_own=OWN)
    pytester.makeini("[pytest]\nperago_modules = shop\nperago_skip = third::run: needs an hour\n")
    return pytester


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_report_shows_tasks_failures_guardrails_and_examples(shop: pytest.Pytester, workers: list[str]) -> None:
    result = (run_process if workers else run)(shop, "--perago-report=out/report.html", *workers)
    result.stdout.fnmatch_lines(["*- perago report: out/report.html -*"])
    page = read(shop, "out/report.html")
    assert set(page.sections) >= {"tasks", "failures", "guardrails", "examples", "slowest", "left-out"}
    cells = re.sub(r"\n+", " ", page.sections["tasks"])
    assert "Task contract run import own tests" in cells
    assert "copy shop.copied, copied.py:" in cells
    assert "✓ 5 ✓ 1 ✗ 2 of 3" in cells
    assert "third shop.skipped" in cells
    assert "– 1 skipped" in cells
    assert "tests that ran no task" in cells
    failures = page.sections["failures"]
    assert f"case 'bad': the function raised {EVIL}" in failures
    assert "pytest --perago-kinds contract,run 'shop/failing.py::free::run[bad]'" not in failures
    assert "pytest 'shop/failing.py::free::run[bad]'" in failures
    assert failures.count("rerun:") == 0
    assert "pytest 'test_own.py::test_own[plain]'" not in failures
    assert "pytest 'test_own.py::test_own[a\"onload=\"b]'" in failures
    assert "raise ValueError('broken')" in failures
    rules = re.sub(r"\n+", " ", page.sections["guardrails"])
    assert "copy pre require_file('a.txt') ✓ yes ✗ never" in rules
    assert "to find published files whose loss no guardrail would notice" in rules
    examples = page.sections["examples"]
    for text in ("<b>.txt", "<i>1</i>", '{"size": 8}', "✓ passed"):
        assert text in examples
    assert "needs an hour" in page.sections["left-out"]
    assert "test_of_other_things" not in page.sections["slowest"]
    assert "Incomplete" not in page.sections[""]


def test_a_race_counts_as_a_test_of_its_tasks(pytester: pytest.Pytester) -> None:
    file = copy_module(pytester, "work", "copy")
    file.write_text(file.read_text().replace('prefix="/"', 'on_moved_head="rebase"'))
    pytester.makepyfile(
        test_own="""
        from work import Params, copy

        def test_race(perago_run):
            branches = [(copy, Params(target=f"{name}.txt")) for name in ("x", "y")]
            perago_run.race(*branches, tree={"a.txt": "1"})
        """
    )
    run(pytester, "--perago-modules", "work", "test_own.py", "--perago-report=report.html").assert_outcomes(passed=5)
    cells = re.sub(r"\n+", " ", read(pytester).sections["tasks"])
    assert "own tests" in cells
    assert re.search(r"copy work, work.py:\d+ ✓ 4 ✓ 1", cells), cells


def test_it_has_the_coverage_of_guardrails_and_names_unguarded_files(shop: pytest.Pytester) -> None:
    run(shop, "--perago-report=report.html", "--perago-cover", "--perago-kinds=guardrail,run")
    page = read(shop)
    text = re.sub(r"\n+", " ", page.sections["guardrails"])
    assert re.search(r"Coverage: \d+ of \d+ points", text)
    assert "shop/copied.py::copy::guardrail[post:forbid_glob(**/*.tmp):present]" in text
    assert "copy <b>.txt x ✗ no ✗ no ✗ no ✗ no guardrail notices its loss" in text
    assert not page.tags & {"script", "img", "b", "i"}


def test_names_and_messages_are_text_and_nothing_is_fetched(shop: pytest.Pytester) -> None:
    before = {path.name for path in shop.path.iterdir()}
    run(shop, "--perago-report=report.html")
    assert {path.name for path in shop.path.iterdir()} - before <= {"report.html", "__pycache__"}
    page = read(shop)
    assert not page.tags & {"script", "img", "link", "iframe", "i", "b", "form", "object"}
    assert not any(name.startswith("on") for name in page.attributes)
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    text = (shop.path / "report.html").read_text()
    assert "default-src &#x27;none&#x27;" in text
    assert "prefers-color-scheme: dark" in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_taskdef_differences_have_their_class(pytester: pytest.Pytester) -> None:
    module = add_module(pytester, "shop.added", "add")
    options = ("--perago-modules=shop", "--perago-kinds=taskdef")
    run(pytester, *options, "--perago-update").assert_outcomes(passed=1)
    module.write_text(module.read_text().replace("numbers: list[int]", "numbers: list[int]\n    more: int"))
    run(pytester, *options, "--perago-report=report.html").assert_outcomes(failed=1)
    changes = re.sub(r"\n+", " ", read(pytester).sections["taskdefs"])
    assert "add breaking /inputSchema/data/properties/params/" in changes


def test_a_run_without_tasks_and_one_that_is_stopped_have_a_page(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert run(pytester, "--perago-report=report.html").ret == pytest.ExitCode.OK
    assert "No test of this run is about a task." in read(pytester).sections["tasks"]
    free_module(pytester, "shop.failing", "raise TaskFailed('no')", ["Example(id='bad', params={})"])
    run(pytester, "--perago-modules=shop", "--perago-report=report.html", "-x", "-k", "run or it")
    assert "Incomplete: The run was stopped before its end." in read(pytester).sections[""]


def test_what_cannot_be_written_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    (pytester.path / "file").touch()
    result = run(pytester, "--perago-report=.")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--perago-report: '.' is a directory; give the name of a file*"])
    result = run(pytester, "--perago-report=file/report.html")
    result.stdout.fnmatch_lines(["perago report: file/report.html could not be written: *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_only_markup_stays_unescaped() -> None:
    assert tag("a", "<&\x1b>", None, [tag("b", "x"), "'"], href='"><', class_=None) == (
        '<a href="&quot;&gt;&lt;">&lt;&amp;⟨U+001B⟩&gt;<b>x</b>&#x27;</a>'
    )
    assert "<td>&lt;td&gt;</td>" in table(["<"], [["<td>"]])
    assert joined(None) == ""
