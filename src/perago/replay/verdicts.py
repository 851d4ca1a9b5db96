"""What a backtest says of each attempt, and of all of them together; and its file, from which it can go on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from perago.atomic_file import replace_file

_VERSION = 1
_MUCH_SLOWER = 2.0
_NOTICED = 1.0
"""Seconds that an attempt must take longer before it counts as slower."""


class Kind(StrEnum):
    """What came of an attempt with the code of today."""

    SAME = "same"
    DIFFERENT = "different"
    FAILED = "failed"
    """It completed then and does not today."""
    UNREADABLE = "unreadable"
    """It cannot be run again: its objects or its row are gone, or too large."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One attempt. Times are seconds; `started` is milliseconds since the epoch."""

    task_id: str
    workflow_id: str
    started: int
    kind: Kind
    then_seconds: float | None = None
    now_seconds: float | None = None
    summary: tuple[str, ...] = ()
    """A line for each difference, or the reason."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The files that differ, each with the columns that do."""
    deterministic: bool = True

    @property
    def is_slower(self) -> bool:
        """Whether it took more than twice as long as then, and at least a second more."""
        if self.then_seconds is None or self.now_seconds is None:
            return False
        return self.now_seconds > max(self.then_seconds * _MUCH_SLOWER, self.then_seconds + _NOTICED)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {**asdict(self), "slower": self.is_slower}


def verdict_from(document: Mapping[str, Any]) -> Verdict:
    """A verdict as `as_json` has written it.

    Raises:
        LookupError, TypeError, ValueError: it is none.
    """
    fields = {key: value for key, value in document.items() if key != "slower"}
    return Verdict(**{**fields, "kind": Kind(fields["kind"]), "summary": tuple(fields["summary"])})


def by_file_and_column(verdicts: Iterable[Verdict]) -> list[tuple[str, str, int]]:
    """Files and columns that differ, with the number of attempts, most first. The column is empty for a whole file."""
    found: Counter[tuple[str, str]] = Counter()
    for verdict in verdicts:
        for path, columns in verdict.files.items():
            found.update((path, column) for column in (columns or ("",)))
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(path, column, number) for (path, column), number in ordered]


class State:
    """The verdicts of a backtest in a file. It holds for one task and one state of the code.

    Args:
        path: the file; None keeps nothing.
        task: the task's name.
        code: identifies the code, as `code_digest` gives it.
    """

    def __init__(self, path: Path | None, task: str, code: str) -> None:
        self._path = path
        self._identity = {"version": _VERSION, "task": task, "code": code}
        self._verdicts: dict[str, Verdict] = {}
        self.is_outdated = False
        """There was a file, of other code or another task; it is written anew."""
        if path is not None and path.exists():
            self._read(path)

    def known(self, task_id: str) -> Verdict | None:
        """The verdict of an attempt, if there is one. What was unreadable is tried again."""
        found = self._verdicts.get(task_id)
        return None if found is None or found.kind is Kind.UNREADABLE else found

    def keep(self, verdict: Verdict) -> None:
        """Add a verdict; the file has it from then on.

        Raises:
            OSError: the file cannot be written.
        """
        self._verdicts[verdict.task_id] = verdict
        if self._path is not None:
            document = {**self._identity, "verdicts": [one.as_json() for one in self._verdicts.values()]}
            replace_file(self._path, (json.dumps(document, indent=1) + "\n").encode())

    def _read(self, path: Path) -> None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            verdicts = [verdict_from(one) for one in document["verdicts"]]
            identity = {key: document[key] for key in self._identity}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no file of a backtest") from error
        if identity == self._identity:
            self._verdicts = {verdict.task_id: verdict for verdict in verdicts}
        else:
            self.is_outdated = True


def code_digest(files: Iterable[str], definition: str) -> str:
    """Identifies the code of a task: its source files and its TaskDef.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256(definition.encode())
    for file in sorted(files):
        digest.update(file.encode() + b"\0" + Path(file).read_bytes() + b"\0")
    return digest.hexdigest()
