"""The fenced blocks of the documentation, and what their info strings say about them.

- `python file=my_tasks/features.py`: written to that file of the page's scratch project.
- `python`: run; with pytest if it has tests.
- `console`: its `$ ` commands are run, and what they print is compared; `...` is anything.
- `console exit=1`: the last command ends with that status.
- `console with=services`: run with perago's embedded Conductor and lakeFS, which has a repository `my-data`.
- `console needs=network`: not run, for one of the reasons in `NEEDS`.
- `toml`, `ini`, `json`: parsed.
- `yaml`, `text`, `mermaid`: for people only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEEDS = {
    "network": "it downloads packages",
    "servers": "it speaks to real servers, or makes them",
    "foreground": "it runs until somebody ends it",
    "minutes": "it takes minutes",
}
LANGUAGES = ("python", "console", "toml", "ini", "json", "yaml", "text", "mermaid")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """One block; `line` is that of its opening fence, from 1."""

    page: str
    line: int
    language: str
    text: str
    file: str | None = None
    exit: int = 0
    needs: str | None = None
    with_services: bool = False

    @property
    def place(self) -> str:
        """Where it is, as editors understand it."""
        return f"{self.page}:{self.line}"


def pages() -> tuple[str, ...]:
    """All pages, relative to the repository."""
    files = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return tuple(path.relative_to(ROOT).as_posix() for path in files)


def blocks_of(page: str) -> tuple[Block, ...]:
    """The blocks of a page, in order."""
    return tuple(parse_blocks(page, (ROOT / page).read_text(encoding="utf-8")))


def parse_blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a text.

    Raises:
        ValueError: a fence is not closed, or its info string cannot be understood.
    """
    lines = enumerate(text.splitlines(), start=1)
    for number, line in lines:
        opening = _FENCE.match(line)
        if opening is None:
            continue
        content = []
        for _, inner in lines:
            if inner.strip() == opening["fence"]:
                break
            content.append(inner.removeprefix(opening["indent"]))
        else:
            raise ValueError(f"{page}:{number}: the fence is never closed")
        yield _block(page, number, opening["info"].split(), "\n".join(content) + "\n")


def indented_code(text: str) -> Iterator[int]:
    """The lines at which code begins that has no fence, and so would not be checked."""
    fence, before = "", ""
    in_list = False
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if match and not fence:
            fence = match["fence"]
        elif fence:
            fence = "" if line.strip() == fence else fence
        elif line.startswith("    ") and not before.strip() and not in_list:
            yield number
        elif line.strip():
            in_list = bool(re.match(r" *([-*]|\d+\.) ", line)) or (in_list and line.startswith(" "))
        before = line if not line.startswith("    ") else "code"


def _block(page: str, number: int, info: list[str], text: str) -> Block:
    language = info[0] if info else ""
    if language not in LANGUAGES:
        raise ValueError(f"{page}:{number}: {language!r} is none of {', '.join(LANGUAGES)}")
    options = dict(word.split("=", 1) for word in info[1:])
    needs = options.pop("needs", None)
    if needs is not None and needs not in NEEDS:
        raise ValueError(f"{page}:{number}: needs={needs} is none of {', '.join(NEEDS)}")
    block = Block(
        page,
        number,
        language,
        text,
        file=options.pop("file", None),
        exit=int(options.pop("exit", "0")),
        needs=needs,
        with_services=options.pop("with", None) == "services",
    )
    if options:
        raise ValueError(f"{page}:{number}: {', '.join(options)} means nothing here")
    return block
