"""Command lines that are wrong: each is refused before a server is asked, and its message never repeats params."""

from __future__ import annotations

from typing import Any

import pytest

from perago.cli.app import app

from ..golden import assert_golden
from .conftest import GOOD, PLAIN, Project

COMMIT = "a" * 64
WRONG: tuple[tuple[str, ...], ...] = (
    ("check", "tasks/features.py"),
    ("check", "tasks.features:work"),
    ("extract", "../features.py"),
    ("check", "tasks.class"),
    ("start", "not a module"),
    *(("input", "--", "my-data", branch) for branch in ("main~1", "a/b", COMMIT, "-x", "ä")),
    *(
        ("input", "my-data", "main", "--params", params)
        for params in ('{"hidden": 1', '{"hidden": NaN}', '["hidden"]', "null", "@nowhere.json", "@latin", "@bad")
    ),
    *(("input", "my-data", "main", "--ref", ref) for ref in ("main", COMMIT[:12], '["main"]', "[]", "@nowhere.json")),
    ("run", "plain", "-e", "x"),
    ("run", "plain", "-e", "x", "-p", "{}"),
    ("run", "plain", "-w", "sample"),
    ("run", "plain", "-o", "out"),
    ("run", "features", "-w", "tasks", "-o", "tasks"),
    ("run", "features", "--from", "t", "--params", "{}"),
    ("send", "plain", "-b", "dev/main"),
    ("send", "features"),
    ("send", "features", "-b", "dev"),
    ("send", "features", "-b", f"dev/{COMMIT}"),
    *(("start", text) for text in ("app=", "app=0", "app=x", "app=-1", "app=1000", "app=1=2", "app=²")),
    ("start", "app=1", "app=2"),
    ("start", "app", "app=2"),
    *(("start", "plain", "--http", text) for text in ("x", "99999", "a b:1", "http://127.0.0.1:1", "::1:9090")),
    ("start", "plain", "--watch", "--log-format", "text"),
    ("doctor", "-b", "my-data"),
    ("gc", "--older-than", "1w"),
    ("log", "my-data", "main", "--since", "soon"),
    ("capture",),
    ("capture", "t", "--max-bytes", "many"),
    ("capture", "t", "--only", "../x"),
    ("capture", "t", "--name", "../x"),
    ("replay", "t", "--workflow", "w"),
    ("replay", "t", "--set", "min_rows=2"),
    ("backtest", "features", "--since", "yesterday"),
    ("backtest", "features", "--workflow", "a'b"),
)


def message_of(*arguments: str) -> str:
    """Run a command in this process, and return the message of its usage error."""
    try:
        app(arguments, prog_name="perago", standalone_mode=False)
    except Exception as error:
        wrong: Any = error
        return str(wrong.format_message())
    return pytest.fail(f"perago {' '.join(arguments)} is accepted")


def test_wrong_command_lines_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.task("features", "features.build", GOOD)
    project.task("plain", "plain.work", PLAIN)
    project.task("tasks.features", "tasks.build", PLAIN)
    (project.directory / "latin").write_bytes(b'{"a": "\xff"}')
    (project.directory / "bad").write_text('{"key": hidden}')
    monkeypatch.chdir(project.directory)
    monkeypatch.syspath_prepend(project.directory)
    messages = {" ".join(arguments): message_of(*arguments) for arguments in WRONG}
    assert "hidden" not in "".join(messages.values())
    text = "\n".join(f"$ perago {line}\n{message}" for line, message in messages.items())
    assert_golden(__file__, "usage errors", text, {COMMIT: "COMMIT"})
