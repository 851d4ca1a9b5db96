"""A back-fill: one workflow for each line of a file, of which a limited number run at the same time.

The correlation id of a line is made of the name of the back-fill, the number of the line and its content. Conductor
knows the ids of all lines that were started, so the next sender continues a back-fill that was ended at any time.

Conductor has no call that starts a workflow only if its id is new. A start whose answer was lost can take effect after
the next look-up, so nothing is started until `DOUBT` seconds have passed since such a start, or since the last start of
a killed sender on this machine. A sender on another machine is seen once it has started a line that this one has not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from perago.failure import Failure
from perago.ports import OPEN_WORKFLOWS, Unavailable, Unclear

DOUBT = 5.0
"""Seconds after which a start whose answer was lost has taken effect, or never does."""
POLL_INTERVAL = 0.5
"""Seconds between two reads of workflows that are followed."""
OUTAGE_LIMIT = 120.0
"""Seconds without an answer of Conductor before a back-fill, or `--follow`, fails."""
_LOOKED_UP = 100
"""Lines of one look-up, at most."""
_LOOKED_AHEAD = 20
"""Lines that are looked up before they are started, to see another sender."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file."""

    number: int
    params: Mapping[str, Any]
    correlation_id: str

    @staticmethod
    def of(name: str, number: int, params: Mapping[str, Any], branch: str | None) -> Line:
        """Return a line of the back-fill `name`. The same params on another branch are another line."""
        content = json.dumps([params, branch], sort_keys=True, allow_nan=False)
        return Line(number, params, f"{name}:{number}:{hashlib.sha256(content.encode()).hexdigest()[:16]}")


@dataclass(frozen=True, slots=True)
class Run:
    """The workflow of a line."""

    line: Line
    workflow_id: str
    status: str
    reason: str = ""

    @staticmethod
    def of(line: Line, row: Mapping[str, Any]) -> Run:
        """Return the workflow of a line that Conductor shows as `row`."""
        return Run(line, str(row["workflowId"]), str(row["status"]), str(row.get("reasonForIncompletion") or ""))

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN_WORKFLOWS


class Correlated(Protocol):
    """The question to Conductor."""

    def correlated(self, name: str, ids: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the workflows of a name by correlation id, as JSON.

        Raises:
            ServiceError: Conductor did not answer.
        """
        ...


class Backfill:
    """Starts the workflows of all lines that were not started, and waits for the end of all."""

    def __init__(
        self,
        conductor: Correlated,
        name: str,
        lines: Sequence[Line],
        at_most: int,
        start: Callable[[Line], str],
        sleep: Callable[[float], None],
    ) -> None:
        """
        Args:
            conductor: Where they run.
            name: The name of the workflow.
            lines: The lines of the file.
            at_most: The number of workflows of the back-fill that may run at the same time.
            start: Starts the workflow of a line, and returns its id.
            sleep: Lets some seconds pass.
        """
        self.runs: dict[str, list[Run]] = {line.correlation_id: [] for line in lines}
        """The workflows of each line by correlation id: none if it was not started, one in most cases."""
        self._conductor, self._name, self._lines, self._at_most = conductor, name, lines, at_most
        self._start, self._sleep = start, sleep
        self._doubtful: set[str] = set()
        """The lines whose start was not answered."""

    @property
    def open_runs(self) -> int:
        """The number of workflows that run."""
        return sum(run.is_open for runs in self.runs.values() for run in runs)

    @property
    def _waiting(self) -> list[Line]:
        """The lines that were not started."""
        return [line for line in self._lines if not self.runs[line.correlation_id]]

    def run(self, silent: Callable[[Unavailable], None]) -> Iterator[Run | None]:
        """Yield each workflow that has ended, and None whenever time passes.

        Args:
            silent: Called if Conductor does not answer.

        Raises:
            Failure: Another sender starts lines of this back-fill.
            ServiceError: Conductor refuses to start a workflow, or did not answer for two minutes.
        """
        is_first, answered = True, time.monotonic()
        while is_first or self.open_runs or self._waiting:
            try:
                ended = [*self._look_up(is_first=is_first)]
                is_first = False
                yield from ended
                self._start_next()
                answered = time.monotonic()
            except Unavailable as error:
                if time.monotonic() - answered > OUTAGE_LIMIT:
                    raise
                silent(error)
            yield None
            if self.open_runs or self._waiting:
                self._sleep(POLL_INTERVAL)

    def _look_up(self, *, is_first: bool) -> Iterator[Run]:
        """Ask for the workflows of open and of the next lines, at first of all. Yield those that have ended since."""
        running = [line for line in self._lines if any(run.is_open for run in self.runs[line.correlation_id])]
        lines = self._lines if is_first else [*running, *self._waiting[:_LOOKED_AHEAD]]
        for start in range(0, len(lines), _LOOKED_UP):
            page = lines[start : start + _LOOKED_UP]
            workflows = self._conductor.correlated(self._name, [line.correlation_id for line in page])
            for line in page:
                rows = workflows.get(line.correlation_id, ())
                before = {run.workflow_id: run for run in self.runs[line.correlation_id]}
                runs = [Run.of(line, row) for row in rows]
                new = [run for run in runs if run.workflow_id not in before]
                if new and not is_first and line.correlation_id not in self._doubtful:
                    message = f"another sender has started line {line.number} as workflow {new[0].workflow_id}"
                    raise Failure(message, "let it finish, or end it and run this command again")
                # An index can be late, so a workflow without a row still runs.
                self.runs[line.correlation_id] = runs or list(before.values())
                self._doubtful.discard(line.correlation_id)
                if not is_first:
                    yield from (run for run in runs if not run.is_open and before.get(run.workflow_id) != run)

    def _start_next(self) -> None:
        """Start lines while there is room."""
        for line in self._waiting[: max(0, self._at_most - self.open_runs)]:
            try:
                workflow_id = self._start(line)
            except Unclear:
                self._doubtful.add(line.correlation_id)
                self._sleep(DOUBT)
                return
            self.runs[line.correlation_id] = [Run(line, workflow_id, "RUNNING")]


class SenderLock:
    """Keeps out other senders of a back-fill on this machine, and has the time of its last start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def started(self) -> None:
        """Note that a workflow is about to be started."""
        os.utime(self._path)

    @contextlib.contextmanager
    def hold(self) -> Iterator[float]:
        """Yield the seconds until no start of an earlier sender is in doubt.

        Raises:
            Failure: another sender runs.
        """
        import fcntl

        self._path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self._path.exists()
        with self._path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = "another perago send runs this back-fill on this machine"
                raise Failure(message, "let it finish, or end it and run this command again") from None
            yield 0.0 if is_new else max(0.0, self._path.stat().st_mtime + DOUBT - time.time())
