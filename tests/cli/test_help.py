"""`perago help` prints the pages of the documentation from a checkout, an editable install and a wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from perago.cli.commands.help import TOPICS, page, topics

from ..generated import DOCS, assert_table
from .conftest import Project
from .start_command import terminal

ROOT = DOCS.parent
PAGES = {path: summary for group in TOPICS.values() for path, summary in group.values()}


def test_without_a_topic_all_topics_are_listed(project: Project) -> None:
    ran = project.run("help")
    assert (ran.code, ran.err) == (0, "")
    assert re.findall(r"^  ([\w-]+)  +\w", ran.out, re.MULTILINE) == list(topics())
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("topic", topics())
def test_a_page_is_readable_without_its_links(topic: str) -> None:
    text = page(topic)
    assert text.startswith("# ")
    assert re.findall(r"<!--|\]\([^)]*\.md|^ *```\w+ .*$", text, re.MULTILINE) == []


def test_a_page_names_the_topics_that_it_leads_to() -> None:
    assert page("run-locally").endswith("\nRead on with `perago help TOPIC`: perago-dev.\n")
    assert "`perago check --help` lists the options." in page("cli")


def test_every_page_for_users_is_a_topic_and_is_in_the_index() -> None:
    pages = {
        path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if "dev" not in path.relative_to(DOCS).parts
    }
    assert pages - {"index.md", "api.md"} == set(PAGES)
    for group, listed in TOPICS.items():
        rows = [(f"[{title(path)}]({path})", summary) for path, summary in listed.values()]
        assert_table("index.md", group, ("Page", "About"), rows)


def title(path: str) -> str:
    return (DOCS / path).read_text("utf-8").splitlines()[0].removeprefix("# ")


@pytest.mark.parametrize("folder", ["src", "docs"])
def test_topics_that_messages_and_pages_name_are_there(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    named = {name for file in files for name in re.findall(r"perago help ([a-z][a-z-]+)", file.read_text("utf-8"))}
    assert "configuration" in named
    assert named - {"lists", "explains", "prints"} <= {*topics(), "concept"}


def test_an_unknown_topic_is_a_usage_error_that_names_a_similar_one(project: Project) -> None:
    project.run("help", "concept").ends(2, "Did you mean 'concepts'?")


def test_a_terminal_shows_the_page_in_a_pager(project: Project, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged\ncat\n")
    pager.chmod(0o755)
    variables = {"PAGER": str(pager), "NO_COLOR": "1", "COLUMNS": "80"}
    with terminal(project, "help", "concepts", **variables) as shown:
        shown.ended()
    assert shown.text.startswith("paged")
    assert "Glossary" in shown.text
    assert "|---" not in shown.text
    assert "- The **delivery check**" not in shown.text


def test_a_wheel_has_the_pages_and_a_checkout_reads_its_own(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")  # of the dependency group `dev`
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    for place in (tmp_path / "installed", ROOT / "src"):
        ran = project.execute(sys.executable, "-m", "perago", "help", "write-a-task", PYTHONPATH=str(place))
        assert ran.out == page("write-a-task")
    packaged = {
        path.relative_to(tmp_path / "installed/perago/_docs").as_posix()
        for path in (tmp_path / "installed/perago/_docs").rglob("*.md")
    }
    assert packaged == set(PAGES)
