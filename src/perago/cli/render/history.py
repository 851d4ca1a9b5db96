"""The commits of a branch as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape

from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.ports import Commit


def show_history(commits: Sequence[Commit], stream: TextIO) -> None:
    """Print the commits, newest first: id, message and the attempt that made it."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    console.print("\ncommits of branch main, newest first")
    for commit in commits:
        console.print(f"  [yellow]{commit.id[:12]}[/]  {escape(one_line(commit.message))}")
        task_id = commit.metadata.get("perago.task_id")
        if task_id is not None:
            console.print(f"  [dim]              task {task_id}, input {commit.metadata['perago.input_ref'][:12]}[/]")
