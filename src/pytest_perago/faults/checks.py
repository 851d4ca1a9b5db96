"""The checks of the kind `faults`. Each changes one thing, and compares with the first call.

The tree and the result are compared with those of the first attempt. The ids that a function may read from `current()`
are taken for equal: they say which attempt it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import Interrupted, Raised, Returned
from perago.driver.function import what_to_do
from perago.guardrails.evaluation import Phase, evaluate
from perago.ports import Unavailable, Unclear
from perago.processes import named
from perago.testing.outcome import Outcome
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices
from perago.text import listing, quoted
from perago.workspace.scan import scan_tree
from pytest_perago.confinement import leaving_no_process
from pytest_perago.faults.case import Matrix, Played, published
from pytest_perago.faults.conditions import MUCH_LATER, MUCH_SLOWER, Conditions
from pytest_perago.faults.interruptions import Moments, choose, end
from pytest_perago.observation import Seen
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


_MOST_CANCELLED = 8
_OTHER_SEEDS = (2, 3, 4)
"""Three of a kind are shuffled alike by all of them once in 216 times."""
_SLOW = 1.0
"""Seconds of a call from which on it is cancelled at two moments only."""
_GRACE = 30.0
"""Seconds that a worker gives a function to end, unless PERAGO_SHUTDOWN_GRACE says otherwise."""
_TIME = re.compile(rb"\d\d:\d\d:\d\d|\b20\d\d-?[01]\d-?[0-3]\d|\b1[789]\d{8}(\.\d+|\d{3,9})?\b")
_FEW = 5


def repeated(matrix: Matrix) -> None:
    """The same call in the same process leaves the same."""
    base, second = matrix.base.seen, matrix.play(forget=False).seen
    changes = matrix.memory.changes()
    if base == second:
        return
    again = matrix.again.seen
    if again == base and changes:
        raise matrix.failed(
            f"the second call in the same process leaves something else: {base.named(second)}; the module keeps state "
            "between calls",
            ("state", "\n".join(changes)),
            *base.difference(second, "first call", "second call"),
        )
    raise matrix.failed(
        f"the same call again leaves something else: {base.named(second)}; {_reason(matrix, base, second)}",
        *base.difference(second, "first call", "second call"),
        ("fix", "a retry has to leave the same; see docs/testing/faults.md for what makes calls differ"),
    )


def _reason(matrix: Matrix, base: Seen, second: Seen) -> str:
    """Why two calls differ though clock, chance, order of listings and of threads were the same."""
    outside = matrix.base.audit.outside
    changed = [base.files[key] for key in base.changed(second)] + [repr(base.result).encode()]
    if outside:
        return f"it writes {_shown(outside)}, which outlives the attempt"
    if matrix.base.workspace and any(os.fsencode(matrix.base.workspace.parent) in text for text in changed):
        return "it writes the path of its workspace, which is another one for each attempt"
    if matrix.base.threads.number:
        return "its threads race, perhaps"
    if any(_TIME.search(text) for text in changed):
        return "it writes the time, by what it looks like"
    return "neither clock nor random numbers nor the order of listings, which were the same, is the reason"


def _steady(matrix: Matrix) -> Seen:
    """What the function leaves each time.

    Raises:
        pytest.skip.Exception: it is something else each time, so that nothing can be compared.
    """
    base = matrix.base.seen
    if matrix.again.seen != base:
        pytest.skip("two calls under the same conditions differ: the test `repeated` says so")
    return base


def _same_under(matrix: Matrix, conditions: Conditions, changed: str, fix: str) -> None:
    base = _steady(matrix)
    other = matrix.play(conditions).seen
    if other != base:
        if matrix.play().seen != base:
            pytest.skip("calls under the same conditions differ: the test `repeated` says so")
        words = f"it fails: {other.problem}" if other.problem else f"it leaves something else: {base.named(other)}"
        raise matrix.failed(f"{changed} {words}", *base.difference(other, "before", "after"), ("fix", fix))


def time_of_day(matrix: Matrix) -> None:
    """The result does not depend on when the function runs."""
    _steady(matrix)
    if "time" in matrix.base.used:
        fix = "take the time from the params, so that a retry leaves the same"
        _same_under(
            matrix,
            replace(matrix.conditions, moment=MUCH_LATER, tick=MUCH_SLOWER),
            "the function depends on the time; at another moment",
            fix,
        )


def random_numbers(matrix: Matrix) -> None:
    """The result does not depend on chance."""
    _steady(matrix)
    for seed in _OTHER_SEEDS if "random" in matrix.base.used else ():
        fix = "seed the generator with a constant or from the params"
        _same_under(
            matrix, replace(matrix.conditions, seed=seed), "the function depends on random numbers; with others", fix
        )


def listing_order(matrix: Matrix) -> None:
    """The result does not depend on the order in which directories are listed."""
    _steady(matrix)
    if "listing" not in matrix.base.used:
        return
    conditions = replace(matrix.conditions, backwards=True)
    fix = "sort what listdir, glob, iterdir, walk and scandir return: no file system promises an order"
    _same_under(
        matrix,
        conditions,
        "the function depends on the order in which directories are listed; in another one",
        fix,
    )


def thread_timing(matrix: Matrix) -> None:
    """The result does not depend on which thread is first."""
    _steady(matrix)
    number = matrix.base.threads.number
    for swapped in (1, 2) if number and matrix.conditions.ordered else ():
        conditions = replace(matrix.conditions, swapped=swapped, threads=number)
        fix = "collect results in the order of the inputs (Executor.map), not in that of their arrival"
        _same_under(matrix, conditions, "the function depends on which of its threads is first; in another order", fix)


def set_order(matrix: Matrix) -> None:
    """The result does not depend on the order of sets, which is another one in each process."""
    _steady(matrix)
    if not matrix.author.uses_sets:
        return
    from pytest_perago.faults.case import play_elsewhere

    first, *others = play_elsewhere(matrix)
    for other in others:
        if first != other:
            raise matrix.failed(
                "the function depends on the order of a set or on `hash`, which are others in each process; it leaves "
                f"something else: {first.named(other)}",
                *first.difference(other, "one process", "another"),
                ("fix", "sort the set before anything is made of it"),
            )


# ------------------------------------------------------------------------------ what is left behind


def left_behind(matrix: Matrix) -> None:
    """No file in the current or the temporary directory, no process."""
    base = matrix.base
    if base.processes:
        raise matrix.failed(
            f"the function left processes running: {named(base.processes)}",
            ("fix", "wait for them in the function, or end them: a worker kills them"),
        )
    roots = {os.path.realpath(place) for place in ("/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir())}  # noqa: S108
    beside = [str(path) for path in base.beside if _is_in(path, roots)]
    remove = "remove them in a `finally`, or use `with`"
    places = (
        ("its current directory", base.in_current, what_to_do(matrix.task)),
        ("its temporary directory", base.in_temporary, remove),
        (
            "the system's temporary directory",
            beside,
            f"use `tempfile`, whose directory goes with the attempt, and {remove}",
        ),
    )
    for place, left, fix in places:
        if left:
            raise matrix.failed(
                f"the function left files in {place}: {listing([quoted(path) for path in left])}", ("fix", fix)
            )


def _is_in(path: Path, roots: set[str]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


# ------------------------------------------------------------------------- what happens in the middle


def cancelled(matrix: Matrix) -> None:
    """The function ends when the attempt is cancelled, wherever that meets it."""
    base = matrix.base
    most = _MOST_CANCELLED if base.seconds < _SLOW else 2
    for number in choose(base.moments.places, most):
        moments = Moments(matrix.author, at=number, happen=end)
        with matrix.tidying():
            played = matrix.play(moments=moments)
        if moments.met is None or any(isinstance(each, Interrupted) for each in moments.dropped):
            continue
        where = f"{os.path.relpath(moments.met[0], Path(matrix.task.file).parent)}:{moments.met[1]}"
        if played.seconds - base.seconds > _GRACE:
            raise matrix.failed(
                f"cancelled at {where}, the function went on for {played.seconds - base.seconds:.0f} s; a worker kills "
                f"its process after {_GRACE:g} s"
            )
        if not played.seen.problem and not played.looked and _went_on(played, base):
            raise matrix.failed(
                f"cancelled at {where}, the function took no notice, and went on to its end",
                (
                    "why",
                    "a worker raises an exception there that is no `Exception`; a bare `except:`, `except "
                    "BaseException` or a signal handler of the function swallowed it",
                ),
                ("fix", "catch `Exception`, or raise again what is none; clean up in `finally`"),
            )


def _went_on(played: Played, base: Played) -> bool:
    """Whether it did not end early. A handler of its own may have told it to, and then it leaves less."""
    return played.seen == base.seen or not played.moments.handled


def full_disk(matrix: Matrix) -> None:
    """Where nothing can be written any more, the function does not complete with less."""
    base = _steady(matrix)
    writes = matrix.base.audit.writes
    for number in sorted({0, writes - 1} if writes else ()):
        violated: list[str] = []
        look = partial(_add_violated, matrix, violated)
        with matrix.tidying():
            seen = matrix.play(full_from=number, look=look).seen
        if not seen.problem and seen != base and not violated:
            raise matrix.failed(
                f"the disk was full, and the function completed all the same, with something else: {base.named(seen)}",
                *base.difference(seen, "before", "full disk"),
                ("fix", "let the OSError through, or add a post guardrail that misses the file"),
            )


def _add_violated(matrix: Matrix, violated: list[str], root: Path | None) -> None:
    if matrix.task.workspace is not None and root is not None:
        tree = scan_tree(root)
        found = evaluate(matrix.task.workspace.post, tree.listing, phase=Phase.POST, disk=tree)
        violated += [finding.message for finding in found if not finding.satisfied]


def own_output(matrix: Matrix) -> None:
    """On a tree that holds what it published before, the function does not append to that."""
    base = _steady(matrix)
    before = matrix.given.files or {}
    if matrix.task.workspace is None or matrix.task.workspace.read_only:
        return
    played = matrix.play(given=replace(matrix.given, files=base.files)).seen
    grown = [
        path
        for path, content in base.files.items()
        if path not in before and content and _is_longer(played.files.get(path, b""), content)
    ]
    if grown and not played.problem:
        raise matrix.failed(
            f"run again on what it has published, the function appends to its own output: {', '.join(grown[:_FEW])}",
            *base.difference(played, "first run", "on its output"),
            ("fix", "write the file anew: open it with mode 'w'"),
        )


def _is_longer(new: bytes, old: bytes) -> bool:
    return len(new) > len(old) and new.startswith(old)


def _shown(paths: list[Path]) -> str:
    more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    return ", ".join(map(str, paths[:_FEW])) + more


def retried(matrix: Matrix) -> None:
    """A retry, a rerun and a restart publish the same; see `pytest_perago.faults.checks`."""
    _steady(matrix)

    play_story(matrix)


CHECKED: Mapping[str, Callable[[Matrix], None]] = {
    "repeated": repeated,
    "time": time_of_day,
    "random": random_numbers,
    "listing-order": listing_order,
    "set-order": set_order,
    "thread-timing": thread_timing,
    "retried": retried,
    "own-output": own_output,
    "cancelled": cancelled,
    "full-disk": full_disk,
    "left-behind": left_behind,
}
"""By the names of `pytest_perago.kinds.faults.CHECKS`."""
