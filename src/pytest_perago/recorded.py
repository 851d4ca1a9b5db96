"""A recorded case against what the task leaves today, and recording it anew with `--perago-update`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perago.testing.cases import RunCase, read_tree
from perago.testing.failures import CaseFailed, Cause
from perago.testing.recorded import Record, read_recorded_case, write_outcome
from perago.testing.remains import Remains, differences
from pytest_perago.settings import SnapshotSettings, Update

_MOST_LINES = 80


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a recorded case is compared with, and what becomes of a difference."""

    case: RunCase
    record: Record
    settings: SnapshotSettings
    command: Callable[[str], str]
    """The command line that runs the test again with a further option."""
    note: Callable[[str], None]
    """Hears what was written."""

    def __call__(self, now: Remains, again: Callable[[], Remains]) -> RunCase:
        """The case as it is from now on.

        Args:
            now: what the task left.
            again: runs it once more.

        Raises:
            CaseFailed: something differs, and is not to be recorded.
        """
        tree = {path: file for path, file in read_tree(self.case.tree).items() if isinstance(file, bytes)}
        found = differences(self.record.remains(now), now, tree)
        if not found:
            return self.case
        by_itself = differences(now, again(), tree).summary
        if self.settings.update is Update.ALL and not by_itself:
            return self._record(now)
        lines = list(found.lines())
        if len(lines) > _MOST_LINES:
            lines = [*lines[:_MOST_LINES], f"… and {len(lines) - _MOST_LINES:,} more lines"]
        facts = [("case", self.settings.shown(self.record.directory)), ("differs", "\n".join(lines))]
        if by_itself:
            facts += [("by itself", "\n".join(by_itself))]
            summary = f"case {self.case.label!r}: the function is not deterministic: two runs on one input differ, too"
            facts += [("fix", "take times, random numbers and the order of sets and listings out of what it writes")]
        else:
            summary = f"case {self.case.label!r}: another outcome than recorded"
            facts += [("accept", self.command("--perago-update=all"))]
        raise CaseFailed(Cause.CONTRACT, summary, facts=facts)

    def _record(self, now: Remains) -> RunCase:
        directory: Path = self.record.directory
        try:
            write_outcome(directory, now)
        except OSError as error:
            raise CaseFailed(
                Cause.CONTRACT,
                f"the case cannot be written: {error.strerror}",
                facts=[("case", self.settings.shown(directory))],
            ) from None
        self.note(f"updated {self.settings.shown(directory)}")
        return read_recorded_case(directory)[0]
