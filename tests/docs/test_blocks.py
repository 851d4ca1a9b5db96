"""Every block of the documentation is executed or checked. The blocks that are not run are listed here, with a
reason."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main

from perago.cli.app import COMMANDS, command_of

from .blocks import NEEDS, ROOT, Block, blocks_of, indented_code, pages, parse_blocks
from .scratch import BlockFailed, Scratch, commands_of, matches

TUTORIAL = "docs/tutorial.md"
OWN_PROJECT = ("README.md", TUTORIAL, "docs/authoring.md")
"""Pages that begin with an empty directory. The others go on in the project of the tutorial."""

NOT_RUN = {
    ("CONTRIBUTING.md", "network"): 1,
    ("README.md", "network"): 2,
    ("README.md", "servers"): 1,
    ("docs/dev/benchmarks.md", "minutes"): 1,
    ("docs/dev/conformance.md", "minutes"): 1,
    ("docs/dev/conformance.md", "servers"): 2,
    ("docs/dev/live.md", "servers"): 3,
    ("docs/how-to/deploy.md", "servers"): 1,
    ("docs/how-to/install.md", "network"): 1,
    ("docs/operations.md", "servers"): 4,
    ("docs/perago-dev.md", "foreground"): 1,
    ("docs/tutorial.md", "network"): 1,
    ("docs/workers.md", "servers"): 2,
}
"""How many blocks of a page are not run, by their reason."""


@pytest.mark.parametrize("page", pages())
def test_the_code_blocks_of_a_page_behave_as_shown(page: str, tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        if page not in OWN_PROJECT:
            for block in blocks_of(TUTORIAL):
                if block.file is not None and block.needs is None:
                    scratch.write(block)
        for block in blocks_of(page):
            scratch.follow(block)


def test_the_pages_about_the_sdks_pass_strict_mypy_with_their_settings(tmp_path: Path) -> None:
    use, test = blocks_of("docs/how-to/use-the-sdks.md"), blocks_of("docs/how-to/test-with-the-sdks.md")
    tutorial = [block for block in blocks_of(TUTORIAL) if block.file in ("pyproject.toml", "my_tasks/features.py")]
    with Scratch(tmp_path) as scratch:
        for block in (*tutorial, *use, *test):
            if block.language == "python":
                scratch.write(replace(block, file=block.file or "tests/test_calls.py"))
        settings = "\n".join(block.text for block in (*tutorial, *use) if block.language == "toml")
        (scratch.project / "pyproject.toml").write_text(settings)
        mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir=.mypy", "."]
        checked = subprocess.run(mypy, cwd=scratch.project, capture_output=True, text=True, timeout=300, check=False)
    assert checked.stdout == "Success: no issues found in 7 source files\n"


@pytest.mark.parametrize("page", pages())
def test_all_code_of_a_page_is_fenced(page: str) -> None:
    lines = list(indented_code((ROOT / page).read_text(encoding="utf-8")))
    assert lines == [], f"{page}: code without a fence is not checked"


@pytest.mark.parametrize("page", pages())
def test_the_rows_of_a_table_are_lines(page: str) -> None:
    """A row that is broken into two lines ends the table, and is text on the page."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for line in text.splitlines()]
    assert [line for line in lines if line.startswith("|") and not line.endswith("|")] == []
    assert re.findall(r"^\n\|[^\n]*\|\n(?!\|[-:| ]+\|\n)", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", pages())
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page} leads to {target}, which is not there"
        if anchor:
            assert anchor in anchors_of(path), f"{page} leads to {target}, and there is no such heading"


def anchors_of(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_line_installs_the_other_project_of_this_name() -> None:
    """The package index has another perago. A path to a wheel or a checkout is this one."""
    wrong = re.compile(
        r"\b(?:pip3?|pipx|uv|uvx|poetry|pdm|conda)\b[^`]* (?:install|add|run|with)\b[^`]*?"
        r"[\s'\"]perago(?![\w./-])(?:\[|[=<>~!@]|['\"`]|\s*$)"
    )
    texts = [ROOT / page for page in pages()] + sorted((ROOT / "src").rglob("*.py"))
    lines = [(path, line) for path in texts for line in path.read_text("utf-8").splitlines()]
    assert [f"{path.relative_to(ROOT)}: {line}" for path, line in lines if wrong.search(line)] == []
    for line in ("pip install perago", "pip install 'perago[test]'", "uv add perago==0.6", "`pip install -U perago`"):
        assert wrong.search(line), line


def test_the_blocks_that_are_not_run_are_counted() -> None:
    assert Counter((block.page, block.needs) for block in all_blocks() if block.needs) == NOT_RUN


def test_commands_that_are_not_run_are_at_least_commands_of_perago() -> None:
    for block in all_blocks():
        if block.needs and block.language == "console":
            for command in commands_of(block):
                check_options(block, command.text)


def all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks_of(page)]


