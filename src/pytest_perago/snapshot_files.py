"""Files of snapshots: compared, or written under `--perago-update`.

No two tests share a file and each is replaced at once, so parallel workers, shards and killed runs leave whole files.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from perago.atomic_file import replace_file
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.session import printable
from pytest_perago.settings import SnapshotSettings, Update

Command: TypeAlias = Callable[[str], str]
"""The command line that runs the test again with a further option."""

MOST_DIFF_LINES = 80


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One snapshot. `subject` is what it is of, such as `TaskDef`; `setting` is where its directory is chosen."""

    path: Path
    subject: str
    settings: SnapshotSettings
    setting: str
    command: Command

    @property
    def shown(self) -> str:
        """The path, for people."""
        return self.settings.shown(self.path)

    def check(self, expected: bytes, differing: Callable[[bytes], CaseFailed]) -> str | None:
        """Compare it with what should be in it, or write that. Returns what was written, in words.

        Args:
            expected: what should be in it.
            differing: the failure for what is in it instead.

        Raises:
            CaseFailed: it differs, there is none, or it cannot be read or written.
        """
        found = self._read()
        if found == expected:
            return None
        update = self.settings.update
        if update is Update.ALL or (update is Update.NEW and found is None):
            self._write(expected)
            return f"{'created' if found is None else 'updated'} {self.shown}"
        if found is None:
            raise self._missing()
        raise differing(found)

    @property
    def accept(self) -> str:
        """The line that says how to accept a difference."""
        return f"accept it: {self.command('--perago-update=all')}"

    def diff(self, found: str, expected: str) -> str:
        """A unified diff, cut in length; empty if only line ends differ."""
        names = (f"{self.shown} (snapshot)", f"the {self.subject} now")
        lines = list(difflib.unified_diff(found.splitlines(), expected.splitlines(), *names, lineterm=""))
        kept = [printable(line) for line in lines[:MOST_DIFF_LINES]]
        if len(lines) > MOST_DIFF_LINES:
            kept.append(f"and {len(lines) - MOST_DIFF_LINES} more lines of diff")
        return "\n".join(kept)

    def ending_in_crlf(self) -> list[tuple[str, str]]:
        """The facts for a snapshot in which git has changed the line ends."""
        directory = "/".join(self.shown.split("/")[:-2])
        return [
            ("actual", "its lines end with CRLF, in place of LF"),
            ("fix", f"add `{directory}/** text eol=lf` to .gitattributes, so that git leaves them alone"),
        ]

    def failed(self, summary: str, facts: Iterable[tuple[str, str]] = (), details: Iterable[str] = ()) -> CaseFailed:
        """A failure that names the snapshot."""
        return CaseFailed(Cause.CONTRACT, summary, facts=[("snapshot", self.shown), *facts], details=list(details))

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            summary = f"the snapshot of the {self.subject} cannot be read: {error.strerror}"
            raise self.failed(summary, [("fix", "it must be a file that you may read")]) from None

    def _write(self, content: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, content)
        except OSError as error:
            summary = f"the snapshot of the {self.subject} cannot be written: {error.strerror}"
            fix = f"make the directory writable, or choose another one by {self.setting}"
            raise self.failed(summary, [("fix", fix)]) from None

    def _missing(self) -> CaseFailed:
        other = self._other_case()
        facts = []
        if other is not None:
            words = "which differs in upper and lower case; rename it"
            facts.append(("found", f"{self.settings.shown(other)}, {words}"))
        create = f"create it: {self.command('--perago-update=new')}"
        return self.failed(f"there is no snapshot of the {self.subject}", facts, [create])

    def _other_case(self) -> Path | None:
        """A snapshot that a file system without case would take for this one."""
        path = self.path
        wanted = (path.parent.name.casefold(), path.name.casefold())
        for found in sorted(path.parent.parent.glob(f"*/*{path.suffix}")):
            if (found.parent.name.casefold(), found.name.casefold()) == wanted:
                return found
        return None
