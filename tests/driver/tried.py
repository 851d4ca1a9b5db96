"""One delivery that was run in a world: what came of it, and everything that it asked of the services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from perago.attempt.publication import is_staging_branch
from perago.driver import AttemptRecord, Delivered
from perago.ports import Delivery, TaskStatus

OPEN = "may still appear"
ASKS_NOBODY = ("take_notes",)
"""Methods of a store that are no request."""


class Killed(BaseException):
    """The end of a process, as far as a test in the same process can have one."""


class Recorder:
    """Passes calls on and keeps their names, with the answers of the delivery check."""

    def __init__(self, inner: object, journal: list[str]) -> None:
        self._inner = inner
        self._journal = journal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._inner, name)
        if name in ASKS_NOBODY:
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            if name != "is_current":
                is_challenge = name == "merge" and is_staging_branch(arguments[2])
                self._journal.append("challenge" if is_challenge else name)
                return method(*arguments, **options)
            current = method(*arguments, **options)
            self._journal.append("yes" if current else "no")
            return current

        return call


@dataclass(slots=True)
class Tried:
    """One delivery: what came of it, and everything that it asked of the services, in order."""

    delivery: Delivery
    record: AttemptRecord | None = None
    delivered: Delivered | None = None
    killed: bool = False
    journal: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """Why it failed or was lost."""
        if self.record is None:
            return ""
        return str(self.record.report.reason if self.record.report else self.record.lost_reason)

    @property
    def completed(self) -> bool:
        """Whether it has published, or found that there is nothing to publish."""
        report = self.record.report if self.record else None
        return report is not None and report.status is TaskStatus.COMPLETED

    @property
    def may_leave_a_branch(self) -> bool:
        """Whether it was killed, or does not know what becomes of its merge: the branch tells whoever comes next."""
        return self.killed or OPEN in self.words
