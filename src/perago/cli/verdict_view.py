"""A backtest as a person sees it: how far it is, then the table and what differs by file and column."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from perago.history.backtest import Kind, Verdict, by_file_and_column
from perago.workspace.text import count, json_text, one_line

if TYPE_CHECKING:
    from types import TracebackType

_SHOWN_LINES = 5
_SHOWN_FILES = 20


class VerdictView:
    """Shows progress: a bar on a terminal, elsewhere a line for each attempt. Use it as a context manager.

    Args:
        stream: where.
        total: how many attempts there are.
    """

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._heard = 0
        self._kinds: Counter[Kind] = Counter()
        console = Console(file=stream, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task("replaying", total=total) if self._bar else None

    def __enter__(self) -> VerdictView:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def heard(self, verdict: Verdict) -> None:
        """One more verdict."""
        self._heard += 1
        self._kinds[verdict.kind] += 1
        if self._bar is not None and self._task is not None:
            words = ", ".join(f"{number} {kind}" for kind, number in self._kinds.items())
            self._bar.update(self._task, advance=1, description=words)
            return
        self._stream.write(f"{self._heard} of {self._total}: {verdict.task_id} {verdict.kind}\n")
        self._stream.flush()

    def is_good(self, verdicts: Sequence[Verdict]) -> bool:
        """Whether all that could be read are the same, and there is at least one."""
        readable = [verdict for verdict in verdicts if verdict.kind is not Kind.UNREADABLE]
        return bool(readable) and all(verdict.kind is Kind.SAME for verdict in readable)

    def show(self, task_name: str, verdicts: Sequence[Verdict], stream: TextIO, *, as_json: bool) -> None:
        """Print the result."""
        if as_json:
            stream.write(json_text(self._report(task_name, verdicts), indent=2) + "\n")
            return
        for line in _lines(task_name, verdicts):
            stream.write(f"{line}\n")

    def _report(self, task_name: str, verdicts: Sequence[Verdict]) -> dict[str, object]:
        return {
            "task": task_name,
            "good": self.is_good(verdicts),
            **{kind.value: sum(one.kind is kind for one in verdicts) for kind in Kind},
            "slower": sum(one.is_slower for one in verdicts),
            "by_file": [
                {"path": path, "column": column or None, "attempts": number}
                for path, column, number in by_file_and_column(verdicts)
            ],
            "attempts": [one.as_json() for one in verdicts],
        }


def _lines(task_name: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield f"{task_name}: {count(len(verdicts), 'attempt')} with today's code"
    for kind in Kind:
        yield f"  {kind:<10} {sum(one.kind is kind for one in verdicts):>5}"
    yield f"  {'slower':<10} {sum(one.is_slower for one in verdicts):>5}"
    for verdict in verdicts:
        if verdict.kind is not Kind.SAME or verdict.is_slower:
            yield ""
            yield from _told(verdict)
    found = by_file_and_column(verdicts)
    if found:
        yield ""
        yield "what differs, by file and column"
    for path, column, number in found[:_SHOWN_FILES]:
        where = f", column {one_line(column)}" if column else ""
        yield f"  {one_line(path)}{where}: in {count(number, 'attempt')}"
    if len(found) > _SHOWN_FILES:
        yield f"  and {len(found) - _SHOWN_FILES:,} more"


def _told(verdict: Verdict) -> Iterator[str]:
    when = datetime.datetime.fromtimestamp(verdict.started / 1000, datetime.UTC)
    words = [verdict.kind.value, verdict.task_id, f"{when:%Y-%m-%d %H:%M}" if verdict.started else ""]
    if verdict.then_seconds is not None and verdict.now_seconds is not None:
        slower = ", slower" if verdict.is_slower else ""
        words.append(f"{verdict.then_seconds:.1f} s then, {verdict.now_seconds:.1f} s now{slower}")
    yield "  ".join(filter(None, words))
    if not verdict.deterministic:
        yield "  not deterministic: two runs of today's code on this input differ, too"
    for line in verdict.summary[:_SHOWN_LINES]:
        yield f"  {one_line(line)}"
    if len(verdict.summary) > _SHOWN_LINES:
        yield f"  and {len(verdict.summary) - _SHOWN_LINES:,} more"
