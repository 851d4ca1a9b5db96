"""What Conductor and operators may ask of a task after a worker died: the same attempt again, a retry, a rerun, a
restart. Each must end with the same publication.

The tree and the result are compared with those of the first attempt. The ids that a function may read from `current()`
are taken for equal: they say which attempt it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import Raised, Returned
from perago.ports import Unavailable, Unclear
from perago.testing.outcome import Outcome
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices
from pytest_perago.confinement import leaving_no_process
from pytest_perago.faults.matrix import Matrix, published
from pytest_perago.faults.moments import Moments
from pytest_perago.running import CONTROLS

_OTHER = "perago-of-another-client"
_PAUSE = 1.0
_SLOW_SECONDS = 5.0
_POLL_SECONDS = 0.002
_DEATH_LIMIT = 10.0
"""Seconds until a process that is to be killed in the middle of the function is killed anyway."""


def play_story(matrix: Matrix) -> None:
    """Play all of it.

    Raises:
        CaseFailed: an attempt ended otherwise, or with another result or tree, than the first one.
        RuntimeError: the runtime broke a promise of its own.
    """
    audit, number = matrix.base.audit, len(matrix.base.moments.places)
    first = audit.first_outside if audit.outside else number // 2
    moments = {first, (first + number - 1) // 2, number - 1} if audit.outside else {first}
    for index, moment in enumerate(sorted(moments)):
        story = _Story(matrix)
        with matrix.tidying(), InMemoryServices(call=story.call) as services:
            story.killed_and_retried(services, moment)
            if not index:
                story.asked_for_again(services)


class _Story:
    """One workflow of the task, in services of its own."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._task = matrix.task
        self._happening: tuple[int, Callable[[], None]] | None = None
        """At which call of the author's code the worker dies, and what makes the services notice."""
        self._meanwhile: Callable[[], object] = lambda: None
        """What others do while the function runs."""

    def killed_and_retried(self, services: InMemoryServices, moment: int) -> None:
        """The worker dies in the middle of the function. The retry meets slow and failing servers, and cannot report
        what it has published. It is delivered again."""
        matrix = self._matrix
        controls = {**CONTROLS, "retryCount": 3}
        services.start(self._task, matrix.case.params, ref=matrix.seed(services), controls=controls)
        if matrix.base.moments.places:
            self._happening = (moment, lambda: services.interruptions.plan("lose", None, 1))
            record = services.run_delivery(self._task, services.take(self._task))
            self._happening = None
            if record.report is not None:
                services.report(record)
                return  # it was over before
        delivery = services.conductor.next_delivery(self._task.name)
        if self._task.workspace is not None:
            _disturb(services)
        lost = services.attempt(self._task.function, delivery, report=False)
        self._same(services, lost, "retried after its worker was killed")
        services.conductor.hand_back(delivery)
        again = services.attempt(self._task.function)
        self._same(services, again, "delivered again after its report was lost")

    def asked_for_again(self, services: InMemoryServices) -> None:
        """An operator reruns and restarts the workflow; then another client commits while the function runs."""
        (workflow_id,) = services.conductor.workflow_ids()
        for word in ("rerun", "restarted"):
            services.conductor.advance(_PAUSE)
            if word == "rerun":
                services.conductor.rerun_workflow(workflow_id)
            else:
                services.conductor.restart_workflow(workflow_id)
            self._same(services, services.attempt(self._task.function), f"{word} by an operator")
        spec = self._task.workspace
        if spec is None or spec.read_only:
            return
        key = f"{_OTHER}/file"
        services.conductor.advance(_PAUSE)
        services.conductor.restart_workflow(workflow_id)
        self._meanwhile = lambda: services.lakefs.seed(REPOSITORY, BRANCH, {key: "1"}, message="from outside")
        services.run_delivery(self._task, services.take(self._task))
        if services.tree().get(key) != b"1":
            raise RuntimeError(f"what another client committed meanwhile is gone: {sorted(services.tree())}")

    # ------------------------------------------------------------------------------ pieces

    def call(self, _: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        """Call the function under the same conditions as ever."""
        matrix = self._matrix
        at, lose = self._happening or (None, None)
        audit = matrix.base.audit
        if lose is not None and (audit.outside or audit.starts_processes) and hasattr(os, "fork"):
            dying = Moments(matrix.author, at=at, happen=_kill)
            with leaving_no_process():
                _die_in_a_child(lambda: matrix.call(workspace, params, current, dying))
            lose()
        moments = Moments(matrix.author, at=at, happen=lose) if lose else None
        ended = matrix.call(workspace, params, current, moments).ended
        self._meanwhile()
        return ended

    def _same(self, services: InMemoryServices, outcome: Outcome, step: str) -> None:
        """The attempt completed, and the branch holds what the first one published."""
        matrix, record = self._matrix, outcome.record
        seen = published(self._task, services, record)
        outside = ("outside", "\n".join(map(str, matrix.base.audit.outside)))
        if seen is None:
            reason = f"{record.report.status}: {record.report.reason}" if record.report else record.lost_reason
            raise matrix.failed(f"{step}, the attempt does not complete", ("actual", str(reason)), outside)
        first = matrix.published
        if first is not None and seen != first:
            raise matrix.failed(
                f"{step}, the attempt leaves something else: {first.named(seen)}",
                *first.difference(seen, "first attempt", "this attempt"),
                outside,
            )


def _disturb(services: InMemoryServices) -> None:
    """The next calls are slow, fail, or lose their answer, each once."""
    script = services.faults

    def following(operation: str) -> int:
        return script.calls(operation) + 1

    for operation in ("download", "upload", "get_commit"):
        script.before(operation, nth=following(operation), error=Unavailable)
    for operation in ("commit", "merge"):
        script.after(operation, nth=following(operation), error=Unclear)
    for operation in ("history", "is_current"):
        script.delay(operation, nth=following(operation), seconds=_SLOW_SECONDS)


# ------------------------------------------------------------------------- a death of a real process


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in_a_child(call: Callable[[], object]) -> None:
    """Call the function in a copy of this process, which is killed on the way: no `finally` runs there."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the copy needs none of them
        child = os.fork()
    if child == 0:
        try:
            call()
        finally:
            os._exit(0)
    deadline = time.monotonic() + _DEATH_LIMIT
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
