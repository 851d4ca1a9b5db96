"""The operators' table of docs/dev/protocol.md, written from the refusals.

    python -m tests.attempt.page

brings the table up to date. `tests.attempt.diagram` does so for the state diagram.
"""

from __future__ import annotations

from pathlib import Path

from perago.attempt.refusals import REFUSALS

PAGE = Path(__file__).parents[2] / "docs" / "dev" / "protocol.md"
TABLE = ("<!-- written by `python -m tests.attempt.page`: -->", "<!-- end of the table -->")


def with_part(page: str, marks: tuple[str, str], part: str) -> str:
    """The page with the part between two marks replaced."""
    before, _, rest = page.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}\n{part}\n{marks[1]}{after}"


def operators_table() -> str:
    """A row for each refusal."""
    rows = [f"| `{each.shown}` | {each.meaning} | {each.advice} |" for each in REFUSALS]
    return "\n".join(("| Message | Meaning | What to do |", "|---|---|---|", *rows))


def main() -> None:
    """Bring the table up to date."""
    PAGE.write_text(with_part(PAGE.read_text("utf-8"), TABLE, operators_table()), "utf-8")


if __name__ == "__main__":
    main()
