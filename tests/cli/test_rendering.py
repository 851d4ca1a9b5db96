"""The renderer of all commands."""

from __future__ import annotations

import io

from perago.cli.rendering import Column, Renderer, legend

COLUMNS = (
    Column[int]("number", "the number itself", str),
    Column[int]("double", "twice the number", lambda number: str(2 * number)),
    Column[int]("name", "", lambda number: f"row {number}"),
)


def test_a_column_is_declared_once_for_the_table_and_its_legend() -> None:
    stream = io.StringIO()
    Renderer(stream).table(COLUMNS, [7, 1000], lambda number: ["large"] if number > 100 else [])
    assert stream.getvalue() == (
        "number  double  name\n     7      14  row 7\n  1000    2000  row 1000\n         large\n"
    )
    assert legend(COLUMNS) == "number  the number itself\ndouble  twice the number"


def test_a_pipe_gets_lines_without_colors_wrapping_and_status() -> None:
    stream = io.StringIO()
    renderer = Renderer(stream)
    with renderer.status_line("working"):
        renderer.doing("still working")
        renderer.entry("label", ["x" * 200, "second"])
    renderer.line(renderer.file("added", "out/a\x1b.csv", 1536))
    renderer.line(renderer.status("FAILED"))
    assert stream.getvalue() == (f"label     {'x' * 200}\n          second\n+ out/a⟨U+001B⟩.csv  1.5 KiB\nFAILED\n")