def check_options(block: Block, command: str) -> None:
    """Assert that the subcommands and options of a command line exist."""
    for name, arguments in re.findall(r"\bperago ([a-z]+)((?: [^|;&#\n]+)?)", command):
        assert name in COMMANDS, f"{block.place}: there is no command {name!r}"
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", arguments):
            assert option in options_of(name), f"{block.place}: perago {name} has no {option}"


def options_of(name: str) -> set[str]:
    holder = typer.Typer()
    holder.command(name)(command_of(name)[0])
    return {option for parameter in typer.main.get_command(holder).params for option in parameter.opts}


class TestTheRunnerItself:
    """The checker itself rejects wrong blocks."""

    @pytest.mark.parametrize(
        ("shown", "printed", "same"),
        [
            (["a", "b"], ["a", "b"], True),
            (["a"], ["a", "b"], False),
            (["a", "b"], ["a"], False),
            (["a", "..."], ["a", "b", "c"], True),
            (["...", "c"], ["a", "b", "c"], True),
            (["..."], [], True),
            (["took ... s"], ["took 0.3 s"], True),
            (["took ... s"], ["took 0.3 min"], False),
            (["a.c"], ["abc"], False),
            (["a", "", "b"], ["a", "b", ""], True),
            ([], ["a"], False),
        ],
    )
    def test_printed_output_is_compared_with_the_shown_output(
        self, shown: list[str], printed: list[str], same: bool
    ) -> None:
        assert matches(shown, printed) is same

    @pytest.mark.parametrize(
        ("block", "message"),
        [
            ("```console\n$ echo a\nb\n```", "the page shows"),
            ("```console\n$ false\n```", "ended with 1, not with 0"),
            ("```console exit=1\n$ true\n```", "ended with 0, not with 1"),
            ("```console\necho a\n```", "begins with `\\$ `"),
            ("```python\nassert False\n```", "the block ends with status 1"),
            ("```python\ndef test_a():\n    assert 1 == 2\n```", "the block ends with status 1"),
            ("```python file=a.py\ndef a(\n```", "this is no python"),
            ("```toml\na = \n```", "this is no toml"),
            ("```ini\na\n```", "this is no ini"),
            ("```json\n{\n```", "this is no json"),
        ],
    )
    def test_a_wrong_block_is_found(self, tmp_path: Path, block: str, message: str) -> None:
        (parsed,) = parse_blocks("page.md", block)
        with pytest.raises(BlockFailed, match=message):
            Scratch(tmp_path).follow(parsed)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("```\nx\n```", "'' is none of"),
            ("```sh\nx\n```", "'sh' is none of"),
            ("```python\nx", "never closed"),
            ("```console needs=luck\nx\n```", "needs=luck"),
            ("```python skip=yes\nx\n```", "skip means nothing"),
        ],
    )
    def test_an_info_string_must_be_understood(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            list(parse_blocks("page.md", text))

    def test_blocks_of_a_page_share_a_project(self, tmp_path: Path) -> None:
        page = (
            "```python file=pack/mod.py\nVALUE = 3\n```\n\n"
            "```console\n$ echo 1 \\\n  2\n1 2\n$ python -c \\\n  'import pack.mod; print(pack.mod.VALUE)'\n3\n```\n"
        )
        scratch = Scratch(tmp_path)
        for block in parse_blocks("page.md", page):
            scratch.follow(block)

    def test_code_without_a_fence_is_found(self) -> None:
        code = "    code\n"
        text = f"Words\n\n{code}{code}\n- a list\n\n{code}\nWords\n\n```text\n\n{code}```\n\n{code}"
        assert list(indented_code(text)) == [3, 17]

    def test_every_reason_is_used(self) -> None:
        assert {needs for _, needs in NOT_RUN} == set(NEEDS)
